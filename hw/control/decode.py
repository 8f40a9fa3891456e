"""Decode an instruction word: operands with registers added, and what is wrong with it."""

import dataclasses

from amaranth.hdl import Cat, Const, Signal, Value
from amaranth.lib import data

from hw.arch.config import AcceleratorConfig
from hw.arch.encoding import Encodable
from hw.arch.isa import (
    OPCODE_BITS,
    Add,
    Array,
    ArrayMode,
    Begin,
    Branch,
    Condition,
    Drain,
    Elementwise,
    ElementwiseOp,
    ErrorCode,
    Load,
    Reduce,
    ReduceOp,
    Scalar,
    Set,
    Sfu,
    Space,
    Store,
)
from hw.common.layouts import instruction_layout

__all__ = ["SLOTS", "Operand", "faults", "operands", "view", "with_fields"]

SLOTS = 3
"""Operands per instruction at most; each is field + register."""


@dataclasses.dataclass(frozen=True, slots=True)
class Operand:
    """A sum that the sequencer forms before it executes or dispatches an instruction.

    Attributes
    ----------
    field: address or immediate field; None for zero.
    register: field that names a register; None for register 0.
    """

    field: str | None
    register: str | None


def operands(kind: type[Encodable]) -> tuple[Operand, ...]:
    """Operands of a class, in slot order."""
    if kind is Set:
        return (Operand("immediate", None),)
    if kind is Add:
        return (Operand("immediate", "rs"), Operand(None, "rt"))
    if kind is Branch:
        return (Operand(None, "rs"), Operand(None, "rt"))
    names = {f.name for f in kind.layout()}
    found = []
    for name in names:
        if name.endswith("_register"):
            stem = name.removesuffix("_register")
            found.append(Operand(stem if stem in names else f"{stem}_source", name))
    order = [f.name for f in kind.layout()]
    found.sort(key=lambda operand: order.index(str(operand.register)))
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


def _zero(fields: data.View, *names: str) -> Value:
    """Whether one of the counts is zero."""
    found: Value = Const(0, 1)
    for name in names:
        field = fields[name]
        elements = list(field) if isinstance(field, data.View) else [field]
        for element in elements:
            found = found | (element == 0)
    return found


def _unit_faults(
    kind: type[Encodable], fields: data.View, config: AcceleratorConfig
) -> list[tuple[ErrorCode, Value]]:
    """(code, condition) of what makes a unit instruction unfit for dispatch, gravest first."""
    lacks = {
        name: Const(name not in config.features, 1)
        for name in (
            "depthwise", "vector", "hfa", "hfa_nested", "hfa_depthwise", "residual", "drain_table",
            "attention",
        )
    }  # fmt: skip
    unsupported, field = ErrorCode.UNSUPPORTED, ErrorCode.FIELD
    if kind is Load:
        return [
            (unsupported, (fields.space == Space.TABLE) & lacks["vector"]),
            (field, _zero(fields, "beats", "counts")),
        ]
    if kind is Store:
        return [(field, _zero(fields, "beats", "counts"))]
    if kind is Array:
        depthwise = fields.mode[0]  # DEPTHWISE and HFA_DEPTHWISE are the odd modes
        window = _zero(fields, "window_x", "window_y", "emit_x", "emit_y")
        return [
            (unsupported, depthwise & lacks["depthwise"]),
            (unsupported, (fields.mode >= ArrayMode.HFA) & lacks["hfa"]),
            (unsupported, (fields.mode == ArrayMode.HFA_DEPTHWISE) & lacks["hfa_depthwise"]),
            (unsupported, (fields.transform_t | fields.transform_s).any() & lacks["hfa"]),
            (unsupported, _nested(fields) & lacks["hfa_nested"]),
            (
                unsupported,
                (fields.weights_from_activation | fields.transpose_weights) & lacks["attention"],
            ),
            (field, _zero(fields, "counts") | (depthwise & window)),
        ]
    if kind is Drain:
        return [
            (unsupported, (fields.transform_t | fields.transform_s).any() & lacks["hfa"]),
            (unsupported, _nested(fields) & lacks["hfa_nested"]),
            (unsupported, fields.residual & lacks["residual"]),
            (unsupported, fields.table.any() & lacks["drain_table"]),
            (field, _zero(fields, "counts", "window") | _no_table(fields, config)),
        ]
    if kind is Elementwise:
        return [
            (unsupported, lacks["vector"]),
            (field, _zero(fields, "counts") | _no_table(fields, config)),
            (field, fields.op > ElementwiseOp.MIN),
        ]
    if kind is Reduce:
        return [
            (unsupported, lacks["vector"]),
            (field, _zero(fields, "counts", "window") | _no_table(fields, config)),
            (field, fields.op > ReduceOp.PACK),
        ]
    assert kind is Sfu, kind
    return [(unsupported, Const(1, 1))]


def _nested(fields: data.View) -> Value:
    """Whether both time and rows and columns are transformed."""
    return fields.transform_t.any() & fields.transform_s.any()


def _no_table(fields: data.View, config: AcceleratorConfig) -> Value:
    return fields.table > config.memory.tables


def _control_faults(
    kind: type[Encodable], fields: data.View, config: AcceleratorConfig
) -> list[tuple[ErrorCode, Value]]:
    """The same for instructions that the sequencer executes itself."""
    if kind is Begin:
        return [
            (ErrorCode.FINGERPRINT, fields.fingerprint != config.fingerprint),
            (ErrorCode.UNSUPPORTED, (fields.features & ~config.feature_mask & 0xFFFF).any()),
        ]
    if kind is Branch:
        return [(ErrorCode.FIELD, fields.condition > Condition.GREATER_EQUAL)]
    if kind is Scalar:
        return [(ErrorCode.ADDRESS, fields.lane >= config.lane_block)]
    return []


def faults(
    kind: type[Encodable], word: Signal, config: AcceleratorConfig
) -> list[tuple[ErrorCode, Value]]:
    """(code, condition) of an instruction of class `kind`, gravest first."""
    fields = view(kind, word)
    rest = _unit_faults if hasattr(kind, "UNIT") else _control_faults
    return [(ErrorCode.OPCODE, ~_ends_in_zeros(kind, word)), *rest(kind, fields, config)]
