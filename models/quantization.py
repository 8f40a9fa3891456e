"""Scales and zero points as they stand in a file."""

import numpy as np

from models.onnxfile import CODES
from models.tables import QParams
from models.values import Call, Constant

_INTEGERS = (*CODES, np.dtype(np.int32))
_FLOAT = 1  # ONNX's number of float32, in output_dtype and precision


def of_quantize(call: Call) -> QParams:
    """What a QuantizeLinear node makes: its zero point's type, or output_dtype, or uint8."""
    zero = call.constant(2)
    said = call.attributes.get("output_dtype", 0)
    kinds = {2: np.dtype(np.uint8), 3: np.dtype(np.int8), 0: None}
    if said not in kinds:
        raise call.refuse(f"output_dtype {said} is not 8-bit")
    if zero is not None and said and zero.dtype != kinds[said]:
        raise call.refuse(f"output_dtype is {kinds[said]}, the zero point {zero.dtype}")
    if call.attributes.get("precision", 0) not in (0, _FLOAT):
        raise call.refuse("divides in another precision than float32")
    value = call.operand(0)
    rank = value.array.ndim if isinstance(value, Constant) else None
    return read(call, 1, 2, kinds[said] or np.dtype(np.uint8), rank)


def of_dequantize(call: Call, dtype: np.dtype, rank: int) -> QParams:
    """How a DequantizeLinear node reads integers of a type."""
    if call.attributes.get("output_dtype", 0) not in (0, _FLOAT):
        raise call.refuse("makes another type than float32")
    params = read(call, 1, 2, dtype, rank)
    if params.dtype != dtype:
        raise call.refuse(
            f"reads {call.names[0]}, which is {dtype}, with a zero point of {params.dtype}"
        )
    return params


def read(
    call: Call,
    scale_index: int,
    zero_index: int,
    dtype: np.dtype = CODES[0],
    rank: int | None = None,
    axis: int | None = None,
) -> QParams:
    """Scale and zero point given as inputs of a node.

    Parameters
    ----------
    call, scale_index, zero_index: where.
    dtype: of the integers where no zero point says it.
    rank: of the tensor, to resolve a negative axis.
    axis: the channel axis; the node's attribute if it is not given.

    Raises
    ------
    UnsupportedGraph
        They are not constant, not float32 and 8 bits (32 for biases), blocked, or damaged.
    """
    scale, zero = call.constant(scale_index), call.constant(zero_index)
    if scale is None:
        raise call.refuse("has no scale")
    if scale.dtype != np.float32:
        raise call.refuse(f"scale must be float32, not {scale.dtype}")
    if not np.isfinite(scale).all() or (scale <= 0).any():
        raise call.refuse(f"scale {call.names[scale_index]} must be positive and finite")
    if call.attributes.get("block_size", 0) or (scale.ndim > 1 and scale.size > 1):
        raise call.refuse("scales per block are not read")
    if zero is None:
        zero = np.zeros(1, dtype)
    if zero.dtype not in _INTEGERS:
        raise call.refuse(f"integer type {zero.dtype} is not 8-bit (int32: bias)")
    if zero.size not in (1, scale.size):
        raise call.refuse(f"{zero.size} zero points for {scale.size} scales")
    if scale.size == 1:
        axis = None
    else:
        axis = call.attributes.get("axis", 1) if axis is None else axis
        if rank is not None:
            if not -rank <= axis < rank:
                raise call.refuse(f"axis {axis} of a tensor of rank {rank}")
            axis %= rank
    zeros = np.broadcast_to(zero.reshape(-1).astype(np.int64), scale.size)
    return QParams(scale.reshape(-1), zeros, zero.dtype, axis)
