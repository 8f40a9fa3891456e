"""One axis of the output transform: points to results, from sums and differences of pairs."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arch.winograd_matrices import DIRECT, F2, F4, TRANSFORMS
from hw.compute.parts.latch import register_of

__all__ = ["OutputStage"]

BYPASS, F23, F43 = (TRANSFORMS.index(t) for t in (DIRECT, F2, F4))

# What `elaborate` computes, per result: factors of s, d, s', d', x_first, x_last. The pairs are
# s, d = x1 ± x2 and s', d' = x3 ± x4; F(2,3) has −x3 for d' and x0 for 3·x0.
_F4_TERMS = ((4, 0, 1, 0, 6, 0), (0, 4, 0, 2, 0, 0), (4, 0, 4, 0, 0, 0), (0, 4, 0, 8, 0, 24))
_F2_TERMS = ((1, 0, 0, 0, 2, 0), (0, 1, 0, 2, 0, 0))


def _check_terms() -> None:
    """The terms are the matrices of the contract."""
    for s, d, s2, d2, first, last in _F4_TERMS:
        row = (first, s + d, s - d, s2 + d2, s2 - d2, last)
        assert row == F4.output_rows[_F4_TERMS.index((s, d, s2, d2, first, last))]
    for index, (s, d, _, d2, first, _) in enumerate(_F2_TERMS):
        assert (first, s + d, s - d, -d2) == F2.output_rows[index]


_check_terms()


class OutputStage(wiring.Component):
    """Aᵀ along one axis: groups of points in, groups of results out, `lanes` side by side.

    The stream is that of `TransformStage`, but arithmetic is wide here, so that one result at a
    time is formed, of three terms that are made as the points come in:

        F(4,3)   y0 = 4s + s' + 6x0          F(2,3)   y0 = s + 2x0       s, d = x1 ± x2
                 y1 = 4d + 2d'                        y1 = d − 2x3       s', d' = x3 ± x4
                 y2 = 4s + 4s'
                 y3 = 4d + 8d' + 24x5

    No register needs a double: each is used before the next group reaches it.

    Handshake: a point in every cycle with `i_valid`; no gaps inside a group. Nothing stalls.
    Latency: the last point of a group in cycle t gives its results in
    t + OUTPUT_STAGE_LATENCY[select] and the cycles after it.

    Parameters
    ----------
    lanes: independent transforms under the same control.
    bits: of points and results; arithmetic is modulo 2^bits.

    Members
    -------
    select: index into TRANSFORMS; 0 passes values. Stable while values are inside.
    clear: forget what came in; `o_valid` is low from the next cycle on.
    i_valid, i: a point of every lane.
    o_valid, o: a result of every lane.

    Tested range: tests/hw/compute/drain/test_output_transform.py.
    """

    def __init__(self, lanes: int, bits: int):
        self.lanes, self.bits = lanes, bits
        super().__init__(
            {
                "select": In(range(len(TRANSFORMS))),
                "clear": In(1),
                "i_valid": In(1),
                "i": In(signed(bits)).array(lanes),
                "o_valid": Out(1),
                "o": Out(signed(bits)).array(lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        four, bypass = self.select == F43, self.select == BYPASS
        here = self._here(m, four, bypass)
        number, forming = self._emission(m, here, four, bypass)
        # Cycle f chooses two terms, f + 1 adds them and chooses the third one, f + 2 adds that.
        high, outer = Signal(reset_less=True), Signal(reset_less=True)
        m.d.sync += [
            high.eq(number[1]),
            outer.eq(Mux(four, (number == 0) | (number == 3), ~bypass & (number == 0))),
        ]
        enables = {
            "pair": here[2] | (bypass & self.i_valid),
            "second": Mux(four, here[4], here[3]),
            "zero": bypass | (~four & here[2]),
        }
        after = Signal(2)
        m.d.sync += after.eq(Mux(self.clear, 0, here[0] | (here[5] << 1)))
        stages = Signal(2)
        m.d.sync += [
            stages.eq(Mux(self.clear, 0, Cat(forming, stages)[:2])),
            self.o_valid.eq(stages[1] & ~self.clear),
        ]
        choices = (number[0], high, outer)
        for lane in range(self.lanes):
            terms = self._terms(m, lane, four, enables, after)
            self._results(m, lane, terms, four, choices, (forming, stages[0], stages[1]))
        return m

    def _here(self, m: Module, four: Value, bypass: Value) -> Signal:
        """One bit per point of a group: it comes in in this cycle."""
        index = Signal(3)
        last = Mux(four, F4.points - 1, Mux(bypass, 0, F2.points - 1))
        with m.If(self.i_valid):
            m.d.sync += index.eq(Mux(index == last, 0, index + 1))
        with m.If(self.clear):
            m.d.sync += index.eq(0)
        here = Signal(F4.points)
        with m.If(self.i_valid):
            m.d.comb += here.eq(1 << index)
        return here

    def _emission(
        self, m: Module, here: Signal, four: Value, bypass: Value
    ) -> tuple[Signal, Signal]:
        """Number of the result that is formed in this cycle, and whether one is.

        Results start one cycle after the last point but one: that is when the first one's terms
        are complete, and the terms of the next group are still out of the way.
        """
        number, forming = Signal(2), Signal()
        last = Mux(four, F4.outputs - 1, Mux(bypass, 0, F2.outputs - 1))
        starts = Mux(four, here[4], Mux(bypass, self.i_valid, here[2]))
        with m.If(starts):
            m.d.sync += [forming.eq(1), number.eq(0)]
        with m.Elif(number == last):
            m.d.sync += forming.eq(0)
        with m.Else():
            m.d.sync += number.eq(number + 1)
        with m.If(self.clear):
            m.d.sync += forming.eq(0)
        return number, forming

    def _terms(
        self, m: Module, lane: int, four: Value, enables: dict[str, Value], after: Signal
    ) -> dict[str, Signal]:
        """What the results of a lane are made of, while its points come in."""
        value = self.i[lane]
        held, twice = self._register("held", lane), self._register("twice", lane)
        terms = {
            name: self._register(name, lane)
            for name in ("total", "difference", "total_2", "difference_2", "first", "last")
        }
        # Registers that a transform does not use stay at zero, which costs no logic.
        with m.If(enables["zero"]):
            m.d.sync += held.eq(0)
        with m.Elif(self.i_valid):
            m.d.sync += held.eq(value)
        with m.If(~four):
            m.d.sync += twice.eq(0)
        with m.Elif(self.i_valid):
            m.d.sync += twice.eq(value)
        plus, minus, thrice = (Signal(signed(self.bits)) for _ in range(3))
        m.d.comb += [
            plus.eq(held + value),
            minus.eq(held - value),
            thrice.eq(held + (twice << 1)),
        ]
        with m.If(enables["pair"]):
            m.d.sync += [terms["total"].eq(plus), terms["difference"].eq(minus)]
        with m.If(~four):
            m.d.sync += terms["total_2"].eq(0)
        with m.Elif(enables["second"]):
            m.d.sync += terms["total_2"].eq(plus)
        with m.If(enables["second"]):
            m.d.sync += terms["difference_2"].eq(minus)
        with m.If(after[0]):
            m.d.sync += terms["first"].eq(thrice)
        with m.If(after[1]):
            m.d.sync += terms["last"].eq(thrice)
        return terms

    def _results(
        self,
        m: Module,
        lane: int,
        terms: dict[str, Signal],
        four: Value,
        choices: tuple[Value, Value, Value],
        stages: tuple[Value, Value, Value],
    ) -> None:
        """One result per cycle of a lane; `stages` says in which of its three cycles one is."""
        odd, high, outer = choices
        inner, middle = self._register("inner", lane), self._register("middle", lane)
        with m.If(stages[0]):
            m.d.sync += [
                inner.eq(Mux(odd, terms["difference"], terms["total"])),
                middle.eq(Mux(odd, terms["difference_2"] << 1, terms["total_2"])),
            ]
        summed, third = self._register("summed", lane), self._register("third", lane)
        with m.If(stages[1]):
            m.d.sync += [
                summed.eq(Mux(four, inner << 2, inner) + Mux(high, middle << 2, middle)),
                third.eq(Mux(high, terms["last"] << 3, terms["first"] << 1)),
            ]
            with m.If(~outer):
                m.d.sync += third.eq(0)
        result = register_of(m, self.o[lane])
        with m.If(stages[2]):
            m.d.sync += result.eq(summed + third)

    def _register(self, name: str, lane: int) -> Signal:
        return Signal(signed(self.bits), name=f"{name}{lane}", reset_less=True)
