"""Coefficients of a layer norm, held for the rows that they apply to."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arch.instructions.fold import COEFFICIENT_ROWS
from hw.compute.parts.latch import delayed
from hw.compute.parts.select import chosen
from hw.compute.vector.affine import BIAS_BITS, GAIN_BITS

__all__ = ["BIAS_LAG", "GAIN_LATENCY", "Coefficients"]

GAIN_LATENCY = 2
"""Cycles from a step's strobe to its G."""
BIAS_LAG = 2
"""Cycles by which the affine pipeline wants B after G."""


class Coefficients(wiring.Component):
    """Six rows, G and then B, low bytes first; the lanes of a step, one after another.

    Handshake: none. Rows are taken one per `take`, and take the place of those before at once:
    whoever reads must have done, B by BIAS_LAG cycles later than G.
    Latency: `gains` GAIN_LATENCY cycles after a step's `step`, `biases` BIAS_LAG later.

    Parameters
    ----------
    lanes, width: of a row, of a step.

    Members
    -------
    begin: the next row is the first of six.
    take, row: a row.
    step, first: a step is two cycles ahead; it is the first one of its row.
    gains, biases: per lane of the step.

    Tested range: tests/hw/compute/vector/test_coefficients.py.
    """

    def __init__(self, lanes: int, width: int):
        self._lanes = lanes
        self._width = width
        super().__init__(
            {
                "begin": In(1),
                "take": In(1),
                "row": In(8 * lanes),
                "step": In(1),
                "first": In(1),
                "gains": Out(data.ArrayLayout(signed(GAIN_BITS), width)),
                "biases": Out(data.ArrayLayout(signed(BIAS_BITS), width)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        turn = Signal(COEFFICIENT_ROWS, init=1)
        with m.If(self.begin):
            m.d.sync += turn.eq(1)
        with m.Elif(self.take):
            m.d.sync += turn.eq(turn.rotate_left(1))
        rows = []
        for k in range(COEFFICIENT_ROWS):
            row = Signal(8 * self._lanes, name=f"row{k}", reset_less=True)
            with m.If(self.take & turn[k]):
                m.d.sync += row.eq(self.row)
            rows.append(row)
        steps = self._lanes // self._width
        place: Value = C(0, 0)
        if steps > 1:
            place = Signal(range(steps), name="place", reset_less=True)
            with m.If(self.step):
                m.d.sync += place.eq(Mux(self.first, 0, place + 1))
        self._show(m, rows[:3], place, self.gains, GAIN_BITS, "gain")
        later = delayed(m, place, BIAS_LAG, "place") if steps > 1 else place
        self._show(m, rows[3:], later, self.biases, BIAS_BITS, "bias")
        return m

    def _show(
        self, m: Module, rows: list[Signal], place: Value, port: data.View, bits: int, name: str
    ) -> None:
        steps = self._lanes // self._width
        for lane in range(self._width):
            words = [
                Cat(row.word_select(step * self._width + lane, 8) for row in rows)[:bits]
                for step in range(steps)
            ]
            register = Signal(signed(bits), name=f"{name}{lane}", reset_less=True)
            m.d.sync += register.eq(chosen(words, place))
            m.d.comb += port[lane].eq(register)
