"""Import Conv, Gemm and MatMul: everything that becomes a Convolution."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from compiler.frontend import batched
from compiler.frontend.builder import Operand
from compiler.frontend.model import Array
from compiler.frontend.quantization import Quantization
from compiler.frontend.site import Site
from compiler.frontend.windows import spread, window_attributes
from compiler.ops import Convolution
from compiler.tensor import TensorType
from hw.arch.axes import Axes, merged, standard, to_canonical
from hw.arch.numerics import split_scale

BIAS_TOLERANCE = 1e-5
"""Relative difference allowed between a bias's scale and x scale · weight scale."""
SHIFT_LIMIT = 256
FREE_BITS = 21
"""Of a bias whose channel has no weights."""
Reals = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class _Product:
    """Weights and requantization of a product: int8 weights, output channels first."""

    weight: npt.NDArray[np.int8]
    bias: npt.NDArray[np.int32]
    multiplier: npt.NDArray[np.int64]
    shift: npt.NDArray[np.int64]


def convolution(site: Site) -> Operand:
    """Conv and QLinearConv in one to three dimensions."""
    last = bool(site.attributes.get("channels_last", 0))
    source = _channels_first(site) if last else site.standard(0)
    kind = source.kind
    _, codes, quantization = site.quantized_constant(1, "weight")
    rank = codes.ndim - 2
    if not 1 <= rank <= 3 or len(kind.onnx_shape) != rank + 2:
        raise site.refuse(
            f"weights of shape {list(codes.shape)} on an input of shape {list(kind.onnx_shape)}; "
            "1-D to 3-D convolutions are read"
        )
    kernel = [int(k) for k in codes.shape[2:]]
    if site.attributes.get("kernel_shape", kernel) != kernel:
        raise site.refuse(f"kernel_shape differs from the weights' {kernel}")
    strides, pads, dilations = window_attributes(site, kernel, kind.onnx_shape[2:])
    product = _product(site, kind, codes, quantization, 0)
    op = Convolution(
        name=site.builder.op_name(site.node),
        inputs=(source.name,),
        output=site.output(),
        weight=product.weight.reshape(*product.weight.shape[:2], *spread(kernel)),
        bias=product.bias,
        multiplier=product.multiplier,
        shift=product.shift,
        stride=spread(strides),
        pad_begin=spread(pads[:rank], 0),
        pad_end=spread(pads[rank:], 0),
        dilation=spread(dilations),
        groups=int(site.attributes.get("group", 1)),
        low=site.low,
        high=site.high,
    )
    shape = op.infer([kind])
    result = site.emit(op, site.result((kind.onnx_shape[0], shape[0], *shape[4 - rank :])))
    if not last:
        return result
    seen = result.kind.transposed([0, *range(2, rank + 2), 1])
    assert seen is not None, site.name
    return Operand(result.name, seen)


def _channels_first(site: Site) -> Operand:
    """The operand of a QLinearConv with channels_last (com.microsoft), as [N, C, ...]."""
    operand = site.activation(0)
    rank = len(operand.kind.onnx_shape)
    seen = operand.kind.transposed([0, rank - 1, *range(1, rank - 1)])
    if seen is None:
        raise site.refuse(f"the axes of {operand.name} do not part")
    axes = standard(seen.onnx_shape)
    return site.builder.in_form(Operand(operand.name, seen), axes, site.node)


def gemm(site: Site) -> Operand:
    """Gemm and QGemm with constant weights: a 1×1×1 convolution over the rows."""
    source = site.activation(0)
    if len(source.kind.onnx_shape) != 2:
        raise site.refuse(f"a matrix of shape {list(source.kind.onnx_shape)}")
    if site.attributes.get("transA", 0):
        seen = source.kind.transposed([1, 0])
        if seen is None:
            raise site.refuse(f"transposes {source.name}, whose axes do not part")
        source = Operand(source.name, seen)
    _, codes, quantization = site.quantized_constant(1, "weight")
    if codes.ndim != 2:
        raise site.refuse(f"weights of shape {list(codes.shape)}")
    if not site.attributes.get("transB", 0):
        codes, quantization = _transposed(codes, quantization)
    return _dense(site, source, codes, quantization)


