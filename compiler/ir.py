"""The graph that every compiler stage works on, and the checker that runs after each.

Values are 8-bit tensors under the names of the ONNX file's integer tensors (the outputs of its
QuantizeLinear nodes), in canonical shape (C, T, H, W). Operators are frozen; a pass makes a new
graph. Names of operators and types are re-exported here: `from compiler.ir import Convolution`.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from compiler.ops import (
    AnyOperation,
    ArgMax,
    AttentionPool,
    AxisMean,
    BatchedMatMul,
    BorderedMean,
    Chain,
    Concat,
    Convolution,
    Enter,
    Join,
    Leave,
    LoopEnd,
    Normalize,
    Operation,
    Pairwise,
    PairwiseKind,
    Pick,
    Pool,
    PoolKind,
    Predicate,
    Put,
    Rearrange,
    Region,
    Relayout,
    Slice,
    Softmax,
    Stack,
    Table,
    TemporalResidual,
    UnaryTable,
    View,
    Window,
)
from compiler.tensor import Codes, CompilerError, GraphError, Shape, TensorType, Triple
from hw.arch.program import COMPILER, FILE, Input

__all__ = [
    "COMPILER",
    "FILE",
    "AnyOperation",
    "ArgMax",
    "AttentionPool",
    "AxisMean",
    "BatchedMatMul",
    "BorderedMean",
    "Carried",
    "Chain",
    "Codes",
    "CompilerError",
    "Concat",
    "Convolution",
    "Enter",
    "Graph",
    "GraphError",
    "Join",
    "Leave",
    "LoopEnd",
    "Normalize",
    "Operation",
    "Pairwise",
    "PairwiseKind",
    "Path",
    "Pick",
    "Pool",
    "PoolKind",
    "Port",
    "Predicate",
    "Put",
    "Rearrange",
    "Region",
    "Relayout",
    "Shape",
    "Slice",
    "Softmax",
    "Stack",
    "Table",
    "TemporalResidual",
    "TensorType",
    "Triple",
    "UnaryTable",
    "Value",
    "View",
    "Window",
    "difference",
    "verify",
]


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """A named tensor.

    Attributes
    ----------
    name: of the tensor in the ONNX file whose codes it holds, or one that the file does not have.
    type: shape and quantization.
    constant: codes [C, T, H, W] where it is known at compile time (a quantized initializer that
        meets an activation, such as a positional embedding).
    origin: FILE, or COMPILER: a step in between that the file has no name for.
    """

    name: str
    type: TensorType
    constant: Codes | None = None
    origin: str = FILE


@dataclasses.dataclass(frozen=True, slots=True)
class Port:
    """A value that the host writes or reads.

    Attributes
    ----------
    value: the integer tensor.
    onnx_name: inputs: what is quantized to it, a graph input or an output of the host's part of
        the graph; equal to the integers' own name where the graph's input is integer. Outputs: the
        graph's output.
    seen: outputs: how the file sees it, where that is another ONNX shape than the value's.
    dtype: outputs: of the file's output, float32 (dequantized) or int64 (an index); empty where it
        is the codes themselves.
    digits: outputs: bytes of an index, along an axis behind those of the file if several.
    """

    value: str
    onnx_name: str
    seen: TensorType | None = None
    dtype: str = ""
    digits: int = 1

    @property
    def real(self) -> bool:
        """Whether the file's output is dequantized."""
        return self.dtype == "float32"


Path: TypeAlias = tuple[tuple[str, bool], ...]
"""Where in the graph something stands: decisions, outermost first, by name, and the arm taken; of a
Loop its name and True."""


@dataclasses.dataclass(frozen=True, slots=True)
class Carried:
    """State: what one run leaves for the next.

    Attributes
    ----------
    input, output: of the user's graph, by name.
    target: value that the host writes before the first run only.
    source: value whose codes are the target's in the next run.
    """

    input: str
    output: str
    target: str
    source: str

    def renamed(self, old: str, new: str) -> Carried:
        """After a value has got another name."""
        target, source = (new if name == old else name for name in (self.target, self.source))
        return dataclasses.replace(self, target=target, source=source)


