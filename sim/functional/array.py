"""ARRAY: gathers and exact matrix products.

Products are made in float32: a centred activation has 9 bits and a weight 8, so every partial sum
over up to 512 products is an integer below 2^24, which float32 holds exactly (256 products where
weights are centred, too).
"""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt

from hw.arch.isa import ADDRESS_BITS, Array, ArrayMode, ErrorCode, deltas
from hw.arch.timing import array_blocks, array_outputs
from hw.arch.walk import array_masks, array_strides, offsets
from sim.functional.errors import UnitError
from sim.functional.hfa import accumulate
from sim.functional.state import Index, State

Float = npt.NDArray[np.float32]
EXACT_PRODUCTS = 512
"""Products of 9 by 8 bits whose sum float32 holds exactly: 512 · 255 · 128 < 2^24."""
EXACT_CENTRED = 256
"""The same of 9 by 9 bits, where weights have a zero point: 256 · 255 · 255 < 2^24."""
THREAD_LIMIT = 1 << 18
"""Products up to which OpenBLAS stays on the calling thread. Waking others for matrices as small
as a tile costs more than it gains, and very much more on a busy machine."""
ADDRESS_MASK = (1 << ADDRESS_BITS) - 1


@functools.lru_cache(maxsize=64)
def _taps(
    counts: tuple[int, ...],
    deltas: tuple[int, ...],
    starts: tuple[int, ...],
    steps: tuple[int, ...],
    dilations: tuple[int, ...],
    bounds: tuple[int, ...],
    mode: int,
) -> tuple[Index, npt.NDArray[np.bool_] | None]:
    """Row offsets [positions, taps] of a nest, and where they are inside (None: everywhere)."""
    shape = Array(
        mode=mode,
        counts=counts,
        deltas=deltas,
        starts=starts,
        steps=steps,
        dilations=dilations,
        bounds=bounds,
    )
    step = array_strides(shape)
    position = offsets(counts[:3], step[:3]).reshape(-1, 1)
    mx, my, mt = array_masks(shape)
    taps = counts[4:7]
    if mode == ArrayMode.HFA_DEPTHWISE:
        taps = mx.shape[0], my.shape[0], mt.shape[0]  # lines of a strip
    tap = offsets(taps, step[4:7]).reshape(1, -1)
    # Axes t, y, x, kt, ky, kx; the masks come as [tap, position].
    inside = (
        mt.T[:, None, None, :, None, None]
        & my.T[None, :, None, None, :, None]
        & mx.T[None, None, :, None, None, :]
    ).reshape(position.size, -1)
    return position + tap, None if inside.all() else inside


def _geometry(instruction: Array) -> tuple[Index, npt.NDArray[np.bool_] | None]:
    return _taps(
        instruction.counts,
        instruction.deltas,
        instruction.starts,
        instruction.steps,
        instruction.dilations,
        instruction.bounds,
        instruction.mode,
    )


def _centred(
    instruction: Array, state: State, row: Index, inside: npt.NDArray[np.bool_] | None
) -> Float:
    """Activations minus zero point, [*row.shape, L]; zero where not `inside`."""
    codes = state.activation.read_padded(row & ADDRESS_MASK, inside, instruction.zero_point)
    if instruction.signed:
        zero = (instruction.zero_point ^ 0x80) - 0x80
        codes = codes.view(np.int8)
    else:
        zero = instruction.zero_point
    return np.asarray(np.subtract(codes, np.float32(zero), dtype=np.float32))


def _weights(instruction: Array, state: State) -> npt.NDArray[np.int8]:
    """Weight blocks in order, [blocks, rows, cols]."""
    config = state.config
    if instruction.weight % config.weight_group_beats:
        raise UnitError(
            ErrorCode.ADDRESS,
            f"weight beat {instruction.weight} is not a multiple of {config.weight_group_beats}, "
            f"the beats loaded per cycle",
        )
    blocks = array_blocks(instruction)
    beats = instruction.weight + np.arange(blocks * config.weight_block_beats)
    taken = state.weight.read(beats)
    return np.asarray(
        taken.view(np.int8).reshape(blocks, config.array.rows, config.array.cols), np.int8
    )


def _centred_weights(
    instruction: Array, state: State
) -> npt.NDArray[np.int8] | npt.NDArray[np.int16]:
    """The same minus their zero point; s8 where they have none."""
    weights = _weights(instruction, state)
    if not instruction.weight_unsigned and not instruction.weight_zero_point:
        return weights
    codes = weights.view(np.uint8) if instruction.weight_unsigned else weights
    return codes.astype(np.int16) - np.int16(instruction.weight_zero_point)