def matmul(site: Site) -> Operand:
    """MatMul and QLinearMatMul: of two activations, or of one by a constant matrix."""
    if site.operand(0).type is not None and site.operand(1).type is not None:
        return batched.product(site, site.activation(0), site.activation(1))
    if site.operand(0).type is None:
        return _turned(site)
    source = site.activation(0)
    _, codes, quantization = site.quantized_constant(1, "weight")
    lead = codes.shape[:-2]
    if codes.ndim > 2 and all(n == 1 for n in lead) and codes.ndim <= len(source.kind.onnx_shape):
        axis = quantization.axis
        quantization = quantization.moved(None if axis is None else axis - len(lead))
        codes = codes.reshape(codes.shape[-2:])
    if codes.ndim != 2 or not source.kind.onnx_shape:
        raise site.refuse(
            f"matrices of shape {list(source.kind.onnx_shape)} and {list(codes.shape)}"
        )
    return _dense(site, source, *_transposed(codes, quantization))


def _turned(site: Site) -> Operand:
    """A constant matrix by an activation: (Xᵀ·Aᵀ)ᵀ, the transposes moving nothing."""
    _, codes, quantization = site.quantized_constant(0, "matrix")
    source = site.activation(1)
    rank = len(source.kind.onnx_shape)
    if codes.ndim != 2 or rank < 2 or not quantization.single:
        raise site.refuse(
            f"a constant of shape {list(codes.shape)} by {list(source.kind.onnx_shape)}; a matrix "
            "of one scale by matrices is read"
        )
    order = [*range(rank - 2), rank - 1, rank - 2]
    turned = source.kind.transposed(order)
    if turned is None:
        raise site.refuse(f"the axes of {source.name} do not part")
    made = _dense(site, Operand(source.name, turned), codes, quantization)
    kind = made.kind.transposed(order)
    assert kind is not None, site.name
    return Operand(made.name, kind)


def _transposed(codes: Array, quantization: Quantization) -> tuple[Array, Quantization]:
    axis = None if quantization.axis is None else 1 - quantization.axis
    return codes.T, quantization.moved(axis)


