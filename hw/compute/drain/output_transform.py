"""Output transform of DRAIN: points of a tile to results, along x, y and t, then divided by L."""

from amaranth.hdl import C, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arch.winograd_matrices import F2, F4, TRANSFORMS
from hw.compute.drain.exact_division import ExactDivision
from hw.compute.drain.output_stage import OutputStage
from hw.compute.transform.stage import BYPASS, Turn

__all__ = ["OutputTransform", "outputs_of", "points_of"]

POINTS, OUTPUTS = F4.points, F4.outputs


def points_of(select: Value) -> Value:
    """Points of an axis by its transform field."""
    sizes = [transform.points for transform in TRANSFORMS]
    return Mux(select[1], C(sizes[2], 3), Mux(select[0], sizes[1], sizes[0]))


def outputs_of(select: Value) -> Value:
    """Results of an axis by its transform field."""
    sizes = [transform.outputs for transform in TRANSFORMS]
    return Mux(select[1], C(sizes[2], 3), Mux(select[0], sizes[1], sizes[0]))


class OutputTransform(wiring.Component):
    """y = Aᵀ m / L of tiles, modulo 2^bits.

    Points of a tile come in the order x, y, t (innermost first); results leave in the order
    t, y, x. The first stage takes x, or t where only time is transformed; the others pass values
    where there is nothing for them to do.

    Handshake: a point in every cycle with `i_valid`; no gaps inside a tile. Nothing stalls.
    Latency: timing.output_transform_latency from the last point of a tile to its last result.

    Parameters
    ----------
    lanes: columns side by side.
    bits: of an accumulator.
    nested: with a third stage, for algorithms along time and space.

    Members
    -------
    transform_t, transform_s: as in the instruction; stable while points are under way.
    clear: forget what came in.
    i_valid, i: a point of every lane.
    divided: a result enters the division, whose latency is ExactDivision.LATENCY.
    o_valid, o: a result of every lane.

    Tested range: tests/hw/compute/drain/test_output_transform.py.
    """

    def __init__(self, lanes: int, bits: int, nested: bool):
        self.lanes, self.bits, self.nested = lanes, bits, nested
        super().__init__(
            {
                "transform_t": In(2),
                "transform_s": In(2),
                "clear": In(1),
                "i_valid": In(1),
                "i": In(signed(bits)).array(lanes),
                "divided": Out(1),
                "o_valid": Out(1),
                "o": Out(signed(bits)).array(lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        t, s = self.transform_t, self.transform_s
        spatial = s != BYPASS
        parts: list[OutputStage | Turn | ExactDivision] = []
        m.submodules.x = first = self._stage(m, Mux(spatial, s, t))
        m.submodules.turn_y = turn = Turn(self.lanes, self.bits, OUTPUTS * POINTS)
        self._shape(m, turn, outputs_of(s), points_of(s))
        m.submodules.y = second = self._stage(m, s)
        parts += [first, turn, second]
        if self.nested:
            # F(4,3) along time is nested with F(2×2,3×3) only: at most 4·16 values.
            m.submodules.turn_t = turn = Turn(self.lanes, self.bits, F2.points * OUTPUTS * OUTPUTS)
            outer = Mux(spatial, t, BYPASS)
            plane = Mux(outer == BYPASS, 1, Mux(s[1], C(OUTPUTS**2, 5), F2.outputs**2))
            self._shape(m, turn, plane, points_of(outer))
            m.submodules.t = third = self._stage(m, outer)
            parts += [turn, third]
        m.submodules.division = division = ExactDivision(self.lanes, self.bits, self.nested)
        m.d.comb += [division.transform_t.eq(t), division.transform_s.eq(s)]
        parts.append(division)

        valid: Value = self.i_valid
        values = list(self.i)
        for part in parts:
            m.d.comb += [part.clear.eq(self.clear), part.i_valid.eq(valid)]
            m.d.comb += [i.eq(value) for i, value in zip(part.i, values, strict=True)]
            valid, values = part.o_valid, list(part.o)
            if isinstance(part, Turn):
                valid, values = self._registered(m, part)
        m.d.comb += [self.divided.eq(division.i_valid), self.o_valid.eq(valid)]
        m.d.comb += [o.eq(value) for o, value in zip(self.o, values, strict=True)]
        return m

    def _shape(self, m: Module, turn: Turn, inner: Value, outer: Value) -> None:
        """Through registers: it is stable long before the first value."""
        for port, value in ((turn.inner, inner), (turn.outer, outer)):
            held = Signal.like(port, name="held", reset_less=True)
            m.d.sync += held.eq(value)
            m.d.comb += port.eq(held)

    def _registered(self, m: Module, turn: Turn) -> tuple[Value, list[Value]]:
        """What leaves a memory has no time left for an addition: one cycle later."""
        valid = Signal()
        m.d.sync += valid.eq(turn.o_valid & ~self.clear)
        values: list[Value] = [
            Signal(signed(self.bits), name=f"turned{lane}", reset_less=True)
            for lane in range(self.lanes)
        ]
        with m.If(turn.o_valid):
            m.d.sync += [value.eq(o) for value, o in zip(values, turn.o, strict=True)]
        return valid, values

    def _stage(self, m: Module, select: Value) -> OutputStage:
        stage = OutputStage(self.lanes, self.bits)
        held = Signal(2, reset_less=True)
        m.d.sync += held.eq(select)
        m.d.comb += stage.select.eq(held)
        return stage
