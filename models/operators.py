"""Operators that compute: products, means, pairs. Integers in, integers out.

Each function reads a node and gives a `Pending`: what the node makes, ready for the parameters of
the QuantizeLinear that finishes it. Definitions: numerics.md sections 2 to 4.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch

from models import integer, tables
from models.moves import reduced_axes
from models.operands import Source, activation, lookup, reads, source
from models.tables import F32, QParams, dequantize, quantize_float
from models.values import Call, Constant, Kernel, Pending, Shape, Tensors
from models.windows import Windows, windows_of

# Products ---------------------------------------------------------------------------------

BIAS_TOLERANCE = 1e-5
"""Relative difference between the scale of an int32 bias and x scale · weight scale."""


def _weight(call: Call, index: int, axis: int) -> Source:
    found = source(call, index)
    if found.params.axis not in (None, axis):
        raise call.refuse(f"weight scales run along axis {found.params.axis}, not {axis}")
    return found


def _unit(x: QParams, weight: QParams, alpha: float = 1.0) -> np.ndarray:
    """Real value of one accumulator unit, [1] or [channels]: f32(xs·ws[c])."""
    return (F32(F32(alpha) * x.unit) * weight.scale).astype(F32)


@dataclass(frozen=True)
class _Bias:
    """Bias in units of the accumulator, int64 in the shape of the file; what rounding it lost.

    `unit` is that of the accumulator, finer where a channel has no weights (its scale is free, and
    quantizers write 1).
    """

    unit: np.ndarray
    units: np.ndarray | None = None
    lost: float = 0.0


def _fine(unit: np.ndarray, real: np.ndarray, weight: Source, axis: int) -> np.ndarray:
    """Units for a bias: where all weights of a channel are 0, powers of two with 21 bits of it."""
    if weight.codes is None:  # an activation: its scale is that of a tensor, not of a channel
        return unit
    _, zero = weight.params.spread(weight.codes.ndim)
    others = tuple(a for a in range(weight.codes.ndim) if a != axis)
    dead = ~(weight.codes.astype(np.int64) != zero).any(axis=others)
    if real.size != dead.size or not (dead & (real.reshape(-1) != 0)).any():
        return unit
    fine = np.ldexp(F32(1), np.frexp(real.reshape(-1))[1] - 21).astype(F32)
    return np.where(dead & (real.reshape(-1) != 0), fine, np.broadcast_to(unit, dead.shape))


def _bias(
    call: Call, index: int, unit: np.ndarray, weight: Source, axis: int, beta: float = 1.0
) -> _Bias:
    """Read a bias; what is not at the accumulator's scale already is rounded to it."""
    value = call.operands[index] if index < len(call.operands) else None
    if value is None:
        return _Bias(unit)
    name = call.names[index]
    if not isinstance(value, Constant):
        raise call.refuse(f"bias {name} must be constant")
    if value.array.dtype == np.int32:  # of a QOperator node
        return _Bias(unit, value.array.astype(np.int64))
    if value.array.dtype != np.float32:
        raise call.refuse(f"bias {name} is {value.array.dtype}; float32 and int32 are read")
    codes, params = value.codes, value.params
    if beta == 1.0 and codes is not None and params is not None and params.dtype == np.int32:
        same = np.allclose(params.scale, unit, rtol=BIAS_TOLERANCE, atol=0)
        if same and not params.zero_point.any():
            return _Bias(unit, codes.astype(np.int64))
    # numerics.md section 1: what is at another scale becomes rint(b / (sx·sw)).
    real = (F32(beta) * value.array).astype(np.float64)
    unit = _fine(unit, real, weight, axis)
    exact = real / unit.astype(np.float64)
    units = np.rint(exact)
    if not np.isfinite(units).all() or np.abs(units).max(initial=0) >= integer.INT32:
        raise call.refuse(f"bias {name} leaves int32 at x scale · weight scale")
    lost = float((np.abs(units - exact) * unit).max(initial=0))
    return _Bias(unit, units.astype(np.int64), lost)


def _finish(
    call: Call,
    make: Callable[[Tensors], torch.Tensor],
    unit: np.ndarray,
    bias: np.ndarray | None,
    axis: int,
    rank: int,
) -> Kernel:
    """Accumulate, add the bias, requantize; unit and a bias of one axis run along `axis`."""
    along = [1] * rank
    along[axis] = -1
    offset = None
    if bias is not None:
        offset = torch.from_numpy(bias.reshape(along) if bias.ndim < 2 else bias)

    def kernel(tensors: Tensors, target: QParams) -> torch.Tensor:
        acc = make(tensors)
        if offset is not None:
            acc = acc.to(torch.int64) + offset
        if acc.dtype == torch.int64 and acc.numel() and int(acc.abs().max()) >= integer.INT32:
            raise call.refuse("an accumulator leaves int32")
        scale = torch.from_numpy((unit / target.unit).astype(F32).reshape(along))
        return integer.requantize(acc, scale, target.zero, target.low, target.high)

    return kernel


