"""Circuits of rules (hw/arch/rules.py)."""

from typing import Any, assert_never

from amaranth.hdl import C, Cat, Value

from hw.arch.config import AcceleratorConfig
from hw.arch.rules import (
    OPERATIONS,
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
    specialised,
)

__all__ = ["circuit"]


def circuit(condition: Condition, fields: Any, config: AcceleratorConfig) -> Value:
    """One bit: whether a condition holds.

    Parameters
    ----------
    condition: of a rule.
    fields: view of the instruction's layout.
    config: the accelerator; parameters and features become constants, and what they decide is
        left out.
    """
    return _holds(specialised(condition, config.features, config), fields)


def _holds(condition: Condition, fields: Any) -> Value:
    match condition:
        case Truth(value):
            return C(value, 1)
        case Comparison(operation, left, right):
            compare: Any = OPERATIONS[operation]
            return Value.cast(compare(_number(left, fields), _number(right, fields)))
        case Junction(operation, operands):
            parts = Cat(_holds(operand, fields) for operand in operands)
            return parts.any() if operation == "or" else parts.all()
        case Negation(operand):
            return ~_holds(operand, fields)
        case Lacks():
            raise TypeError("a specialised condition names no feature")
        case _:
            assert_never(condition)


def _number(number: Number, fields: Any) -> Value:
    match number:
        case Literal(value):
            return C(int(value))
        case Element(name, index):
            field = fields[name] if index is None else fields[name][index]
            return Value.cast(field)
        case Arithmetic(operation, left, right):
            operate: Any = OPERATIONS[operation]
            return Value.cast(operate(_number(left, fields), _number(right, fields)))
        case Parameter():
            raise TypeError("a specialised condition names no parameter")
        case _:
            assert_never(number)
