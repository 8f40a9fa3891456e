"""ELEMENTWISE and REDUCE: rows to rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.arch.isa import (
    ADDRESS_BITS,
    FIXED_POINT,
    Elementwise,
    ElementwiseOp,
    ErrorCode,
    Reduce,
    ReduceOp,
)
from hw.arch.nest import walked
from hw.arch.numerics import Int, round24, round_half_even
from hw.arch.walk import elementwise_produced, reduce_masks, two_sources
from sim.functional.errors import UnitError
from sim.functional.state import Bytes, Index, State

ADDRESS_MASK = (1 << ADDRESS_BITS) - 1


def values(codes: npt.NDArray[Any], signed: int) -> Int:
    """Bytes as codes, s8 or u8."""
    return (codes.view(np.int8) if signed else codes).astype(np.int64)


def _signed9(field: int) -> int:
    """Low nine bits of a field, two's complement."""
    value = field & 0x1FF
    return value - 0x200 if value >> 8 else value


def fixed(significand: int, shift: int) -> np.int64:
    """Significand · 2^shift in the unit's 64-bit arithmetic."""
    word = (significand << shift) & ((1 << 64) - 1)
    return np.int64(word - (1 << 64) if word >> 63 else word)


def _rint(value: Int) -> Int:
    """Fixed point to integer, half to even."""
    rounded = round_half_even(np.abs(value), FIXED_POINT)
    return np.asarray(np.where(value < 0, -rounded, rounded), np.int64)


def _compute(instruction: Elementwise, a: Int, b: Int | None) -> Int:
    """One value per element, before the clamp."""
    op = ElementwiseOp(instruction.op)
    if op == ElementwiseOp.COPY:
        return a
    assert b is not None
    scale_b = fixed(instruction.multiplier_b, instruction.shift_b)
    if instruction.negative_b:
        scale_b = -scale_b
    if op == ElementwiseOp.PRODUCT:
        za, zb = _signed9(instruction.multiplier_a), _signed9(instruction.constant)
        scaled = round24((a - za) * (b - zb) * scale_b)
        return _rint(round24(scaled + (instruction.zero_point << FIXED_POINT)))
    if op == ElementwiseOp.AFFINE:
        scale_a = fixed(instruction.multiplier_a, instruction.shift_a)
        second = round24(b * scale_b + fixed(instruction.constant, instruction.shift_k))
        return _rint(round24(a * scale_a + second)) + instruction.zero_point
    choose = np.maximum if op == ElementwiseOp.MAX else np.minimum
    return np.asarray(choose(a, b) + instruction.zero_point, np.int64)


def check_ports(first: Index, second: Index, bank_rows: int) -> None:
    """Two rows are read in one cycle: they must lie in different banks."""
    same = first // bank_rows == second // bank_rows
    if same.any():
        at = tuple(np.argwhere(same)[0])
        raise UnitError(
            ErrorCode.BANK_CONFLICT,
            f"sources {int(first[at])} and {int(second[at])} lie in one bank of {bank_rows} rows",
        )


def stored(value: Int, low: int, high: int, table: int, state: State) -> Bytes:
    """Clamp, and look up in a table."""
    return state.look_up(table, np.clip(value, low, high).astype(np.uint8))


def execute_elementwise(instruction: Elementwise, state: State) -> None:
    """Compute the rows of one ELEMENTWISE instruction.

    Raises
    ------
    UnitError
        ADDRESS, or BANK_CONFLICT where both sources of a step lie in one bank.
    """
    counts = instruction.counts
    first = walked(instruction.source0, counts, instruction.source0_deltas)
    codes = state.activation.read(first)
    a = values(codes, instruction.signed[0])
    b: Int | None = None
    if instruction.previous:
        a, b = a[..., 1:, :], values(codes[..., :-1, :], instruction.signed[1])
    elif two_sources(instruction):
        second = walked(instruction.source1, counts, instruction.source1_deltas)
        other = state.activation.read(second)
        check_ports(first, second, state.config.memory.activation_bank_rows)
        if instruction.spread:
            other = np.repeat(other[..., [instruction.lane]], other.shape[-1], axis=-1)
        b = values(other, instruction.signed[1])
    out = elementwise_produced(instruction)
    target = walked(instruction.destination, out, instruction.destination_deltas)
    value = _compute(instruction, a, b)
    state.activation.write(
        target,
        stored(value, instruction.low, instruction.high, instruction.table, state),
    )


def windows_inside(instruction: Reduce) -> npt.NDArray[np.bool_]:
    """Which rows are read and not clipped: axes n3, n2, n1, n0, r2, r1, r0."""
    mx, my, mt = reduce_masks(instruction)  # [window, position] each
    whole = (
        mt.T[:, None, None, :, None, None]
        & my.T[None, :, None, None, :, None]
        & mx.T[None, None, :, None, None, :]
    )
    return np.broadcast_to(whole, (instruction.counts[3], *whole.shape))


def _windows(instruction: Reduce, state: State) -> tuple[Bytes, npt.NDArray[np.bool_]]:
    """Bytes [n, window, L] with `pad` outside, and the inside mask [n, window]."""
    counts = (*instruction.window, *instruction.counts)
    size = math.prod(instruction.window)
    inside = windows_inside(instruction).reshape(-1, size)
    row = walked(instruction.source, counts, instruction.source_deltas) & ADDRESS_MASK
    return state.activation.read_padded(row.reshape(-1, size), inside, instruction.pad), inside


def execute_reduce(instruction: Reduce, state: State) -> None:
    """Compute the rows of one REDUCE instruction.

    Raises
    ------
    UnitError
        ADDRESS, or FIELD for a window without a row inside.
    """
    codes, inside = _windows(instruction, state)
    lanes = state.config.lane_block
    match ReduceOp(instruction.op):
        case ReduceOp.MAX:
            if not inside.any(axis=1).all():
                raise UnitError(ErrorCode.FIELD, "a maximum over a window that lies outside")
            outside = np.int64(-256)
            value = np.where(inside[:, :, None], values(codes, instruction.signed), outside).max(
                axis=1
            )
        case ReduceOp.SUM:
            pad = (
                (instruction.pad ^ 0x80) - 0x80 if instruction.signed else instruction.pad
            )  # outside rows hold `pad` and add nothing
            total = (values(codes, instruction.signed) - pad).sum(axis=1)
            scaled = round24(total * fixed(instruction.multiplier, instruction.shift))
            if instruction.add_first:
                value = _rint(round24(scaled + (instruction.zero_point << FIXED_POINT)))
            else:
                value = _rint(scaled) + instruction.zero_point
        case ReduceOp.PACK:
            value = values(_packed(instruction, codes, lanes), instruction.signed)
    target = walked(instruction.destination, instruction.counts, instruction.destination_deltas)
    state.activation.write(
        target.reshape(-1),
        stored(value, instruction.low, instruction.high, instruction.table, state),
    )


def _packed(instruction: Reduce, codes: Bytes, lanes: int) -> Bytes:
    """Lanes 0..pack_lanes of every row of a window, side by side, [n, L]."""
    size, width = codes.shape[1], instruction.pack_lanes
    if not 1 <= width * size <= lanes:
        raise UnitError(
            ErrorCode.FIELD, f"packs {size} rows of {width} lanes into a row of {lanes} lanes"
        )
    result = np.full((codes.shape[0], lanes), instruction.pad, np.uint8)
    result[:, : size * width] = codes[:, :, :width].reshape(codes.shape[0], -1)
    return result
