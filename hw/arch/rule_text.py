"""Conditions of rules (hw/arch/rules.py) in words and signs, as docs/isa.md shows them."""

from __future__ import annotations

import enum
from typing import assert_never

from hw.arch.rules import (
    Arithmetic,
    Comparison,
    Condition,
    Element,
    Junction,
    Lacks,
    Literal,
    Negation,
    Number,
    Parameter,
    Truth,
)


def described(node: Number | Condition, joined: str = "") -> str:
    """An expression in words and signs, as docs/isa.md shows it.

    Parameters
    ----------
    node: the expression.
    joined: operation that joins it to others; another one inside it needs brackets.
    """
    match node:
        case Literal(value):
            return value.name if isinstance(value, enum.Enum) else str(int(value))
        case Element(name, index):
            return f"`{name}`" if index is None else f"`{name}[{index}]`"
        case Parameter(path):
            return path
        case Truth(value):
            return "always" if value else "never"
        case Lacks(feature):
            return f"without `{feature}`"
        case Arithmetic(operation, left, right) | Comparison(operation, left, right):
            sign = _SIGNS.get(operation, operation)
            text = f"{described(left, operation)} {sign} {described(right, operation)}"
            brackets = isinstance(node, Arithmetic) and joined not in ("", operation, *_COMPARED)
            return f"({text})" if brackets else text
        case Junction(operation, operands):
            elements = _of_one_field(node)
            if elements is not None:
                return elements
            text = f" {operation} ".join(described(operand, operation) for operand in operands)
            return f"({text})" if joined not in ("", operation) and len(operands) > 1 else text
        case Negation(Lacks(feature)):
            return f"with `{feature}`"
        case Negation(operand):
            return f"not ({described(operand)})"
        case _:
            assert_never(node)


_SIGNS = {"==": "=", "!=": "≠", "<=": "≤", ">=": "≥", "*": "·"}
_COMPARED = ("==", "!=", "<", "<=", ">", ">=")


def _of_one_field(node: Junction) -> str | None:
    """A comparison of every element of one field with one number, in short."""
    fields, others = set(), set()
    for operand in node.operands:
        match operand:
            case Comparison(operation, Element(name, int(), length), other):
                fields.add((name, length))
                others.add(f"{_SIGNS.get(operation, operation)} {described(other)}")
            case _:
                return None
    name, length = fields.pop()
    if fields or len(others) > 1 or len(node.operands) < length:
        return None
    which = "one" if node.operation == "or" else "each"
    return f"{which} of `{name}` {others.pop()}"