@dataclasses.dataclass(frozen=True, slots=True)
class Graph:
    """A network of integer operators.

    Attributes
    ----------
    name: of the network.
    inputs: values that the host writes.
    outputs: in the order of the ONNX graph.
    values: every tensor by name: inputs, constants, results.
    ops: in topological order.
    signature: inputs of the user's graph in its order; () where they are `inputs` themselves.
    host: the part of the user's graph that the host evaluates in float, a serialized ONNX model
        from the graph's inputs to sources of `inputs`; empty if there is none.
    reserved: every name that stands in the user's file; values of the compiler's own get others.
    states: what one run leaves for the next; targets differ.
    paths: arms, and bodies of Loops, in which values are made, by name; others are always made.
        Only what ends an arm or a body (Join, Leave, Stack) reads its values outside.
    """

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    values: Mapping[str, Value]
    ops: tuple[AnyOperation, ...]
    signature: tuple[Input, ...] = ()
    host: bytes = b""
    reserved: frozenset[str] = frozenset()
    states: tuple[Carried, ...] = ()
    paths: Mapping[str, Path] = dataclasses.field(default_factory=dict)

    def path(self, value: str) -> Path:
        """The arm in which a value is made; () if it always is."""
        return self.paths.get(value, ())

    def path_of(self, op: Operation, operand: int) -> Path:
        """The arm in which an operator needs an operand: its own, or one that ends there."""
        here, arm = self.path(op.output), op.arm(operand)
        return here if arm is None else (*here, arm)

    def kept(self) -> list[str]:
        """Values that nothing may replace: outputs, what the next run reads, what Loops carry."""
        ends = [op.output for op in self.ops if isinstance(op, Leave)]
        read = [port.value for port in self.outputs] + [state.source for state in self.states]
        return read + ends

    def seen(self, port: Port) -> TensorType:
        """How the file sees an output."""
        return port.seen or self.type(port.value)

    def type(self, name: str) -> TensorType:
        """Type of a value."""
        return self.values[name].type

    def input_types(self, op: Operation) -> list[TensorType]:
        """Types of an operator's operands."""
        return [self.values[name].type for name in op.inputs]

    def producers(self) -> dict[str, AnyOperation]:
        """The operator behind every computed value."""
        return {op.output: op for op in self.ops}

    def consumers(self) -> dict[str, list[AnyOperation]]:
        """The operators that read each value, once each."""
        result: dict[str, list[AnyOperation]] = {name: [] for name in self.values}
        for op in self.ops:
            for name in dict.fromkeys(op.inputs):
                result[name].append(op)
        return result

    def uses(self) -> Counter[str]:
        """How often each value is read; being an output, or carried to the next run, counts."""
        counts = Counter(name for op in self.ops for name in op.inputs)
        counts.update(self.kept())
        return counts

    def constants(self) -> dict[str, Codes]:
        """Values known at compile time."""
        return {n: v.constant for n, v in self.values.items() if v.constant is not None}

    def macs(self) -> int:
        """Multiply-accumulates of the whole network, zero padding counted, in all trips."""
        trips = {op.loop: op.trips for op in self.ops if isinstance(op, LoopEnd)}
        return sum(
            op.macs(self.input_types(op))
            * math.prod(trips.get(name, 1) for name, _ in self.path(op.output))
            for op in self.ops
        )

    def replaced(
        self, ops: Iterable[AnyOperation], values: Mapping[str, Value] | None = None
    ) -> Graph:
        """The graph with other operators; values that nothing names any more are dropped."""
        ops = tuple(ops)
        known = {**self.values, **(values or {})}
        named = {name for op in ops for name in (*op.inputs, op.output)}
        named |= {port.value for port in self.inputs} | set(self.kept())
        kept = {name: value for name, value in known.items() if name in named}
        paths = {name: path for name, path in self.paths.items() if name in named}
        return dataclasses.replace(self, ops=ops, values=kept, paths=paths)


