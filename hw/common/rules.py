"""Circuits of rules (hw/arch/rules.py).

No multiplier block is in them: one in front of a sum and a comparison was the decoder's longest
path, and that of the whole core on an ECP5 (decision 0007).
"""

import math
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
MOST_VALUES = 8
"""Values of a factor that are told apart."""


def circuit(condition: Condition, fields: Any, config: AcceleratorConfig) -> Terms:
    """Whether a condition holds: where of each list of bits one is set.

    What is calculated with has a bit of its own, for who has a cycle to put between, and so has
    each case of a product; of other conditions there is one bit.

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
        [_holds(case, fields) for term in _operands(each, "or") for case in _cases(term, fields)]
        for each in _operands(special, "and")
    ]


def _cases(condition: Condition, fields: Any) -> tuple[Condition, ...]:
    """A condition as an ``or`` of some without products of fields.

    Raises
    ------
    TypeError
        If a product is large, and not one that a constant bounds.
    """
    match condition:
        case Comparison(">", Arithmetic("+", base, Arithmetic("*", a, b)), Literal(most)) if not (
            isinstance(a, Literal) or isinstance(b, Literal)
        ):
            # One of two factors whose product does not exceed `most` is at most its root.
            few = math.isqrt(most)
            cases = [(a > few) & (b > few)]
            # Of a product that is zero, the rest alone has to be larger; where it cannot be, a
            # comparison would always say the same.
            least = 0 if (1 << len(_number(base, fields))) - 1 > most else 1
            for few_of, other in ((a, b), (b, a)):
                cases += [
                    (few_of == n) & _exceeds(base, other, n, most) for n in range(least, few + 1)
                ]
            return tuple(cases)
        case Comparison(operation, left, Arithmetic("*", a, b)) if not (
            isinstance(a, Literal) or isinstance(b, Literal)
        ):
            values = range(1 << len(_number(a, fields)))
            if len(values) > MOST_VALUES:
                raise TypeError(f"a product of {len(values)} values in a rule")
            least = 1 if operation == "<" else 0  # nothing is less than zero
            return tuple(
                (a == n) & Comparison(operation, left, b * n) for n in values if n >= least
            )
        case _:
            return (condition,)


def _exceeds(base: Number, value: Number, factor: int, most: int) -> Condition:
    """base + value · factor > most.

    A factor of three ones takes two sums and a comparison, one behind the other. If it is one less
    than a power of two (7), the value stands on the other side, beside the sum with that power.
    """
    if factor.bit_count() > 2 and (factor + 1).bit_count() == 1:
        return Comparison(">", base + value * (factor + 1), value + most)
    return Comparison(">", base + value * factor, Literal(most))


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


def _times(value: Value, factor: int) -> Value:
    """A product with a constant: shifted and added, so that it takes no multiplier block."""
    shifted = [value << place for place in range(factor.bit_length()) if factor >> place & 1]
    total: Value = C(0)
    for part in shifted:
        total = total + part
    return total


def _number(number: Number, fields: Any) -> Value:
    match number:
        case Literal(value):
            return C(int(value))
        case Element(name, index):
            field = fields[name] if index is None else fields[name][index]
            return Value.cast(field)
        case Arithmetic("*", factor, Literal(value)) | Arithmetic("*", Literal(value), factor):
            return _times(_number(factor, fields), int(value))
        case Arithmetic("*"):
            raise TypeError("a product of fields in a rule takes a multiplier block")
        case Arithmetic(operation, left, right):
            operate: Any = OPERATIONS[operation]
            return Value.cast(operate(_number(left, fields), _number(right, fields)))
        case Parameter():
            raise TypeError("a specialised condition names no parameter")
        case _:
            assert_never(number)
