"""What an instruction touches: its addresses, expanded from counts and deltas.

The functional simulator gathers with these arrays; the compiler and the hazard checker use the
`Access` list of an instruction to place dependency tokens and to prove them sufficient.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hw.arch.config import AcceleratorConfig
from hw.arch.fold_walk import fold_accesses, fold_produced, permute_accesses, permute_produced
from hw.arch.isa import (
    ADDRESS_BITS,
    Array,
    ArrayMode,
    Drain,
    Elementwise,
    ElementwiseOp,
    Fold,
    Load,
    Permute,
    Reduce,
    Scalar,
    Space,
    Store,
    UnitInstruction,
    strides,
)
from hw.arch.nest import Access as Access
from hw.arch.nest import Memory as Memory
from hw.arch.nest import ends, inside, interval, rows
from hw.arch.nest import offsets as offsets
from hw.arch.timing import (
    STRIP_LINES,
    array_blocks,
    array_outputs,
    array_sets,
    drain_nest,
    drain_transforms,
)
from hw.arch.winograd import Algorithm
from hw.arch.winograd_matrices import TRANSFORMS

SPACE_MEMORY = {
    Space.ACTIVATION: Memory.ACTIVATION,
    Space.WEIGHT: Memory.WEIGHT,
    Space.PARAMETER: Memory.PARAMETER,
    Space.TABLE: Memory.TABLE,
}


Window: TypeAlias = tuple[int, int, int, int, int, int]
"""Taps along an axis, clipped at a tensor's borders: `inside`'s arguments."""


@functools.lru_cache(maxsize=4096)
def _clipped_span(stride: int, tap_stride: int, window: Window) -> tuple[int, int] | None:
    """Least and greatest offset of what is inside; None where nothing is."""
    _, _, count, _, taps, _ = window
    offset = offsets((count, taps), (stride, tap_stride))[inside(*window)]
    return (int(offset.min()), int(offset.max())) if offset.size else None


Spread: TypeAlias = tuple[int, int]
"""Least and greatest offset of a nest."""


def _clipped_spread(
    plain: Sequence[tuple[int, int]], clipped: Sequence[tuple[int, int, Window]]
) -> Spread | None:
    """Of a nest of which three coordinates are clipped; None where nothing is inside.

    `plain` are (count, stride); `clipped` are (stride, tap stride, window).
    """
    low, high = interval(0, [c for c, _ in plain], [s for _, s in plain])
    for stride, tap_stride, window in clipped:
        span = _clipped_span(stride, tap_stride, window)
        if span is None:
            return None
        low += span[0]
        high += span[1]
    return low, high


def _clipped_rows(base: int, spread: Spread) -> Access:
    """Activation rows that are read from `base` on."""
    low, high = base + spread[0], base + spread[1]
    wraps = low >> ADDRESS_BITS << ADDRESS_BITS  # a first position before row 0 is stored modulo
    return Access(Memory.ACTIVATION, low - wraps, high - wraps, False)


def bank_rows(memory: Memory, config: AcceleratorConfig) -> int | None:
    """Rows (or beats) of a bank; None of a memory whose ports are never shared.

    Of the activation and the weight scratchpad each bank has a read and a write port with one
    owner at a time; a bank of accumulators belongs to ARRAY or to DRAIN.
    """
    match memory:
        case Memory.ACTIVATION:
            return config.memory.activation_bank_rows
        case Memory.WEIGHT:
            return config.weight_bank_beats
        case Memory.ACCUMULATOR:
            return config.memory.accumulator_rows
        case _:
            return None


def transformed_nest(counts: Sequence[int], transform_t: int) -> tuple[int, ...]:
    """Counts of the nest that ARRAY HFA walks: kx, ky, kt inside, x, y, t, kt outside, ci.

    Parameters
    ----------
    counts: of the instruction (x, y, t, co, kx, ky, kt, ci).
    transform_t: of the instruction; chooses which kt it is.
    """
    x, y, t, _, kx, ky, kt, ci = counts
    inside, outside = (kt, 1) if transform_t else (1, kt)
    return (kx, ky, inside, x, y, t, outside, ci)


def array_transforms(instruction: Array) -> tuple[int, int, int]:
    """Indices into winograd.TRANSFORMS for x, y, t; 0 (direct) in other modes than HFA."""
    if instruction.mode != ArrayMode.HFA:
        return 0, 0, 0
    return instruction.transform_s, instruction.transform_s, instruction.transform_t


def array_strides(instruction: Array) -> tuple[int, ...]:
    """Strides in rows for x, y, t, co, kx, ky, kt, ci.

    HFA_DEPTHWISE: ky is the line in a strip.
    """
    if instruction.mode == ArrayMode.HFA_DEPTHWISE:
        x, y, t, co = instruction.counts[:4]
        walked = (STRIP_LINES, x, y, t, co, 1, 1, 1)
        line, x, y, t, co, *_ = strides(walked, instruction.deltas)
        return x, y, t, co, 0, line, 0, 0
    if instruction.mode != ArrayMode.HFA:
        return strides(instruction.counts, instruction.deltas)
    nest = transformed_nest(instruction.counts, instruction.transform_t)
    kx, ky, inside, x, y, t, outside, ci = strides(nest, instruction.deltas)
    return x, y, t, 0, kx, ky, inside if instruction.transform_t else outside, ci


def array_masks(instruction: Array) -> list[npt.NDArray[np.bool_]]:
    """For x, y, t: [taps, positions] whether the position lies inside the tensor; read-only.

    On a transformed axis: [pixels, tiles]; HFA_DEPTHWISE, y: [lines, strips].
    """
    return [inside(*window) for window in _array_windows(instruction)]


def _array_windows(instruction: Array) -> list[Window]:
    """For x, y, t."""
    taps = list(instruction.counts[4:7])
    if instruction.mode == ArrayMode.DEPTHWISE:
        taps[0] = taps[1] = 1  # kx, ky are window passes; the window lies in the stream
    steps = list(instruction.steps)
    if instruction.mode == ArrayMode.HFA_DEPTHWISE:
        taps[1] = steps[1] = STRIP_LINES  # y are strips, their lines take the place of ky
    windows = []
    for d, transform in enumerate(array_transforms(instruction)):
        dilation = instruction.dilations[d]
        step = TRANSFORMS[transform].outputs * dilation if transform else steps[d]
        start, count, bound = instruction.starts[d], instruction.counts[d], instruction.bounds[d]
        windows.append((start, step, count, dilation, taps[d], bound))
    return windows


def array_weight_blocks(instruction: Array) -> int:
    """Weight blocks (rows × cols bytes) that an ARRAY instruction reads; HFA: of int8 taps."""
    if instruction.mode != ArrayMode.HFA:
        return array_blocks(instruction)
    taps = math.prod(Algorithm(instruction.transform_t, instruction.transform_s).kernel)
    return array_sets(instruction) * instruction.counts[3] * taps


@functools.lru_cache(maxsize=1 << 14)
def _array_spread(
    mode: int,
    transforms: tuple[int, int],
    counts: tuple[int, ...],
    deltas: tuple[int, ...],
    windows: tuple[tuple[int, ...], ...],
) -> Spread | None:
    """Of the rows that an ARRAY reads: the strips of a layer differ in little but their places."""
    starts, steps, dilations, bounds = windows
    shape = Array(
        mode=mode, transform_t=transforms[0], transform_s=transforms[1], counts=counts,
        deltas=deltas, starts=starts, steps=steps, dilations=dilations, bounds=bounds,
    )  # fmt: skip
    step = array_strides(shape)
    clipped = [
        (step[d], step[4 + d] if window[4] > 1 else 0, window)
        for d, window in enumerate(_array_windows(shape))
    ]
    return _clipped_spread([(counts[3], step[3]), (counts[7], step[7])], clipped)


def _array(instruction: Array, config: AcceleratorConfig) -> Iterator[Access]:
    found = _array_spread(
        instruction.mode,
        (instruction.transform_t, instruction.transform_s),
        instruction.counts,
        instruction.deltas,
        (instruction.starts, instruction.steps, instruction.dilations, instruction.bounds),
    )
    if found is not None:
        yield _clipped_rows(instruction.activation, found)
    size = array_weight_blocks(instruction) * config.weight_block_beats
    yield Access(Memory.WEIGHT, instruction.weight, instruction.weight + size - 1, False)
    last = instruction.accumulator + array_outputs(instruction) - 1
    yield Access(Memory.ACCUMULATOR, instruction.accumulator, last, True)


def drain_strides(instruction: Drain, config: AcceleratorConfig) -> tuple[int, ...]:
    """Strides in scratchpad rows for block, x, y, t, co of a DRAIN's results."""
    if drain_transforms(instruction):
        return instruction.destination_deltas
    out = (config.array.blocks_per_row, *instruction.counts)
    return strides(out, instruction.destination_deltas)


