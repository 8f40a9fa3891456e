"""What an HFA instruction's counts amount to: tiles, strides of U, cycles of a pair of blocks."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import AcceleratorConfig
from hw.arch.timing import ACCUMULATE_HAZARD
from hw.arch.transform_timing import (
    transform_lead,
    transform_levels,
    weight_slab_cycles,
    weight_transform_fill,
)
from hw.arch.winograd_matrices import F4, TRANSFORMS
from hw.common.agu import COUNT_BITS
from hw.compute.transform.stage import F43

__all__ = ["PAIR_BITS", "TransformGeometry", "algorithms", "geometry_layout", "tile_bits"]

PAIR_BITS = 14
"""A pair of input and output block streams for at most 36 · 32 · 8 cycles per temporal point."""
POINT_BITS = (TRANSFORMS[-1].points ** 2 - 1).bit_length()


def algorithms(config: AcceleratorConfig) -> list[tuple[int, int]]:
    """The transforms (along time, along y and x) that the circuit has."""
    nested = "hfa_nested" in config.features
    every = [(t, s) for t in range(F43 + 1) for s in range(F43 + 1) if t or s]
    return [(t, s) for t, s in every if (nested or not (t and s)) and (t, s) != (F43, F43)]


def tile_bits(config: AcceleratorConfig) -> int:
    """Bits of a number of tiles; a tile has four points at least."""
    return (config.memory.transformed_rows // min(t.points for t in TRANSFORMS[1:])).bit_length()


def geometry_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Geometry of an instruction.

    tiles: N.
    ends: points along the axes in the order of the transform, less one
        (transform_timing.transform_levels).
    points: spatial ones, less one.
    strides: rows of U between points along these axes.
    plane, pair: cycles of the blocks of one temporal point, and of all points, of one pair.
    """
    row = config.memory.transformed_rows.bit_length()
    return data.StructLayout(
        {
            "tiles": tile_bits(config),
            "ends": data.ArrayLayout(3, 3),
            "points": POINT_BITS,
            "strides": data.ArrayLayout(row, 3),
            "plane": PAIR_BITS,
            "pair": PAIR_BITS,
        }
    )


class TransformGeometry(wiring.Component):
    """Multiplies the counts of an instruction, one product per cycle.

    Latency: `begin` in cycle t; `geometry` is right from t + LATENCY on (but for `pair` one cycle
    earlier), `overflow` is high in t + LATENCY if a set of tiles does not fit U.

    Members
    -------
    begin: the other inputs belong to a new instruction.
    x, y, t: tiles along the axes.
    temporal, spatial: its transforms.
    geometry: see `geometry_layout`.
    weights: cycles (less one) by which the first weights are later than a first set of no rows.
    overflow: strobe.
    """

    LATENCY = 6

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._waits = {a: self._wait(*a) for a in algorithms(config)}
        super().__init__(
            {
                "begin": In(1),
                "x": In(COUNT_BITS),
                "y": In(COUNT_BITS),
                "t": In(COUNT_BITS),
                "temporal": In(2),
                "spatial": In(2),
                "geometry": Out(geometry_layout(config)),
                "weights": Out(range(max(self._waits.values()) + 1)),
                "overflow": Out(1),
            }
        )

    def _wait(self, temporal: int, spatial: int) -> int:
        config = self._config
        fill = weight_transform_fill(temporal, spatial, config)
        return max(0, fill - transform_lead(temporal, spatial, config) - 1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rows = self._config.memory.transformed_rows
        out = self.geometry
        strobes = Signal(self.LATENCY - 1)
        m.d.sync += strobes.eq((strobes << 1) | self.begin)
        # cycles t and t + 1: x·y, then x·y·t; a multiplier each, between registers
        frame, product = (
            Signal(2 * COUNT_BITS, name=name, reset_less=True) for name in ("frame", "product")
        )
        too_many = Signal(reset_less=True)
        with m.If(self.begin):
            m.d.sync += frame.eq(self.x * self.y)
        with m.If(strobes[0]):
            m.d.sync += product.eq(frame[:COUNT_BITS] * self.t)
            m.d.sync += too_many.eq(frame[COUNT_BITS:].any())
        with m.If(strobes[1]):
            m.d.sync += too_many.eq(too_many | product[len(out.tiles) :].any())
        # cycles t + 2, t + 3, t + 4: times the points along the axes; one bit more shows overflow
        flat = self.spatial == 0
        levels = [Mux(flat, self.temporal, self.spatial), self.spatial]
        levels.append(Mux(flat, 0, self.temporal))
        tiles = product[: len(out.tiles)]
        lined, spread, whole = (
            Signal(len(tiles) + 3 * k, name=f"times{k}", reset_less=True) for k in (1, 2, 3)
        )
        least, least_pair = self._least(m)
        m.d.sync += [
            out.tiles.eq(tiles),
            lined.eq(_times(tiles, levels[0])),
            spread.eq(_times(lined, levels[1])),
            whole.eq(_times(spread, levels[2])),
            out.plane.eq(Mux(spread > least, spread, least)),
        ]
        # cycle t + 5
        held = Signal(PAIR_BITS)
        m.d.comb += held.eq(whole)
        m.d.sync += [
            out.pair.eq(Mux(held > least_pair, held, least_pair)),
            self.overflow.eq(strobes[4] & (too_many | (whole > rows))),
        ]
        m.d.comb += [
            out.strides[0].eq(out.tiles),
            out.strides[1].eq(lined),
            out.strides[2].eq(spread),
        ]
        return m

    def _least(self, m: Module) -> tuple[Signal, Signal]:
        """Least cycles of plane and pair: block loads, accumulator hazard, weight transform."""
        config = self._config
        floor = max(config.weight_block_groups, ACCUMULATE_HAZARD)
        plane, pair = (
            Signal(PAIR_BITS, name=name, reset_less=True) for name in ("least_plane", "least_pair")
        )
        ends = [Signal(3, name=f"end{k}", reset_less=True) for k in range(3)]
        points = Signal(POINT_BITS, reset_less=True)
        m.d.comb += self.geometry.points.eq(points)
        m.d.comb += [to.eq(end) for to, end in zip(self.geometry.ends, ends, strict=True)]
        for temporal, spatial in algorithms(config):
            x, y, t = transform_levels(temporal, spatial)
            least = max(x * y * floor, weight_slab_cycles(temporal, spatial, config))
            with m.If((self.temporal == temporal) & (self.spatial == spatial)):
                # Looked at in the first cycle; the others later.
                m.d.comb += self.weights.eq(self._waits[temporal, spatial])
                m.d.sync += [plane.eq(least), pair.eq(least * t), points.eq(x * y - 1)]
                m.d.sync += [end.eq(n - 1) for end, n in zip(ends, (x, y, t), strict=True)]
        return plane, pair


def _times(value: Value, select: Value) -> Value:
    """`value` times the points of a transform."""
    assert F4.points == 6
    four, two = value << 2, value << 1
    return Mux(select == F43, four + two, Mux(select == 0, value, four))
