"""One axis of the weight transform: three taps in, n points out."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arch.winograd_matrices import F2, F4, Transform
from hw.compute.parts.latch import register_of
from hw.compute.transform.stage import BYPASS, F43

__all__ = ["WeightStage"]

TAPS = 3


def point_terms(transform: Transform) -> list[tuple[int, int, int, bool]]:
    """Row k of G as first·g0 + outer·g2 ± middle·g1: (first, outer, middle, negative).

    Raises
    ------
    ValueError
        If the matrix needs terms that the stage does not have.
    """
    terms = []
    for k, (first, middle, outer) in enumerate(transform.weight_rows):
        last = k == transform.points - 1
        if first != (not last) or outer not in (0, 1, 4) or abs(middle) not in (0, 1, 2):
            raise ValueError(f"row {k} of {transform.name}'s G, {(first, middle, outer)}")
        terms.append((first, outer, abs(middle), middle < 0))
    return terms


class WeightStage(wiring.Component):
    """G along one axis: groups of three taps in, groups of n points out, `lanes` side by side.

    A weight stage has time: a group of three taps gives n points, so that nothing is held twice
    but the first tap. Its register is cleared for the last point, the only one without it.

    Handshake: a tap is taken in every cycle with `i_valid`; nothing stalls. Tap k of a group comes
    at least n cycles behind tap k of the group before. With `BYPASS` values pass as they come.
    Latency: the last tap of a group in cycle t gives its points in t + LATENCY, t + LATENCY + 1,
    and so on, without gaps; with `BYPASS` one cycle more.

    Parameters
    ----------
    lanes: independent transforms under the same control.
    in_bits, out_bits: signed widths of taps and points, which are modulo 2^out_bits.

    Members
    -------
    select: `BYPASS`, `F23` or `F43`; stable while taps or points are inside.
    clear: forget what came in; `o_valid` is low from the next cycle on.
    i_valid, i, o_valid, o: a tap, a point of every lane.

    Tested range: tests/hw/compute/weights/test_weight_transform.py.
    """

    LATENCY = 3

    def __init__(self, lanes: int, in_bits: int, out_bits: int):
        if out_bits <= in_bits:
            raise ValueError(f"out_bits must be more than in_bits ({in_bits}), not {out_bits}")
        self.lanes, self.in_bits, self.out_bits = lanes, in_bits, out_bits
        super().__init__(
            {
                "select": In(2),
                "clear": In(1),
                "i_valid": In(1),
                "i": In(signed(in_bits)).array(lanes),
                "o_valid": Out(1),
                "o": Out(signed(out_bits)).array(lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        wide, bypass = self.select == F43, self.select == BYPASS
        index = Signal(range(TAPS))
        complete, passing = Signal(), Signal()
        hold = Signal()
        m.d.comb += [
            complete.eq(self.i_valid & (index == TAPS - 1)),
            hold.eq(Mux(bypass, passing, complete)),
        ]
        with m.If(self.i_valid):
            m.d.sync += index.eq(index + 1)
        with m.If(complete | self.clear | bypass):
            m.d.sync += index.eq(0)
        m.d.sync += passing.eq(self.i_valid & ~self.clear)
        # Points counted in the cycle in which the first adder works.
        running, point, following = Signal(), Signal(range(F4.points)), Signal(range(F4.points))
        last = bypass | (point == Mux(wide, F4.points - 1, F2.points - 1))
        m.d.comb += following.eq(Mux(hold, 0, point + 1))
        m.d.sync += point.eq(following)
        with m.If(hold):
            m.d.sync += running.eq(1)
        with m.Elif(last):
            m.d.sync += running.eq(0)
        with m.If(self.clear):
            m.d.sync += running.eq(0)
        summed, subtract, negative = Signal(), Signal(reset_less=True), Signal(reset_less=True)
        m.d.sync += [
            summed.eq(running & ~self.clear),
            self.o_valid.eq(summed & ~self.clear),
            subtract.eq(negative),
        ]
        # What the first adder and the register beside it take, decided a cycle ahead.
        outer, outer_far, middle, middle_twice, drop = (
            Signal(name=name, reset_less=True)
            for name in ("outer", "outer_far", "middle", "middle_twice", "drop")
        )
        decided = Cat(outer, outer_far, middle, middle_twice, negative, drop)
        m.d.sync += decided.eq(0)
        for here, transform in ((wide, F4), (~wide & ~bypass, F2)):
            for k, (_, far, near, minus) in enumerate(point_terms(transform)):
                # In front of the last point the first tap goes.
                flags = (far == 1, far == 4, near != 0, near == 2, minus, k == transform.points - 2)
                with m.If(here & (following == k)):
                    m.d.sync += decided.eq(sum(int(flag) << bit for bit, flag in enumerate(flags)))
        terms = [outer, outer_far, middle, middle_twice, negative, subtract]
        for lane in range(self.lanes):
            self._lane(m, lane, index, hold, drop, terms, (running, summed))
        return m

    def _lane(
        self,
        m: Module,
        lane: int,
        index: Signal,
        hold: Signal,
        drop: Signal,
        terms: list[Signal],
        stages: tuple[Signal, Signal],
    ) -> None:
        shape = signed(self.in_bits)
        taps = [Signal(shape, name=f"tap{lane}_{k}", reset_less=True) for k in range(TAPS)]
        first = Signal(shape, name=f"first{lane}", reset_less=True)
        for k, tap in enumerate(taps):
            with m.If(self.i_valid & (index == k)):
                m.d.sync += tap.eq(self.i[lane])
        # Between two groups `drop` means nothing.
        with m.If(hold):
            m.d.sync += first.eq(taps[0])
        with m.Elif(drop):
            m.d.sync += first.eq(0)
        # cycle t + 1; a subtracted tap is complemented here, its 1 is the carry of the next adder
        outer, outer_far, middle, middle_twice = terms[:4]
        negative, carry = terms[4:]
        left = Signal(
            signed(min(self.out_bits, self.in_bits + 3)), name=f"left{lane}", reset_less=True
        )
        right = Signal(signed(self.in_bits + 1), name=f"right{lane}", reset_less=True)
        added = Mux(outer_far, taps[2] << 2, Mux(outer, taps[2], 0))
        near = Mux(middle_twice, taps[1] << 1, taps[1])
        running, summed = stages
        with m.If(running):
            m.d.sync += left.eq(first + added)
            m.d.sync += right.eq(Mux(negative, ~near, near))
            with m.If(~middle):
                m.d.sync += right.eq(0)
        # cycle t + 2
        total = Cat(1, left).as_signed() + Cat(carry, right).as_signed()
        result = register_of(m, self.o[lane])
        with m.If(summed):
            m.d.sync += result.eq(total >> 1)
