"""Controller of the multiplier array: walks the nest and says what enters column 0."""

from typing import Any

from amaranth.hdl import C, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, ErrorCode
from hw.arch.timing import FEED_LATENCY, array_latency, array_start
from hw.common.agu import COUNT_BITS
from hw.common.layouts import instruction_layout
from hw.common.ports import UnitSignature
from hw.compute.array.chain import READ_LAYOUT, control_layout, line_layout
from hw.compute.array.clip import PositionClip
from hw.compute.array.emission import ArrayEmission
from hw.compute.array.tile_control import TileControl
from hw.compute.array.walk import ArrayWalk
from hw.compute.parts.latch import Fields, strobe_line
from hw.compute.transform.engine import OUTER_T, TransformEngine, nest_counts
from hw.compute.transform.geometry import geometry_layout
from hw.compute.transform.memory import row_bits

__all__ = ["ArrayControl"]

X, Y, T, CO, KX, KY, KT, CI = range(8)
FIELDS = (
    "mode", "accumulate", "signed", "zero_point", "activation", "accumulator", "counts", "deltas",
    "starts", "steps", "dilations", "bounds", "window_x", "window_y", "emit_x", "emit_y", "weight",
    "keep", "resume", "line",
)  # fmt: skip


class ArrayControl(wiring.Component):
    """Accepts instructions and names one position per cycle.

    Handshake: `unit.instruction` is ready while nothing streams and in the last cycle of a stream;
    in mode HFA also TRANSFORM_SHARED cycles after the rows of the present one are read and it
    streams, if the next one has the same transforms, and as long after that one was offered.
    Latency: an instruction issued in cycle t has its first position on the outputs in
    t + array_start + 1 (one register behind the address). HFA: the same for the first row that is
    read; see transform_timing.array_times for the stream.

    Members
    -------
    unit: queue side.
    activation_enable, activation_address: scratchpad row of the position; low where clipped.
    control, line, read: of the position (see chain.py), all in the same cycle.
    weight_start, weight_base: load the first weight block of an instruction from this group.
    weight_next: a block's first position, unless it is the last block; in the address cycle, that
        is one cycle before the outputs above.
    products: the array forms rows × cols products, or has formed that many.
    zero_point, signed: of the positions whose activations arrive from the scratchpad now.

    With feature hfa also
    feed: a row for the input transform is read (a cycle after its `activation_enable`).
    raw: as `zero_point`: activations are raw, for the input transform.
    temporal, spatial: transforms of the instruction.
    clear: the transform forgets everything.
    geometry, release, full: see transform/memory.py.
    transformed, half, row: a row of U is a position; in step with `control`.
    weight_transform, weight_counts: with `weight_start`: it is an HFA instruction; its counts co,
        kt (if untransformed, else 1), ci. `weight_next` is then pulsed for every block.
    loaded: the next block's weights are in the shadow registers.
    drained: see ArrayUnit.

    With feature attention also
    weight_unsigned, weight_zero_point: of the instruction whose weights are loaded.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._group_shift = exact_log2(config.weight_group_beats)
        layout = instruction_layout(Array)
        self._layout = layout
        self._has_hfa = "hfa" in config.features
        self._has_tiles = "hfa_depthwise" in config.features
        members = {}
        if self._has_hfa:
            members = {
                "feed": Out(1),
                "raw": Out(1),
                "temporal": Out(2),
                "spatial": Out(2),
                "clear": Out(1),
                "geometry": Out(geometry_layout(config)),
                "release": Out(1),
                "full": In(1),
                "transformed": Out(1),
                "half": Out(1),
                "row": Out(row_bits(config)),
                "weight_transform": Out(1),
                "weight_counts": Out(COUNT_BITS).array(3),
                "loaded": In(1),
                "drained": In(1),
            }
        self._centred = "attention" in config.features
        if self._centred:
            members |= {"weight_unsigned": Out(1), "weight_zero_point": Out(signed(9))}
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
                "products": Out(1),
                **members,
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        names = FIELDS
        if self._has_hfa:
            names = (*(name for name in FIELDS if name != "counts"), "transform_t", "transform_s")
        if self._centred:
            names = (*names, "weight_unsigned", "weight_zero_point")
        self._fields = f = Fields(self._layout, names)
        # Counts in the order of the nest, and the one of co.
        if self._has_hfa:
            self._counts = [
                Signal(COUNT_BITS, name=f"count{level}", reset_less=True) for level in range(8)
            ]
            self._blocks = Signal(COUNT_BITS, reset_less=True)
            self._hfa = Signal()
            m.d.comb += self._hfa.eq(f.mode == ArrayMode.HFA)
            m.submodules.engine = self._engine = TransformEngine(self._config)
        else:
            self._counts, self._blocks, self._hfa = f.counts, f.counts[CO], C(0, 1)
        self._tiled: Value = C(0, 1)
        if self._has_tiles:
            self._tiled = Signal()
            m.d.comb += self._tiled.eq(f.mode == ArrayMode.HFA_DEPTHWISE)
            m.submodules.tiles = self._tiles = TileControl(self._config)
        self._depthwise = Signal()
        m.d.comb += self._depthwise.eq(f.mode == ArrayMode.DEPTHWISE)
        m.submodules.walk = self._walk = ArrayWalk(self._config)
        m.submodules.clip = self._clip = PositionClip(self._config)
        m.submodules.emission = self._emission = ArrayEmission(self._config)
        self._issue(m)
        self._connect_walk(m)
        self._connect_clip(m)
        self._connect_emission(m)
        self._outputs(m)
        if self._centred:
            m.d.comb += [
                self.weight_unsigned.eq(f.weight_unsigned),
                self.weight_zero_point.eq(f.weight_zero_point),
            ]
        if self._has_hfa:
            self._connect_engine(m)
        return m

    def _issue(self, m: Module) -> None:
        """Instruction registers, preamble, done line. An instruction is accepted in cycle t."""
        unit, config = self.unit, self._config
        self._line_overflow = Signal()
        active = Signal()
        self._begin = begin = Signal()
        self._run = Signal()
        self._accept, self._refuse = Signal(), Signal()
        misaligned = Signal()
        ready: Value = ~active | self._walk.ending
        ending: Value = self._walk.ending
        overfull: Value = C(0, 1)
        busy: Value = C(0, 1)
        direct: Value = C(1, 1)
        if self._has_hfa:
            engine, next_one = self._engine, unit.instruction.payload
            direct = next_one.mode != ArrayMode.HFA
            same = self._hfa & ~direct
            same &= next_one.transform_t == self._fields.transform_t
            same &= next_one.transform_s == self._fields.transform_s
            # An issue behind `free` and behind a cycle in which the instruction was offered.
            shared = Signal()
            offered = unit.instruction.valid & ~self._accept
            m.d.sync += shared.eq(engine.free & same & offered)
            ready &= engine.idle | shared
            ending, overfull, busy = ending | engine.ending, engine.overflow, engine.busy
        m.d.comb += [
            unit.instruction.ready.eq(ready & ~unit.abort),
            misaligned.eq(self._fields.weight[: self._group_shift].any()),
            self._accept.eq(unit.instruction.valid & unit.instruction.ready),
            self._refuse.eq(begin & misaligned),
        ]
        m.d.sync += [begin.eq(0), unit.error.eq(0)]
        with m.If(self._walk.ending | unit.abort | self._refuse):
            m.d.sync += active.eq(0)
        with m.If(self._accept):
            m.d.sync += self._take(unit.instruction.payload)
            m.d.sync += [active.eq(direct), begin.eq(1)]
        overflow = self.read.address[exact_log2(config.memory.accumulator_rows) + 1 :].any()
        outside = (self.read.enable & overflow) | self._line_overflow | overfull
        with m.If(self._refuse | outside):
            m.d.sync += unit.error.eq(ErrorCode.ADDRESS.value)
        # cycle t + 1: `begin`; cycle t + array_start - 1: the nest runs
        started = begin & ~misaligned
        run, pending = strobe_line(m, started, unit.abort, array_start(config) - 3, "preamble")
        # The address of the last position is formed while `ending` is high.
        done, flying = strobe_line(m, ending, unit.abort, array_latency(config), "completion")
        m.d.comb += [
            self._run.eq(run),
            unit.done.eq(done),
            unit.busy.eq(active | flying | pending | busy),
            # Also for a refused instruction: the error stops the core anyway.
            self.weight_start.eq(begin),
            self.weight_base.eq(self._fields.weight >> self._group_shift),
        ]
        # Activations of the instruction before arrive until cycle t + FEED_LATENCY - 1.
        late, _ = strobe_line(m, begin, C(0), FEED_LATENCY - 1, "zero_point_line")
        with m.If(late):
            m.d.sync += [
                self.zero_point.eq(self._fields.zero_point),
                self.signed.eq(self._fields.signed),
            ]
            if self._has_hfa:
                m.d.sync += self.raw.eq(self._hfa)

    def _take(self, payload: Value) -> list[Any]:
        """Statements that load the instruction registers."""
        result = self._fields.take(payload)
        if self._has_hfa:
            result.append(self._blocks.eq(payload.counts[CO]))
            result += [r.eq(c) for r, c in zip(self._counts, nest_counts(payload), strict=True)]
        return result

    def _connect_walk(self, m: Module) -> None:
        """The nest, and who calls for the next block's weights."""
        f, walk = self._fields, self._walk
        m.d.comb += [
            walk.load.eq(self._begin),
            walk.run.eq(self._run),
            walk.clear.eq(self.unit.abort),
            walk.hfa.eq(self._hfa),
            walk.tiled.eq(self._tiled),
            walk.base.eq(f.activation),
        ]
        m.d.comb += [port.eq(value) for port, value in zip(walk.counts, self._counts, strict=True)]
        m.d.comb += [port.eq(value) for port, value in zip(walk.deltas, f.deltas, strict=True)]
        following: Value = walk.next_block
        if self._has_hfa:
            engine = self._engine
            following = following | (engine.present & engine.block)
            m.d.comb += [
                walk.go.eq(engine.go),
                engine.fed.eq(walk.fed),
                engine.fed_last.eq(walk.fed_last),
            ]
        if self._has_tiles:
            following = following | self._tiles.next
            m.d.comb += [
                self._tiles.final_x.eq(walk.final_x),
                self._tiles.final_y.eq(walk.final_y),
                self._tiles.last_block.eq(walk.last_block),
            ]
        m.d.comb += self.weight_next.eq(following)

    def _connect_clip(self, m: Module) -> None:
        """Whether the position lies inside the tensor."""
        f, clip = self._fields, self._clip
        m.d.comb += [
            clip.load.eq(self._begin),
            clip.depthwise.eq(self._depthwise),
            clip.hfa.eq(self._hfa),
            clip.tiled.eq(self._tiled),
            clip.moves.eq(self._walk.moves),
            clip.restarts.eq(self._walk.restarts),
        ]
        if self._has_hfa:
            m.d.comb += [clip.temporal.eq(f.transform_t), clip.spatial.eq(f.transform_s)]
        for name in ("starts", "steps", "dilations", "bounds"):
            ports = zip(getattr(clip, name), getattr(f, name), strict=True)
            m.d.comb += [port.eq(value) for port, value in ports]

    def _connect_emission(self, m: Module) -> None:
        """Which positions produce a sum, and where it is accumulated."""
        f, walk, emission = self._fields, self._walk, self._emission
        m.d.comb += [
            emission.begin.eq(self._begin),
            emission.depthwise.eq(self._depthwise),
            emission.tiled.eq(self._tiled),
            emission.entry.eq(f.line),
            emission.row.eq(f.accumulator),
            emission.moves.eq(walk.moves),
            emission.restarts.eq(walk.restarts),
        ]
        for name in ("window_x", "window_y", "emit_x", "emit_y", "keep", "resume"):
            m.d.comb += getattr(emission, name).eq(getattr(f, name))

    def _outputs(self, m: Module) -> None:
        """The register behind the address."""
        f = self._fields
        windowed = self._walk.present & (self._depthwise | self._tiled) & (f.window_y != 1)
        position: Value = self._walk.present
        swap: Value = self._walk.first
        overwrite: Value = self._emission.first_pass & ~f.accumulate
        address: Value = self._emission.address
        if self._has_hfa:
            engine = self._engine
            position = (position & ~self._hfa) | engine.present
            swap = (swap & ~self._hfa) | (engine.present & engine.block)
            overwrite = Mux(engine.present, engine.overwrite, overwrite)
            address = Mux(engine.present, engine.address, address)
        emitted = position & self._emission.emit
        tap_pass: Value = self._emission.tap_pass
        m.d.comb += self.products.eq(self.read.enable)
        if self._has_tiles:
            tiles, tiled = self._tiles, self._tiled
            emitted = Mux(tiled, tiles.emit, emitted)
            swap = Mux(tiled, tiles.stage, swap)
            overwrite = Mux(tiled, ~f.accumulate, overwrite)
            address = Mux(tiled, tiles.address, address)
            tap_pass = Mux(tiled, tiles.block, tap_pass)
            m.d.sync += [
                self.control.tiles.eq(tiled),
                self.control.lower.eq(tiles.lower),
                self.control.odd.eq(tiles.odd),
                self.control.tile.eq(tiles.tile),
            ]
            # In step with `read`: its last position stands there when the next mode is known.
            with m.If(self.control.tiles):
                m.d.comb += self.products.eq(tiles.products)
            self._connect_tiles(m)
        m.d.sync += [
            self.activation_enable.eq(self._walk.present & self._clip.inside),
            self.activation_address.eq(self._walk.address),
        ]
        m.d.sync += [
            self.control.present.eq(position),
            self.control.valid.eq(emitted),
            self.control.swap.eq(swap),
            self.control.depthwise.eq(self._depthwise),
            self.control.window_x.eq(f.window_x),
            self.control.window_y.eq(f.window_y),
            self.control.tap_pass.eq(tap_pass),
            self.control.line.eq(self._emission.line),
            self.line.enable.eq(windowed),
            self.line.address.eq(self._emission.line),
            self._line_overflow.eq(windowed & self._emission.line[-1]),
            self.read.enable.eq(emitted),
            self.read.overwrite.eq(overwrite),
            self.read.address.eq(address),
        ]

    def _connect_tiles(self, m: Module) -> None:
        """Mode HFA_DEPTHWISE: what its controller is told."""
        f, tiles = self._fields, self._tiles
        m.d.comb += [
            tiles.active.eq(self._tiled),
            tiles.begin.eq(self._begin),
            tiles.advance.eq(self._walk.moves),
            tiles.restart.eq(self._walk.restarts),
            tiles.present.eq(self._walk.present),
            tiles.first.eq(self._walk.first),
            tiles.line.eq(self._counts[1]),
            tiles.emit_x.eq(f.emit_x),
            tiles.emit_y.eq(f.emit_y),
            tiles.accumulator.eq(f.accumulator),
            tiles.clear.eq(self.unit.abort),
        ]

    def _connect_engine(self, m: Module) -> None:
        """Mode HFA: what the engine and the parts around it are told."""
        f, engine = self._fields, self._engine
        hfa_next = self.unit.instruction.payload.mode == ArrayMode.HFA
        m.d.comb += [
            engine.accept.eq(self._accept & hfa_next),
            engine.begin.eq(self._begin & self._hfa),
            engine.refuse.eq(self._refuse),
            engine.clear.eq(self.unit.abort),
            engine.blocks.eq(self._blocks),
            engine.temporal.eq(f.transform_t),
            engine.spatial.eq(f.transform_s),
            engine.accumulator.eq(f.accumulator),
            engine.accumulate.eq(f.accumulate),
            engine.full.eq(self.full),
            engine.loaded.eq(self.loaded),
            engine.drained.eq(self.drained),
            self.temporal.eq(f.transform_t),
            self.spatial.eq(f.transform_s),
            self.geometry.eq(engine.geometry),
            self.release.eq(engine.release),
            self.weight_transform.eq(self._hfa),
            self.weight_counts[0].eq(self._blocks),
            self.weight_counts[1].eq(self._counts[OUTER_T]),
            self.weight_counts[2].eq(self._counts[CI]),
        ]
        m.d.comb += [
            port.eq(value) for port, value in zip(engine.levels, self._counts, strict=True)
        ]
        m.d.sync += [
            # After an abort nothing comes until a reset; a cycle does not matter.
            self.clear.eq(self.unit.abort),
            self.feed.eq(self._walk.present & self._hfa),
            self.transformed.eq(engine.present),
            self.half.eq(engine.half),
            self.row.eq(engine.row),
        ]
