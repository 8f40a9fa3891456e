"""Read an ONNX file: constants, producers, shapes. No operator is understood here."""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper, shape_inference

from compiler.tensor import CompilerError

if TYPE_CHECKING:
    from compiler.frontend.inline import Inlined

Array = npt.NDArray[Any]
FIRST_OPSET = 10
"""QuantizeLinear and the input form of Slice begin here."""
LAST_OPSET = 26
"""Newest opset whose operators were read while writing this."""


class FileError(CompilerError):
    """The file cannot be read as a model at all."""


class Unsupported(CompilerError):  # noqa: N818 - it is a finding about the file, not a fault
    """One node that cannot be compiled.

    Attributes
    ----------
    node, op, reason: which node, its operator, and why.
    """

    def __init__(self, node: str, op: str, reason: str) -> None:
        self.node, self.op, self.reason = node, op, reason
        super().__init__(f"node {node} ({op}): {reason}")


def label(node: onnx.NodeProto) -> str:
    """Name of a node, or of its first output where it has none."""
    return str(node.name or next(filter(None, node.output), node.op_type))


def is_standard(node: onnx.NodeProto) -> bool:
    """Whether an operator is one of ONNX's own."""
    return node.domain in ("", "ai.onnx")


def refuse(node: onnx.NodeProto, reason: str) -> Unsupported:
    """The finding that a node cannot be compiled."""
    return Unsupported(label(node), node.op_type, reason)


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes as Python values; tensors as arrays, strings decoded."""
    values: dict[str, Any] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, onnx.TensorProto):
            value = numpy_helper.to_array(value)
        values[attribute.name] = value.decode() if isinstance(value, bytes) else value
    return values


class Model:
    """An ONNX model, indexed.

    Parameters
    ----------
    flat: the model, external data already loaded, arms and bodies inlined.

    Members
    -------
    flat: as given. proto: its model. paths: arms and bodies in which tensors are made, by name.
    nodes: in an order of execution (the file's, where it is one), without those that reach no
        output.
    constants: values known at compile time; initializers, and what `fold_constants` adds.
    producers: node behind each tensor.
    inputs: graph inputs that are no initializers.
    names: of every tensor in the file.
    shapes, dtypes: static shapes and element types, as far as ONNX's shape inference knows them.
    problems: findings about the graph as a whole (dynamic axes).

    Raises
    ------
    FileError
        The graph is empty, malformed, or of an opset outside FIRST_OPSET..LAST_OPSET.
    """

    def __init__(self, flat: Inlined) -> None:
        proto = flat.model
        self.flat, self.proto, self.paths = flat, proto, flat.paths
        graph = proto.graph
        self.opset = _opset(proto)
        for what, there in (("node", graph.node), ("output", graph.output)):
            if not there:
                raise FileError(f"the model's graph has no {what}")
        for sparse in graph.sparse_initializer:
            raise FileError(f"initializer {sparse.values.name} is sparse; dense ones are read")
        for node in graph.node:
            node.domain = "" if is_standard(node) else node.domain  # shape inference knows one name
        self.constants: dict[str, Array] = {}
        for tensor in graph.initializer:
            try:
                self.constants[tensor.name] = numpy_helper.to_array(tensor)
            except (ValueError, TypeError, KeyError, OSError) as error:
                raise FileError(f"initializer {tensor.name} is damaged: {error}") from error
        self.inputs = [v for v in graph.input if v.name not in self.constants]
        self.problems: list[Unsupported] = []
        for value in self.inputs:
            self._fix_batch(value)
        self.producers = _producers(graph, {*(v.name for v in self.inputs), *self.constants})
        ordered = _ordered(graph, self.producers)
        del graph.node[:]
        graph.node.extend(ordered)
        self.producers = {name: node for node in graph.node for name in node.output if name}
        self.shapes, self.dtypes = _static_types(proto)
        self.nodes = self._reachable(graph)
        self.names = {v.name for v in (*graph.input, *graph.output, *graph.initializer)}
        self.names |= {n for node in graph.node for n in (*node.input, *node.output)}

    def is_constant(self, name: str) -> bool:
        """Whether a tensor's value is known."""
        return name in self.constants

    def _fix_batch(self, value: onnx.ValueInfoProto) -> None:
        """A symbolic batch becomes 1; any other symbolic axis is a finding."""
        tensor = value.type.tensor_type
        if not tensor.HasField("shape"):
            self.problems.append(Unsupported(value.name, "input", "has no shape"))
            return
        for axis, dim in enumerate(tensor.shape.dim):
            if dim.HasField("dim_value"):
                continue
            if axis == 0:
                dim.dim_value = 1
                continue
            name = dim.dim_param or "?"
            self.problems.append(
                Unsupported(
                    value.name,
                    "input",
                    f"axis {axis} is dynamic ({name!r}); programs have fixed shapes: set it with "
                    "onnxruntime.tools.make_dynamic_shape_fixed before quantizing",
                )
            )

    def _reachable(self, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
        """Nodes that some graph output depends on."""
        wanted = {v.name for v in graph.output}
        kept = []
        for node in reversed(graph.node):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                kept.append(node)
        return kept[::-1]


def read(path: Path) -> onnx.ModelProto:
    """Read a model with its external data.

    Raises
    ------
    FileError
        It is missing, unreadable, no ONNX file, truncated, or its external data is missing.
    """
    if not path.is_file():
        raise FileError(f"no ONNX file {path}")
    if not path.stat().st_size:
        raise FileError(f"{path} is empty")
    try:
        proto = onnx.load(str(path))
    except DecodeError as error:
        raise FileError(f"{path} is no ONNX file, or it is truncated ({error})") from error
    except (OSError, ValueError, RuntimeError, onnx.checker.ValidationError) as error:
        raise FileError(f"{path} cannot be read: {error}") from error
    return proto


def _opset(proto: onnx.ModelProto) -> int:
    """Version of the standard operators."""
    versions = {entry.domain: int(entry.version) for entry in proto.opset_import}
    version = versions.get("", versions.get("ai.onnx"))
    if version is None:
        raise FileError("the model names no version of the standard operators (opset_import)")
    if not FIRST_OPSET <= version <= LAST_OPSET:
        raise FileError(
            f"opset {version}; {FIRST_OPSET} to {LAST_OPSET} are read "
            "(convert with onnx.version_converter)"
        )
    return version


def _producers(graph: onnx.GraphProto, given: set[str]) -> dict[str, onnx.NodeProto]:
    """The node behind every tensor; every tensor is made once, and what is read is made."""
    producers: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        for name in filter(None, node.output):
            if name in given or name in producers:
                raise FileError(f"node {label(node)} ({node.op_type}) makes {name!r} a second time")
            producers[name] = node
    for node in graph.node:
        for name in filter(None, node.input):
            if name not in given and name not in producers:
                raise FileError(
                    f"node {label(node)} ({node.op_type}) reads {name!r}, which nothing makes: "
                    "the graph is damaged"
                )
    for value in graph.output:
        if value.name not in given and value.name not in producers:
            raise FileError(f"nothing makes the graph output {value.name!r}")
    return producers


def _ordered(graph: onnx.GraphProto, producers: dict[str, onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Nodes in an order of execution; the file's own order where it is one (AMD Quark's is not)."""
    index = {name: place for place, node in enumerate(graph.node) for name in node.output}
    waiting: list[set[int]] = []
    readers: dict[int, list[int]] = {}
    for place, node in enumerate(graph.node):
        before = {index[name] for name in node.input if name in producers}
        waiting.append(before)
        for other in before:
            readers.setdefault(other, []).append(place)
    ready = [place for place, before in enumerate(waiting) if not before]
    order: list[onnx.NodeProto] = []
    while ready:
        place = heapq.heappop(ready)
        order.append(graph.node[place])
        for reader in readers.get(place, ()):
            waiting[reader].discard(place)
            if not waiting[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(graph.node):
        stuck = next(node for node, before in zip(graph.node, waiting, strict=True) if before)
        raise FileError(f"node {label(stuck)} ({stuck.op_type}) depends on its own result")
    copies = []
    for node in order:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    return copies


def _static_types(
    proto: onnx.ModelProto,
) -> tuple[dict[str, tuple[int, ...]], dict[str, np.dtype[Any]]]:
    """Shapes without symbolic axes (batch axes were fixed before), and element types."""
    plain = onnx.ModelProto()
    plain.CopyFrom(proto)
    for node in plain.graph.node:
        if node.op_type == "If" and not node.attribute:  # a join: either arm's result
            node.op_type = "Identity"
            del node.input[2], node.input[0]
        elif node.op_type == "LoopEnter":
            node.op_type = "Identity"
        elif node.op_type == "LoopLeave":  # of what it makes, the importer knows more
            node.op_type = "Identity"
            del node.input[2:], node.input[0], node.output[1:]
    try:
        graph = shape_inference.infer_shapes(plain).graph
    except (RuntimeError, ValueError, shape_inference.InferenceError):
        # A node that it cannot infer; importers know their own shapes.
        graph = proto.graph
    shapes, dtypes = {}, {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if tensor.elem_type:
            dtypes[value.name] = np.dtype(
                str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
            )
        if tensor.HasField("shape"):
            dims = [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]
            if all(d >= 0 for d in dims):
                shapes[value.name] = tuple(dims)
    return shapes, dtypes