def conv(call: Call) -> Pending:
    """Conv in any number of dimensions, dense, grouped or depthwise."""
    x, weight = activation(call, 0), _weight(call, 1, 0)
    if weight.codes is None:
        raise call.refuse(f"weight {weight.name} must be constant")
    outputs, inputs, *kernel = weight.shape
    groups, last = call.attributes.get("group", 1), bool(call.attributes.get("channels_last", 0))
    channels, size = (x.shape[-1], x.shape[1:-1]) if last else (x.shape[1], x.shape[2:])
    if len(x.shape) != len(weight.shape) or channels != inputs * groups or outputs % groups:
        raise call.refuse(
            f"weights {list(weight.shape)} in {groups} groups on a map {list(x.shape)}"
        )
    if call.attributes.get("kernel_shape", kernel) != kernel:
        raise call.refuse(f"kernel_shape {call.attributes['kernel_shape']} of weights {kernel}")
    windows = windows_of(call, kernel, size, pool=False)
    bias = _bias(call, 2, _unit(x.params, weight.params), weight, 0)

    def accumulate(tensors: Tensors) -> torch.Tensor:
        centred = x.centred(tensors).movedim(-1, 1) if last else x.centred(tensors)
        acc = integer.conv(centred, weight.centred(tensors), windows, groups)
        return acc.movedim(1, -1) if last else acc

    compute = _finish(call, accumulate, bias.unit, bias.units, -1 if last else 1, len(x.shape))
    made = (*windows.counts, outputs) if last else (outputs, *windows.counts)
    shape = (x.shape[0], *made)
    return Pending(call.node, reads(x), compute, shape, "product", lost=bias.lost)


def gemm(call: Call) -> Pending:
    """Gemm; alpha and beta scale the accumulator's unit and the bias."""
    turned = [bool(call.attributes.get(name, 0)) for name in ("transA", "transB")]
    a, b = activation(call, 0), _weight(call, 1, 0 if turned[1] else 1)
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise call.refuse(f"matrices of shape {list(a.shape)} and {list(b.shape)}")
    rows, inner = a.shape[::-1] if turned[0] else a.shape
    depth, columns = b.shape[::-1] if turned[1] else b.shape
    if inner != depth:
        raise call.refuse(f"{inner} columns meet {depth} rows")
    alpha, beta = (float(call.attributes.get(name, 1.0)) for name in ("alpha", "beta"))
    if not alpha > 0:
        raise call.refuse(f"alpha must be positive, not {alpha}")
    unit = _unit(a.params, b.params, alpha)
    bias = _bias(call, 2, unit, b, 0 if turned[1] else 1, beta)

    def accumulate(tensors: Tensors) -> torch.Tensor:
        left, right = a.centred(tensors), b.centred(tensors)
        return integer.matmul(left.T if turned[0] else left, right.T if turned[1] else right)

    compute = _finish(call, accumulate, bias.unit, bias.units, 1, 2)
    shape = (rows, columns)
    return Pending(call.node, reads(a, b), compute, shape, "product", lost=bias.lost)


def matmul(call: Call) -> Pending:
    """MatMul of activations, or of one and a constant; scales per column of the right one."""
    a = activation(call, 0)
    b = _weight(call, 1, len(source(call, 1).shape) - 1)
    try:
        shape = tuple(
            torch.matmul(
                torch.empty(a.shape, device="meta"), torch.empty(b.shape, device="meta")
            ).shape
        )
    except RuntimeError:
        raise call.refuse(f"matrices of shape {list(a.shape)} and {list(b.shape)}") from None
    if not shape:
        raise call.refuse("a product of two vectors is not read")

    def accumulate(tensors: Tensors) -> torch.Tensor:
        return integer.matmul(a.centred(tensors), b.centred(tensors))

    unit = _unit(a.params, b.params)
    axis = len(shape) - 1
    return Pending(
        call.node,
        reads(a, b),
        _finish(call, accumulate, unit, None, axis, len(shape)),
        shape,
        "product",
    )


# Means ------------------------------------------------------------------------------------


def average(
    total: torch.Tensor, count: int | torch.Tensor, x: QParams, target: QParams
) -> torch.Tensor:
    """s = f32(sx/f32(sy·n)), total = Σx - n·zx."""
    counts = np.asarray(count, dtype=F32)
    scale = torch.from_numpy(np.asarray(x.unit / (target.unit * counts), dtype=F32))
    return integer.requantize(total, scale, target.zero, target.low, target.high)


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


def average_pool(call: Call) -> Pending:
    """AveragePool, with what ONNX Runtime counts."""
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
        return average(integer.sum_pool(shifted, windows), counts, x.params, target)

    shape = (*x.shape[:2], *windows.counts)
    return Pending(call.node, reads(x), compute, shape, "AveragePool")


# Elementwise ------------------------------------------------------------------------------


