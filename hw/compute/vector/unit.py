"""VECTOR: operations on activation rows, element by element, over windows and over groups."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import INSTRUCTION_BYTES, OPCODE_BITS, ErrorCode
from hw.arch.timing import ELEMENT_LATENCY, FOLD_LATENCY, ROW_LATENCY, VECTOR_LATENCY
from hw.common.agu import COUNT_BITS, Nest, Walker
from hw.common.ports import UnitSignature, activation_read, activation_write, weight_write
from hw.compute.parts.latch import delay_line, strobe_line
from hw.compute.vector.affine import NORMAL_DELAY
from hw.compute.vector.coefficients import GAIN_LATENCY
from hw.compute.vector.decode import AffineInput, VectorParameters
from hw.compute.vector.element import LANE_LATENCY, ElementLane, table_write_signature
from hw.compute.vector.fold import FoldEngine
from hw.compute.vector.rows import ARRIVED, Rows, SteppedLines
from hw.compute.vector.statistics import APPLY_LATENCY
from hw.compute.vector.walk import COEFFICIENT_DELAY, VectorWalk

__all__ = ["PAYLOAD", "VectorUnit"]

PAYLOAD = data.StructLayout({"opcode": OPCODE_BITS, "word": 8 * INSTRUCTION_BYTES - OPCODE_BITS})
TAKEN = ROW_LATENCY + ELEMENT_LATENCY - 1
"""Cycles from a step's address until the affine pipeline's operands are taken."""
EXPONENTIAL_DELAY = 1
"""Cycles by which an exponential comes later than a product."""
LATER_STAGES = ELEMENT_LATENCY + 8
"""Stage of a lane from which on a NORM_APPLY is NORMAL_DELAY late."""
TURN = TAKEN - APPLY_LATENCY
"""Cycles from a step's address until its group's entry is read."""
COEFFICIENT_STEP = TAKEN + 1 + 6 + NORMAL_DELAY - GAIN_LATENCY
"""Cycles from a step's address until its coefficients are chosen."""


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
    weight_write: beats of the weight scratchpad, with the feature attention.

    Tested range: tests/hw/compute/vector/test_vector.py.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._folds = "fold" in config.features
        self._writes_weights = "attention" in config.features
        super().__init__(
            {
                "unit": Out(UnitSignature(PAYLOAD)),
                "source0": Out(activation_read(config)),
                "source1": Out(activation_read(config)),
                "write": Out(activation_write(config)),
                "table_write": In(table_write_signature(config)),
                **({"weight_write": Out(weight_write(config))} if self._writes_weights else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._parameters = VectorParameters(self._config)
        self._parameters.settle(m)
        self._begin = Signal()
        self._walk = VectorWalk(self._config, self._parameters)
        self._rows = Rows(self._config, self._parameters)
        self._walk.elaborate(m, self._begin, self.unit.abort)
        self._lines(m)
        self._read(m)
        self._rows.elaborate(m, self.source0.data, self.source1.data, self._line, self._walk.offset)
        lanes = self._lanes(m)
        if self._folds:
            self._fold(m, lanes)
        self._write(m, [lane.result for lane in lanes], *self._results(m, lanes))
        self._issue(m)
        return m

    def _issue(self, m: Module) -> None:
        """An instruction is accepted in cycle t; `begin` is high in t + 1."""
        unit, begin, ending = self.unit, self._begin, self._walk.ending
        active = Signal()
        if self._folds:
            folding = self._parameters.fold.active
            early, _ = strobe_line(
                m, ending & folding, unit.abort, FOLD_LATENCY - VECTOR_LATENCY, "late_completion"
            )
            ending = early | (ending & ~folding)
        done, _ = strobe_line(m, ending, unit.abort, VECTOR_LATENCY, "completion")
        accepted = unit.instruction.valid & unit.instruction.ready
        m.d.comb += [
            unit.instruction.ready.eq(~active & ~unit.abort),
            unit.busy.eq(active),
            unit.done.eq(done),
        ]
        m.d.sync += [begin.eq(0), unit.error.eq(0)]
        with m.If(accepted):
            self._parameters.take(m, unit.instruction.payload)
            m.d.sync += [active.eq(1), begin.eq(1)]
        with m.If(self._walk.bad_window):
            m.d.sync += unit.error.eq(ErrorCode.FIELD.value)
        with m.If(done | unit.abort):
            m.d.sync += active.eq(0)
        if self._folds:
            network = self._rows.network()
            select, valid = self._parameters.selection(unit.instruction.payload)
            m.d.comb += [network.load.eq(accepted)]
            m.d.comb += [Value.cast(network.select).eq(select), network.valid.eq(valid)]

    def _lines(self, m: Module) -> None:
        """Delay lines: bit k of a line is the flag of cycle a, k cycles later."""
        walk = self._walk
        self._line = line = SteppedLines()

        # Flags of steps go with the elements through the lanes' first stages; those of results
        # join them where the affine pipeline begins, by the way that their operands took.
        folds = self._folds
        front = TAKEN + EXPONENTIAL_DELAY if folds else ROW_LATENCY + LANE_LATENCY
        steps = COEFFICIENT_STEP if folds else ROW_LATENCY + 1
        line.present = delay_line(m, walk.present, steps, "present_line")
        line.load = delay_line(
            m, walk.first_step, COEFFICIENT_STEP if folds else ROW_LATENCY - 1, "load_line"
        )
        line.opens = delay_line(m, walk.opens, ROW_LATENCY + (4 if folds else 1), "opens_line")
        line.inside = delay_line(m, walk.inside, ARRIVED, "inside_line")
        line.emits = delay_line(m, walk.emits, front, "emits_line")
        line.row = delay_line(m, walk.emits & walk.last_step, front, "row_line")
        if folds:
            line.last_n0 = delay_line(m, walk.last_n0, ROW_LATENCY - 1, "last_n0_line")

    def _read(self, m: Module) -> None:
        """Reads, one cycle behind the addresses."""
        p, walk = self._parameters, self._walk
        wanted = walk.present & walk.first_step
        second = wanted & p.two_sources
        if self._folds:
            late = Signal(name="second_late")
            m.d.sync += late.eq(second)
            second = Mux(p.permute.serial, late, second) | self._fetch(m)
        m.d.sync += [
            self.source0.enable.eq(wanted & walk.inside),
            self.source0.address.eq(walk.addresses[0]),
            self.source1.enable.eq(second),
            self.source1.address.eq(walk.addresses[1]),
        ]

    def _fetch(self, m: Module) -> Value:
        """Coefficients are read late; rows of them go to the engine."""
        arrives = COEFFICIENT_DELAY + ARRIVED
        self._fetch_line = line = Signal(arrives, name="fetch_line")
        m.d.sync += line.eq(Cat(self._walk.fetches, line)[:arrives])
        return line[COEFFICIENT_DELAY - 1]

    def _lanes(self, m: Module) -> list[ElementLane]:
        """The lanes; elements enter in a + ROW_LATENCY."""
        line, rows = self._line, self._rows
        # As every memory, the tables are written from registers.
        table_write = table_write_signature(self._config).create()
        m.d.sync += [
            table_write.enable.eq(self.table_write.enable),
            table_write.address.eq(self.table_write.address),
            table_write.data.eq(self.table_write.data),
        ]
        present = line.present[ROW_LATENCY:]
        if self._folds:  # a tile's results have no source rows of their own
            results = line.emits[ROW_LATENCY:]
            present = Mux(self._parameters.permute.transposes, results, present)
        lanes = []
        for index in range(self._config.lanes.vector):
            lane = ElementLane(self._config, self._parameters)
            m.submodules[f"lane{index}"] = lane
            m.d.comb += [
                lane.present.eq(present),
                lane.opens.eq(line.opens[ROW_LATENCY:]),
                lane.left.eq(rows.left.word_select(index, 8)),
                lane.right.eq(rows.right.word_select(index, 8)),
                lane.table_write.enable.eq(table_write.enable),
                lane.table_write.address.eq(table_write.address),
                lane.table_write.data.eq(table_write.data),
            ]
            lanes.append(lane)
        return lanes

    def _fold(self, m: Module, lanes: list[ElementLane]) -> None:
        """What the lanes of a FOLD have in common, and its flags."""
        p, line, walk = self._parameters, self._line, self._walk
        f = p.fold
        m.submodules.fold = self._engine = engine = FoldEngine(self._config, p)
        summed = TAKEN + EXPONENTIAL_DELAY
        length = max(summed, TURN + EXPONENTIAL_DELAY)
        closes = delay_line(m, walk.closes, length, "closes_line")
        renews = delay_line(m, walk.renews, TURN, "renews_line")
        ends = delay_line(m, walk.last_n2, summed, "last_n2_line")

        def then(flags: Value, cycle: int) -> Value:
            """A flag when its elements are there; exponentials take longer."""
            return Mux(f.softmax, flags[cycle + EXPONENTIAL_DELAY], flags[cycle])

        m.d.comb += [
            engine.begin.eq(self._begin),
            engine.present.eq(then(line.present, TAKEN) & f.active),
            engine.opens.eq(then(line.opens, TAKEN) & then(line.load, TAKEN)),
            engine.closes.eq(then(closes, TAKEN)),
            engine.ends.eq(then(ends, TAKEN)),
            engine.following.eq(then(closes, TURN) & f.applies),
            engine.again.eq(renews[TURN] & f.norm),
            engine.fetched.eq(self._fetch_line[-1]),
            engine.row.eq(self.source1.data),
            engine.step.eq(line.present[COEFFICIENT_STEP]),
            engine.first.eq(line.load[COEFFICIENT_STEP]),
        ]
        for index, lane in enumerate(lanes):
            m.d.comb += [
                engine.terms[index].eq(lane.term),
                engine.elements[index].eq(lane.element),
                lane.live.eq(self._rows.live[index]),
                lane.shared.eq(engine.results[index]),
                lane.minus_sum.eq(engine.minus_sum),
                lane.factor.eq(engine.factor),
                lane.factor_shift.eq(engine.factor_shift),
                lane.gain.eq(engine.gains[index]),
                lane.bias.eq(engine.biases[index]),
            ]

    def _results(self, m: Module, lanes: list[ElementLane]) -> tuple[Value, Value]:
        """Enable the lanes. Returns (results leave, they end a row), from behind them.

        Two bits each: now, and in the next cycle.
        """
        line, ready = self._line, ROW_LATENCY + LANE_LATENCY
        if not self._folds:
            for lane in lanes:
                m.d.comb += lane.emits.eq(line.emits[ROW_LATENCY:ready])
            return line.emits[ready - 1 : ready + 1][::-1], line.row[ready - 1 : ready + 1][::-1]
        p, engine = self._parameters, self._engine
        exponential = p.operand == AffineInput.EXPONENTIAL

        def taken(flags: Value) -> Value:
            return Mux(exponential, flags[TAKEN + EXPONENTIAL_DELAY], flags[TAKEN])

        ends = engine.ends_row | ~p.fold.gather
        left = LATER_STAGES - (ELEMENT_LATENCY - 1)  # stages from the taking to the later ones
        after = LANE_LATENCY - LATER_STAGES
        flags = []
        for name, flag in (
            ("emits", taken(line.emits) | engine.done),
            ("row", taken(line.row) | (engine.done & ends)),
        ):
            early = delay_line(m, flag, left + NORMAL_DELAY, f"early_{name}")
            later = Mux(p.fold.norm, early[left + NORMAL_DELAY], early[left])
            flags.append((early, delay_line(m, later, after, f"late_{name}")))
        (early, late), (_, row) = flags
        first = early[left - 2 : left]
        normal = early[left - 2 + NORMAL_DELAY : left + NORMAL_DELAY]
        for lane in lanes:
            m.d.comb += [
                lane.emits.eq(Cat(C(0, ELEMENT_LATENCY - 1), early[:left], late[:after])),
                lane.first_stages.eq(Mux(p.fold.norm, normal, first)),
            ]
        return late[after - 1 : after + 1][::-1], row[after - 1 : after + 1][::-1]

    def _write(self, m: Module, results: list[Value], emits: Value, ends: Value) -> None:
        """Assemble rows, lowest lanes first; the write is a cycle after the last element's.

        Parameters
        ----------
        results: of the lanes.
        emits, ends: as `_results` gives them.
        """
        p = self._parameters
        f = p.fold
        row = Signal(8 * self._config.lane_block, reset_less=True)
        assert ROW_LATENCY + LANE_LATENCY + 1 == VECTOR_LATENCY
        shifted = Cat(row, *results)[-len(row) :]
        complete: Value = ends[0]
        if self._folds:
            complete = self._spread(m, row, results, shifted, emits, ends)
        else:
            with m.If(emits[0]):
                m.d.sync += row.eq(shifted)
        m.submodules.targets = nest = Nest((COUNT_BITS,) * 4)
        m.submodules.target = walker = Walker(4)
        counts = [p.produced, *p.counts[1:]]
        if self._folds:
            counts[1] = Mux(f.grouped, 1, counts[1])
            counts[2] = Mux(f.grouped, f.rows, counts[2])
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
        written = complete & ~self.unit.abort
        if not self._writes_weights:
            m.d.sync += self.write.enable.eq(written)
            return
        m.d.sync += self.write.enable.eq(written & ~p.permute.weights)
        m.d.sync += self.weight_write.enable.eq(written & p.permute.weights)
        m.d.comb += [
            self.weight_write.address.eq(walker.address),
            self.weight_write.data.eq(row),
        ]

    def _spread(
        self,
        m: Module,
        row: Signal,
        results: list[Value],
        shifted: Value,
        emits: Value,
        ends: Value,
    ) -> Value:
        """The row with results of all lanes, which stand in every lane or, gathered, in one.

        Returns whether a row is complete.
        """
        f = self._parameters.fold
        lanes, width = self._config.lane_block, self._config.lanes.vector
        slot = Signal(range(lanes), name="slot")  # that the next gathered result goes to
        # Counters, addresses and all that is written hang on `complete`: a register, since what it
        # follows from is known a cycle ahead.
        complete, following = Signal(name="complete"), Signal.like(slot, name="slot_next")
        m.d.comb += following.eq(Mux(self._begin | complete, 0, slot + emits[0]))
        fills = emits[1] & f.gather & (following == lanes - 1)
        m.d.sync += [slot.eq(following), complete.eq(ends[1] | fills)]
        for lane in range(lanes):
            mine = Mux(f.gather, slot == lane, ~f.argmax | C(int(lane < 2), 1))
            result = results[lane % width] & mine.replicate(8)
            # The first of a row clears the other lanes.
            takes = ~f.gather | (slot == lane) | (slot == 0)
            with m.If(emits[0] & takes):
                m.d.sync += row.word_select(lane, 8).eq(
                    Mux(f.shared, result, shifted.word_select(lane, 8))
                )
        return complete
