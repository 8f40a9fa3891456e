"""What a host does around a run: inputs into the DRAM image, tensors out of it.

The user's arrays come by the names of the graph's inputs. Functions that stand in the graph before
the first QuantizeLinear (x / 255 and the like) are evaluated in float, as the file says, by ONNX
Runtime without optimizations (HOST_MODEL); then every fed tensor is quantized as its own
QuantizeLinear does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.arch.axes import from_canonical, index_of, to_canonical
from hw.arch.numerics import quantize
from hw.arch.program import HOST_MODEL, Input, Output, Program, State, Tensor
from sim.errors import InputError

Bytes = npt.NDArray[np.uint8]
Arrays = dict[str, npt.NDArray[Any]]


def dtype(tensor: Tensor) -> type[np.int8] | type[np.uint8]:
    """Type of a tensor's codes."""
    return np.int8 if tensor.signed else np.uint8


def check_fits(program: Program, board: str, memory_bytes: int) -> None:
    """Refuse a program that needs more memory than a board has.

    Raises
    ------
    InputError
        Says how much.
    """
    end = program.dram_base + program.memory_bytes
    if end > memory_bytes:
        raise InputError(f"the program needs DRAM up to byte {end:,}, {board} has {memory_bytes:,}")


# Inputs -----------------------------------------------------------------------------------


def check(port: Input, value: npt.NDArray[Any]) -> None:
    """Refuse an array that cannot be a graph input's value.

    Raises
    ------
    InputError
        If shape or type do not fit, or a float is not finite.
    """
    what = f"input {port.name!r}"
    if value.shape != port.shape:
        raise InputError(f"{what} must have shape {list(port.shape)}, not {list(value.shape)}")
    if value.dtype != np.dtype(port.dtype):
        raise InputError(f"{what} must be {port.dtype}, not {value.dtype}")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        index = [int(i) for i in np.argwhere(~np.isfinite(value))[0]]
        raise InputError(f"{what} holds {value[tuple(index)]} at {index}; it must be finite")


