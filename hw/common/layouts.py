"""Amaranth layouts, read off the contract's bit fields."""

from collections.abc import Sequence

from amaranth.hdl import ShapeCastable, ShapeLike, signed, unsigned
from amaranth.lib import data

from hw.arch.codes import FEATURES
from hw.arch.encoding import Encodable, Field
from hw.arch.isa import CLASSES, INSTRUCTION_BYTES, OPCODE_BITS, Unit, is_built

__all__ = [
    "instruction_layout",
    "kept_bits",
    "queue_layout",
    "target_layout",
    "unit_classes",
    "unit_layout",
]

WORD_BITS = 8 * INSTRUCTION_BYTES - OPCODE_BITS
"""Bits of an instruction beside its opcode."""


def _shape(field: Field) -> ShapeLike:
    element = signed(field.bits) if field.signed else unsigned(field.bits)
    return element if field.length == 1 else data.ArrayLayout(element, field.length)


def instruction_layout(kind: type[Encodable]) -> data.StructLayout:
    """Layout of an instruction's fields (opcode not included), least significant first."""
    return data.StructLayout({field.name: _shape(field) for field in kind.layout()})


def unit_classes(unit: Unit, features: Sequence[str] = FEATURES) -> list[type[Encodable]]:
    """Instruction classes that a unit executes; what a machine has not got never reaches it.

    Parameters
    ----------
    unit: whose.
    features: of the machine; all if not given.
    """
    return [
        kind
        for kind in CLASSES.values()
        if getattr(kind, "UNIT", None) == unit and is_built(kind, features)
    ]


def unit_layout(unit: Unit) -> data.StructLayout:
    """Shape of the instructions that a unit takes.

    A unit of one class gets that class's layout; the vector unit, which has several, gets the
    opcode and the undivided word, of which it views the low bits as the wanted layout.
    """
    kinds = unit_classes(unit)
    if len(kinds) == 1:
        return instruction_layout(kinds[0])
    return data.StructLayout({"opcode": OPCODE_BITS, "word": WORD_BITS})


def _fields(kind: type[Encodable]) -> list[tuple[Field, range]]:
    result = []
    low = 0
    for field in kind.layout():
        result.append((field, range(low, low + field.width)))
        low += field.width
    return result


def kept_bits(unit: Unit, features: Sequence[str] = FEATURES) -> list[range]:
    """Bit ranges of `unit_layout` that mean something behind the dispatch.

    Waits have become targets by then, and the registers have been added.

    Parameters
    ----------
    unit: whose.
    features: of the machine; all if not given.
    """
    kinds = unit_classes(unit, features)
    used = {
        bit
        for kind in kinds
        for field, place in _fields(kind)
        if field.name != "waits" and not field.name.endswith("_register")
        for bit in place
    }
    if unit is Unit.VECTOR:
        used = {bit + OPCODE_BITS for bit in used} | set(range(OPCODE_BITS))
    ranges: list[range] = []
    for bit in sorted(used):
        if ranges and ranges[-1].stop == bit:
            ranges[-1] = range(ranges[-1].start, bit + 1)
        else:
            ranges.append(range(bit, bit + 1))
    return ranges


def target_layout() -> data.ArrayLayout:
    """Waits after dispatch: per unit, whether to wait and for which completion count."""
    return data.ArrayLayout(data.StructLayout({"enable": 1, "count": 16}), len(Unit))


def queue_layout(payload: ShapeCastable) -> data.StructLayout:
    """Take an instruction's shape and give what the sequencer pushes: it and its targets."""
    return data.StructLayout({"instruction": payload, "targets": target_layout()})
