"""Import PRelu with a slope per channel: y = x where x >= 0, else a[c]·x.

A table makes the codes of x >= 0, and the result's zero point of all others. What lies below zero
passes a depthwise 1×1 convolution, whose scale of a channel is f32(f32(sx·|a|)/sy); of all others
it makes the zero point. Wherever one is not the zero point the other is: their sum is exact.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from compiler.frontend.builder import Operand
from compiler.frontend.channelwise import Lines, scaled
from compiler.frontend.site import Site
from compiler.ops import (
    Pairwise,
    PairwiseKind,
    UnaryTable,
    make_table,
    stored_codes,
)
from compiler.tensor import TensorType
from hw.arch.numerics import Affine


def prelu(site: Site) -> Operand:
    """PRelu whose slope varies along the channels only."""
    source = site.standard(0)
    slope = _slopes(site, source.kind)
    kind, result = source.kind, site.target.like(source.kind)
    above = _table(site, source, result, "/positive", _positive(kind, result))
    codes = np.minimum(stored_codes(kind), kind.zero_point).astype(kind.dtype)
    below = _table(site, source, kind, "/negative", codes.tobytes())
    below = scaled(site, below, result, Lines(slope, np.zeros_like(slope)), "/slope")
    scale, zero = result.scale, result.zero_point
    total = Pairwise(
        name=site.builder.op_name(site.node),
        inputs=(above.name, below.name),
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
