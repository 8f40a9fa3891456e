"""Which positions of the array's nest lie inside the tensor."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import STEP_BITS
from hw.common.agu import COUNT_BITS, Coordinate
from hw.compute.array.tile_control import LINE, STRIP, TILE_FRAME
from hw.compute.transform.engine import TILE_X
from hw.compute.transform.stage import BYPASS, F43

__all__ = ["PositionClip"]

X, Y, T = range(3)
KX, CI = 4, 7
TILE_STEP_BITS = STEP_BITS + 2
"""Bits of the step between tiles of four results."""


class PositionClip(wiring.Component):
    """Coordinates along x, y, t that follow the nest of an ARRAY instruction.

    Latency: in step with a `Walker` of the same nest (hw/common/agu.py).

    Parameters
    ----------
    config: the accelerator.

    Members
    -------
    load: an instruction begins; its fields are right from this cycle on.
    depthwise, hfa, tiled: its mode is DEPTHWISE, HFA, HFA_DEPTHWISE.
    temporal, spatial, starts, steps, dilations, bounds: its fields.
    moves, restarts: of the nest, one cycle late: level k counts; levels 0..k restart.
    inside: the position lies inside the tensor along all three axes.
    """

    def __init__(self, config: AcceleratorConfig):
        self._has_hfa = "hfa" in config.features
        self._has_tiles = "hfa_depthwise" in config.features
        super().__init__(
            {
                "load": In(1),
                "depthwise": In(1),
                "hfa": In(1),
                "tiled": In(1),
                "temporal": In(2),
                "spatial": In(2),
                "starts": In(signed(COUNT_BITS)).array(3),
                "steps": In(STEP_BITS).array(3),
                "dilations": In(STEP_BITS).array(3),
                "bounds": In(COUNT_BITS).array(3),
                "moves": In(8),
                "restarts": In(8),
                "inside": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        inside = []
        for axis in (X, Y, T):
            coordinate = Coordinate(TILE_STEP_BITS if self._has_hfa else STEP_BITS)
            m.submodules[f"coordinate{axis}"] = coordinate
            inner, outer = axis, KX + axis
            dilation = self.dilations[axis]
            # Window passes look at the same pixels again.
            outer_step = dilation if axis == T else Mux(self.depthwise, 0, dilation)
            m.d.comb += [
                coordinate.load.eq(self.load),
                coordinate.inner_advance.eq(self.moves[inner]),
                coordinate.inner_restart.eq(self.restarts[inner]),
                coordinate.outer_advance.eq(self.moves[outer]),
                coordinate.outer_restart.eq(self.restarts[outer]),
                coordinate.start.eq(self.starts[axis]),
                coordinate.inner_step.eq(self.steps[axis]),
                coordinate.outer_step.eq(outer_step),
                coordinate.bound.eq(self.bounds[axis]),
            ]
            if self._has_hfa:
                self._tiles(m, axis, coordinate, outer_step)
            inside.append(coordinate.inside)
        m.d.comb += self.inside.eq(Cat(inside).all())
        return m

    def _tiles(self, m: Module, axis: int, coordinate: Coordinate, direct_step: Value) -> None:
        """Pixels of a tile inside, tiles outside: the levels of transform/engine.py.

        An axis that is not transformed has positions and taps as ever, along time at other levels.
        """
        select = self.temporal if axis == T else self.spatial
        by_tiles = self.hfa & ((select != BYPASS) | (axis != T))
        dilation, step = self.dilations[axis], self.steps[axis]
        tile = Mux(select == BYPASS, step, Mux(select == F43, dilation << 2, dilation << 1))
        inner_step, outer_step = Signal.like(coordinate.inner_step), Signal(TILE_STEP_BITS)
        m.d.sync += [
            inner_step.eq(Mux(by_tiles, dilation, step)),
            outer_step.eq(Mux(by_tiles, tile, direct_step)),
        ]
        inner = Mux(self.hfa & ~by_tiles, TILE_X + axis, C(axis, 3))
        outer = Mux(by_tiles, TILE_X + axis, C(KX + axis, 3))
        if self._has_tiles:
            # A line of the strip inside, the strip outside; nothing else has taps.
            inner = Mux(self.tiled, (1, LINE, TILE_FRAME)[axis], inner)
            outer = Mux(self.tiled, (CI, STRIP, CI)[axis], outer)
            with m.If(self.tiled & (axis == Y)):
                m.d.sync += outer_step.eq(2)
        for name, strobes in (("advance", self.moves), ("restart", self.restarts)):
            m.d.comb += [
                getattr(coordinate, f"inner_{name}").eq(strobes.bit_select(inner, 1)),
                getattr(coordinate, f"outer_{name}").eq(strobes.bit_select(outer, 1)),
            ]
        m.d.comb += [coordinate.inner_step.eq(inner_step), coordinate.outer_step.eq(outer_step)]
