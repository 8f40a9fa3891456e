"""A wide multiplier from three 18×18 hardware multipliers and a small one in tables."""

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.compute.parts.latch import register_of

__all__ = ["WideMultiplier"]

NATIVE = 18
"""Operand width of a hardware multiplier."""


class WideMultiplier(wiring.Component):
    """product = a·b.

    The product of the two upper parts is a few bits wide and is added up in tables: an ECP5-85F
    has 156 multipliers, of which the array takes 128.

    Handshake: none; `stages[k]` enables the registers of stage k.
    Latency: 2 cycles: partial products, sum.

    Parameters
    ----------
    a_shape: signed or unsigned, at least 19 and at most 36 bits.
    b_bits: unsigned, 19 to 36 bits.
    """

    def __init__(self, a_shape: Shape, b_bits: int):
        for name, bits in (("a", a_shape.width), ("b", b_bits)):
            if not NATIVE < bits <= 2 * NATIVE:
                raise ValueError(
                    f"operand {name} must have {NATIVE + 1}..{2 * NATIVE} bits, not {bits}"
                )
        self._a_shape = a_shape
        width = a_shape.width + b_bits
        super().__init__(
            {
                "stages": In(2),
                "a": In(a_shape),
                "b": In(b_bits),
                "product": Out(signed(width) if a_shape.signed else unsigned(width)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        a_low, b_low, b_high = self.a[:NATIVE], self.b[:NATIVE], self.b[NATIVE:]
        a_high = self.a[NATIVE:]
        if self._a_shape.signed:
            a_high = a_high.as_signed()
        low = Signal(2 * NATIVE, reset_less=True)
        right = Signal(NATIVE + len(b_high), reset_less=True)
        left = Signal(Shape(NATIVE + len(a_high), self._a_shape.signed), reset_less=True)
        high = Signal(Shape(len(a_high) + len(b_high), self._a_shape.signed), reset_less=True)
        added = [Mux(bit, a_high << place, 0) for place, bit in enumerate(b_high)]
        while len(added) > 1:
            added = [sum(added[i + 1 : i + 2], added[i]) for i in range(0, len(added), 2)]
        with m.If(self.stages[0]):
            m.d.sync += [
                low.eq(a_low * b_low),
                right.eq(a_low * b_high),
                left.eq(a_high * b_low),
                high.eq(added[0]),
            ]
        # low and high lie side by side.
        outer = Cat(low, high)
        if self._a_shape.signed:
            outer = outer.as_signed()
        product = register_of(m, self.product)
        with m.If(self.stages[1]):
            m.d.sync += product.eq(outer + ((left + right) << NATIVE))
        return m
