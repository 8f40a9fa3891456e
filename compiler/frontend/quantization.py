"""Scales and zero points as they stand in an ONNX file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from compiler.frontend.model import Array, Model, attributes_of, refuse
from compiler.tensor import TensorType
from hw.arch.axes import Axes

INTEGERS = (np.uint8, np.int8, np.int32)
MASK = " (of a mask with -inf or the least float32? Mask with a finite number, as -100)"


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Quantization:
    """real = (integer − zero_point) · scale.

    Attributes
    ----------
    scale: float32 [1] or [channels].
    zero_point: int64, as long as `scale`.
    dtype: uint8, int8 or int32 (biases).
    axis: channel axis where there are several scales.
    """

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    dtype: np.dtype[Any]
    axis: int | None = None

    @property
    def single(self) -> bool:
        """One scale and eight bits: fit for an activation."""
        return self.scale.size == 1 and self.dtype in (np.uint8, np.int8)

    def type(self, onnx_shape: Sequence[int], axes: Axes | None = None) -> TensorType:
        """Type of an activation with these parameters."""
        return TensorType.of(onnx_shape, *self._quantization, axes)

    def like(self, kind: TensorType) -> TensorType:
        """Type of an activation with these parameters and another's elements."""
        return TensorType.of(kind.onnx_shape, *self._quantization, kind.axes)

    def describes(self, kind: TensorType) -> bool:
        """Whether a tensor's codes read as the same reals."""
        return self.single and self._quantization == kind.quantization

    @property
    def _quantization(self) -> tuple[bool, float, int]:
        scale = float(np.float32(self.scale[0]))
        return bool(self.dtype == np.int8), scale, int(self.zero_point[0])

    def along(self, rank: int) -> tuple[Array, Array]:
        """Scale and zero point shaped to broadcast against a tensor of this rank."""
        if self.axis is None:
            return self.scale[0], self.zero_point[0]
        shape = [1] * rank
        shape[self.axis] = -1
        return self.scale.reshape(shape), self.zero_point.reshape(shape)

    def centred(self, codes: Array) -> npt.NDArray[np.int64]:
        """Codes minus zero point."""
        return np.asarray(codes.astype(np.int64) - self.along(codes.ndim)[1], np.int64)

    def moved(self, axis: int | None) -> Quantization:
        """The same, its channels along another axis."""
        return dataclasses.replace(self, axis=axis)


def parameters(
    model: Model,
    node: onnx.NodeProto,
    scale: str,
    zero: str,
    dtype: Any = np.uint8,
    rank: int | None = None,
    axis: int | None = None,
) -> Quantization:
    """Read scale and zero point of a node.

    Parameters
    ----------
    model, node: where.
    scale, zero: names of the constants; `zero` may be empty.
    dtype: integer type where `zero` is empty and the node does not say it (output_dtype, opset 21).
    rank: of the tensor, to resolve a negative axis.
    axis: channel axis; None reads the node's attribute.

    Raises
    ------
    Unsupported
        They are not constant, not float32 and 8 bits (32 for biases), or damaged.
    """
    for name in filter(None, (scale, zero)):
        if not model.is_constant(name):
            raise refuse(node, f"{name} must be a constant (the scale is computed at run time)")
    scales = model.constants[scale]
    attributes = attributes_of(node)
    said, real = attributes.get("output_dtype", 0), attributes.get("precision", 0)
    if node.op_type == "DequantizeLinear":
        said, real = 0, said
    if real not in (0, onnx.TensorProto.FLOAT):
        kind = onnx.TensorProto.DataType.Name(real)
        raise refuse(node, f"computes in {kind}; float32 is read")
    if said:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(said)
    zeros = model.constants[zero] if zero else np.zeros(scales.shape, dtype)
    if said and zeros.dtype != dtype:
        raise refuse(node, f"output_dtype says {dtype}, zero point {zero} is {zeros.dtype}")
    if scales.dtype != np.float32:
        raise refuse(node, f"scale {scale} is {scales.dtype}; float32 is read")
    if zeros.dtype not in INTEGERS:
        what = f"zero point {zero}" if zero else "the result"
        raise refuse(node, f"{what} is {zeros.dtype}; 8 bits are read (32 for biases)")
    if scales.ndim > 1 or zeros.size not in (1, scales.size):
        raise refuse(node, f"scale {scale} has shape {list(scales.shape)}: one axis at most")
    if not np.isfinite(scales).all() or (scales < np.finfo(np.float32).tiny).any():
        mask = "" if not np.isinf(scales).any() else MASK
        raise refuse(node, f"scale {scale} is not a positive normal float32 everywhere{mask}")
    if zeros.dtype.itemsize == 1 and not np.isfinite(_reach(scales, zeros)).all():
        raise refuse(node, f"scale {scale}: {scales.max():g} times a code is no float32{MASK}")
    if attributes.get("block_size", 0):
        raise refuse(node, "blocked quantization (block_size) is not read")
    if scales.size == 1:
        axis = None
    elif axis is None:
        axis = int(attributes.get("axis", 1))
    if axis is not None and axis < 0 and rank is not None:
        axis += rank
    zero_points = np.broadcast_to(zeros.reshape(-1).astype(np.int64), scales.size)
    return Quantization(scales.reshape(-1), zero_points, zeros.dtype, axis)


def _reach(scales: Array, zeros: Array) -> Array:
    """The greatest magnitude of a code, in float32."""
    limits = np.iinfo(zeros.dtype)
    wide = zeros.reshape(-1).astype(np.int64)
    steps = np.maximum(limits.max - wide, wide - limits.min).astype(np.float32)
    with np.errstate(over="ignore"):
        return np.asarray(scales.reshape(-1) * steps)


def of_type(kind: TensorType) -> Quantization:
    """Parameters of an activation, as a site's target."""
    return Quantization(
        np.array([kind.scale], np.float32), np.array([kind.zero_point], np.int64), kind.dtype
    )
