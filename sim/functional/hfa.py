"""Exact integer Winograd: what ARRAY HFA accumulates, and what DRAIN makes of it.

Everything is an integer below 2^53, so that float64 (and float32 where 24 bits do) is exact and
fast; transforms are Kronecker factors applied axis by axis, products one matrix per point.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ADDRESS_BITS, Array, Drain, ErrorCode, strides
from hw.arch.layout import unpack_transformed_weights
from hw.arch.timing import array_points, array_sets, drain_nest
from hw.arch.walk import array_masks, array_strides, array_weight_blocks, offsets
from hw.arch.winograd import Algorithm, Division
from sim.functional.errors import UnitError
from sim.functional.state import Index, State

Float = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]
THREAD_LIMIT = 1 << 18
"""Products up to which OpenBLAS stays on the calling thread (as sim/functional/array.py)."""
ADDRESS_MASK = (1 << ADDRESS_BITS) - 1
POINT_BITS = 53
"""A float64 holds integers of this magnitude."""


def _algorithm(instruction: Array | Drain) -> Algorithm:
    return Algorithm(instruction.transform_t, instruction.transform_s)


def check_array(instruction: Array, config: AcceleratorConfig) -> None:
    """Refuse a set of tiles that U does not hold.

    Raises
    ------
    UnitError
        ADDRESS.
    """
    rows = array_points(instruction) * math.prod(instruction.counts[:3])
    if rows > config.memory.transformed_rows:
        raise UnitError(
            ErrorCode.ADDRESS,
            f"{rows} points of a set of tiles; memory.transformed_rows is "
            f"{config.memory.transformed_rows}",
        )


@functools.lru_cache(maxsize=64)
def _pixels(
    counts: tuple[int, ...],
    deltas: tuple[int, ...],
    starts: tuple[int, ...],
    steps: tuple[int, ...],
    dilations: tuple[int, ...],
    bounds: tuple[int, ...],
    modes: tuple[int, int, int],
) -> tuple[Index, Mask | None]:
    """Row offsets [points, tiles, sets] of a nest, and where they are inside (None: everywhere)."""
    mode, transform_t, transform_s = modes
    shape = Array(
        mode=mode,
        transform_t=transform_t,
        transform_s=transform_s,
        counts=counts,
        deltas=deltas,
        starts=starts,
        steps=steps,
        dilations=dilations,
        bounds=bounds,
    )
    step = array_strides(shape)
    point_t, outer_t = (counts[6], 1) if transform_t else (1, counts[6])
    # Axes, outermost first: ci, kt outside, t, y, x, kt inside, ky, kx.
    nest = (*counts[4:6], point_t, *counts[:3], outer_t, counts[7])
    offset = offsets(nest, (*step[4:7], *step[:3], step[6], step[7]))
    mx, my, mt = array_masks(shape)
    inside = my.T[:, None, None, :, None] & mx.T[None, :, None, None, :]  # y, x, kt, ky, kx
    if transform_t:
        inside = mt.T[:, None, None, :, None, None] & inside[None]
    else:
        inside = mt[:, :, None, None, None, None, None] & inside[None, None]
    inside = np.broadcast_to(inside, offset.shape)
    flat = (outer_t * counts[7], math.prod(counts[:3]), -1)
    return (
        np.ascontiguousarray(offset.reshape(flat).transpose(2, 1, 0)),
        None if inside.all() else np.ascontiguousarray(inside.reshape(flat).transpose(2, 1, 0)),
    )


def _along(matrix: tuple[tuple[int, ...], ...], value: Float, outer: int) -> Float:
    """`matrix` along one axis of [outer, points, groups, lanes], in products for one thread."""
    rows = np.array(matrix, value.dtype)
    _, points, groups, lanes = value.shape
    result = np.empty((outer, len(rows), groups, lanes), value.dtype)
    np.matmul(rows, value.swapaxes(1, 2), out=result.swapaxes(1, 2))
    assert rows.shape[1] == points
    return result


def _compose(matrices: list[tuple[tuple[int, ...], ...]], value: Float) -> Float:
    """Matrices along t, y, x of [t·y·x, groups, lanes]; returns [t'·y'·x', groups, lanes]."""
    _, groups, lanes = value.shape
    sizes = [len(matrix[0]) for matrix in matrices]
    for axis in (2, 1, 0):
        if len(matrices[axis]) == sizes[axis] == 1:
            continue
        outer, inner = math.prod(sizes[:axis]), math.prod(sizes[axis + 1 :])
        shaped = value.reshape(outer, sizes[axis], inner * groups, lanes)
        value = _along(matrices[axis], shaped, outer)
        sizes[axis] = len(matrices[axis])
    return value.reshape(math.prod(sizes), groups, lanes)


def _activations(instruction: Array, state: State, chosen: Algorithm) -> Float:
    """Transformed activations [points, tiles, sets · L] as float32 (at most 17 bits)."""
    offset, inside = _pixels(
        instruction.counts,
        instruction.deltas,
        instruction.starts,
        instruction.steps,
        instruction.dilations,
        instruction.bounds,
        (instruction.mode, instruction.transform_t, instruction.transform_s),
    )
    row = (offset + instruction.activation) & ADDRESS_MASK
    codes = state.activation.read_padded(row, inside, instruction.zero_point)
    raw = codes.view(np.int8) if instruction.signed else (codes ^ 0x80).view(np.int8)
    points, tiles, _ = offset.shape
    value = raw.astype(np.float32).reshape(points, tiles, -1)
    return _compose([axis.input_rows for axis in chosen.axes], value)


def _weights(instruction: Array, state: State, chosen: Algorithm) -> Float:
    """Transformed weights [points, sets · rows, co · cols] as float32 (at most 16 bits)."""
    config = state.config
    if instruction.weight % config.weight_group_beats:
        raise UnitError(
            ErrorCode.ADDRESS,
            f"weight beat {instruction.weight} is not a multiple of {config.weight_group_beats}, "
            f"the beats loaded per cycle",
        )
    size = array_weight_blocks(instruction) * config.weight_block_beats
    data = state.weight.read(instruction.weight + np.arange(size)).reshape(-1)
    rows, cols = config.array.rows, config.array.cols
    lw = config.array.weight_rows_per_cycle
    pairs = unpack_transformed_weights(data, chosen.kernel, (rows, cols), lw)
    sets, co = array_sets(instruction), instruction.counts[3]
    taps = pairs.reshape(sets, co, -1, rows, cols).transpose(2, 0, 3, 1, 4).astype(np.float32)
    value = taps.reshape(-1, sets * rows, co * cols)
    return _compose([axis.weight_rows for axis in chosen.axes], value)


def accumulate(instruction: Array, state: State) -> Index:
    """Sums of one instruction in mode HFA, [co · points · tiles, cols].

    Raises
    ------
    UnitError
        ADDRESS.
    """
    check_array(instruction, state.config)
    chosen = _algorithm(instruction)
    vectors = _activations(instruction, state, chosen).astype(np.float64)
    matrix = _weights(instruction, state, chosen).astype(np.float64)
    points, tiles, depth = vectors.shape
    width = matrix.shape[2]
    total = np.zeros((points, tiles, width))
    strip = max(1, THREAD_LIMIT // (tiles * width))
    for first in range(0, depth, strip):
        part = slice(first, first + strip)
        total += np.matmul(vectors[:, :, part], matrix[:, part])
    sums = total.reshape(points, tiles, instruction.counts[3], -1).transpose(2, 0, 1, 3)
    return np.asarray(sums, np.int64).reshape(-1, state.config.array.cols)


def drained(instruction: Drain, state: State) -> Index:
    """Pooled results [co, x·y·t positions, cols] of a DRAIN with a transform, before the bias.

    Raises
    ------
    UnitError
        ADDRESS.
    """
    chosen = _algorithm(instruction)
    bits = state.config.memory.accumulator_bits
    nest = drain_nest(instruction)
    step = strides(nest, instruction.accumulator_deltas)
    px, py, pt, tx, ty, tt, co = nest
    row = instruction.accumulator + offsets(nest, step).reshape(co * tt * ty * tx, pt * py * px)
    products = state.accumulator.read(row.T).astype(np.float64)  # [points, tiles, cols]
    outputs = _compose([axis.output_rows for axis in chosen.axes], products).astype(np.int64)
    values = Division.by(chosen.scale, bits)(state.wrap(outputs))
    mt, my, mx = chosen.outputs
    wx, wy, wt = instruction.window
    x, y, t, _ = instruction.counts
    cols = state.config.array.cols
    tiled = values.reshape(mt, my, mx, co, tt, ty, tx, cols).transpose(3, 4, 0, 5, 1, 6, 2, 7)
    whole = tiled.reshape(co, tt * mt // wt, wt, ty * my // wy, wy, tx * mx // wx, wx, cols)
    pooled = whole.max(axis=(2, 4, 6))[:, :t, :y, :x]
    return np.asarray(pooled.reshape(co, -1, cols), np.int64)
