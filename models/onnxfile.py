"""An ONNX file, indexed: what makes each tensor, in an order that can be computed.

Nothing is understood here but the format: constants in all their forms, nodes in the order of
their use (files need not keep it; ONNX Runtime does not ask for it), domains, opsets.
"""

from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from models.errors import ModelsError

STANDARD = ("", "ai.onnx")
MICROSOFT = "com.microsoft"
FLOATS = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16))
CODES = (np.dtype(np.uint8), np.dtype(np.int8))


class UnsupportedGraph(ModelsError):  # noqa: N818 - the name the commands promise
    """The graph holds something that has no integer definition here.

    Attributes
    ----------
    node, op, reason: which node, its operator type, and why.
    """

    def __init__(self, node: onnx.NodeProto, reason: str):
        self.node, self.op, self.reason = label(node), node.op_type, reason
        super().__init__(f"node {self.node} ({self.op}): {reason}")


def label(node: onnx.NodeProto) -> str:
    """Name of a node, or of its first output where it has none."""
    name: str = node.name or next((name for name in node.output if name), node.op_type)
    return name


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes of a node as Python values; tensors as arrays, strings decoded."""
    values: dict[str, Any] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, onnx.TensorProto):
            value = numpy_helper.to_array(value)
        elif isinstance(value, onnx.SparseTensorProto):
            value = dense(value)
        values[attribute.name] = value.decode() if isinstance(value, bytes) else value
    return values


def dense(sparse: onnx.SparseTensorProto) -> np.ndarray:
    """The array behind a sparse tensor, whose indices are linear or one row per element."""
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    result = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 2:
        result[tuple(indices.T)] = values
    else:
        result.reshape(-1)[indices] = values
    return result


def constant_value(node: onnx.NodeProto) -> np.ndarray:
    """What a Constant node holds, whichever of its attributes says it."""
    values = attributes_of(node)
    types: dict[str, type[np.generic]] = {"value_float": np.float32, "value_floats": np.float32}
    types |= {"value_int": np.int64, "value_ints": np.int64}
    for name, value in values.items():
        if name in ("value", "sparse_value"):
            return np.asarray(value)
        if name in types:
            return np.asarray(value, types[name])
    raise UnsupportedGraph(node, f"constant given as {', '.join(values) or 'nothing'}")


def load(path: Path) -> onnx.ModelProto:
    """Read an ONNX file; ModelsError if it is missing or no ONNX file."""
    if not path.is_file():
        raise ModelsError(f"no ONNX file {path}")
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's DecodeError is not importable under a stable name
        raise ModelsError(f"{path} is no ONNX file: {error}") from error
    if not model.graph.node:
        raise ModelsError(f"{path} holds no graph")
    return model


class OnnxFile:
    """A model and what makes each of its tensors.

    Parameters
    ----------
    model: with external data loaded.
    beside: results with tensors that are computed wherever one of the results is.

    Members
    -------
    nodes: those that some output depends on, each after what it reads; Constant nodes left out.
    constants: arrays of initializers and Constant nodes, by name.
    producers: the node that makes each tensor, by its name.
    inputs, outputs: the graph's, without initializers.
    types, shapes: element type (NumPy) and shape (None where an axis is free) of every input.
    opset: version of the standard operators.

    Raises
    ------
    ModelsError
        The graph is damaged: a tensor is made twice, by nothing, or by itself.
    """

    def __init__(
        self, model: onnx.ModelProto, beside: Sequence[tuple[Sequence[str], Sequence[str]]] = ()
    ):
        graph = model.graph
        self.model = model
        self.opset = next((o.version for o in model.opset_import if o.domain in STANDARD), 1)
        self.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self.constants |= {t.values.name: dense(t) for t in graph.sparse_initializer}
        given = [v for v in graph.input if v.name not in self.constants]
        self.inputs = [v.name for v in given]
        self.outputs = [v.name for v in graph.output]
        self.types = {v.name: _dtype(v) for v in given}
        self.shapes = {v.name: _shape(v) for v in given}
        self.producers: dict[str, onnx.NodeProto] = {}
        known = {*self.constants, *self.inputs}
        for node in graph.node:
            for name in filter(None, node.output):
                if name in known:
                    raise UnsupportedGraph(node, f"makes {name} a second time")
                known.add(name)
                self.producers[name] = node
        self.nodes = self._ordered(beside)
        for node in self.nodes:
            if node.op_type == "Constant" and node.domain in STANDARD:
                self.constants[node.output[0]] = constant_value(node)
        self.nodes = [n for n in self.nodes if n.output[0] not in self.constants]
        self._place = {id(node): at for at, node in enumerate(self.nodes)}

    def _ordered(
        self, beside: Sequence[tuple[Sequence[str], Sequence[str]]]
    ) -> list[onnx.NodeProto]:
        """Nodes that the outputs need, each behind what it reads."""
        done: dict[int, onnx.NodeProto] = {}
        self._follow(self.outputs, done)
        waiting = list(beside)
        while True:
            made = {name for node in done.values() for name in node.output}
            ready = [each for each in waiting if made.intersection(each[0])]
            if not ready:
                return list(done.values())
            waiting = [each for each in waiting if each not in ready]
            for _, names in ready:
                self._follow(names, done)

    def _follow(self, names: Sequence[str], done: dict[int, onnx.NodeProto]) -> None:
        """Add the nodes that some tensors need."""
        open_nodes: set[int] = set()
        stack: list[tuple[str | None, onnx.NodeProto | None]]
        stack = [(name, None) for name in reversed(names)]
        while stack:
            name, reader = stack.pop()
            if name is None:  # everything that `reader` reads is done
                done[id(reader)] = reader
                continue
            node = self._producer(name, reader)
            if node is None or id(node) in done:
                continue
            if id(node) in open_nodes:
                raise UnsupportedGraph(node, f"its result {name} depends on itself")
            open_nodes.add(id(node))
            stack.append((None, node))
            stack += [(each, node) for each in reversed(node.input) if each]

    def _producer(self, name: str, reader: onnx.NodeProto | None) -> onnx.NodeProto | None:
        node = self.producers.get(name)
        if node is None and name not in self.constants and name not in self.shapes:
            if reader is None:
                raise ModelsError(f"graph output {name} is made by no node")
            raise UnsupportedGraph(reader, f"reads {name}, which nothing makes")
        return node

    def between(self, outputs: Iterable[str], sources: Container[str]) -> list[onnx.NodeProto]:
        """Nodes from `sources` (names not gone behind) to `outputs`, in order of computation."""
        found: set[int] = set()
        stack = [name for name in outputs if name in self.producers]
        while stack:
            node = self.producers[stack.pop()]
            at = self._place.get(id(node))  # None: a Constant node
            if at is not None and at not in found:
                found.add(at)
                stack += [n for n in node.input if n not in sources and n in self.producers]
        return [self.nodes[at] for at in sorted(found)]


def _dtype(value: onnx.ValueInfoProto) -> np.dtype:
    kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    dtype: np.dtype = np.dtype(kind)
    return dtype


def _shape(value: onnx.ValueInfoProto) -> list[int | None] | None:
    """Declared shape, None for free axes; None if no rank is declared."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
