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
        for f in self.layout():
            value = getattr(self, f.name)
            elements = (value,) if f.length == 1 else value
            if len(elements) != f.length:
                raise EncodingError(
                    f"{type(self).__name__}.{f.name} has {len(elements)} elements, not {f.length}"
                )
            mask = (1 << f.bits) - 1
            for element in elements:
                number = int(element)
                if not f.low <= number <= f.high:
                    raise EncodingError(
                        f"{type(self).__name__}.{f.name} = {number} is outside {f.low}..{f.high}"
                    )
                word |= (number & mask) << shift
                shift += f.bits
        return word

    @classmethod
    def decode(cls: type[T], word: int) -> T:
        """Return the instance whose `encode` is the low `width()` bits of `word`."""
        values: dict[str, Any] = {}
        for f in cls.layout():
            mask = (1 << f.bits) - 1
            elements = []
            for _ in range(f.length):
                number = word & mask
                word >>= f.bits
                if f.signed and number >> (f.bits - 1):
                    number -= 1 << f.bits
                elements.append(number)
            values[f.name] = elements[0] if f.length == 1 else tuple(elements)
        return cls(**values)

    def as_dict(self) -> Mapping[str, Any]:
        """Fields by name, in bit order."""
        return {f.name: getattr(self, f.name) for f in self.layout()}