def _drain(instruction: Drain, config: AcceleratorConfig) -> Iterator[Access]:
    nest = drain_nest(instruction)
    yield Access(
        Memory.ACCUMULATOR,
        *ends(instruction.accumulator, nest, instruction.accumulator_deltas),
        False,
    )
    size = instruction.counts[3] * config.requantize_steps * config.parameter_row_beats
    yield Access(Memory.PARAMETER, instruction.parameter, instruction.parameter + size - 1, False)
    out = (config.array.blocks_per_row, *instruction.counts)
    step = drain_strides(instruction, config)
    yield Access(Memory.ACTIVATION, *interval(instruction.destination, out, step), True)


def _table(field: int, config: AcceleratorConfig) -> Access:
    low = (field - 1) * config.table_beats
    return Access(Memory.TABLE, low, low + config.table_beats - 1, False)


def elementwise_produced(instruction: Elementwise) -> tuple[int, ...]:
    """Counts of the rows that are produced (`previous` swallows one per innermost run)."""
    counts = instruction.counts
    return (counts[0] - 1, *counts[1:]) if instruction.previous else counts


def vector_produced(
    instruction: Elementwise | Reduce | Fold | Permute, config: AcceleratorConfig
) -> tuple[int, ...] | None:
    """Nest of the rows that VECTOR writes into the activation scratchpad.

    None of a collecting FOLD, and of a PERMUTE into the weight memory.
    """
    match instruction:
        case Elementwise():
            return elementwise_produced(instruction)
        case Reduce():
            return instruction.counts
        case Fold():
            return fold_produced(instruction, config)
        case Permute():
            return None if instruction.space else permute_produced(instruction, config)


