"""Import PRelu with a slope per channel: y = x where x >= 0, else a[c]·x.

A table makes the codes of x >= 0, and the result's zero point of all others. What lies below zero
passes a depthwise 1×1 convolution, whose scale of a channel is f32(f32(sx·|a|)/sy); of all others
it makes the zero point. Wherever one is not the zero point the other is: their sum is exact.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from compiler.frontend.builder import Operand
from compiler.frontend.site import Site
from compiler.ops import (
    Convolution,
    Pairwise,
    PairwiseKind,
    UnaryTable,
    make_table,
    stored_codes,
)
from compiler.tensor import TensorType
from hw.arch.numerics import Affine, split_scale

SHIFT_LIMIT = 256


def prelu(site: Site) -> Operand:
    """PRelu whose slope varies along the channels only."""
    source = site.standard(0)
    slope = _slopes(site, source.kind)
    kind, result = source.kind, site.target.like(source.kind)
    above = _table(site, source, result, "/positive", _positive(kind, result))
    codes = np.minimum(stored_codes(kind), kind.zero_point).astype(kind.dtype)
    below = _table(site, source, kind, "/negative", codes.tobytes())
    scaled = _scaled(site, below, result, slope)
    scale, zero = result.scale, result.zero_point
    total = Pairwise(
        name=site.builder.op_name(site.node),
        inputs=(above.name, scaled.name),
        output=site.output(),
        kind=PairwiseKind.ADD,
        arithmetic=Affine.add(scale, zero, scale, zero, scale, zero),
        low=site.low,
        high=site.high,
    )
    return site.emit(total, result)


def _slopes(site: Site, kind: TensorType) -> npt.NDArray[np.float32]:
    """One slope per channel."""
    operand = site.operand(1)
    if operand.array is None:
        raise site.refuse(f"slope {operand.name} must be constant")
    values, shape = operand.array, kind.onnx_shape
    if operand.quantization is not None:
        scale, zero = operand.quantization.along(values.ndim)
        values = (values.astype(np.int64) - zero).astype(np.float32) * np.float32(scale)
    if values.dtype != np.float32 or not np.isfinite(values).all():
        raise site.refuse(f"slope {operand.name} is {values.dtype}: finite float32 is read")
    padded = values.reshape((1,) * (len(shape) - values.ndim) + values.shape)
    own = tuple(n if axis == 1 else 1 for axis, n in enumerate(shape))
    if padded.shape != own:
        raise site.refuse(
            f"slope {operand.name} of shape {list(values.shape)} on {list(shape)}: one slope, or "
            f"one for each of the {shape[1]} channels is lowered"
        )
    return np.asarray(padded.reshape(-1), np.float32)


def _positive(kind: TensorType, result: TensorType) -> bytes:
    return make_table(kind, result, [lambda real: np.maximum(real, np.float32(0))])


def _table(site: Site, source: Operand, kind: TensorType, part: str, table: bytes) -> Operand:
    op = UnaryTable(
        name=site.builder.op_name(site.node, part),
        inputs=(source.name,),
        output=site.output(),
        table=table,
        function="PRelu" + part,
    )
    return site.emit(op, kind)


def _scaled(
    site: Site, below: Operand, result: TensorType, slope: npt.NDArray[np.float32]
) -> Operand:
    """Each channel by its slope."""
    channels = slope.size
    unit = np.float32(below.kind.scale) * np.abs(slope)
    scale = (unit / np.float32(result.scale)).astype(np.float32)
    # What is scaled by 0 has a weight of 0; its scale is free.
    split = [split_scale(s if s > 0 else 1.0) for s in scale]
    shift = np.array([n for _, n in split], np.int64)
    if shift.min() < 0 or shift.max() >= SHIFT_LIMIT:
        raise site.refuse(f"slopes times scale {scale.min():.3g}..{scale.max():.3g} overflow")
    limits = np.iinfo(site.target.dtype)
    op = Convolution(
        name=site.builder.op_name(site.node, "/slope"),
        inputs=(below.name,),
        output=site.output(),
        weight=(np.sign(slope) * (scale > 0)).astype(np.int8).reshape(channels, 1, 1, 1, 1),
        bias=np.zeros(channels, np.int32),
        multiplier=np.array([m for m, _ in split], np.int64),
        shift=shift,
        groups=channels,
        low=int(limits.min),
        high=int(limits.max),
    )
    return site.emit(op, result)
