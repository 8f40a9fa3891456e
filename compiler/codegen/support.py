"""Why the back end cannot run an operator, before anything is emitted.

Limits of fields and the search for a tile are the lowerings' own: what is accepted here is emitted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import assert_never

from compiler.codegen import (
    convolution,
    copies,
    depthwise_choice,
    elementwise,
    fused_choice,
    rearrange,
    reduce,
    relayout,
    temporal_residual,
)
from compiler.codegen.depthwise_tiling import suits
from compiler.codegen.emitter import RefusedError
from compiler.codegen.fused_plan import tensor_of
from compiler.codegen.policy import Policy
from compiler.codegen.streams import Stream, check
from compiler.ir import (
    AnyOperation,
    Chain,
    Concat,
    Convolution,
    Elementwise,
    Pool,
    Rearrange,
    Reduce,
    Relayout,
    Slice,
    TemporalResidual,
    TensorType,
    UnaryTable,
    View,
)
from hw.arch.config import AcceleratorConfig
from hw.arch.program import Tensor


def reason(
    op: AnyOperation,
    inputs: Sequence[TensorType],
    output: TensorType,
    config: AcceleratorConfig,
    policy: Policy | None = None,
) -> str | None:
    """Why an operator cannot run on a configuration, or None if it can.

    Parameters
    ----------
    op, inputs, output: the operator with the types of its operands and its result.
    config: the accelerator.
    policy: given, a chain is also refused where its stages are better computed apart.
    """
    if isinstance(op, Chain):
        return _chain(op, inputs[0], output, config, policy)
    if isinstance(op, View):
        return None
    lanes = config.lane_block
    sources = [tensor_of(kind, lanes) for kind in inputs]
    if isinstance(op, Rearrange):
        return _rearrange(op, inputs[0], output, config)
    return refusal(op, sources, tensor_of(output, lanes), config)


def refusal(
    op: AnyOperation,
    sources: Sequence[Tensor],
    target: Tensor,
    config: AcceleratorConfig,
) -> str | None:
    """Why an operator cannot run on tensors that lie as they do, or None if it can.

    Parameters
    ----------
    op: the operator; of a chain, what lies between its stages is dense.
    sources, target: operands and result; where they lie does not matter.
    config: the accelerator.
    """
    if isinstance(op, Convolution):
        if suits(op, config):
            return depthwise_choice.unfit(op, sources[0], config)
        return convolution.refusal(op, sources[0], target, config)
    if isinstance(op, Rearrange) and (why := rearrange.refusal(op)) is not None:
        return why
    if isinstance(op, Relayout):
        return relayout.refusal(sources[0], target, config)
    try:
        for stream in _streams(op, sources, target, config):
            if stream.compute is not None and "vector" not in config.features:
                return f"configuration {config.name} has no vector unit"
            check(stream, config)
    except RefusedError as error:
        return str(error)
    return None


def _streams(
    op: AnyOperation,
    sources: Sequence[Tensor],
    target: Tensor,
    config: AcceleratorConfig,
) -> Iterator[Stream]:
    """What an operator moves through the scratchpad, if it does not need the array."""
    match op:
        case View() | Chain() | Convolution() | Relayout():
            return
        case Concat():
            fields = [int(table is not None) for table in op.tables]
            yield from copies.concat_layers(op, sources, target, config, fields)
        case Slice():
            yield from copies.slice_layers(op, sources[0], target, config)
        case Rearrange():
            yield from rearrange.layers(op, sources[0], target, config)
        case Elementwise():
            yield elementwise.layer(op, sources, target, config)
        case Pool():
            yield reduce.pool_layer(op, sources[0], target, config)
        case Reduce():
            yield reduce.mean_layer(op, sources[0], target, config)
        case TemporalResidual():
            yield temporal_residual.layer(op, sources[0], target, config)
        case UnaryTable():
            yield copies.table_layer(sources[0], target, config, 1)
        case _:
            assert_never(op)


def _rearrange(
    op: Rearrange, source: TensorType, output: TensorType, config: AcceleratorConfig
) -> str | None:
    """A dense operand may have to take other lanes first."""
    moves = rearrange.moves_of(op.source, op.target)
    if moves is None:
        return rearrange.refusal(op)
    dense = tensor_of(source, config.lane_block)
    demanded = moves.demanded(dense.layout.lane_map)
    moved = tensor_of(source, config.lane_block, demanded)
    target = tensor_of(output, config.lane_block, moves.result(demanded))
    why = relayout.refusal(dense, moved, config) if demanded != dense.layout.lane_map else None
    return why or refusal(op, [moved], target, config)


def _chain(
    op: Chain,
    source: TensorType,
    output: TensorType,
    config: AcceleratorConfig,
    policy: Policy | None,
) -> str | None:
    for stage, operand, result in op.links([source], output):
        why = reason(stage, [operand], result, config)
        if why is not None:
            return f"{stage.name}: {why}"
    return None if policy is None else fused_choice.refusal(op, source, output, config, policy)