def pair(call: Call) -> Pending:
    """Add, Sub, Mul, Div of two quantized tensors: a 65536-entry table."""
    a, b = activation(call, 0), activation(call, 1)
    shape = _broadcast(call, a, b)

    def by_table(make: Callable[[QParams, QParams, QParams], np.ndarray]) -> Kernel:
        def kernel(tensors: Tensors, target: QParams) -> torch.Tensor:
            table = torch.from_numpy(make(a.params, b.params, target).reshape(-1))
            left = (a.tensor(tensors).to(torch.int32) - a.params.low) * 256
            index = left + (b.tensor(tensors).to(torch.int32) - b.params.low)
            if call.op == "Div" and bool(_undefined(index, a.params, b.params).any()):
                raise call.refuse("divides 0 by 0")
            return table[index]

        return kernel

    # Behind a clamp that cuts, ONNX Runtime does not fuse Add: it adds in float.
    clamped = by_table(tables.add_float_table) if call.op == "Add" else None
    kernel = by_table(tables.PAIRS[call.op])
    return Pending(call.node, reads(a, b), kernel, shape, call.op, clamped=clamped)


def _undefined(index: torch.Tensor, a: QParams, b: QParams) -> torch.Tensor:
    return index == (a.zero - a.low) * 256 + b.zero - b.low


def _broadcast(call: Call, *sources: Source) -> Shape:
    shapes = [s.shape for s in sources]
    try:
        return tuple(np.broadcast_shapes(*shapes))
    except ValueError:
        listed = ", ".join(str(list(s)) for s in shapes)
        raise call.refuse(f"shapes {listed} do not broadcast") from None


def extremum(call: Call) -> Pending:
    """Max and Min of any number of tensors: each at the scale of the result, then the choice."""
    sources = [activation(call, i) for i in range(len(call.operands))]
    choose = torch.maximum if call.op == "Max" else torch.minimum

    def kernel(tensors: Tensors, target: QParams) -> torch.Tensor:
        result = rescaled(sources[0], tensors, target)
        for each in sources[1:]:
            result = choose(result, rescaled(each, tensors, target))
        return result

    return Pending(call.node, reads(*sources), kernel, _broadcast(call, *sources), "extremum")


def total(call: Call) -> Pending:
    """Sum: of two as Add, of more in float32 from left to right, as the file says."""
    sources = [activation(call, i) for i in range(len(call.operands))]
    if len(sources) == 2:
        return pair(replace(call, op="Add"))

    def kernel(tensors: Tensors, target: QParams) -> torch.Tensor:
        reals = [tables.dequantize(s.tensor(tensors).numpy(), s.params) for s in sources]
        result = reals[0]
        for each in reals[1:]:
            result = result + each
        return torch.from_numpy(tables.quantize_float(result, target).astype(np.int16))

    return Pending(call.node, reads(*sources), kernel, _broadcast(call, *sources), "Sum")


def rescaled(operand: Source, tensors: Tensors, target: QParams) -> torch.Tensor:
    """An operand's codes at the scale of the result."""
    codes = operand.tensor(tensors)
    if operand.params.same_as(target):
        return codes
    return lookup(codes, operand.params, tables.requantize_table(operand.params, target))


def concat(call: Call) -> Pending:
    """Concat: each part at the scale of the result, then side by side."""
    sources = [activation(call, i) for i in range(len(call.operands))]
    axis, shape = concatenated(call, [s.shape for s in sources])

    def kernel(tensors: Tensors, target: QParams) -> torch.Tensor:
        return torch.cat([rescaled(s, tensors, target) for s in sources], dim=axis)

    return Pending(call.node, reads(*sources), kernel, shape, "Concat")


def concatenated(call: Call, shapes: list[Shape]) -> tuple[int, Shape]:
    """Axis and shape of a Concat."""
    rank = len(shapes[0])
    axis = call.attributes.get("axis", 1) % rank
    rest = {(*s[:axis], *s[axis + 1 :]) for s in shapes}
    if len(rest) > 1 or any(len(s) != rank for s in shapes):
        raise call.refuse(f"shapes {', '.join(str(list(s)) for s in shapes)} along axis {axis}")
    size = sum(s[axis] for s in shapes)
    return axis, (*shapes[0][:axis], size, *shapes[0][axis + 1 :])


OPERATORS: dict[str, Callable[[Call], Pending]] = {
    "Add": pair,
    "AveragePool": average_pool,
    "Concat": concat,
    "Conv": conv,
    "Div": pair,
    "Gemm": gemm,
    "GlobalAveragePool": global_average_pool,
    "MatMul": matmul,
    "Max": extremum,
    "Min": extremum,
    "Mul": pair,
    "ReduceMean": reduce_mean,
    "ReduceSum": reduce_sum,
    "Sub": pair,
    "Sum": total,
}

FORMS = ("product", "mean", "AveragePool", "Add", "Sub", "Mul", "Div", "Sum", "extremum", "Concat")
"""Definitions of docs/numerics.md that the operators follow."""
