"""A register of its own for one part of what a net drives."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RegisterCopy"]


class RegisterCopy(wiring.Component):
    """Delays a bit by one cycle.

    Synthesis merges equal registers, and a net that thousands of flip-flops share spans the device.
    Copies stay apart because modules of this kind are mapped on their own (hw/synthesis.py
    `is_unit`).

    Members
    -------
    i: In. o: Out, `i` of the cycle before.
    """

    def __init__(self) -> None:
        super().__init__({"i": In(1), "o": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.o.eq(self.i)
        return m
