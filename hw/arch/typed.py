"""Dataclasses from plain data (JSON, YAML), checked against their type hints.

    build(Layer, {"name": "conv1", ...}, "layers[3]")

Whatever the data are, the result is an instance whose every value has the declared type, or a
`TypedError` that says where and what was found.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")

WHOLE = "the file"
NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "text"}


class TypedError(ValueError):
    """Data that do not have the declared type; names the place, the value and what is needed."""


def build(kind: type[T], value: object, where: str) -> T:
    """An instance of `kind` made of plain data.

    Parameters
    ----------
    kind: a dataclass.
    value: a mapping with its fields.
    where: name of the value in the file.

    Raises
    ------
    TypedError
        If a field is missing, unknown, or of another type, or the class refuses its values.
    """
    return cast(T, _convert(kind, value, where))


def _convert(kind: Any, value: object, where: str) -> Any:
    origin = get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, where)
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _named_tuple(kind, value, where)
    if origin is tuple:
        return _tuple(get_args(kind), value, where)
    if origin is Mapping:
        return _mapping(value, where)
    if kind in NAMES:
        return _scalar(kind, value, where)
    raise TypeError(f"{where}: no rule for the type {kind}")


def _scalar(kind: type, value: object, where: str) -> object:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
    # A bool is an int to Python, and nothing else than a bool to us.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypedError(f"{where} is {_shown(value)}, not {NAMES[kind]}")
    if isinstance(value, float) and not math.isfinite(value):
        raise TypedError(f"{where} is {value}; it must be finite")
    if isinstance(value, str) and any(0xD800 <= ord(character) < 0xE000 for character in value):
        raise TypedError(f"{where} is {_shown(value)}, which no text file can hold")
    return value


def _record(kind: Any, value: object, where: str) -> object:
    content = _mapping(value, where)
    hints = _hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    for name in content:
        if name not in fields:
            raise TypedError(
                f"{where or WHOLE} has no {_shown(name)}; there are {', '.join(fields)}"
            )
    for name, field in fields.items():
        optional = field.default is not dataclasses.MISSING
        optional |= field.default_factory is not dataclasses.MISSING
        if name not in content and not optional:
            raise TypedError(f"{where or WHOLE} lacks {name!r}")
    values = {name: _convert(hints[name], v, _joined(where, name)) for name, v in content.items()}
    return _made(kind, values, where)


def _named_tuple(kind: Any, value: object, where: str) -> object:
    items = _items(value, where)
    names, hints = kind._fields, _hints(kind)
    if not len(names) - len(kind._field_defaults) <= len(items) <= len(names):
        raise TypedError(f"{where} has {len(items)} values, not {', '.join(names)}")
    values = {
        name: _convert(hints[name], item, f"{where}[{i}]")
        for i, (name, item) in enumerate(zip(names, items, strict=False))
    }
    return _made(kind, values, where)


def _made(kind: Any, values: dict[str, Any], where: str) -> object:
    try:
        return kind(**values)
    except TypedError:
        raise
    except (ValueError, ArithmeticError, MemoryError) as error:
        raise TypedError(f"{where}: {error}" if where else str(error)) from error


def _tuple(kinds: tuple[Any, ...], value: object, where: str) -> tuple[Any, ...]:
    items = _items(value, where)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_convert(kinds[0], v, f"{where}[{i}]") for i, v in enumerate(items))
    if len(items) != len(kinds):
        raise TypedError(f"{where} has {len(items)} values, not {len(kinds)}")
    return tuple(
        _convert(kind, v, f"{where}[{i}]")
        for i, (kind, v) in enumerate(zip(kinds, items, strict=True))
    )


def _items(value: object, where: str) -> Sequence[object]:
    if not isinstance(value, list | tuple):
        raise TypedError(f"{where} is {_shown(value)}, not a list")
    return value


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypedError(f"{where or WHOLE} is {_shown(value)}, not a mapping")
    for name in value:
        if not isinstance(name, str):
            raise TypedError(f"{where or WHOLE} has the key {_shown(name)}, which is no name")
    return value


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _joined(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _shown(value: object) -> str:
    """A value for a message: short, and printable."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
