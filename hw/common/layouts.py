"""Amaranth layouts, read off the contract's bit fields."""

from amaranth.hdl import ShapeLike, signed, unsigned
from amaranth.lib import data

from hw.arch.encoding import Encodable, Field

__all__ = ["instruction_layout"]


def _shape(field: Field) -> ShapeLike:
    element = signed(field.bits) if field.signed else unsigned(field.bits)
    return element if field.length == 1 else data.ArrayLayout(element, field.length)


def instruction_layout(kind: type[Encodable]) -> data.StructLayout:
    """Layout of an instruction's fields (opcode not included), least significant first."""
    return data.StructLayout({field.name: _shape(field) for field in kind.layout()})
