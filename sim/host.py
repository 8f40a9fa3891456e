"""What a host does around a run: inputs into the DRAM image, tensors out of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.arch.layout import canonical_shape
from hw.arch.numerics import quantize
from hw.arch.program import Program, Tensor
from sim.errors import InputError

Bytes = npt.NDArray[np.uint8]


def dtype(tensor: Tensor) -> type[np.int8] | type[np.uint8]:
    """Type of a tensor's codes."""
    return np.int8 if tensor.signed else np.uint8


def check(tensor: Tensor, value: npt.NDArray[Any], name: str | None = None) -> None:
    """Refuse a value that cannot be a tensor's.

    Parameters
    ----------
    name: for messages, if the user knows the tensor by another name.

    Raises
    ------
    InputError
        If shape or type do not fit, or a float is not finite.
    """
    what = f"input {tensor.name if name is None else name!r}"
    if value.shape != tensor.shape:
        raise InputError(f"{what} must have shape {list(tensor.shape)}, not {list(value.shape)}")
    kind = dtype(tensor)
    if value.dtype not in (kind, np.float32):
        raise InputError(f"{what} must be float32 or {np.dtype(kind)}, not {value.dtype}")
    if value.dtype == np.float32 and not np.isfinite(value).all():
        index = [int(i) for i in np.argwhere(~np.isfinite(value))[0]]
        raise InputError(f"{what} holds {value[tuple(index)]} at {index}; it must be finite")


def codes(tensor: Tensor, value: npt.NDArray[Any], name: str | None = None) -> npt.NDArray[Any]:
    """Codes of a tensor's value: float32 is quantized, codes are taken as they are.

    Parameters
    ----------
    name: for messages, if the user knows the tensor by another name.

    Raises
    ------
    InputError
        As `check`.
    """
    check(tensor, value, name)
    kind = dtype(tensor)
    if value.dtype == kind:
        return value
    limits = np.iinfo(kind)
    quantized = quantize(value, tensor.scale, tensor.zero_point, limits.min, limits.max)
    return quantized.astype(kind)


def place(memory: Bytes, tensor: Tensor, value: npt.NDArray[Any], name: str | None = None) -> None:
    """Write a tensor's value (float32 or codes, in the graph's shape) to the DRAM image."""
    stored = codes(tensor, value, name).reshape(canonical_shape(tensor.shape))
    if tensor.order:
        stored = stored[list(tensor.order)]
    packed = tensor.layout.pack(np.ascontiguousarray(stored), tensor.zero_point)
    memory[tensor.address : tensor.address + packed.size] = packed


def read(memory: Bytes, tensor: Tensor) -> npt.NDArray[Any]:
    """Codes of a tensor from the DRAM image, in the graph's shape."""
    stored = tensor.layout.unpack(memory[tensor.address :], tensor.signed)
    if tensor.order:
        result = np.empty_like(stored)
        result[list(tensor.order)] = stored
        stored = result
    return stored.reshape(tensor.shape)


def dequantize(tensor: Tensor, value: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """DequantizeLinear in float32."""
    centred = value.astype(np.int32) - np.int32(tensor.zero_point)
    return np.asarray(centred.astype(np.float32) * np.float32(tensor.scale), np.float32)


def start_image(program: Program, inputs: Mapping[str, npt.NDArray[Any]]) -> Bytes:
    """DRAM before the start: code, weights and the inputs.

    Parameters
    ----------
    inputs: by tensor name (`program.inputs`), float32 or codes.

    Raises
    ------
    InputError
        If an input is missing, unknown, or does not fit.
    """
    known = {t.name: t for t in program.inputs}
    for name in inputs:
        if name not in known:
            raise InputError(f"no input {name!r}; the program has {', '.join(known)}")
    memory = program.memory()
    for name, tensor in known.items():
        if name not in inputs:
            raise InputError(f"input {name!r} is missing")
        place(memory, tensor, inputs[name])
    return memory


def byte_of(tensor: Tensor, index: tuple[int, ...]) -> int:
    """DRAM address of one element, given by its index in the graph's shape."""
    flat = int(np.ravel_multi_index(index, tensor.shape))
    channel, t, y, x = (int(v) for v in np.unravel_index(flat, canonical_shape(tensor.shape)))
    if tensor.order:
        channel = tensor.order.index(channel)
    layout = tensor.layout
    lane = int(np.flatnonzero(layout.lane_channels() == channel)[0])
    block, lane = divmod(lane, layout.lanes)
    position = (t * layout.height + y) * layout.width + x
    return tensor.address + (block * layout.positions + position) * layout.lanes + lane
