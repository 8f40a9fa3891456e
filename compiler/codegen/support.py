"""Why the back end cannot run an operator, before anything is emitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from compiler.codegen import depthwise, fused_choice, rearrange, reduce
from compiler.codegen.policy import Policy
from compiler.ir import (
    AnyOperation,
    Chain,
    Concat,
    Convolution,
    Elementwise,
    Pool,
    Rearrange,
    Reduce,
    Slice,
    TemporalResidual,
    TensorType,
    UnaryTable,
    View,
)
from hw.arch.config import AcceleratorConfig

MAX_COORDINATE = 2047
MAX_STRIDE = 7
MAX_DILATION = 15
MAX_POOL = 7
REDUCE_COORDINATE = 1023


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
    match op:
        case Convolution():
            return _convolution(op, inputs[0], config)
        case View():
            return None
        case Concat():
            needs_vector = any(table is not None for table in op.tables)
            return _vector(config) if needs_vector else None
        case Slice():
            return _slice(op, config)
        case Rearrange():
            return rearrange.refusal(op)
        case Elementwise():
            return _elementwise(op, inputs, output) or _vector(config)
        case Pool():
            return _windows(op.window.kernel, op.window.stride, inputs[0]) or _vector(config)
        case Reduce():
            kernel = [inputs[0].shape[a] for a in op.axes]
            return _windows(kernel, (1,), inputs[0]) or _vector(config)
        case TemporalResidual():
            if inputs[0].shape[1] > reduce.MAX_WINDOW:
                return f"{inputs[0].shape[1]} frames; at most {reduce.MAX_WINDOW} are averaged"
            return _vector(config)
        case UnaryTable():
            return _vector(config)
        case Chain():
            return _chain(op, inputs[0], output, config, policy)
        case _:
            assert_never(op)


def _vector(config: AcceleratorConfig) -> str | None:
    if "vector" in config.features:
        return None
    return f"configuration {config.name} has no vector unit"


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


def _convolution(op: Convolution, source: TensorType, config: AcceleratorConfig) -> str | None:
    if max(op.stride) > MAX_STRIDE:
        return f"stride {max(op.stride)}; the address generators step by at most {MAX_STRIDE}"
    if max(op.dilation) > MAX_DILATION:
        return f"dilation {max(op.dilation)}; at most {MAX_DILATION}"
    if max(source.shape[1:]) > MAX_COORDINATE:
        return f"a map of {list(source.shape[1:])}; at most {MAX_COORDINATE} along an axis"
    if op.pool is not None and max(op.pool.kernel) > MAX_POOL:
        return f"a fused pool of {op.pool.kernel}; at most {MAX_POOL} along an axis"
    window = op.pool.kernel if op.pool is not None else (1, 1, 1)
    rows = config.memory.accumulator_rows
    if window[0] * window[1] * window[2] > rows:
        return f"a fused pool of {window} windows does not fit {rows} accumulator rows"
    if depthwise.suits(op, config):
        return None
    taps = op.kernel[0] * op.kernel[1] * op.kernel[2]
    blocks = config.weight_beats // config.weight_block_beats
    if taps * 2 > blocks:
        return f"a kernel of {taps} taps; {blocks // 2} weight blocks fit half the scratchpad"
    return None


def _slice(op: Slice, config: AcceleratorConfig) -> str | None:
    if op.axis == 0 and (op.start % config.lane_block or op.step != 1):
        return (
            f"a channel slice from {op.start} step {op.step}: only whole lane blocks of "
            f"{config.lane_block} can be moved"
        )
    return None


def _elementwise(op: Elementwise, inputs: Sequence[TensorType], output: TensorType) -> str | None:
    for kind in inputs:
        if kind.shape[0] != output.shape[0]:
            return (
                f"{kind.shape[0]} channels repeated over {output.shape[0]}: lanes cannot be "
                f"broadcast"
            )
    return None


def _windows(kernel: Sequence[int], stride: Sequence[int], source: TensorType) -> str | None:
    if max(kernel) > reduce.MAX_WINDOW:
        return f"a window of {max(kernel)}; at most {reduce.MAX_WINDOW} along an axis"
    if max(stride) > MAX_STRIDE:
        return f"stride {max(stride)}; at most {MAX_STRIDE}"
    if max(source.shape[1:]) > REDUCE_COORDINATE:
        return f"a map of {list(source.shape[1:])}; at most {REDUCE_COORDINATE} along an axis"
    return None
