"""Depthwise 3×3 by F(2×2,3×3) inside a column: four multiplications per result instead of nine."""

from amaranth.hdl import Array, Cat, Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import AcceleratorConfig
from hw.arch.timing import WEIGHT_LAG
from hw.arch.winograd import signed_bits
from hw.arch.winograd_matrices import F2
from hw.compute.array.chain import control_layout
from hw.compute.array.window import PIXEL_BITS, TAPS

__all__ = ["POINTS", "DepthwiseTiles", "stage_delays"]

POINTS = F2.points
"""Products of a cycle: the points along x of one point along y."""
SIDE = 3
RESULT_SHIFT = 2
"""Both axes of a tile are scaled by two."""
STAGE_LAG = 2
"""Positions from the first of a block until taps may be replaced: the last tile has used them."""


def stage_delays(config: AcceleratorConfig) -> list[int]:
    """Cycles from the first position of an output block to the take-over of its tap blocks."""
    load = max(config.weight_block_groups, WEIGHT_LAG)
    return [STAGE_LAG + block * load for block in range(config.tap_blocks)]


class DepthwiseTiles(wiring.Component):
    """Turns columns of four pixels into two by two results.

    Pixels come strip by strip (two lines), y fastest, then x. A column of four pixels is complete
    with the second one: the two above come from the line buffer. Every second column completes a
    tile. Its y-points are formed as columns arrive, its x-points for one y-point per cycle in the
    four cycles that follow, together with the transformed weights; four multipliers work in
    every cycle, four sums grow, and four results leave in four cycles.

    u = Bᵀ d B with the points at 0 and ∞ doubled (instead of their weights), v = G g Gᵀ, and the
    results are 4·y, divided here. Everything is exact in the widths of the column.

    Latency: the pixel that completes a tile stands at the column's input in cycle q; results
    (0, 0), (0, 1), (1, 0), (1, 1) of (y, x) are in `result` in cycles q + 9 .. q + 12, that is,
    as the sums of the positions TILE_EMIT .. TILE_PAUSE cycles behind it.

    Members
    -------
    control: at the column's input (cycle q).
    older, previous, pixel: the column of pixels: two above (newer first), the first and the second
        of the strip.
    stage, block, shadow: take over the taps of tap block `block` from the shadow weights.
    a, b, load: operands of the first four multipliers; `load` where they matter.
    products: two cycles behind.
    result: see above.

    Tested range: tests/hw/compute/array/test_depthwise_tiles.py.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        array = config.array
        pixel = signed(PIXEL_BITS)
        # Every sum of up to nine products of a pixel and a tap, times four.
        bound = TAPS * 255 * 128 << RESULT_SHIFT
        self._sum = signed(signed_bits(-bound, bound))
        super().__init__(
            {
                "control": In(control_layout(config)),
                "older": In(pixel).array(2),
                "previous": In(pixel),
                "pixel": In(pixel),
                "stage": In(1),
                "block": In(2),
                "shadow": In(signed(array.weight_bits)).array(array.rows),
                "a": Out(signed(array.activation_bits)).array(POINTS),
                "b": Out(signed(array.weight_bits)).array(POINTS),
                "load": Out(1),
                "products": In(signed(array.activation_bits + array.weight_bits)).array(POINTS),
                "result": Out(signed(config.memory.accumulator_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        columns = self._columns(m)
        control = self.control
        phase, running = Signal(range(POINTS)), Signal()
        # cycle q + 1 is phase 0: the point along y
        with m.If(control.present & control.tiles & control.tile):
            m.d.sync += [phase.eq(0), running.eq(1)]
        with m.Elif(running):
            m.d.sync += [phase.eq(phase + 1), running.eq(phase != POINTS - 1)]
        self._operands(m, columns, phase, running)
        self._weights(m, phase, running)
        self._sums(m, phase, running)
        return m

    def _columns(self, m: Module) -> list[list[Signal]]:
        """Four columns of y-points, oldest first; they move on by two with every second column."""
        control = self.control
        shape = signed(PIXEL_BITS + 1)
        top, above, here, below = self.older[1], self.older[0], self.previous, self.pixel
        points = [top - here, above + here, here - above, above - below]
        even = [Signal(shape, name=f"even{k}", reset_less=True) for k in range(POINTS)]
        columns = [
            [Signal(shape, name=f"column{c}_{k}", reset_less=True) for k in range(POINTS)]
            for c in range(POINTS)
        ]
        with m.If(control.present & control.tiles & control.lower):
            with m.If(control.odd):
                following = [*columns[2:], even, points]
                for column, values in zip(columns, following, strict=True):
                    m.d.sync += [to.eq(value) for to, value in zip(column, values, strict=True)]
            with m.Else():
                m.d.sync += [to.eq(value) for to, value in zip(even, points, strict=True)]
        return columns

    def _operands(
        self, m: Module, columns: list[list[Signal]], phase: Value, running: Value
    ) -> None:
        """cycle q + 1 + phase: x-points of one y-point."""
        shape = signed(PIXEL_BITS + 2)
        line = []
        for c, column in enumerate(columns):
            value = Signal(shape, name=f"line{c}")
            first, second, third, last = column
            m.d.comb += value.eq(Array([first << 1, second, third, last << 1])[phase])
            line.append(value)
        points = [
            (line[0] - line[2]) << 1,
            line[1] + line[2],
            line[2] - line[1],
            (line[1] - line[3]) << 1,
        ]
        for a, point in zip(self.a, points, strict=True):
            operand = Signal(signed(PIXEL_BITS + 4), reset_less=True)
            with m.If(running):
                m.d.sync += operand.eq(point)
            m.d.comb += a.eq(operand)

    def _weights(self, m: Module, phase: Value, running: Value) -> None:
        """Taps; the same y-point of them; in the cycle behind, its x-points."""
        rows = self._config.array.rows
        taps = [Signal(signed(8), name=f"tap{k}", reset_less=True) for k in range(TAPS)]
        for k, tap in enumerate(taps):
            with m.If(self.stage & (self.block == k // rows)):
                m.d.sync += tap.eq(self.shadow[k % rows][:8].as_signed())
        combined = []
        for x in range(SIDE):
            first, second, third = taps[x], taps[SIDE + x], taps[2 * SIDE + x]
            value = Signal(signed(10), name=f"combined{x}", reset_less=True)
            outer = first + third
            points = [first, outer + second, outer - second, third]
            with m.If(running):
                m.d.sync += value.eq(Array(points)[phase])
            combined.append(value)
        left, middle, right = combined
        outer = left + right
        points = [left, outer + middle, outer - middle, right]
        m.d.comb += [b.eq(point) for b, point in zip(self.b, points, strict=True)]
        m.d.sync += self.load.eq(running)

    def _sums(self, m: Module, phase: Value, running: Value) -> None:
        """Aᵀ along x, then along y while the y-points come; one result per cycle."""
        # As one shift register, which simulates faster than seven registers.
        line = Signal(data.ArrayLayout(3, 7))
        m.d.sync += line.as_value().eq(Cat(phase, running, line)[: len(line.as_value())])
        multiplied, summing, leaving = line[2], line[3], line[6]
        # cycle q + 4 + phase: products
        first, second, third, last = self.products
        even = Signal(self._sum, name="even_sum", reset_less=True)
        odd = Signal(self._sum, name="odd_sum", reset_less=True)
        with m.If(multiplied[2]):
            m.d.sync += [even.eq(first + second + third), odd.eq(second - third - last)]
        # cycle q + 5 + phase
        upper = [Signal(self._sum, name=f"upper{x}", reset_less=True) for x in range(2)]
        lower = [Signal(self._sum, name=f"lower{x}", reset_less=True) for x in range(2)]
        with m.If(summing[2]):
            for up, down, value in zip(upper, lower, (even, odd), strict=True):
                with m.Switch(summing[:2]):
                    with m.Case(0):
                        m.d.sync += up.eq(value)
                    with m.Case(1):
                        m.d.sync += [up.eq(up + value), down.eq(value)]
                    with m.Case(2):
                        m.d.sync += [up.eq(up + value), down.eq(down - value)]
                    with m.Case(3):
                        m.d.sync += down.eq(down - value)
        # cycle q + 8 + number of the result; the last one would be overwritten
        kept = Signal(self._sum, reset_less=True)
        chosen = Array([upper[0], upper[1], lower[0], kept])[leaving[:2]]
        with m.If(leaving[2]):
            m.d.sync += [kept.eq(lower[1]), self.result.eq(chosen >> RESULT_SHIFT)]
