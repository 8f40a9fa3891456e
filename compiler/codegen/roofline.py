"""The least cycles a layer can take: whole tiles and lanes in the array, or its bytes.

`roofline_cycles` = max(array cycles, bytes / port width), each tensor crossing the port once. An
element-wise operator counts its operands and its result; a fused pool counts what is stored.
"""

from __future__ import annotations

import math

from compiler.codegen.depthwise import suits
from compiler.ir import (
    AnyOperation,
    Chain,
    Concat,
    Convolution,
    Graph,
    Rearrange,
    Slice,
    TensorType,
    View,
)
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import TensorLayout, ceil_div


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


def _beats(layout: TensorLayout, config: AcceleratorConfig) -> int:
    """Beats of a tensor's real channels; padded lanes are the layout's own loss."""
    return ceil_div(layout.channels * layout.positions, config.port.bytes)


def _chain(
    op: Chain, source: TensorType, target: TensorType, beats: int, config: AcceleratorConfig
) -> int:
    """The array computes all stages; only the first operand and the last result are moved."""
    array = 0
    for stage, operand, _ in op.links([source], target):
        if isinstance(stage, Convolution):
            channels, frames, height, width = operand.shape
            layout = TensorLayout((channels,), frames, height, width, config.lane_block)
            positions = math.prod(stage.convolved(operand)[1:])
            array += _array_cycles(stage, layout, positions, config)
            beats += ceil_div(stage.weight.size, config.port.bytes)
    return max(array, beats)


def roofline_cycles(
    graph: Graph, op: AnyOperation, layouts: dict[str, TensorLayout], config: AcceleratorConfig
) -> int:
    """Bound of one operator, in cycles."""
    if isinstance(op, View):
        return 0
    result = _beats(layouts[op.output], config)
    if isinstance(op, Slice | Concat | Rearrange):
        return 2 * result
    beats = result + sum(_beats(layouts[name], config) for name in op.inputs)
    if isinstance(op, Chain):
        return _chain(op, graph.type(op.inputs[0]), graph.type(op.output), beats, config)
    if not isinstance(op, Convolution):
        return beats
    source = layouts[op.inputs[0]]
    positions = math.prod(op.convolved(graph.type(op.inputs[0]))[1:])
    weights = ceil_div(op.weight.size, config.port.bytes)
    return max(_array_cycles(op, source, positions, config), beats + weights)