def _dense(site: Site, source: Operand, codes: Array, quantization: Quantization) -> Operand:
    """Weights [Cout, features] over the last axis; every other axis is a position.

    Of a single position the features may lie along any of C, T, H and W (a flattened map): the
    layer is then a convolution whose kernel is the whole map.
    """
    shape = source.kind.onnx_shape
    features = int(codes.shape[1])
    if shape[-1] != features:
        raise site.refuse(f"weights for {features} features meet {list(shape)}")
    product = _product(site, source.kind, codes, quantization, 0)
    final = (*shape[:-1], int(codes.shape[0]))
    if math.prod(shape[:-1]) == 1:
        axes = source.kind.axes
        weight = np.stack([to_canonical(row, axes) for row in product.weight])
        return _emit_dense(site, source, product, weight, final, None)
    source = tokens(site, source)
    c, t, h, w = source.kind.axes
    if c != ((features, 1),) and features > 1:
        raise site.refuse(f"the features of {source.name} do not lie in one axis")
    scaled = [
        tuple((n, stride // features * final[-1]) for n, stride in digits) for digits in (t, h, w)
    ]
    axes = (merged(((final[-1], 1),)), scaled[0], scaled[1], scaled[2])
    weight = product.weight.reshape(*product.weight.shape, 1, 1, 1)
    return _emit_dense(site, source, product, weight, final, axes)


def tokens(site: Site, source: Operand) -> Operand:
    """The operand with its last axis along C."""
    kind = source.kind
    if kind.axes[0] == merged(((kind.onnx_shape[-1], 1),)):
        return source
    lead = math.prod(kind.onnx_shape[:-1])
    matrix = Operand(source.name, kind.reshaped((lead, kind.onnx_shape[-1])))
    moved = site.builder.in_form(matrix, standard((lead, kind.onnx_shape[-1])), site.node)
    return Operand(moved.name, moved.kind.reshaped(kind.onnx_shape))


def _emit_dense(
    site: Site,
    source: Operand,
    product: _Product,
    weight: Array,
    final: tuple[int, ...],
    axes: Axes | None,
) -> Operand:
    op = Convolution(
        name=site.builder.op_name(site.node),
        inputs=(source.name,),
        output=site.output(),
        weight=np.ascontiguousarray(weight),
        bias=product.bias,
        multiplier=product.multiplier,
        shift=product.shift,
        low=site.low,
        high=site.high,
    )
    if axes is None:
        axes = (merged(((final[-1], 1),)), (), (), ())
    return site.emit(op, site.result(final, axes))


def _product(
    site: Site, source: TensorType, codes: Array, quantization: Quantization, axis: int
) -> _Product:
    """Centre the weights and work the scales out: s = f32(f32(xs·ws[c])/ys)."""
    if quantization.dtype not in (np.uint8, np.int8):
        raise site.refuse(f"weights are {quantization.dtype}; 8 bits are read")
    channels = int(codes.shape[axis])
    if quantization.axis not in (None, axis) or quantization.scale.size not in (1, channels):
        raise site.refuse("weight scales must be one, or one per output channel")
    centred = quantization.centred(codes)
    if centred.min() < -128 or centred.max() > 127:
        raise site.refuse(
            f"weights minus their zero point reach {centred.min()}..{centred.max()}; "
            "the array multiplies by -128..127: use symmetric int8 weights"
        )
    alpha = np.float32(site.attributes.get("alpha", 1.0) if site.op == "Gemm" else 1.0)
    if alpha <= 0:
        raise site.refuse(f"alpha is {alpha}; it must be positive")
    unit = (
        alpha
        * np.float32(site.scale(int(site.operand(0).type is None)))
        * np.broadcast_to(quantization.scale, channels)
    )
    unit *= np.float32(site.factor)
    units, bias = _bias(site, np.asarray(unit, np.float32), channels, centred)
    scale = (units / np.float32(site.target.scale[0])).astype(np.float32)
    split = [split_scale(s) for s in scale]
    shift = np.array([n for _, n in split], np.int64)
    if shift.min() < 0 or shift.max() >= SHIFT_LIMIT:
        raise site.refuse(f"requantization scales {scale.min():.3g}..{scale.max():.3g} overflow")
    multiplier = np.array([m for m, _ in split], np.int64)
    return _Product(centred.astype(np.int8), bias, multiplier, shift)


def _bias(
    site: Site, unit: Reals, channels: int, weight: npt.NDArray[np.int64]
) -> tuple[Reals, npt.NDArray[np.int32]]:
    """Real value of an accumulator unit per channel, and the bias in these units.

    A bias in other units than x scale · weight scale (float, or integers with a scale of their own)
    is rounded to them. A channel without weights has a free scale (quantizers write 1): it gets
    units that are fine enough for its bias.
    """
    operand = site.operands[2] if len(site.operands) > 2 else None
    beta = np.float32(site.attributes.get("beta", 1.0) if site.op == "Gemm" else 1.0)
    if operand is None or beta == 0:
        return unit, np.zeros(channels, np.int32)
    if operand.array is None:
        raise site.refuse(f"bias {operand.name} must be constant")
    values = operand.array.reshape(-1)
    broadcast = values.size in (1, channels) and math.prod(operand.array.shape[:-1]) == 1
    if not broadcast or (site.op == "Conv" and operand.array.shape != (channels,)):
        raise site.refuse(
            f"bias {operand.name} has shape {list(operand.array.shape)} for {channels} channels"
        )
    quantization = operand.quantization
    if quantization is not None and not (beta == 1 and _is_in_units(quantization, unit)):
        scale, zero = quantization.along(values.ndim)
        values = (values.astype(np.int64) - zero).astype(np.float32) * np.float32(scale)
    if values.dtype == np.float32:
        real = np.broadcast_to((beta * values).astype(np.float64), channels)
        dead = (real != 0) & ~weight.reshape(channels, -1).any(axis=1)
        unit = np.where(dead, np.ldexp(np.float32(1), np.frexp(real)[1] - FREE_BITS), unit)
        unit = unit.astype(np.float32)
        wide = np.rint(real / unit.astype(np.float64))
    elif values.dtype == np.int32:
        wide = np.broadcast_to(values.astype(np.float64), channels)
    else:
        raise site.refuse(f"bias {operand.name} is {values.dtype}; int32 or float32 are read")
    if not np.isfinite(wide).all() or np.abs(wide).max() >= 1 << 31:
        worst = int(np.argmax(np.abs(wide)))
        raise site.refuse(
            f"bias {operand.name}, channel {worst}: {wide[worst]:.6g} units leave int32 "
            f"(limit {math.ldexp(1, 31):.6g})"
        )
    return unit, wide.astype(np.int32)


def _is_in_units(quantization: Quantization, unit: Reals) -> bool:
    """Whether integers of a bias are accumulator units as they stand."""
    return (
        quantization.dtype == np.int32
        and not quantization.zero_point.any()
        and np.allclose(quantization.scale, unit, rtol=BIAS_TOLERANCE, atol=0)
    )
