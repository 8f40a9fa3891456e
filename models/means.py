"""Means and sums over axes and windows: exact sums, requantized by scale over count.

Definitions: docs/numerics.md.
"""

from math import prod

import numpy as np
import torch

from models import integer
from models.moves import reduced_axes
from models.operands import activation, lookup, reads
from models.tables import F32, QParams, dequantize, quantize_float
from models.values import Call, Pending, Shape, Tensors
from models.windows import Windows, windows_of


def average(
    total: torch.Tensor, count: int | torch.Tensor, x: QParams, target: QParams
) -> torch.Tensor:
    """s = f32(sx/f32(sy·n)), total = Σx - n·zx."""
    scale = _scale(count, x, target)
    return integer.requantize(total, scale, target.zero, target.low, target.high)


def _scale(count: int | torch.Tensor, x: QParams, target: QParams) -> torch.Tensor:
    counts = np.asarray(count, dtype=F32)
    return torch.from_numpy(np.asarray(x.unit / (target.unit * counts), dtype=F32))


def _mean(call: Call, axes: list[int], keep: bool, mean: bool = True) -> Pending:
    x = activation(call, 0)
    count = prod(x.shape[a] for a in axes) if mean else 1
    kept = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    shape = kept if keep else tuple(n for a, n in enumerate(x.shape) if a not in axes)

    def kernel(tensors: Tensors, target: QParams) -> torch.Tensor:
        total = x.tensor(tensors).to(torch.int64) - x.params.zero
        if axes:
            total = total.sum(dim=axes, keepdim=keep)
        return average(total, count, x.params, target)

    return Pending(call.node, reads(x), kernel, shape, "mean")


def global_average_pool(call: Call) -> Pending:
    """GlobalAveragePool; channels_last is an attribute of the QOperator form."""
    rank, last = len(activation(call, 0).shape), call.attributes.get("channels_last", 0)
    return _mean(call, list(range(1, rank - 1) if last else range(2, rank)), True)


def reduce_mean(call: Call) -> Pending:
    """ReduceMean over any axes; over axes of size 1 it only moves.

    ONNX Runtime computes it in float (GlobalAveragePool has an integer kernel).
    """
    x = activation(call, 0)
    axes = reduced_axes(call, len(x.shape))
    mean = _mean(call, axes, bool(call.attributes.get("keepdims", 1)))
    if any(x.shape[a] > 1 for a in axes):
        return mean

    def requantized(tensors: Tensors, target: QParams) -> torch.Tensor:
        table = quantize_float(dequantize(x.params.codes(), x.params), target)
        return lookup(x.tensor(tensors), x.params, table).reshape(mean.shape)

    return Pending(call.node, reads(x), requantized, mean.shape, "table")


def reduce_sum(call: Call) -> Pending:
    """ReduceSum: as a mean over one element."""
    axes = reduced_axes(call, len(activation(call, 0).shape))
    return _mean(call, axes, bool(call.attributes.get("keepdims", 1)), mean=False)


def counted(windows: Windows, size: Shape, include_pad: bool) -> torch.Tensor:
    """Elements that each average divides by, [1, 1, *counts].

    Padding counts only if `include_pad`, and then as far as `pads` say: what ceil_mode lets a
    window reach beyond them never counts.
    """
    ones = torch.ones(1, 1, *size, dtype=torch.int64)
    if not include_pad:
        return integer.sum_pool(ones, windows)
    rank = len(size)
    widths = [windows.pads[a + side] for a in reversed(range(rank)) for side in (0, rank)]
    padded = torch.nn.functional.pad(ones, widths, value=1)
    bare = Windows(
        windows.kernel, windows.strides, (0,) * 2 * rank, windows.dilations, windows.counts
    )
    return integer.sum_pool(padded, bare)


def pooled(total: torch.Tensor, scale: torch.Tensor, target: QParams) -> torch.Tensor:
    """rint(f32(f32(acc·s) + zy)), float32, before the clamp."""
    return (total * scale + target.zero).round_()


def average_pool(call: Call) -> Pending:
    """AveragePool, with what ONNX Runtime counts.

    As its QLinearAveragePool, the zero point is added before the rounding.
    """
    x = activation(call, 0)
    if call.attributes.get("channels_last", 0):
        raise call.refuse("channels_last is not read")
    kernel = call.integers("kernel_shape", [])
    windows = windows_of(call, kernel, x.shape[2:], pool=True)
    include = bool(call.attributes.get("count_include_pad", 0))
    counts = counted(windows, x.shape[2:], include)
    if int(counts.min()) < 1:
        raise call.refuse("a window lies in the padding alone")

    def compute(tensors: Tensors, target: QParams) -> torch.Tensor:
        shifted = x.tensor(tensors).to(torch.int32) - x.params.zero
        total = integer.sum_pool(shifted, windows).to(torch.float32)
        real = pooled(total, _scale(counts, x.params, target), target)
        return real.clamp_(target.low, target.high).to(torch.int16)

    shape = (*x.shape[:2], *windows.counts)
    return Pending(call.node, reads(x), compute, shape, "AveragePool")
