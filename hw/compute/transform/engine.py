"""Mode HFA in the array's controller: order of counters, engines behind the feed."""

from amaranth.hdl import C, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ArrayMode
from hw.arch.timing import STRIP_LINES
from hw.common.agu import COUNT_BITS
from hw.common.ports import ACCUMULATOR_ADDRESS_BITS
from hw.compute.transform.control import TransformPace, TransformStream
from hw.compute.transform.geometry import TransformGeometry, geometry_layout
from hw.compute.transform.memory import row_bits
from hw.compute.transform.stage import BYPASS

__all__ = ["TransformEngine", "nest_counts"]

X, Y, T, CO, KX, KY, KT, CI = range(8)
TILE_X, TILE_Y, TILE_T, OUTER_T = 3, 4, 5, 6
"""Levels of the HFA nest: kx, ky, kt inside, tiles x, y, t, kt outside, ci."""


def nest_counts(payload: Value) -> list[Value]:
    """Counts of an instruction in the order of its mode's nest."""
    counts = payload.counts
    hfa, inside = payload.mode == ArrayMode.HFA, payload.transform_t != BYPASS
    order = [
        counts[KX],
        counts[KY],
        Mux(inside, counts[KT], 1),
        counts[X],
        counts[Y],
        counts[T],
        Mux(inside, 1, counts[KT]),
        counts[CI],
    ]
    tiles = [C(STRIP_LINES), *(counts[level] for level in (X, Y, T, CO, KX, KT, CI))]
    return [
        Mux(
            hfa,
            order[level],
            Mux(payload.mode == ArrayMode.HFA_DEPTHWISE, tiles[level], counts[level]),
        )
        for level in range(len(order))
    ]


class TransformEngine(wiring.Component):
    """Geometry, pace and stream of HFA instructions (control.py).

    Handshake: `accept` with an instruction, one cycle later `begin` or `refuse`; its fields are
    held until `free`, or until `idle` for an instruction of another kind.

    Members
    -------
    accept, begin, refuse: an instruction is taken, starts, or is refused.
    clear: forget everything.
    levels: counts in the order of the nest. blocks: count co.
    temporal, spatial, accumulator, accumulate: fields.
    fed, fed_last: see `TransformPace`.
    full, loaded, drained: see `TransformStream`.
    geometry: of the instruction. release: see `TransformedMemory`.
    go: the feed may begin another set from the next cycle on.
    present, block, half, row, address, overwrite, ending: see `TransformStream`.
    free: the next instruction may be accepted if its transforms are the same.
    idle: any next instruction may be accepted.
    busy: an instruction is under way.
    overflow: strobe; the tiles of the instruction do not fit U.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "accept": In(1),
                "begin": In(1),
                "refuse": In(1),
                "clear": In(1),
                "levels": In(COUNT_BITS).array(8),
                "blocks": In(COUNT_BITS),
                "temporal": In(2),
                "spatial": In(2),
                "accumulator": In(ACCUMULATOR_ADDRESS_BITS),
                "accumulate": In(1),
                "fed": In(1),
                "fed_last": In(1),
                "drained": In(1),
                "full": In(1),
                "loaded": In(1),
                "geometry": Out(geometry_layout(config)),
                "release": Out(1),
                "go": Out(1),
                "present": Out(1),
                "block": Out(1),
                "half": Out(1),
                "row": Out(row_bits(config)),
                "address": Out(ACCUMULATOR_ADDRESS_BITS),
                "overwrite": Out(1),
                "ending": Out(1),
                "free": Out(1),
                "idle": Out(1),
                "busy": Out(1),
                "overflow": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.geometry = geometry = TransformGeometry(self._config)
        m.submodules.pace = pace = TransformPace(len(geometry.weights))
        m.submodules.stream = stream = TransformStream(self._config)
        m.d.comb += [
            geometry.begin.eq(self.begin),
            geometry.x.eq(self.levels[TILE_X]),
            geometry.y.eq(self.levels[TILE_Y]),
            geometry.t.eq(self.levels[TILE_T]),
            geometry.temporal.eq(self.temporal),
            geometry.spatial.eq(self.spatial),
            self.geometry.eq(geometry.geometry),
            self.overflow.eq(geometry.overflow),
            pace.begin.eq(self.begin),
            pace.pair.eq(geometry.geometry.pair),
            pace.blocks.eq(self.blocks),
            pace.weights.eq(geometry.weights),
            pace.fed.eq(self.fed),
            pace.fed_last.eq(self.fed_last),
            pace.drained.eq(self.drained),
            pace.clear.eq(self.clear),
            self.go.eq(pace.go),
            stream.geometry.eq(geometry.geometry),
            stream.accumulator.eq(self.accumulator),
            stream.accumulate.eq(self.accumulate),
            stream.blocks.eq(self.blocks),
            stream.taps.eq(self.levels[OUTER_T]),
            stream.inputs.eq(self.levels[-1]),
            stream.full.eq(self.full),
            stream.loaded.eq(self.loaded),
            stream.drained.eq(self.drained),
            stream.clear.eq(self.clear),
            self.release.eq(stream.last_set),
        ]
        for name in ("present", "block", "half", "row", "address", "overwrite", "ending"):
            m.d.comb += getattr(self, name).eq(getattr(stream, name))
        # The feed needs the fields until its last set is under way, the stream until its first.
        feeding, owed = Signal(), Signal()
        with m.If(pace.go_last):
            m.d.sync += feeding.eq(0)
        with m.If(stream.begins):
            m.d.sync += owed.eq(0)
        with m.If(self.accept):
            m.d.sync += [feeding.eq(1), owed.eq(1)]
        with m.If(self.refuse | self.clear):
            m.d.sync += [feeding.eq(0), owed.eq(0)]
        m.d.comb += [
            self.free.eq(~feeding & ~owed),
            self.idle.eq(self.free & ~stream.active),
            self.busy.eq(feeding | owed | stream.active | stream.ending),
        ]
        return m
