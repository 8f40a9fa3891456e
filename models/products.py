"""Conv, Gemm, MatMul: exact accumulators with the bias in them, requantized.

Definitions: docs/numerics.md.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from models import integer
from models.operands import Source, activation, reads, source
from models.tables import F32, QParams
from models.values import Call, Constant, Kernel, Pending, Tensors
from models.windows import windows_of

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

    def moved(self, target: QParams) -> float:
        """The same at whatever scale the result has."""
        return self.lost


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
    # docs/numerics.md: what is at another scale becomes rint(b / (sx·sw)).
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
    return Pending(call.node, reads(x), compute, shape, "product", lost=bias.moved)


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
    return Pending(call.node, reads(a, b), compute, shape, "product", lost=bias.moved)


def matmul(call: Call, factor: float = 1.0) -> Pending:
    """MatMul of activations, or of one and a constant; scales per column of the right one.

    The product is multiplied by a positive constant.
    """
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

    unit = (F32(factor) * _unit(a.params, b.params)).astype(F32)
    axis = len(shape) - 1
    return Pending(
        call.node,
        reads(a, b),
        _finish(call, accumulate, unit, None, axis, len(shape)),
        shape,
        "product",
        scaled=lambda more: matmul(call, factor * more),
    )


def einsum(call: Call, factor: float = 1.0) -> Pending:
    """Einsum of two activations, every index of the result in one of them at least."""
    a, b = activation(call, 0), activation(call, 1)
    equation = str(call.attributes.get("equation", "")).replace(" ", "")
    inputs, arrow, made = equation.partition("->")
    terms = inputs.split(",")
    if len(terms) != 2 or len(call.operands) != 2 or not arrow or "." in equation:
        raise call.refuse(f"equation {equation!r}: two tensors and a result are read")
    if any(len(set(t)) < len(t) for t in (*terms, made)):
        raise call.refuse(f"equation {equation!r} has an index twice in a tensor")
    if any(
        i not in made and (i not in terms[0] or i not in terms[1]) for i in equation if i.isalpha()
    ):
        raise call.refuse(f"equation {equation!r} sums an index of one tensor")
    try:
        shape = tuple(
            torch.einsum(
                equation,
                torch.empty(a.shape, device="meta"),
                torch.empty(b.shape, device="meta"),
            ).shape
        )
    except RuntimeError as error:
        raise call.refuse(f"equation {equation!r}: {error}") from None

    def accumulate(tensors: Tensors) -> torch.Tensor:
        # Exact: sums of products of 9 bits stay far below 2^53.
        left, right = (each.centred(tensors).to(torch.float64) for each in (a, b))
        return torch.einsum(equation, left, right).round().to(torch.int64)

    unit = (F32(factor) * _unit(a.params, b.params)).astype(F32)
    kernel = _finish(call, accumulate, unit, None, -1, len(shape))
    return Pending(
        call.node,
        reads(a, b),
        kernel,
        shape,
        "product",
        scaled=lambda more: einsum(call, factor * more),
    )
