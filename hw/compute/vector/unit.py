"""VECTOR: element-wise operations and reductions on activation rows."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import INSTRUCTION_BYTES, OPCODE_BITS, ErrorCode
from hw.arch.timing import ACTIVATION_READ_LATENCY, ROW_LATENCY, VECTOR_LATENCY
from hw.common.agu import COUNT_BITS, Coordinate, Nest, Walker
from hw.common.ports import UnitSignature, activation_read, activation_write
from hw.compute.parts.latch import strobe_line
from hw.compute.vector.decode import WINDOW_BITS, VectorParameters
from hw.compute.vector.element import LANE_LATENCY, ElementLane, table_write_signature

__all__ = ["PAYLOAD", "VectorUnit"]

PAYLOAD = data.StructLayout({"opcode": OPCODE_BITS, "word": 8 * INSTRUCTION_BYTES - OPCODE_BITS})
STEP, R0, R2, N0 = 0, 1, 3, 4
"""Levels of the nest: step in the row, window r0, r1, r2, then n0..n3."""
ARRIVED = 1 + ACTIVATION_READ_LATENCY
"""Cycles from a row's address to its bytes at the read port."""


class VectorUnit(wiring.Component):
    """Reads rows of one or two sources, `lanes.vector` elements per cycle, and writes rows.

    Handshake: an instruction is accepted while none is inside; `done` in the cycle of the last
    row's write. Never stalls.
    Latency: timing.vector_duration.

    Parameters
    ----------
    config: the accelerator.

    Members
    -------
    unit: queue side; the payload is a whole instruction word, ELEMENTWISE or REDUCE by opcode.
    source0, source1: scratchpad rows, data ACTIVATION_READ_LATENCY cycles after `enable`.
    write: rows of the scratchpad.
    table_write: beats of the lookup tables.

    Tested range: tests/hw/compute/vector/test_vector.py.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "unit": Out(UnitSignature(PAYLOAD)),
                "source0": Out(activation_read(config)),
                "source1": Out(activation_read(config)),
                "write": Out(activation_write(config)),
                "table_write": In(table_write_signature(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._parameters = VectorParameters()
        self._parameters.settle(m)
        self._begin, self._ending = Signal(), Signal()
        self._bad_window = Signal()
        self._issue(m)
        self._walk(m)
        self._clip(m)
        self._lines(m)
        self._read(m)
        left, right = self._rows(m)
        self._write(m, self._compute(m, left, right))
        return m

    def _issue(self, m: Module) -> None:
        """An instruction is accepted in cycle t; `begin` is high in t + 1."""
        unit, begin = self.unit, self._begin
        active = Signal()
        done, _ = strobe_line(m, self._ending, unit.abort, VECTOR_LATENCY, "completion")
        m.d.comb += [
            unit.instruction.ready.eq(~active & ~unit.abort),
            unit.busy.eq(active),
            unit.done.eq(done),
        ]
        m.d.sync += [begin.eq(0), unit.error.eq(0)]
        with m.If(unit.instruction.valid & unit.instruction.ready):
            m.d.sync += self._parameters.take(unit.instruction.payload)
            m.d.sync += [active.eq(1), begin.eq(1)]
        with m.If(self._bad_window):
            m.d.sync += unit.error.eq(ErrorCode.FIELD.value)
        with m.If(done | unit.abort):
            m.d.sync += active.eq(0)

    def _walk(self, m: Module) -> None:
        """Counters (first in cycle t + 2), then both addresses one cycle later (cycle a)."""
        p = self._parameters
        steps = self._config.vector_steps
        step_bits = max(1, steps.bit_length())
        m.submodules.nest = nest = Nest((step_bits, *(WINDOW_BITS,) * 3, *(COUNT_BITS,) * 4))
        running, opens, swallows = Signal(), Signal(), Signal()
        counts = [steps, *p.window, *p.counts]
        m.d.comb += [port.eq(value) for port, value in zip(nest.counts, counts, strict=True)]
        m.d.comb += [nest.load.eq(self._begin), nest.step.eq(running)]
        self._addresses = []
        deltas = [[0, *p.source0_deltas], [0, 0, 0, 0, *p.source1_deltas]]
        for index in range(2):
            m.submodules[f"walker{index}"] = walker = Walker(8)
            m.d.comb += [
                walker.load.eq(self._begin),
                walker.step.eq(running),
                walker.advance.eq(nest.advance),
                walker.base.eq(p.source[index]),
            ]
            m.d.comb += [d.eq(v) for d, v in zip(walker.deltas, deltas[index], strict=True)]
            self._addresses.append(walker.address)
        with m.If(self._begin):
            m.d.sync += [running.eq(1), opens.eq(1), swallows.eq(1)]
        with m.Elif(running & nest.wrap[STEP]):
            m.d.sync += opens.eq(nest.wrap[R2])
            with m.If(nest.wrap[R2]):
                m.d.sync += swallows.eq(nest.wrap[N0])
        goes_on = Signal()
        m.d.comb += goes_on.eq(running & ~self.unit.abort)
        with m.If((running & nest.last) | (running & ~goes_on)):
            m.d.sync += running.eq(0)
        # Cycle a
        self._present, self._first_step, self._last_step = Signal(), Signal(), Signal()
        self._opens, self._emits = Signal(), Signal()
        # Bit k: counter k counts; counters 0..k restart.
        self._moves, self._restarts = Signal(8), Signal(8)
        at_first = Signal(init=1)
        with m.If(self._begin):
            m.d.sync += at_first.eq(1)
        with m.Elif(running):
            m.d.sync += at_first.eq(nest.wrap[STEP])
        m.d.sync += [
            self._present.eq(goes_on),
            self._first_step.eq(running & at_first),
            self._last_step.eq(nest.final[STEP]),
            self._opens.eq(opens),
            # With `previous`, the first row of an innermost run produces nothing.
            self._emits.eq(
                goes_on & nest.final[R0 : R2 + 1].all() & ~(self._parameters.previous & swallows)
            ),
            self._moves.eq(Mux(running, nest.advance, 0)),
            self._restarts.eq(Mux(running, nest.wrap, 0)),
            self._ending.eq(goes_on & nest.last),
        ]

    def _clip(self, m: Module) -> None:
        """Window coordinates, and the lane offset of a packed row, in cycle a."""
        p, moves, restarts = self._parameters, self._moves, self._restarts
        inside = []
        for axis in range(3):
            m.submodules[f"coordinate{axis}"] = coordinate = Coordinate()
            inner, outer = R0 + axis, N0 + axis
            m.d.comb += [
                coordinate.load.eq(self._begin),
                coordinate.inner_advance.eq(moves[inner]),
                coordinate.inner_restart.eq(restarts[inner]),
                coordinate.outer_advance.eq(moves[outer]),
                coordinate.outer_restart.eq(restarts[outer]),
                coordinate.start.eq(p.starts[axis]),
                coordinate.inner_step.eq(1),
                coordinate.outer_step.eq(p.steps[axis]),
                coordinate.bound.eq(p.bounds[axis]),
            ]
            inside.append(coordinate.inside)
        self._inside = Signal()
        m.d.comb += self._inside.eq(~p.reduce | Cat(inside).all())
        self._offset = Signal(6, reset_less=True)
        with m.If(self._begin | restarts[R2]):
            m.d.sync += self._offset.eq(0)
        with m.Elif(restarts[STEP]):
            m.d.sync += self._offset.eq(self._offset + p.pack_lanes)
        # A window without a row inside has no maximum; a packed row must fit.
        seen = Signal(reset_less=True)
        found = self._inside | (seen & ~self._opens)
        m.d.sync += self._bad_window.eq(0)
        with m.If(self._present):
            m.d.sync += seen.eq(found)
            overflows = self._offset + p.pack_lanes > self._config.lane_block
            m.d.sync += self._bad_window.eq(
                (p.maximum & self._emits & ~found) | (p.pack & overflows)
            )

    def _lines(self, m: Module) -> None:
        """Delay lines: bit k of a line is the flag of cycle a, k cycles later."""

        def line(flag: Value, length: int, name: str) -> Value:
            register = Signal(length, name=name)
            m.d.sync += register.eq(Cat(flag, register)[:length])
            return Cat(flag, register)

        self._present_line = line(self._present, ROW_LATENCY + 1, "present_line")
        self._load_line = line(self._first_step, ROW_LATENCY - 1, "load_line")
        self._opens_line = line(self._opens, ROW_LATENCY + 1, "opens_line")
        self._inside_line = line(self._inside, ARRIVED, "inside_line")
        self._emits_line = line(self._emits, ROW_LATENCY + LANE_LATENCY, "emits_line")
        self._row_line = line(self._emits & self._last_step, ROW_LATENCY + LANE_LATENCY, "row_line")

    def _read(self, m: Module) -> None:
        """Reads, one cycle behind the addresses."""
        wanted = self._present & self._first_step
        m.d.sync += [
            self.source0.enable.eq(wanted & self._inside),
            self.source0.address.eq(self._addresses[0]),
            self.source1.enable.eq(wanted & self._parameters.two_sources),
            self.source1.address.eq(self._addresses[1]),
        ]

    def _rows(self, m: Module) -> tuple[Value, Value]:
        """Row registers; elements of a step stand in the lowest lanes in a + ROW_LATENCY."""
        p, config = self._parameters, self._config
        bits = 8 * config.lane_block
        load = self._load_line
        # a + ARRIVED: rows arrive
        first, second = Signal(bits, reset_less=True), Signal(bits, reset_less=True)
        with m.If(load[ARRIVED]):
            fill = p.fill.replicate(config.lane_block)
            m.d.sync += first.eq(Mux(self._inside_line[ARRIVED], self.source0.data, fill))
            m.d.sync += second.eq(self.source1.data)
        # one later: lanes move to their place in a packed row; the row before becomes the second
        offset = self._offset
        for stage in range(ARRIVED + 1):
            register = Signal.like(offset, name=f"offset{stage}")
            m.d.sync += register.eq(offset)
            offset = register
        last = Signal(bits, reset_less=True)
        shifted, partner = Signal(bits, reset_less=True), Signal(bits, reset_less=True)
        taken = Signal(config.lane_block, reset_less=True)
        with m.If(load[ARRIVED + 1]):
            m.d.sync += [
                last.eq(first),
                partner.eq(Mux(p.previous, last, second)),
                taken.eq(~C(0, config.lane_block)),
                shifted.eq(first),
            ]
            with m.If(p.pack):
                mask = Cat(p.pack_lanes > lane for lane in range(config.lane_block))
                m.d.sync += [
                    taken.eq(_shift_lanes(mask, offset, 1)),
                    shifted.eq(_shift_lanes(first, offset, 8)),
                ]
        # two later: merge with the row so far, which has rotated back to its place
        left, right = Signal(bits, reset_less=True), Signal(bits, reset_less=True)
        turned = left.rotate_right(8 * config.lanes.vector)
        rest = Mux(self._opens_line[ARRIVED + 2], p.pad.replicate(config.lane_block), turned)
        with m.If(load[ARRIVED + 2]):
            merged = [
                Mux(taken[lane], shifted.word_select(lane, 8), rest.word_select(lane, 8))
                for lane in range(config.lane_block)
            ]
            m.d.sync += [left.eq(Cat(merged)), right.eq(partner)]
        with m.Elif(self._present_line[ARRIVED + 2]):
            m.d.sync += [left.eq(turned), right.eq(right.rotate_right(8 * config.lanes.vector))]
        assert ROW_LATENCY == ARRIVED + 3
        return left, right

    def _compute(self, m: Module, left: Value, right: Value) -> list[Value]:
        """Lanes; elements enter in a + ROW_LATENCY."""
        results = []
        # As every memory, the tables are written from registers.
        table_write = table_write_signature(self._config).create()
        m.d.sync += [
            table_write.enable.eq(self.table_write.enable),
            table_write.address.eq(self.table_write.address),
            table_write.data.eq(self.table_write.data),
        ]
        for index in range(self._config.lanes.vector):
            lane = ElementLane(self._config, self._parameters)
            m.submodules[f"lane{index}"] = lane
            m.d.comb += [
                lane.present.eq(self._present_line[ROW_LATENCY : ROW_LATENCY + 2]),
                lane.opens.eq(self._opens_line[ROW_LATENCY + 1]),
                lane.emits.eq(self._emits_line[ROW_LATENCY : ROW_LATENCY + LANE_LATENCY]),
                lane.left.eq(left.word_select(index, 8)),
                lane.right.eq(right.word_select(index, 8)),
                lane.table_write.enable.eq(table_write.enable),
                lane.table_write.address.eq(table_write.address),
                lane.table_write.data.eq(table_write.data),
            ]
            results.append(lane.result)
        return results

    def _write(self, m: Module, results: list[Value]) -> None:
        """Assemble rows, lowest lanes first; the write is in cycle a + VECTOR_LATENCY."""
        p = self._parameters
        row = Signal(8 * self._config.lane_block, reset_less=True)
        ready = ROW_LATENCY + LANE_LATENCY
        assert ready + 1 == VECTOR_LATENCY
        complete = self._row_line[ready]
        with m.If(self._emits_line[ready]):
            m.d.sync += row.eq(Cat(row, *results)[-len(row) :])
        m.submodules.targets = nest = Nest((COUNT_BITS,) * 4)
        m.submodules.target = walker = Walker(4)
        counts = [p.produced, *p.counts[1:]]
        m.d.comb += [port.eq(value) for port, value in zip(nest.counts, counts, strict=True)]
        m.d.comb += [d.eq(v) for d, v in zip(walker.deltas, p.destination_deltas, strict=True)]
        m.d.comb += [
            nest.load.eq(self._begin),
            nest.step.eq(complete),
            walker.load.eq(self._begin),
            walker.step.eq(complete),
            walker.advance.eq(nest.advance),
            walker.base.eq(p.destination),
            self.write.address.eq(walker.address),
            self.write.data.eq(row),
        ]
        m.d.sync += self.write.enable.eq(complete & ~self.unit.abort)


def _shift_lanes(row: Value, lanes: Value, bits: int) -> Value:
    """Move lanes of some bits upwards by `lanes`, which is below their number."""
    for bit in range(exact_log2(len(row) // bits)):
        moved = Cat(C(0, bits << bit), row[: len(row) - (bits << bit)])
        row = Mux(lanes[bit], moved, row)
    return row
