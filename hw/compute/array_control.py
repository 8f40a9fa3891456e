"""Controller of the multiplier array: walks the nest and says what enters column 0."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from amaranth.utils import exact_log2

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, ErrorCode
from hw.arch.timing import ACCUMULATE_HAZARD, LINE_HAZARD, array_latency, array_start
from hw.common.agu import COUNT_BITS, Coordinate, Nest, Walker, any_zero
from hw.common.layouts import instruction_layout
from hw.common.ports import UnitSignature
from hw.compute.chain import READ_LAYOUT, control_layout, line_layout
from hw.compute.latch import Fields, strobe_line

__all__ = ["ArrayControl"]

X, Y, T, CO, KX, KY, KT, CI = range(8)
FIELDS = (
    "mode", "accumulate", "signed", "zero_point", "activation", "accumulator", "counts", "deltas",
    "starts", "steps", "dilations", "bounds", "window_x", "window_y", "emit_x", "emit_y", "weight",
    "weights_from_activation", "transpose_weights", "keep", "resume", "line",
)  # fmt: skip


class ArrayControl(wiring.Component):
    """Accepts instructions and names one position per cycle.

    Handshake: `unit.instruction` is ready while nothing streams and in the last cycle of a stream.
    Latency: an instruction issued in cycle t has its first position on the outputs in
    t + array_start + 1 (one register behind the address).

    Members
    -------
    unit: queue side.
    activation_enable, activation_address: scratchpad row of the position; low where clipped.
    control, line, read: of the position (see chain.py), all in the same cycle.
    weight_start, weight_base: load the first weight block of an instruction from this group.
    weight_next: a block's first position, unless it is the last block; in the address cycle, that
        is one cycle before the outputs above.
    zero_point, signed: of the positions whose activations arrive from the scratchpad now.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._group_shift = exact_log2(config.weight_group_beats)
        layout = instruction_layout(Array)
        self._layout = layout
        super().__init__(
            {
                "unit": Out(UnitSignature(layout)),
                "activation_enable": Out(1),
                "activation_address": Out(16),
                "control": Out(control_layout(config)),
                "line": Out(line_layout(config)),
                "read": Out(READ_LAYOUT),
                "weight_start": Out(1),
                "weight_base": Out(18 - self._group_shift),
                "weight_next": Out(1),
                "zero_point": Out(8),
                "signed": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._fields = Fields(self._layout, FIELDS)
        self._issue(m)
        self._walk(m)
        self._clip(m)
        self._emission(m)
        self._outputs(m)
        return m

    def _fault(self) -> Value:
        """ErrorCode of the instruction in the registers, 0 if it can be executed."""
        f, config = self._fields, self._config
        depthwise = f.mode == ArrayMode.DEPTHWISE
        supported = f.mode == ArrayMode.GEMM
        if "depthwise" in config.features:
            supported = supported | depthwise
        line = f.counts[X]
        line_bits = exact_log2(config.memory.line_pixels)
        bad_window = (
            (f.window_x == 0)
            | (f.window_y == 0)
            | (f.emit_x == 0)
            | (f.emit_y == 0)
            | (line < f.window_x)
            | (~f.resume & (f.counts[Y] < f.window_y))
            | (f.resume & ~f.keep)
            | ((f.window_y > 1) & ((line < LINE_HAZARD) | (line > config.memory.line_pixels)))
            | (f.counts[KX] != 1)
        )
        field = any_zero(f.counts) | (depthwise & bad_window)
        # Later entries are checked as they are read.
        outside = depthwise & f.keep & f.line[line_bits:].any()
        misaligned = f.weight[: self._group_shift].any() | outside
        attention = f.weights_from_activation | f.transpose_weights
        return Mux(
            ~supported | attention,
            ErrorCode.UNSUPPORTED.value,
            Mux(field, ErrorCode.FIELD.value, Mux(misaligned, ErrorCode.ADDRESS.value, C(0, 6))),
        )

    def _issue(self, m: Module) -> None:
        """Instruction registers, preamble, done line. An instruction is accepted in cycle t."""
        unit, config = self.unit, self._config
        self._line_overflow = Signal()
        active = Signal()
        self._ending = ending = Signal()
        self._begin = begin = Signal()
        self._run = Signal()
        fault = Signal(6)
        m.d.comb += [
            unit.instruction.ready.eq((~active | ending) & ~unit.abort),
            fault.eq(self._fault()),
        ]
        m.d.sync += [begin.eq(0), unit.error.eq(0)]
        with m.If(ending | unit.abort | (begin & (fault != 0))):
            m.d.sync += active.eq(0)
        with m.If(unit.instruction.valid & unit.instruction.ready):
            m.d.sync += self._fields.take(unit.instruction.payload)
            m.d.sync += [active.eq(1), begin.eq(1)]
        overflow = self.read.address[exact_log2(config.memory.accumulator_rows) + 1 :].any()
        with m.If(begin):
            m.d.sync += unit.error.eq(fault)
        with m.Elif((self.read.enable & overflow) | self._line_overflow):
            m.d.sync += unit.error.eq(ErrorCode.ADDRESS.value)
        # cycle t + 1: `begin`; cycle t + array_start - 1: the nest runs
        started = begin & (fault == 0)
        run, pending = strobe_line(m, started, unit.abort, array_start(config) - 3, "preamble")
        # The address of the last position is formed while `ending` is high.
        done, flying = strobe_line(m, ending, unit.abort, array_latency(config), "completion")
        m.d.comb += [
            self._run.eq(run),
            unit.done.eq(done),
            unit.busy.eq(active | flying | pending),
            # Also for a refused instruction: the error stops the core anyway.
            self.weight_start.eq(begin),
            self.weight_base.eq(self._fields.weight >> self._group_shift),
        ]
        # Activations of the instruction before arrive until cycle t + 3.
        late, _ = strobe_line(m, begin, C(0), 3, "zero_point_line")
        with m.If(late):
            m.d.sync += [
                self.zero_point.eq(self._fields.zero_point),
                self.signed.eq(self._fields.signed),
            ]

    def _walk(self, m: Module) -> None:
        """Counters, one position ahead of the address; the least length of a block."""
        f = self._fields
        m.submodules.nest = nest = Nest((COUNT_BITS,) * 8)
        m.submodules.walker = self._walker = walker = Walker(8)
        running, fresh, block_first = Signal(), Signal(), Signal()
        floor = max(self._config.weight_block_groups, ACCUMULATE_HAZARD) - 1
        age = Signal(range(floor + 1))
        block_end, step = Signal(), Signal()
        m.d.comb += [
            nest.load.eq(self._begin),
            nest.step.eq(step),
            walker.load.eq(self._begin),
            walker.step.eq(step),
            walker.advance.eq(nest.advance),
            walker.base.eq(f.activation),
            block_end.eq(nest.wrap[T]),
            step.eq(running & (~block_end | (age == 0))),
        ]
        m.d.comb += [port.eq(value) for port, value in zip(nest.counts, f.counts, strict=True)]
        m.d.comb += [port.eq(value) for port, value in zip(walker.deltas, f.deltas, strict=True)]
        with m.If(self._run | (step & block_end)):
            m.d.sync += age.eq(floor)
        with m.Elif(running & (age != 0)):
            m.d.sync += age.eq(age - 1)
        with m.If(self._run):
            m.d.sync += [running.eq(1), fresh.eq(1), block_first.eq(1)]
        with m.Elif(running):
            m.d.sync += fresh.eq(step)
            with m.If(step):
                m.d.sync += block_first.eq(block_end)
        with m.If((step & nest.last) | self.unit.abort):
            m.d.sync += running.eq(0)
        # The address cycle: everything below is in step with `walker.address`.
        self._present, self._first = Signal(), Signal()
        # Bit k: counter k counts; counters 0..k restart.
        self._moves, self._restarts = Signal(8), Signal(8)
        m.d.sync += [
            self._restarts.eq(Mux(step, nest.wrap, 0)),
            self._present.eq(running & fresh),
            self._first.eq(running & fresh & block_first),
            self._moves.eq(Mux(step, nest.advance, 0)),
            self._ending.eq(step & nest.last),
            self.weight_next.eq(running & fresh & block_first & ~nest.final[CO:].all()),
        ]

    def _clip(self, m: Module) -> None:
        """Coordinates along x, y, t."""
        f, moves, restarts = self._fields, self._moves, self._restarts
        depthwise = f.mode == ArrayMode.DEPTHWISE
        self._inside = Signal()
        inside = []
        for axis in (X, Y, T):
            coordinate = Coordinate()
            m.submodules[f"coordinate{axis}"] = coordinate
            tap = KX + axis
            dilation = f.dilations[axis]
            m.d.comb += [
                coordinate.load.eq(self._begin),
                coordinate.inner_advance.eq(moves[axis]),
                coordinate.inner_restart.eq(restarts[axis]),
                coordinate.outer_advance.eq(moves[tap]),
                coordinate.outer_restart.eq(restarts[tap]),
                coordinate.start.eq(f.starts[axis]),
                coordinate.inner_step.eq(f.steps[axis]),
                # Window passes look at the same pixels again.
                coordinate.outer_step.eq(dilation if axis == T else Mux(depthwise, 0, dilation)),
                coordinate.bound.eq(f.bounds[axis]),
            ]
            inside.append(coordinate.inside)
        m.d.comb += self._inside.eq(Cat(inside).all())

    def _emission(self, m: Module) -> None:
        """Which positions produce a sum, and where it is accumulated."""
        f, moves, restarts, begin = self._fields, self._moves, self._restarts, self._begin
        self._emit, self._depthwise = Signal(), Signal()
        # One bit more than an entry has, to see that the last one was passed.
        self._line = Signal(len(self.line.address) + 1, reset_less=True)
        line_base = Signal.like(self._line)
        self._tap_pass = Signal(2, reset_less=True)
        self._accumulator = Signal(len(self.read.address), reset_less=True)
        self._first_pass = Signal(reset_less=True)
        wait_x, wait_y = Signal(2, reset_less=True), Signal(2, reset_less=True)
        m.d.comb += self._depthwise.eq(f.mode == ArrayMode.DEPTHWISE)
        with m.If(begin | restarts[X]):
            m.d.sync += wait_x.eq(f.window_x - 1)
        with m.Elif(moves[X]):
            m.d.sync += wait_x.eq(Mux(wait_x == 0, f.emit_x - 1, wait_x - 1))
        # A frame goes over its entries again with every line; with `keep` the next one has others.
        next_entry = self._line + 1
        frame_entry = Mux(begin, f.line, next_entry)
        with m.If(begin | restarts[Y]):
            m.d.sync += [r.eq(Mux(f.keep, frame_entry, 0)) for r in (self._line, line_base)]
        with m.Elif(restarts[X]):
            m.d.sync += self._line.eq(line_base)
        with m.Elif(moves[X]):
            m.d.sync += self._line.eq(next_entry)
        with m.If(begin | restarts[Y]):
            m.d.sync += wait_y.eq(Mux(f.resume, 0, f.window_y - 1))
        with m.Elif(moves[Y]):
            m.d.sync += wait_y.eq(Mux(wait_y == 0, f.emit_y - 1, wait_y - 1))
        m.d.comb += self._emit.eq(~self._depthwise | ((wait_x == 0) & (wait_y == 0)))
        with m.If(begin | restarts[KY]):
            m.d.sync += self._tap_pass.eq(0)
        with m.Elif(moves[KY]):
            m.d.sync += self._tap_pass.eq(self._tap_pass + 1)
        with m.If(begin | restarts[CO]):
            m.d.sync += [self._accumulator.eq(f.accumulator), self._first_pass.eq(begin)]
        with m.Elif(moves[:KX].any()):
            m.d.sync += self._accumulator.eq(self._accumulator + self._emit)

    def _outputs(self, m: Module) -> None:
        """The register behind the address."""
        f = self._fields
        windowed = self._present & self._depthwise & (f.window_y != 1)
        m.d.sync += [
            self.activation_enable.eq(self._present & self._inside),
            self.activation_address.eq(self._walker.address),
            self.control.present.eq(self._present),
            self.control.valid.eq(self._present & self._emit),
            self.control.swap.eq(self._first),
            self.control.depthwise.eq(self._depthwise),
            self.control.window_x.eq(f.window_x),
            self.control.window_y.eq(f.window_y),
            self.control.tap_pass.eq(self._tap_pass),
            self.control.line.eq(self._line),
            self.line.enable.eq(windowed),
            self.line.address.eq(self._line),
            self._line_overflow.eq(windowed & self._line[-1]),
            self.read.enable.eq(self._present & self._emit),
            self.read.overwrite.eq(self._first_pass & ~f.accumulate),
            self.read.address.eq(self._accumulator),
        ]
