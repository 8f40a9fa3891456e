"""FOLD: rows to groups. Arithmetic in hw/arch/group_numerics.py."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hw.arch.fold_numerics import (
    DOT_LIMIT,
    DOT_SUM_LIMIT,
    NORM_SQUARES_WIDTH,
    NORM_SUM_WIDTH,
    SOFTMAX_SUM_WIDTH,
    dot_code,
    unpack_coefficients,
    unpack_exponentials,
)
from hw.arch.fold_walk import fold_produced, fold_second
from hw.arch.group_numerics import (
    EXPONENTIAL_BITS,
    norm_applied,
    norm_reciprocal,
    norm_standardized,
    softmax_applied,
    softmax_reciprocal,
)
from hw.arch.instructions.fold import SOFTMAX_TABLES
from hw.arch.isa import FIXED_POINT, ErrorCode, Fold, FoldOp
from hw.arch.nest import walked
from hw.arch.numerics import Int
from sim.functional.errors import UnitError, WidthError
from sim.functional.state import Bytes, State
from sim.functional.vector import check_ports, fixed, stored, values

Mask = npt.NDArray[np.bool_]

VARIANCE_WIDTH = 34
"""Of n·S2 − S1², if n is the number of elements."""
STANDARD_WIDTH = 22
"""Signed, of an element less its mean over the deviation, in units of 2^-16."""

EXPONENTIALS, SOFTMAX, SUMS, NORM = "exponentials", "a softmax", "sums", "a norm"
"""What an entry of the statistics may hold."""


def execute_fold(instruction: Fold, state: State) -> None:
    """Compute the rows, or the statistics, of one FOLD instruction.

    Raises
    ------
    UnitError
        ADDRESS; BANK_CONFLICT where both sources of a step lie in one bank; `WidthError` for
        sums that leave their widths.
    """
    match FoldOp(instruction.op):
        case FoldOp.DOT:
            _write_groups(instruction, state, _dot(instruction, state))
        case FoldOp.MAX:
            _write_groups(instruction, state, _maximum(instruction, state))
        case FoldOp.ARGMAX:
            _argmax(instruction, state)
        case FoldOp.SOFTMAX_COLLECT:
            _collect_softmax(instruction, state)
        case FoldOp.SOFTMAX_APPLY:
            _apply_softmax(instruction, state)
        case FoldOp.NORM_COLLECT:
            _collect_norm(instruction, state)
        case FoldOp.NORM_APPLY:
            _apply_norm(instruction, state)


def _counting(instruction: Fold, lanes: int) -> Mask:
    """Which lanes count, [n0, L]."""
    mask = np.ones((instruction.counts[0], lanes), np.bool_)
    if instruction.valid:
        mask[-1, instruction.valid :] = False
    return mask


def _first(instruction: Fold, state: State) -> Bytes:
    """Rows of source 0, [n3, n2, n1, n0, L]."""
    row = walked(instruction.source0, instruction.counts, instruction.source0_deltas)
    return np.asarray(state.activation.read(row), np.uint8)


def _second(instruction: Fold, state: State) -> Bytes:
    """Rows of source 1, which are read with those of source 0, [n3, n2, n1, n0, L]."""
    counts = fold_second(instruction)
    assert counts is not None
    row = walked(instruction.source1, counts, instruction.source1_deltas)
    first = walked(instruction.source0, counts, instruction.source0_deltas)
    read = np.asarray(state.activation.read(row), np.uint8)
    check_ports(first, row, state.config.memory.activation_bank_rows)
    return read


def _dot(instruction: Fold, state: State) -> Int:
    """Results per group and lane, [n3, n2, L]."""
    za, zb = instruction.zero_points
    a = values(_first(instruction, state), instruction.signed[0]) - za
    b = values(_second(instruction, state), instruction.signed[1]) - zb
    product = np.where(_counting(instruction, state.config.lane_block), a * b, 0)
    total = product.sum(axis=(2, 3))
    if instruction.lanes:
        total = np.repeat(total.sum(axis=-1, keepdims=True), total.shape[-1], axis=-1)
    scale = fixed(instruction.multiplier, instruction.shift)
    largest = int(np.abs(total).max())
    if largest > DOT_SUM_LIMIT or largest * int(scale) >= DOT_LIMIT << FIXED_POINT:
        raise WidthError(
            f"a scalar product of {largest} times {int(scale) / 2.0**FIXED_POINT:g}; sums are at "
            f"most {DOT_SUM_LIMIT}, results below {DOT_LIMIT}"
        )
    return dot_code(total, scale, instruction.zero_point, -256, 255 + 256)


def _maximum(instruction: Fold, state: State) -> Int:
    """The largest code of every group in all lanes, [n3, n2, L]."""
    code = values(_first(instruction, state), instruction.signed[0])
    lanes = state.config.lane_block
    largest = np.where(_counting(instruction, lanes), code, -256).max(axis=(2, 3, 4))
    return np.repeat(largest[..., None], lanes, axis=-1)


def _write_groups(instruction: Fold, state: State, result: Int) -> None:
    """Write a row per group, or (gather) the results of L groups as one."""
    lanes = state.config.lane_block
    codes = stored(result, instruction.low, instruction.high, instruction.table, state)
    if instruction.gather:
        n2, n3 = instruction.counts[2:]
        gathered = np.zeros((n3, -(-n2 // lanes) * lanes), np.uint8)
        gathered[:, :n2] = codes[:, :, 0]
        codes = gathered.reshape(n3, -1, lanes)
    _write(instruction, state, codes)


def _write(instruction: Fold, state: State, codes: Bytes) -> None:
    produced = fold_produced(instruction, state.config)
    assert produced is not None
    target = walked(instruction.destination, produced, instruction.destination_deltas)
    state.activation.write(target, codes.reshape(*target.shape, state.config.lane_block))


def _argmax(instruction: Fold, state: State) -> None:
    code = values(_first(instruction, state), instruction.signed[0])
    masked = np.where(_counting(instruction, state.config.lane_block), code, -256)
    index = masked.reshape(*masked.shape[:2], -1).argmax(axis=-1)  # the first among equals
    codes = np.zeros((*index.shape, state.config.lane_block), np.uint8)
    codes[..., 0], codes[..., 1] = index & 0xFF, index >> 8
    _write(instruction, state, codes)


def _exponentials(instruction: Fold, state: State) -> Int:
    """t of every element, 0 where a lane does not count, [n3, n2, n1, n0, L]."""
    difference = _second(instruction, state) - _first(instruction, state)  # modulo 256
    beats = state.config.table_beats
    first = (instruction.table - 1) * beats
    data = state.table.read(np.arange(first, first + SOFTMAX_TABLES * beats))
    table = unpack_exponentials(data)
    mask = _counting(instruction, state.config.lane_block)
    return np.where(mask, table[difference], 0)


def _collect(instruction: Fold, state: State, sums: Int, what: str) -> slice:
    """Add the sums of every group, [groups, 2], to their entries."""
    statistics = state.statistics
    entries = slice(instruction.entry, instruction.entry + len(sums))
    if instruction.first:
        statistics.sums[entries] = 0
    else:
        statistics.expect(entries, what)
    statistics.sums[entries] += sums
    statistics.hold(entries, what)
    return entries


def _check_sum(name: str, sums: Int, low: int, high: int) -> None:
    """Demand low <= sum < high."""
    least, largest = int(sums.min()), int(sums.max())
    if least < low or largest >= high:
        wrong = least if least < low else largest
        raise WidthError(f"{name} {wrong} is not within {low}..{high - 1}")


def _collect_softmax(instruction: Fold, state: State) -> None:
    total = _exponentials(instruction, state).sum(axis=(2, 3, 4)).reshape(-1, 1)
    entries = _collect(instruction, state, total * np.array([1, 0]), EXPONENTIALS)
    statistics = state.statistics
    sums = statistics.sums[entries, 0]
    _check_sum("a sum of exponentials", sums, 0, 1 << SOFTMAX_SUM_WIDTH)
    if instruction.last:
        _check_sum("a softmax whose sum", sums, 1 << EXPONENTIAL_BITS, 1 << SOFTMAX_SUM_WIDTH)
        found = softmax_reciprocal(sums, instruction.multiplier)
        statistics.reciprocal[entries], statistics.shift[entries] = found
        statistics.hold(entries, SOFTMAX)


def _apply_softmax(instruction: Fold, state: State) -> None:
    n2, n3 = instruction.counts[2:]
    entries = slice(instruction.entry, instruction.entry + n2 * n3)
    state.statistics.expect(entries, SOFTMAX)
    shape = (n3, n2, 1, 1, 1)
    value = softmax_applied(
        _exponentials(instruction, state),
        state.statistics.reciprocal[entries].reshape(shape),
        state.statistics.shift[entries].reshape(shape),
        instruction.zero_point,
        instruction.low,
        instruction.high,
    )
    _write(instruction, state, value.astype(np.uint8))


def _collect_norm(instruction: Fold, state: State) -> None:
    code = values(_first(instruction, state), instruction.signed[0])
    counted = np.where(_counting(instruction, state.config.lane_block), code, 0)
    sums = np.stack([counted.sum(axis=(2, 3, 4)), (counted**2).sum(axis=(2, 3, 4))], axis=-1)
    entries = _collect(instruction, state, sums.reshape(-1, 2), SUMS)
    statistics = state.statistics
    total, squares = statistics.sums[entries].T
    half = 1 << NORM_SUM_WIDTH - 1
    _check_sum("a sum of elements", total, 1 - half, half)
    _check_sum("a sum of squares", squares, 0, 1 << NORM_SQUARES_WIDTH)
    if instruction.last:
        variance = instruction.elements * squares - total * total
        _check_sum("n times a sum of squares less a squared sum", variance, 0, 1 << VARIANCE_WIDTH)
        found = norm_reciprocal(
            total, squares, instruction.elements, instruction.epsilon, instruction.multiplier
        )
        statistics.reciprocal[entries], statistics.shift[entries] = found
        statistics.hold(entries, NORM)


def _check_banks(instruction: Fold, coefficients: Int, bank_rows: int) -> None:
    """Coefficients are read while elements are, some cycles apart: they lie in other banks."""
    row = walked(instruction.source0, instruction.counts, instruction.source0_deltas)
    shared = np.intersect1d(row // bank_rows, coefficients // bank_rows)
    if shared.size:
        raise UnitError(
            ErrorCode.BANK_CONFLICT,
            f"elements and coefficients of a norm both lie in bank {int(shared[0])}",
        )


def _apply_norm(instruction: Fold, state: State) -> None:
    entries = slice(instruction.entry, instruction.entry + instruction.counts[0])
    statistics = state.statistics
    statistics.expect(entries, NORM)
    counts = fold_second(instruction)
    assert counts is not None
    row = walked(instruction.source1, counts, instruction.source1_deltas)
    _check_banks(instruction, row, state.config.memory.activation_bank_rows)
    gain, offset = unpack_coefficients(state.activation.read(row))  # [n3, n2, n1, L]
    code = values(_first(instruction, state), instruction.signed[0])
    unit = norm_standardized(
        instruction.elements * code - statistics.sums[entries, 0][:, None],
        statistics.reciprocal[entries][:, None],
        statistics.shift[entries][:, None],
    )
    limit = 1 << STANDARD_WIDTH - 1
    # What a lane without a channel holds does not matter, since its gain is 0.
    _check_sum("a standardized element", unit * (gain[..., None, :] != 0), -limit, limit)
    value = norm_applied(
        unit,
        gain[..., None, :],
        offset[..., None, :],
        instruction.coefficient_shift,
        instruction.zero_point,
        instruction.low,
        instruction.high,
    )
    codes = stored(value, instruction.low, instruction.high, instruction.table, state)
    _write(instruction, state, codes)
