"""The least cycles a layer can take: whole tiles and lanes in the array, or its bytes.

`roofline_cycles` = max(array cycles, bytes / port width), each tensor crossing the port once. An
element-wise operator counts its operands and its result; a fused pool counts what is stored. Where
a convolution can be transformed (hFA), the algorithm with the least cycles counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from compiler.codegen.depthwise_tiling import suits
from compiler.codegen.rearrange import keeps_rows
from compiler.ir import (
    AnyOperation,
    Chain,
    Concat,
    Convolution,
    Graph,
    Rearrange,
    Relayout,
    Slice,
    TensorType,
    View,
)
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
    return positions * blocks * ceil_div(op.out_channels, cols)


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


def _least_cycles(
    op: Convolution,
    source: TensorLayout,
    convolved: Sequence[int],
    algorithms: Sequence[Algorithm],
    config: AcceleratorConfig,
) -> int:
    """Array cycles of the best of direct and some algorithms; `convolved` along t, h, w."""
    pools = op.pool.kernel if op.pool is not None else (1, 1, 1)
    stored = [n // pool * pool for n, pool in zip(convolved, pools, strict=True)]
    direct = _array_cycles(op, source, math.prod(convolved), config)
    return min([direct, *(_transformed_cycles(op, source, stored, a, config) for a in algorithms)])


def _beats(layout: TensorLayout, config: AcceleratorConfig) -> int:
    """Beats of a tensor's real channels; padded lanes are the layout's own loss."""
    return ceil_div(layout.channels * layout.positions, config.port.bytes)


def _chain(
    op: Chain,
    source: TensorType,
    target: TensorType,
    beats: int,
    config: AcceleratorConfig,
    algorithms: Sequence[Algorithm],
) -> int:
    """The array computes all stages; only the first operand and the last result are moved.

    The algorithms are those of the temporal stage.
    """
    array = 0
    for stage, operand, _ in op.links([source], target):
        if isinstance(stage, Convolution):
            layout = TensorLayout.dense(operand.shape, config.lane_block)
            tried = algorithms if stage.kernel[0] > 1 and not stage.depthwise else ()
            array += _least_cycles(stage, layout, stage.convolved(operand)[1:], tried, config)
            beats += ceil_div(stage.weight.size, config.port.bytes)
    return max(array, beats)


def roofline_cycles(
    graph: Graph,
    op: AnyOperation,
    layouts: dict[str, TensorLayout],
    config: AcceleratorConfig,
    algorithms: Sequence[Algorithm] = (),
) -> int:
    """Bound of one operator, in cycles.

    Parameters
    ----------
    graph, op, layouts, config: the operator, how its tensors lie, for what.
    algorithms: transforms that the operator (of a chain: its temporal stage) can take.
    """
    if isinstance(op, View) or (isinstance(op, Rearrange) and keeps_rows(op)):
        return 0
    result = _beats(layouts[op.output], config)
    if isinstance(op, Slice | Concat | Rearrange | Relayout):
        return 2 * result
    beats = result + sum(_beats(layouts[name], config) for name in op.inputs)
    if isinstance(op, Chain):
        ends = graph.type(op.inputs[0]), graph.type(op.output)
        return _chain(op, *ends, beats, config, algorithms)
    if not isinstance(op, Convolution):
        return beats
    source = layouts[op.inputs[0]]
    convolved = op.convolved(graph.type(op.inputs[0]))[1:]
    weights = ceil_div(op.weight.size, config.port.bytes)
    return max(_least_cycles(op, source, convolved, algorithms, config), beats + weights)
