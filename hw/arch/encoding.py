"""Bit-field dataclasses: one declaration gives encode, decode, range checks and a layout.

Every instruction is a frozen dataclass whose attributes are declared with `bits`. The declaration
order is the bit order, least significant first. Nothing else in the project knows where a field
lies: the assembler, the documentation page and the Amaranth layout are all read off these fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, cast

T = TypeVar("T", bound="Encodable")


class EncodingError(ValueError):
    """A value does not fit its field, or a word does not decode."""


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """Place and type of one field.

    Attributes
    ----------
    name: attribute name.
    bits: width of one element.
    signed: two's complement if true.
    length: number of elements; 1 means a plain integer, more means a tuple.
    doc: one line for docs/isa.md.
    """

    name: str
    bits: int
    signed: bool
    length: int
    doc: str

    @property
    def low(self) -> int:
        """Smallest value of an element."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """Largest value of an element."""
        return (1 << (self.bits - self.signed)) - 1

    @property
    def width(self) -> int:
        """Bits of the whole field."""
        return self.bits * self.length


def bits(
    width: int, doc: str, *, signed: bool = False, length: int = 1, default: Any = None
) -> Any:
    """Declare a bit field inside an `Encodable` dataclass."""
    if default is None:
        default = 0 if length == 1 else (0,) * length
    return dataclasses.field(
        default=default,
        metadata={"bits": width, "signed": signed, "length": length, "doc": doc},
    )


class Encodable:
    """Mixin for frozen dataclasses whose attributes are declared with `bits`."""

    @classmethod
    def layout(cls) -> tuple[Field, ...]:
        """Fields in bit order, least significant first."""
        cached = cls.__dict__.get("_layout")
        if cached is None:
            cached = tuple(
                Field(
                    f.name,
                    f.metadata["bits"],
                    f.metadata["signed"],
                    f.metadata["length"],
                    f.metadata["doc"],
                )
                for f in dataclasses.fields(cast(Any, cls))
            )
            cls._layout = cached  # type: ignore[attr-defined]
        return cast("tuple[Field, ...]", cached)

    @classmethod
    def _places(cls) -> tuple[tuple[str, int, int, int, int], ...]:
        """`layout` as plain numbers: name, length, bits, least and greatest value.

        A large network has half a million instructions, each encoded and decoded.
        """
        cached = cls.__dict__.get("_numbers")
        if cached is None:
            cached = tuple((f.name, f.length, f.bits, f.low, f.high) for f in cls.layout())
            cls._numbers = cached  # type: ignore[attr-defined]
        return cast("tuple[tuple[str, int, int, int, int], ...]", cached)

    @classmethod
    def field(cls, name: str) -> Field:
        """Place and type of one field.

        Raises
        ------
        AttributeError
            If the class has no such field.
        """
        for field in cls.layout():
            if field.name == name:
                return field
        raise AttributeError(f"{cls.__name__} has no field {name!r}")

    @classmethod
    def width(cls) -> int:
        """Total bits of the fields."""
        return sum(f.width for f in cls.layout())

    def encode(self) -> int:
        """Return the fields as one unsigned integer.

        Raises
        ------
        EncodingError
            If a value lies outside its field; names the field, the value and the limits.
        """
        word = 0
        shift = 0
        for name, length, width, low, high in self._places():
            value = getattr(self, name)
            elements = (value,) if length == 1 else value
            if len(elements) != length:
                raise EncodingError(
                    f"{type(self).__name__}.{name} has {len(elements)} elements, not {length}"
                )
            for element in elements:
                if element:  # most are 0
                    number = int(element)
                    if not low <= number <= high:
                        raise EncodingError(
                            f"{type(self).__name__}.{name} = {number} is outside {low}..{high}"
                        )
                    word |= (number & (1 << width) - 1) << shift
                shift += width
        return word

    @classmethod
    def decode(cls: type[T], word: int) -> T:
        """Return the instance whose `encode` is the low `width()` bits of `word`."""
        values: dict[str, Any] = {}
        for name, length, width, _, high in cls._places():
            elements = []
            for _ in range(length):
                number = word & (1 << width) - 1
                word >>= width
                elements.append(number if number <= high else number - (1 << width))
            values[name] = elements[0] if length == 1 else tuple(elements)
        return cls(**values)

    def as_dict(self) -> Mapping[str, Any]:
        """Fields by name, in bit order."""
        return {f.name: getattr(self, f.name) for f in self.layout()}
