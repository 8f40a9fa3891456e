"""DRAIN: accumulators to activation rows."""

import itertools

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from amaranth.utils import exact_log2

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Drain, ErrorCode
from hw.arch.timing import ACCUMULATOR_READ_LATENCY, PARAMETER_READ_LATENCY, REQUANTIZE_LATENCY
from hw.common.agu import COUNT_BITS, Nest, Walker, any_zero
from hw.common.layouts import instruction_layout
from hw.common.ports import UnitSignature, accumulator_read, activation_write, parameter_read
from hw.compute.latch import Fields
from hw.compute.requantize import RequantizeLane

__all__ = ["DrainUnit"]

STEP, WX, WT, CO = 0, 1, 3, 7
"""Levels of the nest: step in the row, then wx, wy, wt, x, y, t, co."""
FIELDS = (
    "accumulator", "counts", "window", "accumulator_deltas", "destination", "destination_deltas",
    "parameter", "zero_point", "low", "high", "residual", "table", "transform_t", "transform_s",
)  # fmt: skip


class DrainUnit(wiring.Component):
    """Requantizes accumulator rows, keeps the maximum of each pool window, writes rows.

    Handshake: an instruction is accepted while none is inside; `done` in the cycle of the last
    row's write. Never stalls.
    Latency: timing.drain_duration.

    Parameters
    ----------
    config: the accelerator.

    Members
    -------
    unit: queue side.
    accumulator: accumulator rows, data two cycles after `enable`.
    parameter: parameter rows, data one cycle after `enable`.
    write: rows of the activation scratchpad.

    Tested range: tests/hw/compute/test_drain.py.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._lanes = config.lanes.requantize
        self._steps = config.requantize_steps
        super().__init__(
            {
                "unit": Out(UnitSignature(instruction_layout(Drain))),
                "accumulator": Out(accumulator_read(config)),
                "parameter": Out(parameter_read(config)),
                "write": Out(activation_write(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._fields = Fields(instruction_layout(Drain), FIELDS)
        self._begin, self._finished = Signal(), Signal()
        self._issue(m)
        self._walk(m)
        self._parameters(m)
        codes = self._requantize(m)
        self._assemble(m, codes)
        return m

    def _fault(self) -> Value:
        """ErrorCode of the instruction in the registers, 0 if it can be executed."""
        f = self._fields
        unsupported = f.residual | f.table.any() | f.transform_t.any() | f.transform_s.any()
        misaligned = f.parameter[: exact_log2(self._config.parameter_row_beats)].any()
        return Mux(
            unsupported,
            ErrorCode.UNSUPPORTED.value,
            Mux(
                any_zero([*f.counts, *f.window]),
                ErrorCode.FIELD.value,
                Mux(misaligned, ErrorCode.ADDRESS.value, 0),
            ),
        )

    def _issue(self, m: Module) -> None:
        """An instruction is accepted in cycle t; `begin` is high in t + 1."""
        unit, begin = self.unit, self._begin
        self._active = active = Signal()
        fault = Signal(6)
        m.d.comb += [
            unit.instruction.ready.eq(~active & ~unit.abort),
            unit.busy.eq(active),
            unit.done.eq(self._finished),
            fault.eq(self._fault()),
        ]
        m.d.sync += [begin.eq(0), unit.error.eq(0)]
        with m.If(unit.instruction.valid & unit.instruction.ready):
            m.d.sync += self._fields.take(unit.instruction.payload)
            m.d.sync += [active.eq(1), begin.eq(1)]
        overflow = self.accumulator.address[
            exact_log2(self._config.memory.accumulator_rows) + 1 :
        ].any()
        with m.If(begin):
            m.d.sync += unit.error.eq(fault)
        with m.Elif(self.accumulator.enable & overflow):
            m.d.sync += unit.error.eq(ErrorCode.ADDRESS.value)
        self._started = begin & (fault == 0)
        with m.If(self._finished | unit.abort | (begin & (fault != 0))):
            m.d.sync += active.eq(0)

    def _walk(self, m: Module) -> None:
        """Counters (first in cycle t + 2), then the accumulator address one cycle later."""
        f = self._fields
        step_bits = max(1, self._steps.bit_length())
        m.submodules.nest = nest = Nest((step_bits, 3, 3, 3, *(COUNT_BITS,) * 4))
        m.submodules.walker = walker = Walker(
            8, width=len(self.accumulator.address), delta_width=13
        )
        running, opens = Signal(), Signal()
        counts = [self._steps, *f.window, *f.counts]
        m.d.comb += [port.eq(value) for port, value in zip(nest.counts, counts, strict=True)]
        # The step inside a row does not move the address.
        deltas = [0, *f.accumulator_deltas]
        m.d.comb += [port.eq(value) for port, value in zip(walker.deltas, deltas, strict=True)]
        m.d.comb += [
            nest.load.eq(self._begin),
            nest.step.eq(running),
            walker.load.eq(self._begin),
            walker.step.eq(running),
            walker.advance.eq(nest.advance),
            walker.base.eq(f.accumulator),
            self.accumulator.address.eq(walker.address),
        ]
        with m.If(self._started):
            m.d.sync += [running.eq(1), opens.eq(1)]
        with m.Elif(running & nest.wrap[STEP]):
            m.d.sync += opens.eq(nest.wrap[WT])
        with m.If((running & nest.last) | self.unit.abort):
            m.d.sync += running.eq(0)
        # Cycle a, that of the address: first and last element of a pool window.
        self._opens, self._closes = Signal(reset_less=True), Signal(reset_less=True)
        self._step = Signal(range(max(2, self._steps)), reset_less=True)
        self._moves = Signal(8)
        m.d.sync += [
            self.accumulator.enable.eq(running & ~self.unit.abort),
            self._moves.eq(Mux(running, nest.advance, 0)),
            self._opens.eq(opens),
            self._closes.eq(nest.final[WX : WT + 1].all()),
        ]
        with m.If(self._begin | self._moves[WX:].any()):
            m.d.sync += self._step.eq(0)
        with m.Elif(self._moves[STEP]):
            m.d.sync += self._step.eq(self._step + 1)

    def _parameters(self, m: Module) -> None:
        """Parameter rows: read in cycle a + 1, in the lanes' registers in a + 3.

        With one step per accumulator row the parameters change only with co, and are read then.
        """
        assert PARAMETER_READ_LATENCY == 1
        f = self._fields
        base = Signal(len(self.parameter.address), reset_less=True)
        fresh = Signal()
        with m.If(self._begin):
            m.d.sync += base.eq(f.parameter >> exact_log2(self._config.parameter_row_beats))
            m.d.sync += fresh.eq(1)
        with m.Elif(self._moves[CO]):
            m.d.sync += [base.eq(base + self._steps), fresh.eq(1)]
        with m.Elif(self.accumulator.enable):
            m.d.sync += fresh.eq(0)
        wanted = fresh if self._steps == 1 else 1
        m.d.sync += [
            self.parameter.enable.eq(self.accumulator.enable & wanted),
            self.parameter.address.eq(base + self._step),
        ]
        arrived = Signal()
        m.d.sync += arrived.eq(self.parameter.enable)
        self._bias, self._multiplier, self._shift = [], [], []
        for lane in range(self._lanes):
            word = self.parameter.data.word_select(lane, 64)
            bias = Signal(signed(32), name=f"bias{lane}", reset_less=True)
            multiplier = Signal(24, name=f"multiplier{lane}", reset_less=True)
            shift = Signal(8, name=f"shift{lane}", reset_less=True)
            with m.If(arrived):
                m.d.sync += Cat(bias, multiplier, shift).eq(word)
            self._bias.append(bias)
            self._multiplier.append(multiplier)
            self._shift.append(shift)

    def _requantize(self, m: Module) -> list[Value]:
        """Lanes of the current step, registered in cycle a + 3, then the requantization lanes."""
        f, bits = self._fields, self._config.memory.accumulator_bits
        depth = ACCUMULATOR_READ_LATENCY + 1 + REQUANTIZE_LATENCY
        self._valid = valid = Signal(depth)
        steps = [Signal.like(self._step, name=f"step{i}") for i in range(ACCUMULATOR_READ_LATENCY)]
        m.d.sync += valid.eq(Mux(self.unit.abort, 0, Cat(self.accumulator.enable, valid)[:depth]))
        for source, target in zip([self._step, *steps], steps, strict=False):
            m.d.sync += target.eq(source)
        stages = valid[ACCUMULATOR_READ_LATENCY:]
        codes = []
        for index in range(self._lanes):
            m.submodules[f"lane{index}"] = lane = RequantizeLane(bits)
            taken = Signal(signed(bits), name=f"taken{index}", reset_less=True)
            columns = [
                self.accumulator.data.word_select(step * self._lanes + index, bits)
                for step in range(self._steps)
            ]
            with m.If(valid[ACCUMULATOR_READ_LATENCY - 1]):
                if self._steps == 1:
                    m.d.sync += taken.eq(columns[0])
                else:
                    with m.Switch(steps[-1]):
                        for step, column in enumerate(columns):
                            with m.Case(step):
                                m.d.sync += taken.eq(column)
            m.d.comb += [
                lane.stages.eq(stages),
                lane.accumulator.eq(taken),
                lane.bias.eq(self._bias[index]),
                lane.multiplier.eq(self._multiplier[index]),
                lane.shift.eq(self._shift[index]),
                lane.zero_point.eq(f.zero_point),
                lane.low.eq(f.low),
                lane.high.eq(f.high),
            ]
            codes.append(lane.code)
        return codes

    def _assemble(self, m: Module, codes: list[Value]) -> None:
        """Running maximum per channel, rotating by one step; whole rows are written.

        The codes come out in cycle a + 15; a row is written in a + 16 from the newest steps.
        """
        f, lanes = self._fields, self._lanes
        depth = len(self._valid)
        per_row = self._config.lane_block // lanes
        writes_row = self._closes
        if per_row > 1:
            writes_row = writes_row & (self._step[: exact_log2(per_row)] == per_row - 1)
        opens_line, row_line = Signal(depth), Signal(depth)
        m.d.sync += [
            opens_line.eq(Cat(self._opens, opens_line)[:depth]),
            row_line.eq(Cat(writes_row & self.accumulator.enable, row_line)[:depth]),
        ]
        arrived, opens = self._valid[-1], opens_line[-1]
        row = row_line[-1] & arrived
        best = [
            [Signal(signed(9), name=f"best{s}_{lane}", reset_less=True) for lane in range(lanes)]
            for s in range(self._steps)
        ]
        with m.If(arrived):
            for lane, code in enumerate(codes):
                held = best[0][lane]
                m.d.sync += best[-1][lane].eq(Mux(opens | (code > held), code, held))
            for older, newer in itertools.pairwise(best):
                m.d.sync += [o.eq(n) for o, n in zip(older, newer, strict=True)]

        m.submodules.targets = nest = Nest(
            (1 + exact_log2(self._config.array.blocks_per_row), *(COUNT_BITS,) * 4)
        )
        m.submodules.target = walker = Walker(5)
        counts = [self._config.array.blocks_per_row, *f.counts]
        m.d.comb += [port.eq(value) for port, value in zip(nest.counts, counts, strict=True)]
        m.d.comb += [
            port.eq(value) for port, value in zip(walker.deltas, f.destination_deltas, strict=True)
        ]
        m.d.comb += [
            nest.load.eq(self._begin),
            nest.step.eq(row),
            walker.load.eq(self._begin),
            walker.step.eq(row),
            walker.advance.eq(nest.advance),
            walker.base.eq(f.destination),
            self.write.address.eq(walker.address),
            self.write.data.eq(Cat(code[:8] for group in best[-per_row:] for code in group)),
        ]
        m.d.sync += [
            self.write.enable.eq(row & ~self.unit.abort),
            self._finished.eq(row & nest.last & ~self.unit.abort),
        ]