def _product(vectors: Float, matrix: Float) -> Index:
    """Matrix product [n, k] by [k, m] in strips of rows that one thread does."""
    n, k = vectors.shape
    m = matrix.shape[1]
    strip = max(1, THREAD_LIMIT // (k * m))
    whole = n // strip * strip
    result = np.empty((n, m), np.float32)
    np.matmul(
        vectors[:whole].reshape(-1, strip, k), matrix, out=result[:whole].reshape(-1, strip, m)
    )
    if whole < n:
        np.matmul(vectors[whole:], matrix, out=result[whole:])
    return result.astype(np.int64)


def _gemm(instruction: Array, state: State) -> Index:
    """Sums of one instruction, [co · positions, cols]."""
    config = state.config
    rows, cols = config.array.rows, config.array.cols
    co, ci = instruction.counts[3], instruction.counts[7]
    step = array_strides(instruction)
    offset, inside = _geometry(instruction)
    positions, taps = offset.shape
    # [positions, ci · taps]: a weight block per column.
    nest = (offset[:, None, :] + (np.arange(ci) * step[7])[None, :, None]).reshape(positions, -1)
    nest = nest + instruction.activation
    mask = None if inside is None else np.tile(inside, (1, ci))
    weights = _centred_weights(instruction, state).reshape(ci * taps, co, rows, cols)
    total = np.zeros((co, positions, cols), np.int64)
    shared = step[3] == 0 or co == 1
    exact = (EXACT_PRODUCTS if weights.dtype == np.int8 else EXACT_CENTRED) // rows
    for first in range(0, ci * taps, exact):
        part = slice(first, first + exact)
        some = None if mask is None else mask[:, part]
        wide = weights[part].astype(np.float32)
        blocks = wide.shape[0]
        if shared:
            vectors = _centred(instruction, state, nest[:, part], some)
            matrix = wide.transpose(0, 2, 1, 3).reshape(blocks * rows, co * cols)
            sums = _product(vectors.reshape(positions, -1), matrix)
            total += sums.reshape(positions, co, cols).transpose(1, 0, 2)
            continue
        for block in range(co):
            vectors = _centred(instruction, state, nest[:, part] + block * step[3], some)
            matrix = wide[:, block].reshape(blocks * rows, cols)
            total[block] += _product(vectors.reshape(positions, -1), matrix)
    return total.reshape(-1, cols)


def _depthwise(instruction: Array, state: State) -> Index:
    """Sums of one instruction, [co · outputs, cols]; a window slides over whole frames."""
    config = state.config
    rows, cols = config.array.rows, config.array.cols
    x, y, t, co, _, ky, kt, ci = instruction.counts
    wx, wy, ex, ey = (
        instruction.window_x,
        instruction.window_y,
        instruction.emit_x,
        instruction.emit_y,
    )
    step = array_strides(instruction)
    if ky > 1 and step[5] != 0:
        raise UnitError(
            ErrorCode.FIELD,
            f"{ky} passes of a window with a stride of {step[5]} rows; they must stay on the same "
            f"pixels (the circuit does not check that)",
        )
    # Row offsets of whole frames, [t · y · x, kt]; one column per temporal tap.
    offset, inside = _geometry(_once(instruction))
    weights = _weights(instruction, state).reshape(ci, kt, ky, co, rows, cols)
    # [ci, kt, co, taps, cols]
    taps = weights.transpose(0, 1, 3, 2, 4, 5).reshape(ci, kt, co, ky * rows, cols)
    above = wy - 1 if instruction.resume else 0
    oy, ox = (y + above - wy) // ey + 1, (x - wx) // ex + 1
    entries = _line_entries(instruction, state)
    total = np.zeros((co, t, oy, ox, cols), np.int64)
    for i, k, block in np.ndindex(ci, kt, co):
        row = instruction.activation + offset[:, k] + i * step[7] + block * step[3]
        codes = _centred(instruction, state, row, None if inside is None else inside[:, k])
        frames = codes.reshape(t, y, x, rows)
        kernel = taps[i, k, block].astype(np.float32)
        if wy == 1:
            total[block] += _slide(frames, kernel, instruction)
            continue
        # Every pass streams the same pixels again; with `keep` it has line-buffer entries too.
        for tap_pass in range(ky):
            seen = _with_lines_above(instruction, state, frames, entries[i, k, tap_pass, block])
            some = np.zeros_like(kernel)
            part = slice(tap_pass * rows, (tap_pass + 1) * rows)
            some[part] = kernel[part]
            total[block] += _slide(seen[:, 2 - above :], some, instruction)
    return total.reshape(-1, cols)


def _depthwise_tiles(instruction: Array, state: State) -> Index:
    """Sums of one instruction, [co · outputs, cols]: what DEPTHWISE gives, in other steps."""
    x, y, t, co, _, ky, _, _ = instruction.counts
    config = state.config
    rows, cols = config.array.rows, config.array.cols
    # Positions t, strip, x and the line in a strip, [t · y · x, 2].
    offset, inside = _geometry(instruction)
    step = array_strides(instruction)
    taps = _weights(instruction, state).reshape(co, ky * rows, cols).astype(np.float32)
    window = Array(window_x=3, window_y=3)
    total = []
    for block in range(co):
        row = instruction.activation + offset + block * step[3]
        codes = _centred(instruction, state, row, inside)
        frames = codes.reshape(t, y, x, 2, rows).transpose(0, 1, 3, 2, 4).reshape(t, 2 * y, x, rows)
        results = _slide(frames, taps[block], window)
        total.append(results[:, : 2 * y - 1 - instruction.emit_y, : x - 1 - instruction.emit_x])
    return np.concatenate(total).reshape(-1, cols)


def _line_entries(instruction: Array, state: State) -> Index:
    """First line-buffer entry of every frame, [ci, kt, passes, co, t]."""
    x, _, t, co, _, ky, kt, ci = instruction.counts
    frames = np.arange(ci * kt * ky * co * t).reshape(ci, kt, ky, co, t)
    if not instruction.keep:
        return np.zeros_like(frames)
    if instruction.window_y > 1 and instruction.line + frames.size * x > state.lines.rows:
        raise UnitError(
            ErrorCode.ADDRESS,
            f"{frames.size} frames keep lines of {x} pixels from entry {instruction.line}; the "
            f"line buffer has {state.lines.rows} entries",
        )
    return np.asarray(instruction.line + x * frames, np.int64)


def _with_lines_above(instruction: Array, state: State, frames: Float, entries: Index) -> Float:
    """Frames [t, y, x, L] behind the two lines that the line buffer holds; it moves on.

    Without `keep` all frames have the same entries, and what remains is the last frame's.
    """
    t, _, x, lanes = frames.shape
    where = entries[:, None] + np.arange(x)
    above = np.zeros((t, 2, x, lanes), np.float32)
    if instruction.resume:
        above[:] = state.lines.read(where).transpose(0, 2, 1, 3)[:, ::-1]
    seen = np.concatenate([above, frames], axis=1)
    state.lines.write(where, seen[:, :-3:-1].transpose(0, 2, 1, 3))
    return seen


def _once(instruction: Array) -> Array:
    """The nest without window passes, which read the same pixels again."""
    x, y, t, co, _, _, kt, ci = instruction.counts
    step = array_strides(instruction)
    counts = (x, y, t, co, 1, 1, kt, ci)
    return Array(
        mode=ArrayMode.DEPTHWISE,
        counts=counts,
        deltas=deltas(counts, step),
        starts=instruction.starts,
        steps=instruction.steps,
        dilations=instruction.dilations,
        bounds=instruction.bounds,
    )


def _slide(frames: Float, taps: Float, instruction: Array) -> Index:
    """Correlate [t, y, x, L] with [taps, cols]; tap = wy·window_x + wx. Column c takes lane c."""
    wx, wy = instruction.window_x, instruction.window_y
    _, y, x, rows = frames.shape
    lanes = np.tile(frames, (1, 1, 1, taps.shape[1] // rows))
    total: Float | None = None
    for tap in range(wx * wy):
        if not taps[tap].any():
            continue
        dy, dx = divmod(tap, wx)
        columns = slice(dx, x - wx + dx + 1, instruction.emit_x)
        view = lanes[:, dy : y - wy + dy + 1 : instruction.emit_y, columns]
        product = view * taps[tap]
        total = product if total is None else np.add(total, product, out=total)
    if total is None:
        shape = ((y - wy) // instruction.emit_y + 1, (x - wx) // instruction.emit_x + 1)
        return np.zeros((frames.shape[0], *shape, taps.shape[1]), np.int64)
    return total.astype(np.int64)


def execute_array(instruction: Array, state: State) -> None:
    """Accumulate one ARRAY instruction.

    Raises
    ------
    UnitError
        ADDRESS outside a memory, FIELD for passes of a window over other pixels.
    """
    match ArrayMode(instruction.mode):
        case ArrayMode.GEMM:
            sums = _gemm(instruction, state)
        case ArrayMode.DEPTHWISE:
            sums = _depthwise(instruction, state)
        case ArrayMode.HFA:
            sums = accumulate(instruction, state)
        case ArrayMode.HFA_DEPTHWISE:
            sums = _depthwise_tiles(instruction, state)
    rows = instruction.accumulator + np.arange(array_outputs(instruction))
    assert rows.size == math.prod(sums.shape[:-1])
    if instruction.accumulate:
        sums = sums + state.accumulator.read(rows)
    state.accumulator.write(rows, state.wrap(sums))
