"""Circuits of rules (hw/arch/rules.py)."""

from typing import Any, TypeAlias, assert_never

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
    walk,
)

__all__ = ["Terms", "circuit"]

Terms: TypeAlias = list[list[Value]]
"""A condition as its outermost ``and`` of ``or``, one bit each."""


def circuit(condition: Condition, fields: Any, config: AcceleratorConfig) -> Terms:
    """Whether a condition holds: where of each list of bits one is set.

    What is calculated with has a bit of its own, for who has a cycle to put between; of other
    conditions there is one bit.

    Parameters
    ----------
    condition: of a rule.
    fields: view of the instruction's layout.
    config: the accelerator; parameters and features become constants, and what they decide is
        left out.
    """
    special = specialised(condition, config.features, config)
    if not any(isinstance(node, Arithmetic) for node in walk(special)):
        return [[_holds(special, fields)]]
    return [
        [_holds(term, fields) for term in _operands(each, "or")]
        for each in _operands(special, "and")
    ]


def _operands(condition: Condition, operation: str) -> tuple[Condition, ...]:
    """What is joined, also in several steps: a & b & c is (a & b) & c."""
    if not isinstance(condition, Junction) or condition.operation != operation:
        return (condition,)
    return tuple(each for part in condition.operands for each in _operands(part, operation))


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
