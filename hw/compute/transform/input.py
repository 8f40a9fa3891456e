"""Input transform: rows of raw activations in, rows of transformed activations out."""

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import AcceleratorConfig
from hw.arch.winograd import ALGORITHMS, Pixels
from hw.arch.winograd_matrices import F2, F4
from hw.compute.transform.stage import BYPASS, F43, TransformStage, Turn

__all__ = ["RAW_BITS", "InputTransform", "transformed_bits"]

RAW_BITS = 8
"""Raw s8 activations."""
PLANE = F4.points**2
"""Most points of a tile in two dimensions."""
TILE = F2.points * PLANE
"""Most points of a nested tile: F(2,3) along time and F(4×4,3×3)."""


def _widths(config: AcceleratorConfig) -> list[int]:
    """Bits behind the first, the second and (nested) the third stage: exact reachable ranges."""
    line = [a for a in ALGORITHMS if not a.spatial]
    plane = [a for a in ALGORITHMS if not a.temporal]
    stages = [line, plane]
    if "hfa_nested" in config.features:
        # F(4,3) along time and F(4×4,3×3) do not fit the circuit (isa.Array).
        stages.append([a for a in ALGORITHMS if F43 > min(a.temporal, a.spatial) > BYPASS])
    return [max(a.input_bits(Pixels.RAW) for a in stage) for stage in stages]


def transformed_bits(config: AcceleratorConfig) -> int:
    """Signed width of a transformed activation."""
    return max(_widths(config))


class InputTransform(wiring.Component):
    """Bᵀ along every transformed axis of tiles of raw rows.

    Rows of a tile come pixel by pixel, x fastest, then y, then t, and leave point by point, the
    axes in reverse order: t fastest, then y, then x (of those that are transformed). Two stages
    serve one axis (time) or two (y and x); with feature hfa_nested a third one does time behind
    y and x.

    Handshake: a row is taken in every cycle with `i_valid`; nothing stalls; the rows of a tile
    come without gaps.
    Latency: transform_timing.input_transform_latency from the first row of a tile to its first
    transformed row; all rows of the tile then leave without gaps.

    Parameters
    ----------
    config: the accelerator, with feature hfa.

    Members
    -------
    temporal, spatial: as the instruction fields; stable from two cycles before the first row on,
        while rows are inside.
    clear: forget all rows.
    i_valid, i: a row of raw s8 lanes.
    o_valid, o: a transformed row.

    Tested range: tests/hw/compute/transform/test_input_transform.py.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self.lanes = lanes = config.array.rows
        super().__init__(
            {
                "temporal": In(2),
                "spatial": In(2),
                "clear": In(1),
                "i_valid": In(1),
                "i": In(signed(RAW_BITS)).array(lanes),
                "o_valid": Out(1),
                "o": Out(signed(transformed_bits(config))).array(lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Registers of its own: stable before the first row of an instruction comes.
        temporal, spatial = Signal(2, reset_less=True), Signal(2, reset_less=True)
        m.d.sync += [temporal.eq(self.temporal), spatial.eq(self.spatial)]
        flat, wide = spatial == BYPASS, spatial == F43
        points = _points(spatial)
        widths = _widths(self._config)
        stages = [(Mux(flat, temporal, spatial), widths[0]), (spatial, widths[1])]
        # The tile in front of the second and of the third stage: inner, outer, largest.
        tiles: list[tuple[Value, Value, int]] = [(points, points, PLANE)]
        if len(widths) > 2:
            stages.append((Mux(flat, BYPASS, temporal), widths[2]))
            # What is not nested passes.
            nested = ~flat & (temporal != BYPASS)
            plane = Mux(wide, Const(PLANE), Const(F2.points**2))
            times = _points(temporal)
            tiles.append((Mux(nested, plane, 1), Mux(nested, times, 1), TILE))
        valid, values = self.i_valid, list(self.i)
        bits = RAW_BITS
        for number, (select, width) in enumerate(stages):
            if number:
                inner, outer, depth = tiles[number - 1]
                turn = Turn(self.lanes, bits, depth)
                m.submodules[f"turn{number}"] = turn
                m.d.comb += [turn.inner.eq(inner), turn.outer.eq(outer)]
                valid, values = self._through(m, turn, valid, values)
            stage = TransformStage(self.lanes, bits, width)
            m.submodules[f"stage{number}"] = stage
            m.d.comb += stage.select.eq(select)
            valid, values = self._through(m, stage, valid, values)
            bits = width
        m.d.comb += self.o_valid.eq(valid)
        m.d.comb += [o.eq(value) for o, value in zip(self.o, values, strict=True)]
        return m

    def _through(
        self, m: Module, part: TransformStage | Turn, valid: Signal, values: list[Signal]
    ) -> tuple[Signal, list[Signal]]:
        m.d.comb += [part.clear.eq(self.clear), part.i_valid.eq(valid)]
        m.d.comb += [i.eq(value) for i, value in zip(part.i, values, strict=True)]
        return part.o_valid, list(part.o)


def _points(select: Value) -> Value:
    """Points of a transform by a run-time selector."""
    return Mux(select == F43, Const(F4.points, 3), Mux(select == BYPASS, 1, F2.points))
