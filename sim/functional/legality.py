"""What the sequencer refuses to dispatch, whatever the data: the rules of hw/control/decode.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    Array,
    ArrayMode,
    Drain,
    Elementwise,
    ElementwiseOp,
    ErrorCode,
    Load,
    Reduce,
    ReduceOp,
    Scalar,
    Sfu,
    Space,
    Store,
    UnitInstruction,
)
from sim.functional.errors import UnitError


def required_features(instruction: UnitInstruction) -> tuple[str, ...]:
    """Features (config.FEATURES) without which the circuit does not execute an instruction."""
    match instruction:
        case Load():
            return ("vector",) if instruction.space == Space.TABLE else ()
        case Store():
            return ()
        case Array():
            return tuple(_array_features(instruction))
        case Drain():
            return tuple(_drain_features(instruction))
        case Elementwise() | Reduce():
            return ("vector",)
        case Sfu():
            return ("sfu",)
        case _:
            assert_never(instruction)


def _array_features(instruction: Array) -> Iterator[str]:
    if instruction.mode in (ArrayMode.DEPTHWISE, ArrayMode.HFA_DEPTHWISE):
        yield "depthwise"
    if instruction.mode == ArrayMode.HFA_DEPTHWISE:
        yield "hfa_depthwise"
    if instruction.mode >= ArrayMode.HFA or instruction.transform_t or instruction.transform_s:
        yield "hfa"
    if instruction.transform_t and instruction.transform_s:
        yield "hfa_nested"
    if instruction.weights_from_activation or instruction.transpose_weights:
        yield "attention"


def _drain_features(instruction: Drain) -> Iterator[str]:
    if instruction.transform_t or instruction.transform_s:
        yield "hfa"
    if instruction.transform_t and instruction.transform_s:
        yield "hfa_nested"
    if instruction.residual:
        yield "residual"
    if instruction.table:
        yield "drain_table"


def check_features(instruction: UnitInstruction, config: AcceleratorConfig) -> None:
    """Refuse what the circuit does not have.

    Raises
    ------
    UnitError
        UNSUPPORTED.
    """
    for feature in required_features(instruction):
        if feature not in config.features:
            raise UnitError(
                ErrorCode.UNSUPPORTED,
                f"{instruction.OPCODE.name} needs the feature {feature!r}; configuration "
                f"{config.name!r} has {', '.join(config.features)}",
            )


def check_fields(instruction: UnitInstruction | Scalar, config: AcceleratorConfig) -> None:
    """Refuse field values that mean nothing.

    Raises
    ------
    UnitError
        FIELD; ADDRESS for a lane that does not exist.
    """
    match instruction:
        case Load() | Store():
            _positive(beats=(instruction.beats,), counts=instruction.counts)
        case Array():
            _positive(counts=instruction.counts)
            if instruction.mode in (ArrayMode.DEPTHWISE, ArrayMode.HFA_DEPTHWISE):
                _positive(
                    window=(instruction.window_x, instruction.window_y),
                    emit=(instruction.emit_x, instruction.emit_y),
                )
        case Drain():
            _positive(counts=instruction.counts, window=instruction.window)
            _table(instruction.table, config)
        case Elementwise():
            _positive(counts=instruction.counts)
            _table(instruction.table, config)
            _operation(instruction.op, ElementwiseOp.MIN)
        case Reduce():
            _positive(counts=instruction.counts, window=instruction.window)
            _table(instruction.table, config)
            _operation(instruction.op, ReduceOp.PACK)
        case Sfu():
            _positive(counts=instruction.counts)
        case Scalar():
            if instruction.lane >= config.lane_block:
                raise UnitError(
                    ErrorCode.ADDRESS,
                    f"lane {instruction.lane} of a row of {config.lane_block} lanes",
                )
        case _:
            assert_never(instruction)


def _positive(**fields: tuple[int, ...]) -> None:
    for name, values in fields.items():
        if min(values) < 1:
            raise UnitError(ErrorCode.FIELD, f"{name} = {values}; each is at least 1")


def _table(field: int, config: AcceleratorConfig) -> None:
    if field > config.memory.tables:
        raise UnitError(
            ErrorCode.FIELD, f"table {field} of {config.memory.tables} (0 stands for none)"
        )


def _operation(number: int, last: int) -> None:
    if number > last:
        raise UnitError(ErrorCode.FIELD, f"operation {number}; the last one is {int(last)}")
