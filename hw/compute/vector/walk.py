"""Where the vector unit is: counters, addresses, clipping, and pauses between groups."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.utils import exact_log2

from hw.arch.config import AcceleratorConfig
from hw.arch.fold_timing import NORM_ENGINE, SOFTMAX_ENGINE
from hw.arch.instructions.fold import COEFFICIENT_ROWS
from hw.common.agu import COUNT_BITS, Coordinate, Nest, Walker
from hw.compute.parts.latch import delayed
from hw.compute.vector.decode import WINDOW_BITS, VectorParameters

__all__ = ["COEFFICIENT_DELAY", "VectorWalk"]

STEP, R0, R2, N0, N1, N2 = 0, 1, 3, 4, 5, 6
"""Levels of the nest: step in the row, window r0, r1, r2, then n0..n3."""
LEVELS = 8
COEFFICIENT_DELAY = 16
"""Cycles by which NORM_APPLY reads its coefficients late: the elements before still need those
before (hw/compute/vector/coefficients.py)."""


class VectorWalk:
    """The nest of an instruction, its addresses, and strobes that say what each step is.

    Counters stand at a point in the cycle before its address is out (cycle a). All attributes are
    of cycle a.

    FOLD and PERMUTE stop the counters at times: a collecting pass between groups while the engine
    is at work, NORM_APPLY for the rows of coefficients at every new element, TRANSPOSE behind a
    tile of few rows. And some instructions end later than their last step: TRANSPOSE with its last
    tile's results, a collecting pass with the engine's last group.

    Attributes
    ----------
    addresses: of source 0 and source 1.
    present: a step is there. first_step, last_step: of its row.
    opens: the first row of a window, or of a group. emits: its results leave.
    closes: a group's last step; NORM_APPLY: a row's.
    renews: NORM_APPLY: the last step before a new element. last_n0, last_n2: that counter is at its
        last value.
    inside: no coordinate is clipped. offset: lanes by which the row moves.
    fetches: NORM_APPLY reads a row of coefficients from addresses[1], COEFFICIENT_DELAY late.
    ending: the last step of all, or what stands for it.
    bad_window: a cycle later: an empty maximum, or a row that does not fit.
    """

    def __init__(self, config: AcceleratorConfig, parameters: VectorParameters):
        self._config = config
        self._parameters = parameters
        self._folds = parameters.folds
        self._period = config.lane_block * config.vector_steps
        self.ending, self.bad_window = Signal(name="ending"), Signal(name="bad_window")
        self.present, self.first_step, self.last_step = Signal(), Signal(), Signal()
        self.opens, self.emits = Signal(), Signal()
        self.closes, self.renews = Signal(), Signal()
        self.last_n0, self.last_n2 = Signal(), Signal()
        self.fetches: Value = C(0, 1)
        # Bit k: counter k counts; counters 0..k restart.
        self._moves, self._restarts = Signal(LEVELS), Signal(LEVELS)
        self.offset = Signal(6, reset_less=True)
        self.addresses: list[Value] = []
        self.inside: Value

    def elaborate(self, m: Module, begin: Value, abort: Value) -> None:
        """Add the circuit; `begin` starts an instruction, its first point stands a cycle later."""
        self._begin, self._abort = begin, abort
        nest = self._nest(m)
        self._steps(m, nest)
        self._walkers(m, nest)
        self._clip(m)

    def _nest(self, m: Module) -> Nest:
        p, steps = self._parameters, self._config.vector_steps
        serial = self._folds and steps == 1
        step_bits = max(1, steps.bit_length(), 2 if serial else 1)
        m.submodules.nest = nest = Nest((step_bits, *(WINDOW_BITS,) * 3, *(COUNT_BITS,) * 4))
        first = Mux(p.permute.serial, 2, 1) if serial else steps
        counts = [first, *p.window, *p.counts]
        m.d.comb += [port.eq(value) for port, value in zip(nest.counts, counts, strict=True)]
        self._running, self._moving = Signal(name="running"), Signal(name="moving")
        paused: Value = self._pauses(m, nest) if self._folds else C(0, 1)
        m.d.comb += [
            self._moving.eq(self._running & ~paused),
            nest.load.eq(self._begin),
            nest.step.eq(self._moving),
        ]
        return nest

    def _pauses(self, m: Module, nest: Nest) -> Value:
        """Whether the counters wait at the first step of a group, of a tile or of an element."""
        f, transposes = self._parameters.fold, self._parameters.permute.transposes
        longest = max(self._period, NORM_ENGINE)
        timer = Signal(range(longest + 1), name="pause_left", reset_less=True)
        busy, at_start = Signal(name="pausing"), Signal(name="at_start")
        engine = Mux(f.square, NORM_ENGINE, SOFTMAX_ENGINE)
        ends = Mux(f.collects, nest.wrap[N1], nest.wrap[N0])
        with m.If(self._begin):
            m.d.sync += at_start.eq(1)
        with m.Elif(self._moving):
            m.d.sync += at_start.eq(ends)
        with m.If(busy):
            m.d.sync += [timer.eq(timer - 1), busy.eq(timer != 1)]
        # The distance between the first steps of two groups is at least the engine's.
        with m.If(self._moving & at_start & (f.paced | transposes)):
            period = Mux(transposes, self._period, engine)
            m.d.sync += [timer.eq(period - 1), busy.eq(1)]
        with m.If(f.norm & (self._begin | (self._moving & ends))):
            m.d.sync += [timer.eq(COEFFICIENT_ROWS), busy.eq(1)]
        with m.If(self._abort):
            m.d.sync += busy.eq(0)
        paused = self._running & at_start & busy
        self.fetches = Signal(name="fetches")
        m.d.sync += self.fetches.eq(paused & f.norm)
        self._fetching = paused & f.norm
        self._fetched_last = timer == 1
        self._after(m, nest, (timer == 1) & busy & transposes, busy, engine)
        return paused

    def _after(self, m: Module, nest: Nest, tile_ready: Value, busy: Value, engine: Value) -> None:
        """What follows the last step: a tile's results, or the engine's last group."""
        f, transposes = self._parameters.fold, self._parameters.permute.transposes
        left = Signal(range(max(self._period, NORM_ENGINE)), name="after_left", reset_less=True)
        self._leaving = Signal(name="leaving")  # of a tile's results
        active = Signal(name="after")
        self._left = left
        with m.If(active):
            m.d.sync += [left.eq(left - 1), active.eq(left != 0)]
        with m.If(tile_ready):
            m.d.sync += [left.eq(self._period - 1), active.eq(1)]
        with m.If(self._moving & nest.last & f.paced):
            m.d.sync += [left.eq(engine - 1), active.eq(1)]
        with m.If(self._abort):
            m.d.sync += active.eq(0)
        m.d.comb += self._leaving.eq(active & transposes)
        self._finished = active & (left == 0) & ~busy

    def _steps(self, m: Module, nest: Nest) -> None:
        """Strobes of cycle a."""
        p, running, moving = self._parameters, self._running, self._moving
        f = p.fold
        opens, swallows = Signal(name="opens_next"), Signal(name="swallows")
        with m.If(self._begin):
            m.d.sync += [running.eq(1), opens.eq(1), swallows.eq(1)]
        with m.Elif(moving & nest.wrap[STEP]):
            m.d.sync += opens.eq(
                Mux(f.active, nest.wrap[N1], nest.wrap[R2]) if self._folds else nest.wrap[R2]
            )
            with m.If(nest.wrap[R2]):
                m.d.sync += swallows.eq(nest.wrap[N0])
        goes_on = Signal(name="goes_on")
        m.d.comb += goes_on.eq(moving & ~self._abort)
        with m.If((moving & nest.last) | (running & self._abort)):
            m.d.sync += running.eq(0)
        at_first = Signal(init=1, name="at_first")
        with m.If(self._begin):
            m.d.sync += at_first.eq(1)
        with m.Elif(moving):
            m.d.sync += at_first.eq(nest.wrap[STEP])
        # With `previous`, the first row of an innermost run produces nothing.
        emits = goes_on & nest.final[R0 : R2 + 1].all() & ~(p.previous & swallows)
        last_step: Value = nest.final[STEP]
        ending = goes_on & nest.last
        if self._folds:
            group = nest.final[N0] & nest.final[N1]
            emits = emits & ~(f.collects | f.shared) & (~f.lanewise | group)
            if self._config.vector_steps == 1:
                emits = emits & nest.final[STEP]  # with `serial` the second of two
            transposes = p.permute.transposes
            emits = Mux(transposes, self._leaving & ~self._abort, emits)
            row_left = self._left[: exact_log2(self._config.vector_steps)]
            last_step = Mux(transposes, ~row_left.any(), last_step)
            ending = (ending & ~(f.paced | transposes)) | self._finished
            m.d.sync += [
                self.closes.eq(goes_on & nest.final[STEP] & (group | f.norm)),
                self.renews.eq(goes_on & nest.wrap[N0]),
                self.last_n0.eq(nest.final[N0]),
                self.last_n2.eq(nest.final[N2]),
            ]
        m.d.sync += [
            self.present.eq(goes_on),
            self.first_step.eq(moving & at_first),
            self.last_step.eq(last_step),
            self.opens.eq(opens),
            self.emits.eq(emits),
            self._moves.eq(Mux(moving, nest.advance, 0)),
            self._restarts.eq(Mux(moving, nest.wrap, 0)),
            self.ending.eq(ending),
        ]

    def _walkers(self, m: Module, nest: Nest) -> None:
        """Both addresses, a cycle behind the counters."""
        p = self._parameters
        deltas: list[list[Any]] = [
            [0, *p.source0_deltas],
            [0, 0, 0, 0, *p.source1_deltas],
        ]
        for index in range(2):
            m.submodules[f"walker{index}"] = walker = Walker(LEVELS)
            step: Value = self._moving
            advance: Value = nest.advance
            if index and self._folds:
                step, advance = self._late(m, nest)
            m.d.comb += [
                walker.load.eq(self._begin),
                walker.step.eq(step),
                walker.advance.eq(advance),
                walker.base.eq(p.source[index]),
            ]
            m.d.comb += [d.eq(v) for d, v in zip(walker.deltas, deltas[index], strict=True)]
            self.addresses.append(walker.address)

    def _late(self, m: Module, nest: Nest) -> tuple[Value, Value]:
        """Step and advance of source 1; of coefficients: 6, n1, n2, n3, COEFFICIENT_DELAY late."""
        norm = self._parameters.fold.norm
        row = self._fetching & ~self._fetched_last
        element = self._moving & nest.wrap[N0]
        moved = Cat(row, Mux(element, nest.advance[N1:], 0))
        moved = delayed(m, moved, COEFFICIENT_DELAY, "coefficient_moved")
        step = Mux(norm, moved.any(), self._moving)
        return step, Mux(norm, Cat(C(0, N0), moved), nest.advance)

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
        self.inside = Signal(name="inside")
        m.d.comb += self.inside.eq(~p.reduce | Cat(inside).all())
        ends: Value = restarts[R2]
        if self._folds:
            ends = Mux(p.permute.transposes, restarts[N0], ends)
        with m.If(self._begin | ends):
            m.d.sync += self.offset.eq(0)
        with m.Elif(restarts[STEP]):
            m.d.sync += self.offset.eq(self.offset + p.pack_lanes)
        # A window without a row inside has no maximum; a packed row must fit.
        seen = Signal(reset_less=True, name="seen")
        found = self.inside | (seen & ~self.opens)
        m.d.sync += self.bad_window.eq(0)
        with m.If(self.present):
            m.d.sync += seen.eq(found)
            overflows = self.offset + p.pack_lanes > self._config.lane_block
            m.d.sync += self.bad_window.eq((p.maximum & self.emits & ~found) | (p.pack & overflows))