def two_sources(instruction: Elementwise) -> bool:
    """Whether source 1 is read from the scratchpad."""
    return instruction.op != ElementwiseOp.COPY and not instruction.previous


def _elementwise(instruction: Elementwise, config: AcceleratorConfig) -> Iterator[Access]:
    counts = instruction.counts
    yield rows(instruction.source0, counts, instruction.source0_deltas, False)
    if two_sources(instruction):
        yield rows(instruction.source1, counts, instruction.source1_deltas, False)
    if instruction.table:
        yield _table(instruction.table, config)
    out = elementwise_produced(instruction)
    if out[0]:
        yield rows(instruction.destination, out, instruction.destination_deltas, True)


def reduce_masks(instruction: Reduce) -> list[npt.NDArray[np.bool_]]:
    """For x, y, t: [window, positions] whether the position lies inside the tensor; read-only."""
    return [inside(*window) for window in _reduce_windows(instruction)]


def _reduce_windows(instruction: Reduce) -> list[Window]:
    """For x, y, t."""
    return [
        (
            instruction.starts[d],
            instruction.steps[d],
            instruction.counts[d],
            1,
            instruction.window[d],
            instruction.bounds[d],
        )
        for d in range(3)
    ]


def _reduce(instruction: Reduce, config: AcceleratorConfig) -> Iterator[Access]:
    counts = (*instruction.window, *instruction.counts)
    step = strides(counts, instruction.source_deltas)
    clipped = [
        (step[3 + d], step[d], window) for d, window in enumerate(_reduce_windows(instruction))
    ]
    found = _clipped_spread([(counts[6], step[6])], clipped)
    if found is not None:
        yield _clipped_rows(instruction.source, found)
    if instruction.table:
        yield _table(instruction.table, config)
    yield rows(instruction.destination, instruction.counts, instruction.destination_deltas, True)


def _transfer(instruction: Load | Store, config: AcceleratorConfig) -> Iterator[Access]:
    space = instruction.space if isinstance(instruction, Load) else Space.ACTIVATION
    counts = instruction.counts
    low, high = ends(instruction.local, counts, instruction.local_deltas)
    local = (SPACE_MEMORY[Space(space)], low, high + instruction.beats - 1)
    first, last = ends(instruction.dram, counts, instruction.dram_deltas)
    dram = (Memory.DRAM, first, last + instruction.beats * config.port.bytes - 1)
    load = isinstance(instruction, Load)
    yield Access(*dram, not load)
    yield Access(*local, load)


def accesses(instruction: UnitInstruction | Scalar, config: AcceleratorConfig) -> list[Access]:
    """Everything that an instruction reads and writes, register fields taken as zero."""
    match instruction:
        case Load() | Store():
            return list(_transfer(instruction, config))
        case Array():
            return list(_array(instruction, config))
        case Drain():
            return list(_drain(instruction, config))
        case Elementwise():
            return list(_elementwise(instruction, config))
        case Reduce():
            return list(_reduce(instruction, config))
        case Fold():
            return list(fold_accesses(instruction, config))
        case Permute():
            return list(permute_accesses(instruction, config))
        case Scalar():
            return [Access(Memory.ACTIVATION, instruction.row, instruction.row, False)]


def array_positions(instruction: Array) -> int:
    """Vectors streamed per weight block."""
    return math.prod(instruction.counts[:3])
