"""The least cycles that a convolution takes on the array: whole tiles and lanes.

Where it can be transformed (hFA), the algorithm with the least cycles counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from compiler.array.phases import least_share
from compiler.ir import Convolution, TensorType
from compiler.tile.depthwise import suits
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import TensorLayout, ceil_div
from hw.arch.winograd import Algorithm


def _array_cycles(
    op: Convolution, source: TensorLayout, positions: int, config: AcceleratorConfig
) -> int:
    taps = math.prod(op.kernel)
    lanes, cols = config.lane_block, config.array.cols
    if suits(op, config):
        passes = ceil_div(math.prod(op.kernel[1:]), config.array.rows) * op.kernel[0]
        if op.kernel[1:] == (1, 1):
            passes = ceil_div(taps, config.array.rows)
        return positions * math.prod(op.stride) * source.blocks * passes
    if op.groups > 1:
        per_group = op.in_channels // op.groups
        blocks = ceil_div(per_group * min(op.groups, max(1, lanes // per_group)), lanes) * taps
    elif source.channels < lanes:
        blocks = ceil_div(source.channels * taps, lanes)
    else:
        blocks = source.blocks * taps
    passes = positions * blocks * ceil_div(op.out_channels, cols)
    return math.ceil(passes * least_share(op, config))


def _tiles(results: int, outputs: int, dilation: int) -> int:
    """Tiles along an axis; a dilated one falls into interleaved sequences."""
    if outputs == 1:
        return results
    phases = min(dilation, results)
    return sum(ceil_div(ceil_div(results - p, dilation), outputs) for p in range(phases))


def _whole(results: int, outputs: int) -> int:
    """Results of whole tiles."""
    return ceil_div(results, outputs) * outputs


def _transformed_cycles(
    op: Convolution,
    source: TensorLayout,
    results: Sequence[int],
    algorithm: Algorithm,
    config: AcceleratorConfig,
) -> int:
    """Whole tiles; `results` along t, h, w."""
    if suits(op, config):
        # Mode HFA_DEPTHWISE: one result per cycle.
        return math.prod(map(_whole, results, algorithm.outputs)) * source.blocks
    along = [algorithm.outputs[d] for d in range(3)]
    if not algorithm.spatial and op.kernel[0] != algorithm.kernel[0]:
        # A sequence along h or w.
        d = op.kernel.index(algorithm.kernel[0])
        along[0], along[d] = along[d], along[0]
    tiles = math.prod(map(_tiles, results, along, op.dilation))
    taps = math.prod(op.kernel) // math.prod(algorithm.kernel)
    lanes = config.lane_block
    sets = ceil_div(source.channels * taps, lanes)
    if source.channels >= lanes:
        sets = source.blocks * taps
    return tiles * math.prod(algorithm.points) * sets * ceil_div(op.out_channels, config.array.cols)


def least_cycles(
    op: Convolution,
    source: TensorLayout,
    operand: TensorType,
    algorithms: Sequence[Algorithm],
    config: AcceleratorConfig,
) -> int:
    """Array cycles of the best of direct and some algorithms."""
    convolved = op.convolved(operand)[1:]
    pools = op.pool.kernel if op.pool is not None else (1, 1, 1)
    stored = [n // pool * pool for n, pool in zip(convolved, pools, strict=True)]
    direct = _array_cycles(op, source, math.prod(convolved), config)
    return min([direct, *(_transformed_cycles(op, source, stored, a, config) for a in algorithms)])
