"""Import Conv, Gemm and MatMul: everything that becomes a Convolution."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from compiler.frontend.model import Array
from compiler.frontend.quantization import Quantization
from compiler.frontend.site import Site
from compiler.frontend.windows import spread, window_attributes
from compiler.ops import Convolution, Rearrange
from compiler.tensor import TensorType
from hw.arch.numerics import split_scale

BIAS_TOLERANCE = 1e-5
"""Relative difference allowed between a bias's scale and x scale · weight scale."""
SHIFT_LIMIT = 256


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class _Product:
    """Weights and requantization of a product: int8 weights, output channels first."""

    weight: npt.NDArray[np.int8]
    bias: npt.NDArray[np.int32]
    multiplier: npt.NDArray[np.int64]
    shift: npt.NDArray[np.int64]


def convolution(site: Site) -> None:
    """Conv and QLinearConv in one to three dimensions."""
    source, kind = site.activation(0)
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
        name=site.name,
        inputs=(source,),
        output=site.output,
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
    site.emit(op, (1, shape[0], *shape[4 - rank :]))


def gemm(site: Site) -> None:
    """Gemm and QGemm with constant weights: a 1×1×1 convolution."""
    source, kind = site.activation(0)
    for name in ("alpha", "beta"):
        if site.attributes.get(name, 1.0) != 1.0:
            raise site.refuse(f"{name} is {site.attributes[name]}; only 1 is read")
    if site.attributes.get("transA", 0):
        raise site.refuse("transA is not read")
    _, codes, quantization = site.quantized_constant(1, "weight")
    if codes.ndim != 2 or len(kind.onnx_shape) != 2:
        raise site.refuse(f"matrices of shape {list(kind.onnx_shape)} and {list(codes.shape)}")
    if not site.attributes.get("transB", 0):
        codes, quantization = _transposed(codes, quantization)
    _dense(site, source, kind, codes, quantization, site.output)


def matmul(site: Site) -> None:
    """MatMul and QLinearMatMul of an activation by a constant matrix, over the last axis."""
    if site.operand(0).type is None or site.operand(1).type is not None:
        raise site.refuse(
            "only activation × constant matrix is lowered; attention's products of two "
            "activations and constant × activation are not"
        )
    source, kind = site.activation(0)
    _, codes, quantization = site.quantized_constant(1, "weight")
    if codes.ndim != 2 or len(kind.onnx_shape) < 2:
        raise site.refuse(f"matrices of shape {list(kind.onnx_shape)} and {list(codes.shape)}")
    codes, quantization = _transposed(codes, quantization)
    rank = len(kind.onnx_shape)
    if rank == 2:
        _dense(site, source, kind, codes, quantization, site.output)
        return
    # Features stand on the last axis: bring them to the channel axis and back.
    forth = (0, rank - 1, *range(1, rank - 1))
    back = (0, *range(2, rank), 1)
    lead = tuple(kind.onnx_shape[a] for a in forth)
    moved = site.builder.unused(f"{site.output}/features")
    site.builder.emit(
        Rearrange(name=moved, inputs=(source,), output=moved, permutation=forth, shape=lead),
        kind.with_shape(lead),
    )
    product = site.builder.unused(f"{site.output}/product")
    _dense(site, moved, kind.with_shape(lead), codes, quantization, product)
    shape = (*kind.onnx_shape[:-1], codes.shape[0])
    op = Rearrange(
        name=f"{site.name}/restore",
        inputs=(product,),
        output=site.output,
        permutation=back,
        shape=shape,
    )
    site.emit(op, shape)


def _transposed(codes: Array, quantization: Quantization) -> tuple[Array, Quantization]:
    axis = None if quantization.axis is None else 1 - quantization.axis
    return codes.T, quantization.moved(axis)


def _dense(
    site: Site,
    source: str,
    kind: TensorType,
    codes: Array,
    quantization: Quantization,
    output: str,
) -> None:
    """A 1×1×1 convolution with weights [Cout, Cin]."""
    product = _product(site, kind, codes, quantization, 0)
    op = Convolution(
        name=site.name,
        inputs=(source,),
        output=output,
        weight=product.weight.reshape(*product.weight.shape, 1, 1, 1),
        bias=product.bias,
        multiplier=product.multiplier,
        shift=product.shift,
        low=site.low,
        high=site.high,
    )
    shape = (kind.onnx_shape[0], int(codes.shape[0]), *kind.onnx_shape[2:])
    site.builder.emit(op, site.target.type(shape))


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
    unit = np.float32(source.scale) * np.broadcast_to(quantization.scale, channels)
    scale = (unit / np.float32(site.target.scale[0])).astype(np.float32)
    split = [split_scale(s) for s in scale]
    shift = np.array([n for _, n in split], np.int64)
    if shift.min() < 0 or shift.max() >= SHIFT_LIMIT:
        raise site.refuse(f"requantization scales {scale.min():.3g}..{scale.max():.3g} overflow")
    return _Product(
        centred.astype(np.int8),
        _bias(site, unit.astype(np.float32), channels),
        np.array([m for m, _ in split], np.int64),
        shift,
    )


def _bias(site: Site, unit: npt.NDArray[np.float32], channels: int) -> npt.NDArray[np.int32]:
    """Bias in units of the accumulator, x scale · weight scale."""
    operand = site.operands[2] if len(site.operands) > 2 else None
    if operand is None:
        return np.zeros(channels, np.int32)
    if operand.array is None:
        raise site.refuse(f"bias {operand.name} must be constant")
    values = operand.array.reshape(-1)
    if values.size not in (1, channels):
        raise site.refuse(f"bias {operand.name} has {values.size} entries for {channels} channels")
    if values.dtype == np.float32:
        wide = np.rint(values.astype(np.float64) / unit)
    elif values.dtype == np.int32:
        quantization = operand.quantization
        if quantization is not None:
            if not np.allclose(quantization.scale, unit, rtol=BIAS_TOLERANCE, atol=0):
                raise site.refuse(
                    f"bias {operand.name} has scale {float(quantization.scale[0]):.6g}, not "
                    f"x scale · weight scale = {float(unit[0]):.6g}"
                )
            if quantization.zero_point.any():
                raise site.refuse(f"bias {operand.name} has a zero point")
        wide = values.astype(np.float64)
    else:
        raise site.refuse(f"bias {operand.name} is {values.dtype}; int32 or float32 are read")
    wide = np.broadcast_to(wide, channels)
    if not np.isfinite(wide).all() or np.abs(wide).max() >= 1 << 31:
        worst = int(np.argmax(np.abs(wide)))
        raise site.refuse(
            f"bias {operand.name}, channel {worst}: {wide[worst]:.6g} units leave int32 "
            f"(limit {math.ldexp(1, 31):.6g})"
        )
    return wide.astype(np.int32)
