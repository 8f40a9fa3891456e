"""Run a graph in exact integers on NumPy: the reference for every later stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from compiler.arms import Fork, Item, Trips, structured
from compiler.ir import (
    AnyOperation,
    Codes,
    CompilerError,
    Graph,
    Leave,
    LoopEnd,
    Operation,
    Pick,
    Port,
    Stack,
    TensorType,
)
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
    Codes of every value by name, uint8 or int8 in the ONNX shape; of a Loop's body those of its
    last trip.

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
    if any(isinstance(op, LoopEnd) for op in graph.ops):
        _Run(graph, tensors, progress).walk(structured(graph.ops, graph.path))
    else:
        _straight(graph, tensors, keep, progress)
    wanted = graph.values if keep is None else keep
    return {name: graph.type(name).in_file_order(tensors[name]) for name in wanted}


def _straight(
    graph: Graph,
    tensors: dict[str, Codes],
    keep: Collection[str] | None,
    progress: Callable[[Operation], None],
) -> None:
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


class _Run:
    """A graph with Loops, trip after trip; nothing is freed."""

    def __init__(
        self, graph: Graph, tensors: dict[str, Codes], progress: Callable[[Operation], None]
    ) -> None:
        self._graph, self._tensors, self._progress = graph, tensors, progress
        self._trip: dict[str, int] = {}
        self._rows: dict[str, list[Codes]] = {}

    def walk(self, items: Iterable[Item]) -> None:
        """Evaluate operators; of a fork both arms."""
        for item in items:
            if isinstance(item, Fork):
                self.walk((*item.then, *item.otherwise))
            elif isinstance(item, Trips):
                self._loop(item)
            else:
                self._evaluate(item)

    def _loop(self, item: Trips) -> None:
        leaves = [end for end in item.ends if isinstance(end, Leave)]
        stacks = [end for end in item.ends if isinstance(end, Stack)]
        self._rows |= {stack.output: [] for stack in stacks}
        for trip in range(item.count):
            self._trip[item.loop] = trip
            self.walk(item.body)
            for stack in stacks:
                self._rows[stack.output].append(self._tensors[stack.inputs[0]])
            left = {leave.inputs[1]: self._tensors[leave.inputs[0]] for leave in leaves}
            decides = item.exit
            stop = decides is not None and not self._goes_on(decides)
            self._tensors |= left
            if stop:
                return

    def _goes_on(self, leave: Leave) -> bool:
        assert leave.predicate is not None
        return leave.predicate(self._tensors[leave.inputs[2]])

    def _evaluate(self, op: AnyOperation) -> None:
        self._progress(op)
        graph, tensors = self._graph, self._tensors
        if isinstance(op, Stack):
            tensors[op.output] = np.concatenate(self._rows[op.output], axis=op.axis)
            return
        if isinstance(op, Leave):
            tensors[op.output] = tensors[op.inputs[1]]
            return
        run = op.at(self._trip[op.loop]) if isinstance(op, Pick) else op
        operands = [tensors[name] for name in op.inputs]
        tensors[op.output] = run.evaluate(operands, graph.input_types(op), graph.type(op.output))


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
