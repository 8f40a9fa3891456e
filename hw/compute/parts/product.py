"""A multiplier with the registers that an FPGA's multiplier block has inside."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Product"]


class Product(wiring.Component):
    """Product of two registered operands, registered.

    A module of its own so that synthesis can put all three registers into the block itself
    (hw/synthesis.py): the open tools infer the product but not its registers, and in fabric they
    cost 66 flip-flops a multiplier and two long wires per bit. Nothing is enabled but `b`, since a
    product that nobody takes does no harm; blocks share four clock enables among four multipliers.

    Latency: `a` in cycle t and the `b` loaded in t or before give `product` in t + 2.

    Parameters
    ----------
    a_bits, b_bits: signed widths; an ECP5 block takes 18.

    Members
    -------
    a: taken every cycle.
    b, load: taken where `load` is high, held otherwise.
    product: signed, a_bits + b_bits.
    """

    def __init__(self, a_bits: int, b_bits: int):
        self._a_bits = a_bits
        self._b_bits = b_bits
        super().__init__(
            {
                "a": In(signed(a_bits)),
                "b": In(signed(b_bits)),
                "load": In(1),
                "product": Out(signed(a_bits + b_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        left = Signal(signed(self._a_bits), reset_less=True)
        right = Signal(signed(self._b_bits), reset_less=True)
        # Nameless, so that the port keeps its name in Verilog.
        result = Signal(signed(self._a_bits + self._b_bits), name="", reset_less=True)
        m.d.sync += [left.eq(self.a), result.eq(left * right)]
        with m.If(self.load):
            m.d.sync += right.eq(self.b)
        m.d.comb += self.product.eq(result)
        return m
