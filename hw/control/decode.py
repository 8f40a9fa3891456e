"""Decode an instruction word: operands with registers added, and what is wrong with it."""

import dataclasses
from collections.abc import Sequence

from amaranth.hdl import Cat, Signal, Value
from amaranth.lib import data

from hw.arch.config import AcceleratorConfig
from hw.arch.encoding import Encodable
from hw.arch.isa import OPCODE_BITS, RULES, Add, Branch, ErrorCode, Set
from hw.arch.rules import Rule, Truth, specialised
from hw.common.layouts import instruction_layout
from hw.common.rules import Terms, circuit

__all__ = ["SLOTS", "OperandSum", "faults", "operands", "view", "with_fields"]

SLOTS = 3
"""Operands per instruction at most; each is field + register."""


@dataclasses.dataclass(frozen=True, slots=True)
class OperandSum:
    """A sum that the sequencer forms before it executes or dispatches an instruction.

    Attributes
    ----------
    field: address or immediate field; None for zero.
    register: field that names a register; None for register 0.
    """

    field: str | None
    register: str | None


def operands(kind: type[Encodable]) -> tuple[OperandSum, ...]:
    """Operands of a class, in slot order."""
    if kind is Set:
        return (OperandSum("immediate", None),)
    if kind is Add:
        return (OperandSum("immediate", "rs"), OperandSum(None, "rt"))
    if kind is Branch:
        return (OperandSum(None, "rs"), OperandSum(None, "rt"))
    found = [
        OperandSum(field.name.removesuffix("_register"), field.name)
        for field in kind.layout()
        if field.name.endswith("_register")
    ]
    assert len(found) <= SLOTS, kind
    return tuple(found)


def view(kind: type[Encodable], word: Signal) -> data.View:
    """Fields of an instruction word, taken as an instruction of class `kind`."""
    return data.View(instruction_layout(kind), word[OPCODE_BITS : OPCODE_BITS + kind.width()])


def with_fields(kind: type[Encodable], word: Signal, values: dict[str, Value]) -> Value:
    """Fields of `kind` as one value, some of them replaced (cut to their width)."""
    parts = []
    low = OPCODE_BITS
    for field in kind.layout():
        part = word[low : low + field.width]
        if field.name in values:
            part = values[field.name][: field.width]
        parts.append(part)
        low += field.width
    return Cat(*parts)


def _ends_in_zeros(kind: type[Encodable], word: Signal) -> Value:
    """Whether no bit beyond the last field of `kind` is set."""
    return ~word[OPCODE_BITS + kind.width() :].any()


def _refuses_all(rule: Rule, config: AcceleratorConfig) -> bool:
    """Whether a rule refuses every instruction of its class, with the gravest of their codes."""
    condition = specialised(rule.condition, config.features, config)
    unsupported = rule.code is ErrorCode.UNSUPPORTED
    return unsupported and isinstance(condition, Truth) and condition.value


def faults(
    kind: type[Encodable], word: Signal, config: AcceleratorConfig
) -> list[tuple[ErrorCode, Terms]]:
    """(code, terms of the condition) of what makes an instruction of class `kind` unfit.

    Of a class that the circuit does not have, one rule refuses all, and no other is looked at.
    """
    fields = view(kind, word)
    rules: Sequence[Rule] = RULES[kind]
    always = [rule for rule in rules if _refuses_all(rule, config)]
    found = [(rule.code, circuit(rule.condition, fields, config)) for rule in always[:1] or rules]
    return [(ErrorCode.OPCODE, [[~_ends_in_zeros(kind, word)]]), *found]