def verify(graph: Graph) -> None:
    """Check a graph.

    Every value is defined once and before its use; every type is well formed; every operator's
    attributes, operand types and result type agree; nothing is left over.

    Raises
    ------
    GraphError
        Names the value or operator and what is wrong.
    """
    for name, value in graph.values.items():
        if name != value.name:
            raise GraphError(f"value {value.name} is filed under {name}")
        value.type.check(name)
        constant = value.constant
        if constant is not None and (
            constant.shape != value.type.shape or constant.dtype != value.type.dtype
        ):
            raise GraphError(f"constant {name} is not {value.type}")
    defined = {n for n, v in graph.values.items() if v.constant is not None}
    for port in graph.inputs:
        _define(graph, port.value, f"input {port.onnx_name}", defined)
    for op in graph.ops:
        for place, name in enumerate(op.inputs):
            if name not in defined:
                raise op.error(f"operand {name} is not defined before")
            made, needed = graph.path(name), graph.path_of(op, place)
            if needed[: len(made)] != made:
                raise op.error(f"operand {name} is made in an arm only: {made}")
        _define(graph, op.output, f"operator {op.name}", defined)
        op.check(graph.input_types(op), graph.type(op.output))
    for port in graph.outputs:
        if port.value not in defined or graph.path(port.value):
            raise GraphError(f"output {port.onnx_name}: {port.value} is not defined")
        if graph.seen(port).shape != graph.type(port.value).shape:
            raise GraphError(f"output {port.onnx_name} does not see all of {port.value}")
    _verify_states(graph, defined)
    unused = set(graph.values) - defined
    if unused:
        raise GraphError(f"value {min(unused)} is made by nothing")


def _verify_states(graph: Graph, defined: set[str]) -> None:
    fed = {port.value: port.onnx_name for port in graph.inputs}
    targets = Counter(state.target for state in graph.states)
    for state in graph.states:
        what = f"state {state.input}"
        if fed.get(state.target) != state.input:
            raise GraphError(f"{what}: {state.target} is not written from that input")
        if targets[state.target] > 1:
            raise GraphError(f"{what}: {state.target} has two sources")
        if state.source not in defined or graph.path(state.source):
            raise GraphError(f"{what}: {state.source} is not defined")
        before, after = graph.type(state.target), graph.type(state.source)
        if (before.shape, before.quantization) != (after.shape, after.quantization):
            raise GraphError(f"{what}: {state.source} is {after}, {state.target} is {before}")


def _define(graph: Graph, name: str, where: str, defined: set[str]) -> None:
    if name not in graph.values:
        raise GraphError(f"{where}: {name} has no type")
    if name in defined:
        raise GraphError(f"{where}: {name} is defined twice")
    defined.add(name)


def difference(first: Graph, second: Graph) -> str | None:
    """Say where two graphs differ; None if they are equal in everything but the name."""
    if (first.inputs, first.outputs) != (second.inputs, second.outputs):
        return "inputs or outputs differ"
    if (first.states, first.paths) != (second.states, second.paths):
        return "states or arms differ"
    if len(first.ops) != len(second.ops):
        return f"{len(first.ops)} operators against {len(second.ops)}"
    for a, b in zip(first.ops, second.ops, strict=True):
        if type(a) is not type(b):
            return f"{a.name} is {type(a).__name__}, {b.name} is {type(b).__name__}"
        for field in dataclasses.fields(a):
            if not _same(getattr(a, field.name), getattr(b, field.name)):
                return f"{a.name}: {field.name} differs"
    if set(first.values) != set(second.values):
        return f"values differ: {sorted(set(first.values) ^ set(second.values))}"
    for name, value in first.values.items():
        other = second.values[name]
        if value.type != other.type or not _same(value.constant, other.constant):
            return f"value {name} differs"
    return None


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return bool(type(a) is type(b) and a == b)
