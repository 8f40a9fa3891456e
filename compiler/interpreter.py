"""Run a graph in exact integers on NumPy: the reference for every later stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from compiler.ir import Codes, CompilerError, Graph, Operation, Port, TensorType
from hw.arch import numerics

Array = npt.NDArray[Any]


def quantize_input(value: Array, kind: TensorType) -> Codes:
    """Codes of a float tensor as QuantizeLinear makes them; integers pass as they are."""
    if value.dtype == kind.dtype:
        return value
    real = np.asarray(value, np.float32)
    if not np.isfinite(real).all():
        raise CompilerError("an input holds values that are not finite")
    codes = numerics.quantize(real, kind.scale, kind.zero_point, kind.low, kind.high)
    return np.asarray(codes, kind.dtype)


def dequantize(codes: Codes, kind: TensorType) -> npt.NDArray[np.float32]:
    """DequantizeLinear: f32((code − zero_point)·scale)."""
    centred = (codes.astype(np.int64) - kind.zero_point).astype(np.float32)
    return np.asarray(centred * np.float32(kind.scale), np.float32)


def run(
    graph: Graph,
    feeds: Mapping[str, Array],
    keep: Collection[str] | None = None,
    progress: Callable[[Operation], None] = lambda op: None,
) -> dict[str, Codes]:
    """Evaluate a graph.

    Parameters
    ----------
    graph: what to run.
    feeds: by ONNX input name (or the name of its integer tensor): float32, quantized first, or
        the integers; in the ONNX shape.
    keep: names of the values to return; None for all. Others are freed after their last use.
    progress: told every operator before it runs.

    Returns
    -------
    Codes of every value by name, uint8 or int8 in the ONNX shape.

    Raises
    ------
    CompilerError
        A feed is missing or of the wrong shape, or `keep` names no value.
    """
    unknown = set(keep or ()) - set(graph.values)
    if unknown:
        raise CompilerError(f"no value {min(unknown)} in the graph")
    tensors = dict(graph.constants())
    for port in graph.inputs:
        tensors[port.value] = _feed(graph, port.value, port.onnx_name, feeds)
    uses = Counter(name for op in graph.ops for name in op.inputs)
    for op in graph.ops:
        progress(op)
        operands = [tensors[name] for name in op.inputs]
        result = op.evaluate(operands, graph.input_types(op), graph.type(op.output))
        tensors[op.output] = result
        uses.subtract(op.inputs)
        for name in {*op.inputs, op.output}:
            if keep is not None and uses[name] == 0 and name not in keep:
                del tensors[name]
    wanted = graph.values if keep is None else keep
    return {name: graph.type(name).in_file_order(tensors[name]) for name in wanted}


def output(graph: Graph, port: Port, codes: Codes) -> Array:
    """An output as the file types it, of its value's codes."""
    seen = graph.seen(port)
    value = seen.in_file_order(graph.type(port.value).in_lanes(codes))
    if port.real:
        return dequantize(value, seen)
    if port.digits > 1:
        return np.asarray(value.astype(np.int64) @ (256 ** np.arange(port.digits)), np.int64)
    return value.astype(port.dtype) if port.dtype else value


def _feed(graph: Graph, value: str, onnx_name: str, feeds: Mapping[str, Array]) -> Codes:
    kind = graph.type(value)
    given = feeds.get(onnx_name, feeds.get(value))
    if given is None:
        raise CompilerError(f"input {onnx_name} is missing; given: {', '.join(feeds) or 'nothing'}")
    if given.shape != kind.onnx_shape:
        raise CompilerError(
            f"input {onnx_name} must have shape {list(kind.onnx_shape)}, not {list(given.shape)}"
        )
    return kind.in_lanes(quantize_input(given, kind))
