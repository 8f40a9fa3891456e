"""The operators' lowerings, one file each: what the back end knows of each class of operators.

`lowering` is the registry. Check, layout, placement, bounds, reports and emission ask it and nobody
else tells operators apart. A new operator is one more case here; without it, mypy complains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, assert_never, get_args

from compiler.lower import (
    arg_max,
    attention_pool,
    axis_mean,
    batched_matmul,
    chain,
    concat,
    convolution,
    join,
    loop_enter,
    loop_leave,
    loop_pick,
    loop_put,
    loop_stack,
    normalize,
    pairwise,
    pool,
    rearrange,
    region,
    relayout,
    slice,
    softmax,
    table,
    temporal_residual,
    view,
)
from compiler.lower.base import Laid, Lowering
from compiler.ops import (
    AnyOperation,
    ArgMax,
    AttentionPool,
    AxisMean,
    BatchedMatMul,
    Chain,
    Concat,
    Convolution,
    Enter,
    Join,
    Leave,
    Normalize,
    Pairwise,
    Pick,
    Pool,
    Put,
    Rearrange,
    Region,
    Relayout,
    Slice,
    Softmax,
    Stack,
    TemporalResidual,
    UnaryTable,
    View,
)
from compiler.policy import Policy
from compiler.tensor import TensorType
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import TensorLayout
from hw.arch.winograd import Algorithm

__all__ = ["broken", "lowering", "lowerings", "refusal", "roofline_cycles"]


def lowering(op: AnyOperation) -> Lowering[Any]:
    """What the back end knows of an operator."""
    match op:
        case Convolution():
            return convolution.LOWERING
        case Pairwise():
            return pairwise.LOWERING
        case UnaryTable():
            return table.LOWERING
        case AxisMean():
            return axis_mean.LOWERING
        case Pool():
            return pool.LOWERING
        case TemporalResidual():
            return temporal_residual.LOWERING
        case Concat():
            return concat.LOWERING
        case Slice():
            return slice.LOWERING
        case View():
            return view.LOWERING
        case Rearrange():
            return rearrange.LOWERING
        case Relayout():
            return relayout.LOWERING
        case BatchedMatMul():
            return batched_matmul.LOWERING
        case Softmax():
            return softmax.LOWERING
        case Normalize():
            return normalize.LOWERING
        case ArgMax():
            return arg_max.LOWERING
        case Join():
            return join.LOWERING
        case Enter():
            return loop_enter.LOWERING
        case Leave():
            return loop_leave.LOWERING
        case Pick():
            return loop_pick.LOWERING
        case Stack():
            return loop_stack.LOWERING
        case Put():
            return loop_put.LOWERING
        case Chain():
            return chain.LOWERING
        case AttentionPool():
            return attention_pool.LOWERING
        case Region():
            return region.LOWERING
        case _:
            assert_never(op)


def lowerings() -> dict[type[AnyOperation], Lowering[Any]]:
    """All, by class."""
    kinds: tuple[type[AnyOperation], ...] = get_args(AnyOperation)
    return {kind: lowering(object.__new__(kind)) for kind in kinds}


def refusal(
    op: AnyOperation,
    inputs: Sequence[TensorType],
    output: TensorType,
    config: AcceleratorConfig,
    policy: Policy | None = None,
) -> str | None:
    """Why an operator cannot run on a configuration, or None; see `Lowering.refusal`."""
    return lowering(op).refusal(op, inputs, output, config, policy)


def broken(op: AnyOperation, sources: Sequence[TensorLayout], result: TensorLayout) -> str | None:
    """How the layouts of an operator's tensors break its contract, or None."""
    return lowering(op).contract(op, sources, result)


def roofline_cycles(
    op: AnyOperation,
    types: Mapping[str, TensorType],
    layouts: Mapping[str, TensorLayout],
    config: AcceleratorConfig,
    algorithms: Sequence[Algorithm] = (),
    moved: Mapping[str, int] | None = None,
) -> int:
    """The least cycles that an operator can take.

    Parameters
    ----------
    op, config: the operator, for what.
    types, layouts: of its operands and its result, by name.
    algorithms: transforms that it (of a chain: its temporal stage) can take.
    moved: beats of tensors that cross the memory port, by name; of others, and by default, all.
    """
    moved = moved or {}
    sources = [Laid(types[name], layouts[name], moved.get(name)) for name in op.inputs]
    result = Laid(types[op.output], layouts[op.output], moved.get(op.output))
    return lowering(op).bound(op, sources, result, config, algorithms)
