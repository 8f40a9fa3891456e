"""ARRAY and DRAIN of one accumulator tile: which fields a box of results takes.

The only place that knows how a layer's window, strides and transform become instruction fields.
Whoever schedules (one layer after another, or several fused on chip) says where operand and result
lie (`Place`), which results are wanted (`Part`), and what is computed (`Kernel`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from compiler.emit.transfers import row_field
from compiler.tile.geometry import Axis, Range, Triple, product
from compiler.tile.parts import DIRECT, Part, outputs_of, points_of, tiles_of
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, Drain, deltas
from hw.arch.layout import pack_transformed_weights
from hw.arch.winograd import Algorithm


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a box of a tensor lies in the scratchpad.

    Attributes
    ----------
    row: of element `first` in block 0 of the place.
    first, size: the box, x, y, t.
    pitches: rows between neighbours along x, y, t and between blocks.
    """

    row: int
    first: Triple
    size: Triple
    pitches: tuple[int, int, int, int]

    def at(self, coordinates: Sequence[int]) -> int:
        """Row of an element of block 0; it may lie outside the box (and below row 0)."""
        return self.row + sum(
            (c - f) * p for c, f, p in zip(coordinates, self.first, self.pitches[:3], strict=True)
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Kernel:
    """What a layer computes, the same for each of its tiles.

    Attributes
    ----------
    axes: x, y, t as the array sees them.
    signed, zero_point: of the source.
    out_zero_point, low, high: of the result.
    algorithm: transform; `DIRECT` for mode GEMM.
    """

    axes: tuple[Axis, Axis, Axis]
    signed: bool
    zero_point: int
    out_zero_point: int
    low: int
    high: int
    algorithm: Algorithm = DIRECT

    @property
    def pools(self) -> Triple:
        """Pool window along x, y, t."""
        return self.axes[0].pool, self.axes[1].pool, self.axes[2].pool

    @property
    def taps(self) -> int:
        """Taps of the window, transformed or not."""
        return product([axis.kernel for axis in self.axes])


def weight_bytes(
    weights: npt.NDArray[np.int8], algorithm: Algorithm, config: AcceleratorConfig
) -> bytes:
    """Weights in the order in which one ARRAY instruction consumes them.

    Direct: a block of rows × cols per tap and output block. Transformed: groups of LW rows, each
    with the taps of its transformed axes one after another (the array transforms them on chip).

    Parameters
    ----------
    weights: int8 [output blocks, input blocks, kt, ky, kx, rows, cols].
    algorithm, config: of the instruction.
    """
    if algorithm == DIRECT:
        return np.ascontiguousarray(weights.transpose(1, 2, 3, 4, 0, 5, 6)).tobytes()
    taps = weights.shape[2:5]
    if algorithm.temporal:
        pairs = weights.transpose(1, 0, 2, 3, 4, 5, 6).reshape(-1, *weights.shape[2:])
    else:
        # Every tap along time is a set of its own.
        pairs = weights.transpose(1, 2, 0, 3, 4, 5, 6).reshape(-1, 1, *taps[1:], *weights.shape[5:])
    return pack_transformed_weights(pairs, config.array.weight_rows_per_cycle).tobytes()


def array_instruction(
    config: AcceleratorConfig,
    kernel: Kernel,
    part: Part,
    operand: Place,
    *,
    groups: int,
    blocks: int,
    weight: int,
    bank: int,
    block_step: int = 0,
    accumulate: bool = False,
    taps: Sequence[Range] | None = None,
    accumulator: int = 0,
) -> Array:
    """ARRAY for one part.

    Parameters
    ----------
    config, kernel, part: what is computed, on what.
    operand: the source; its row is that of the first input block to be summed up.
    groups: output blocks computed together.
    blocks: input blocks summed up.
    weight: first beat of their weights (`weight_order`).
    bank: accumulator bank.
    block_step: input blocks from one output block's first to the next one's (block diagonal).
    accumulate: add to an earlier instruction's sums.
    taps: first and count along x, y, t, in mode GEMM; default: all.
    accumulator: first row in the bank.
    """
    common = {
        "accumulate": int(accumulate),
        "signed": int(kernel.signed),
        "zero_point": kernel.zero_point & 0xFF,
        "weight": weight,
        "accumulator": bank * config.memory.accumulator_rows + accumulator,
        "dilations": tuple(axis.dilation for axis in kernel.axes),
    }
    if kernel.algorithm == DIRECT:
        chosen = taps or [(0, axis.kernel) for axis in kernel.axes]
        return _gemm(kernel, part, operand, groups, blocks, block_step, chosen, common)
    return _hfa(kernel, part, operand, groups, blocks, common)


def _gemm(
    kernel: Kernel,
    part: Part,
    operand: Place,
    groups: int,
    blocks: int,
    block_step: int,
    taps: Sequence[Range],
    common: dict[str, object],
) -> Array:
    axes, pitches = kernel.axes, operand.pitches
    origin = [
        axis.start(first) + tap * axis.dilation
        for axis, first, (tap, _) in zip(axes, part.first, taps, strict=True)
    ]
    counts = (*part.count, groups, *(count for _, count in taps), blocks)
    strides = (
        *(p * a.stride for p, a in zip(pitches[:3], axes, strict=True)),
        block_step * pitches[3],
        *(p * a.dilation for p, a in zip(pitches[:3], axes, strict=True)),
        pitches[3],
    )
    return Array(
        mode=ArrayMode.GEMM,
        activation=row_field(operand.at(origin)),
        counts=counts,
        deltas=deltas(counts, strides),
        # Where nothing is clipped, coordinates count from the part, to stay in their field.
        starts=tuple(0 if a.free else s for a, s in zip(axes, origin, strict=True)),
        steps=tuple(axis.stride for axis in axes),
        bounds=tuple(n if a.free else a.size for a, n in zip(axes, part.count, strict=True)),
        **common,  # type: ignore[arg-type]
    )


def _hfa(
    kernel: Kernel,
    part: Part,
    operand: Place,
    groups: int,
    blocks: int,
    common: dict[str, object],
) -> Array:
    axes, algorithm, pitches = kernel.axes, kernel.algorithm, operand.pitches
    m, points = outputs_of(algorithm), points_of(algorithm)
    tiles = tiles_of(part.count, algorithm)
    origin, starts, steps, bounds, along, inner = [], [], [], [], [], []
    for d, axis in enumerate(axes):
        transformed = m[d] > 1
        start = axis.start(part.first[d])
        origin.append(start)
        starts.append(0 if axis.free else start)
        steps.append(1 if transformed else axis.stride)
        # A ragged tile reads further than its results need; what was not loaded is clipped.
        end = min(axis.size, operand.first[d] + operand.size[d])
        bounds.append(part.count[d] if axis.free else end)
        along.append(pitches[d] * (m[d] * axis.dilation if transformed else axis.stride))
        inner.append(pitches[d] * axis.dilation)
    outer_taps = 1 if algorithm.temporal else axes[2].kernel
    nest = (*points[:2], points[2], *tiles, outer_taps, blocks)
    strides = (*inner, *along, inner[2], pitches[3])
    return Array(
        mode=ArrayMode.HFA,
        activation=row_field(operand.at(origin)),
        counts=(*tiles, groups, *points[:2], points[2] * outer_taps, blocks),
        deltas=deltas(nest, strides),
        starts=tuple(starts),
        steps=tuple(steps),
        bounds=tuple(bounds),
        transform_t=algorithm.temporal,
        transform_s=algorithm.spatial,
        **common,  # type: ignore[arg-type]
    )


def drain_instruction(
    config: AcceleratorConfig,
    kernel: Kernel,
    part: Part,
    result: Place,
    *,
    groups: int,
    bank: int,
    parameter: int,
    accumulator: int = 0,
) -> Drain:
    """DRAIN for one part.

    Parameters
    ----------
    config, kernel, part: as in `array_instruction`.
    result: where the layer's results go, coordinates and pitches behind the pool.
    groups: output blocks.
    bank: accumulator bank.
    parameter: first beat of the blocks' requantization parameters.
    accumulator: first row in the bank.
    """
    pools, algorithm = kernel.pools, kernel.algorithm
    counts = tuple(n // pool for n, pool in zip(part.count, pools, strict=True))
    per_row = config.array.blocks_per_row
    pitches = result.pitches
    along = tuple(p * s for p, s in zip(pitches[:3], part.step, strict=True))
    out = (pitches[3], *along, per_row * pitches[3])
    inner = part.count if algorithm == DIRECT else points_of(algorithm)
    if algorithm == DIRECT:
        ax, ay, at = part.count
        window = (1, ax, ax * ay)
        nest = (*pools, *counts, groups)
        steps = (*window, *(w * p for w, p in zip(window, pools, strict=True)), ax * ay * at)
        destination = deltas((per_row, *counts, groups), out)
    else:
        x, y, t = tiles_of(part.count, algorithm)
        n = x * y * t
        nest = (*inner, x, y, t, groups)
        steps = (n, n * inner[0], n * inner[0] * inner[1], 1, x, x * y, n * product(inner))
        destination = out
    return Drain(
        accumulator=bank * config.memory.accumulator_rows + accumulator,
        counts=(*counts, groups),
        window=pools,
        accumulator_deltas=deltas(nest, steps),
        destination=result.at([f // p for f, p in zip(part.first, pools, strict=True)]),
        destination_deltas=destination,
        parameter=parameter,
        zero_point=kernel.out_zero_point,
        low=kernel.low,
        high=kernel.high,
        transform_t=algorithm.temporal,
        transform_s=algorithm.spatial,
    )