def as_reals(program: Program, port: Input, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array as the file types it; codes given for a float input become the reals they stand for.

    Raises
    ------
    InputError
        If codes are given where not exactly one quantizer reads the input directly.
    """
    if port.dtype != "float32" or value.dtype not in (np.uint8, np.int8):
        return value
    readers = [program.tensor(f.tensor) for f in program.feeds if f.source == port.name]
    kinds = {(t.signed, t.scale, t.zero_point) for t in readers}
    if len(kinds) != 1 or value.dtype != dtype(readers[0]):
        raise InputError(
            f"input {port.name!r} must be float32, not {value.dtype}"
            + ("" if len(kinds) == 1 else ": no single QuantizeLinear says what codes would mean")
        )
    return dequantize(readers[0], value)


def feeds(program: Program, inputs: Mapping[str, npt.NDArray[Any]], model: Path | None) -> Arrays:
    """Codes of every tensor that the host writes, by tensor name, in the file's shape.

    Parameters
    ----------
    inputs: every graph input by name, as the file types it.
    model: the host's part of the graph, if there is one.

    Raises
    ------
    InputError
        If an input is missing, unknown, or does not fit.
    """
    known = {port.name: port for port in program.inputs}
    for name in inputs:
        if name not in known:
            raise InputError(f"no input {name!r}; the graph has {', '.join(map(repr, known))}")
    for name, port in known.items():
        if name in inputs:
            check(port, inputs[name])
        elif port.used:
            raise InputError(f"input {name!r} is missing")
    values = dict(inputs)
    wanted = [f.source for f in program.feeds if f.source not in known]
    if wanted:
        if model is None:
            raise InputError(f"{wanted[0]!r} is computed by the host, and {HOST_MODEL} is missing")
        values |= evaluate(model, inputs, list(dict.fromkeys(wanted)))
    return {
        feed.tensor: codes(program.tensor(feed.tensor), values[feed.source], feed.source)
        for feed in program.feeds
    }


def evaluate(
    model: Path, inputs: Mapping[str, npt.NDArray[Any]], names: list[str]
) -> dict[str, npt.NDArray[Any]]:
    """Run the host's part of the graph as it is written.

    Raises
    ------
    InputError
        If it cannot be run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        read = {port.name for port in session.get_inputs()}
        given = {name: value for name, value in inputs.items() if name in read}
        return dict(zip(names, session.run(names, given), strict=True))
    except Exception as error:  # whatever its kernels raise
        raise InputError(f"{model}: {error}") from error


def codes(tensor: Tensor, value: npt.NDArray[Any], source: str = "") -> npt.NDArray[Any]:
    """Codes of a tensor's value: reals are quantized, codes are taken as they are.

    Parameters
    ----------
    source: what the user calls it.

    Raises
    ------
    InputError
        If shape or type do not fit.
    """
    what = source or tensor.name
    if value.shape != tensor.shape:
        raise InputError(
            f"input {what!r} must have shape {list(tensor.shape)}, not {list(value.shape)}"
        )
    kind = dtype(tensor)
    if value.dtype == kind:
        return value
    if value.dtype != np.float32:
        raise InputError(f"input {what!r} must be float32 or {kind.__name__}, not {value.dtype}")
    if not np.isfinite(value).all():
        raise InputError(f"input {what!r} holds values that are not finite")
    limits = np.iinfo(kind)
    quantized = quantize(value, tensor.scale, tensor.zero_point, limits.min, limits.max)
    return quantized.astype(kind)


def place(memory: Bytes, tensor: Tensor, value: npt.NDArray[Any]) -> None:
    """Write a tensor's codes (in the file's shape) to the DRAM image."""
    packed = tensor.layout.pack(to_canonical(value, tensor.axes), tensor.zero_point)
    memory[tensor.address : tensor.address + packed.size] = packed


def initial(program: Program, state: State) -> npt.NDArray[Any]:
    """A state before the first run, as the file types its input."""
    port = next(port for port in program.inputs if port.name == state.input)
    name = next(feed.tensor for feed in program.feeds if feed.source == state.input)
    tensor = program.tensor(name)
    value = np.full(port.shape, state.initial, dtype(tensor))
    return dequantize(tensor, value) if port.dtype == "float32" else value


def next_image(
    program: Program,
    memory: Bytes,
    fed: Mapping[str, npt.NDArray[Any]],
    states: Collection[str] = (),
) -> Bytes:
    """DRAM before another run: what the last one left, and the fed tensors.

    Parameters
    ----------
    memory: after the last run; not changed.
    fed: by tensor name, as in `start_image`.
    states: inputs that are written, too; the others stay as the last run left them.

    Raises
    ------
    InputError
        If a tensor does not fit.
    """
    result = memory.copy()
    kept = {n for n, state in program.state_tensors().items() if state.input not in states}
    for name, value in fed.items():
        if name not in kept:
            place(result, program.tensor(name), codes(program.tensor(name), value))
    return result


def start_image(program: Program, fed: Mapping[str, npt.NDArray[Any]]) -> Bytes:
    """DRAM before the start: code, weights and the fed tensors.

    Parameters
    ----------
    fed: by tensor name (`feeds`), reals or codes.

    Raises
    ------
    InputError
        If a tensor is missing, unknown, or does not fit.
    """
    known = [feed.tensor for feed in program.feeds]
    for name in fed:
        if name not in known:
            raise InputError(f"no input {name!r}; the program has {', '.join(known)}")
    memory = program.memory()
    for name in known:
        if name not in fed:
            raise InputError(f"input {name!r} is missing")
        tensor = program.tensor(name)
        place(memory, tensor, codes(tensor, fed[name]))
    return memory


# Results ----------------------------------------------------------------------------------


def read(memory: Bytes, tensor: Tensor) -> npt.NDArray[Any]:
    """Codes of a tensor from the DRAM image, in the file's shape."""
    stored = tensor.layout.unpack(tensor.stored(memory), tensor.signed)
    return from_canonical(stored, tensor.axes, tensor.shape)


def result(program: Program, memory: Bytes, port: Output) -> npt.NDArray[Any]:
    """An output of the graph as the file types it: codes, or reals or indices that they are."""
    tensor = program.tensor(port.tensor)
    stored = tensor.layout.unpack(tensor.stored(memory), tensor.signed)
    value = from_canonical(stored, port.axes, port.stored)
    if port.digits > 1:
        return np.asarray(value.astype(np.int64) @ (256 ** np.arange(port.digits)), np.int64)
    return dequantize(tensor, value) if port.dtype == "float32" else value.astype(port.dtype)


def dequantize(tensor: Tensor, value: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """DequantizeLinear in float32."""
    centred = value.astype(np.int32) - np.int32(tensor.zero_point)
    return np.asarray(centred.astype(np.float32) * np.float32(tensor.scale), np.float32)


def byte_of(tensor: Tensor, index: tuple[int, ...]) -> int:
    """DRAM address of one element, given by its index in the file's shape."""
    flat = int(np.ravel_multi_index(index, tensor.shape)) if index else 0
    channel, t, y, x = index_of(tensor.axes, flat)
    layout = tensor.layout
    lane = int(np.flatnonzero(layout.lane_channels() == channel)[0])
    block, lane = divmod(lane, layout.lanes)
    position = (t * layout.height + y) * layout.width + x
    return tensor.row_address(block * layout.positions + position) + lane
