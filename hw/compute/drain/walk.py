"""Source side of DRAIN: the nest and the addresses of the accumulators."""

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import AcceleratorConfig
from hw.common.agu import COUNT_BITS, Nest, Walker
from hw.common.ports import ACCUMULATOR_ADDRESS_BITS
from hw.compute.drain.output_transform import points_of
from hw.compute.drain.tile_nest import PointWalker, TileNest

__all__ = ["DrainWalk", "pool_scales", "sections", "window_scale"]

STEP, WX, WT = 0, 1, 3
"""Levels of the direct nest: step in the row, then wx, wy, wt, x, y, t, co."""
GROUP = 4
"""Transformed: px, py, pt in place of the window, then the lane group, tiles x, y, t, co."""
DELTA_BITS = 13


def sections(config: AcceleratorConfig) -> int:
    """Parts of a requantization step that the output transform fills one after another."""
    if "hfa" not in config.features:
        return 1
    return config.lanes.requantize // config.lanes.output_transform


def window_scale(window: Value) -> Value:
    """log2 of a window of 1, 2 or 4."""
    return window[1:3]


def pool_scales(windows: list[Value], t: Value, s: Value) -> list[Value]:
    """log2 of the results of a tile along x, y, t, for windows that divide m.

    The transform fields t and s are log2 m of their axes.
    """
    return [
        (select - window_scale(window))[:2]
        for window, select in zip(windows, (s, s, t), strict=True)
    ]


class DrainWalk(wiring.Component):
    """Reads accumulator rows in the order of DRAIN's nest.

    Latency: `begin` in cycle t; the first row is read (`enable`) in t + 2.

    Parameters
    ----------
    config: the accelerator.

    Members
    -------
    begin: the fields are new. started: in the same cycle, and they can be executed.
    stop: read nothing more.
    accumulator, counts, window, deltas, transform_t, transform_s: fields, stable from `begin` on.
    enable, address: accumulator row.
    place: which part of the row is taken: the number of its requantization step, and below that
        the lane group inside the step (`sections`).
    opens, closes: in the cycle of `enable`: first and last row of a pool window.
    block_moves: the next row belongs to the next co.
    tile_ends, block_ends: last row of a tile, and of the last tile of a co (with a transform).
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._parts = sections(config)
        places = config.requantize_steps * self._parts
        super().__init__(
            {
                "begin": In(1),
                "started": In(1),
                "stop": In(1),
                "accumulator": In(ACCUMULATOR_ADDRESS_BITS),
                "counts": In(COUNT_BITS).array(4),
                "window": In(3).array(3),
                "deltas": In(signed(DELTA_BITS)).array(7),
                "transform_t": In(2),
                "transform_s": In(2),
                "enable": Out(1),
                "address": Out(ACCUMULATOR_ADDRESS_BITS),
                "place": Out(range(max(2, places))),
                "opens": Out(1),
                "closes": Out(1),
                "block_moves": Out(1),
                "tile_ends": Out(1),
                "block_ends": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        steps = self._config.requantize_steps
        nest = self._tiles(m) if "hfa" in self._config.features else self._rows(m)
        running, opens = Signal(), Signal()
        m.d.comb += [nest.load.eq(self.begin), nest.step.eq(running)]
        with m.If(self.started):
            m.d.sync += [running.eq(1), opens.eq(1)]
        with m.Elif(running & nest.wrap[STEP]):
            m.d.sync += opens.eq(nest.wrap[WT])
        with m.If((running & nest.last) | self.stop):
            m.d.sync += running.eq(0)
        # Cycle a, that of the address.
        moves = Signal(len(nest.advance))
        m.d.sync += [
            self.enable.eq(running & ~self.stop),
            moves.eq(Mux(running, nest.advance, 0)),
            self.opens.eq(opens),
            self.closes.eq(nest.final[WX : WT + 1].all()),
        ]
        m.d.comb += self.block_moves.eq(moves[-1])
        if "hfa" in self._config.features:
            m.d.sync += [
                self.tile_ends.eq(running & nest.wrap[GROUP]),
                self.block_ends.eq(nest.wrap[-2]),
            ]
        if steps * self._parts == 1:
            return m
        with m.If(self.begin):
            m.d.sync += self.place.eq(0)
        if "hfa" in self._config.features:
            # The number of places is a power of two, so that both ways of counting wrap.
            with m.Elif((self.transform_t | self.transform_s) == 0):
                with m.If(moves.any()):
                    m.d.sync += self.place.eq(self.place + self._parts)
            with m.Elif(moves[GROUP:].any()):
                m.d.sync += self.place.eq(self.place + 1)
        else:
            with m.Elif(moves[WX:].any()):
                m.d.sync += self.place.eq(0)
            with m.Elif(moves[STEP]):
                m.d.sync += self.place.eq(self.place + 1)
        return m

    def _rows(self, m: Module) -> Nest:
        """Nest and addresses of a circuit without transforms."""
        steps = self._config.requantize_steps
        m.submodules.nest = nest = Nest((max(1, steps.bit_length()), 3, 3, 3, *(COUNT_BITS,) * 4))
        m.submodules.walker = walker = Walker(
            8, width=len(self.address), delta_width=len(self.deltas[0])
        )
        # The step inside a row does not move the address.
        self._connect(m, nest, walker, [steps, *self.window, *self.counts], [0, *self.deltas])
        return nest

    def _tiles(self, m: Module) -> TileNest:
        """The same with one more level, the lane group, behind the points of a tile."""
        steps = self._config.requantize_steps
        groups = steps * self._parts
        tiles = (self.transform_t | self.transform_s).any()
        widths = (
            max(1, steps.bit_length()), 3, 3, 3, max(1, groups.bit_length()), *(COUNT_BITS,) * 4
        )  # fmt: skip
        m.submodules.nest = nest = TileNest(widths, scaled=(5, 6, 7))
        m.submodules.walker = walker = PointWalker(
            9, width=len(self.address), delta_width=len(self.deltas[0]), again=GROUP
        )
        s, t = self.transform_s, self.transform_t
        inner = [
            Mux(tiles, points_of(select), window)
            for select, window in zip((s, s, t), self.window, strict=True)
        ]
        counts = [Mux(tiles, 1, steps), *inner, Mux(tiles, groups, 1), *self.counts]
        deltas = [0, *list(self.deltas)[:3], 0, *list(self.deltas)[3:]]
        self._connect(m, nest, walker, counts, deltas)
        scales = pool_scales(list(self.window), t, s)
        m.d.comb += [
            port.eq(Mux(tiles, scale, 0)) for port, scale in zip(nest.scales, scales, strict=True)
        ]
        return nest

    def _connect(
        self,
        m: Module,
        nest: Nest | TileNest,
        walker: Walker | PointWalker,
        counts: list[Value | int],
        deltas: list[Value | int],
    ) -> None:
        m.d.comb += [port.eq(value) for port, value in zip(nest.counts, counts, strict=True)]
        m.d.comb += [port.eq(value) for port, value in zip(walker.deltas, deltas, strict=True)]
        m.d.comb += [
            walker.load.eq(self.begin),
            walker.step.eq(nest.step),
            walker.advance.eq(nest.advance),
            walker.base.eq(self.accumulator),
            self.address.eq(walker.address),
        ]
