"""Files as their classes declare them: a table of fields, and a JSON schema, of any dataclass."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Union, get_args, get_origin, get_type_hints

SCALARS: Mapping[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


def schema(kind: Any, title: str) -> dict[str, Any]:
    """JSON schema (2020-12) of a dataclass; fields that it does not have are refused."""
    named: dict[str, Any] = {}
    top = _of(kind, named)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **top,
        "$defs": named,
    }


def _of(kind: Any, named: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in SCALARS:
        return {"type": SCALARS[kind]}
    if kind is Any:
        return {}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_of(each, named) for each in arguments]}
    if kind is type(None):
        return {"type": "null"}
    if dataclasses.is_dataclass(kind) or hasattr(kind, "_fields"):
        name = kind.__name__
        if name not in named:
            named[name] = {}  # a class may hold itself
            named[name] = _record(kind, named)
        return {"$ref": f"#/$defs/{name}"}
    if origin is tuple and arguments[1:] != (Ellipsis,):
        items = [_of(each, named) for each in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "items": False}
    if origin in (tuple, list, Sequence):
        return {"type": "array", "items": _of(arguments[0], named)}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": _of(arguments[1], named)}
    raise TypeError(f"no schema for {kind}")


def _record(kind: Any, named: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    if not dataclasses.is_dataclass(kind):  # a named tuple is written as a list
        items = [_of(hints[name], named) for name in kind._fields]
        least = len(items) - len(kind._field_defaults)
        return {"type": "array", "prefixItems": items, "minItems": least, "items": False}
    fields = [field.name for field in dataclasses.fields(kind)]
    return {
        "type": "object",
        "properties": {name: _of(hints[name], named) for name in fields},
        "required": fields,
        "additionalProperties": False,
    }


def meanings(kind: Any) -> dict[str, str]:
    """What the docstring's Attributes say of each field."""
    lines = inspect.cleandoc(kind.__doc__ or "").split("\n")
    if "Attributes" not in lines:
        return {}
    text = " ".join(line.strip() for line in lines[lines.index("Attributes") + 2 :])
    fields = {field.name for field in dataclasses.fields(kind)}
    found: dict[str, str] = {}
    # "a, b: words" begins an entry wherever it stands, if all of its names are fields.
    starts = [
        match
        for match in re.finditer(r"(?<!\S)(\w+(?:, \w+)*): ", text)
        if set(match[1].split(", ")) <= fields
    ]
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        words = text[start.end() : None if following is None else following.start()]
        for name in start[1].split(", "):
            found[name] = words.strip().rstrip(".;")
    return found


def table(kind: Any, as_in: Any = None) -> Iterator[str]:
    """Rows of Markdown: field, type, meaning.

    Parameters
    ----------
    as_in: a class whose docstring says what fields of the same name mean.
    """
    said, hints = meanings(kind), get_type_hints(kind)
    if as_in is not None:
        said = meanings(as_in) | said
    yield "| field | type | meaning |"
    yield "|---|---|---|"
    for field in dataclasses.fields(kind):
        text = _text(hints[field.name])
        meaning = said.get(field.name, "").replace("|", "\\|")
        yield f"| `{field.name}` | {text} | {meaning} |"
    yield ""


def _text(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in SCALARS:
        return SCALARS[kind]
    if kind is Any:
        return "any"
    if kind is type(None):
        return "null"
    if origin in (Union, types.UnionType):
        return " or ".join(map(_text, arguments))
    if origin is tuple and arguments[1:] != (Ellipsis,):
        return "[" + ", ".join(map(_text, arguments)) + "]"
    if origin in (tuple, list, Sequence):
        return f"list of {_text(arguments[0])}"
    if origin in (dict, Mapping):
        return f"{_text(arguments[1])} by name"
    return str(kind.__name__).lstrip("_")
