"""The second truth: the file's own nodes, evaluated as written by ONNX Runtime.

Every 8-bit activation of the file becomes an input of one model, in place of what its own node
makes of the operands; what the node makes becomes an output. So one session evaluates all
operators, each fed with given codes: a difference never spreads to the next operator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from fuzz.kernels import Written, written
from models.exactness import exact_session

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
MADE = "\N{PRIME}made"
"""Suffix of what a node makes of given operands."""
CODES = {onnx.TensorProto.UINT8: np.uint8, onnx.TensorProto.INT8: np.int8}
LEVELS = {
    "off": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


class Refused(Exception):  # noqa: N818 - says what happened
    """ONNX Runtime does not take the model."""


def session(model: onnx.ModelProto, level: str = "off") -> ort.InferenceSession:
    """A session on one thread.

    Raises
    ------
    Refused
        ONNX Runtime's message.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return exact_session(model, options)
    except Exception as error:
        raise Refused(str(error)) from error


@dataclasses.dataclass(frozen=True, slots=True)
class Code:
    """An 8-bit activation of the file.

    Attributes
    ----------
    node: what makes it.
    dtype: of the codes.
    real, scale, zero: of a QuantizeLinear, its operands; of a QLinear operator, what it would
        quantize; else empty.
    """

    node: onnx.NodeProto
    dtype: Any
    real: str = ""
    scale: float = 0.0
    zero: int = 0


class Nodes:
    """A file's activations, found by following types through its nodes.

    Parameters
    ----------
    model: any model, its nodes in any order.

    Members
    -------
    codes: 8-bit activations that nodes make, in an order in which they can be computed.
    constants: values of initializers and Constant nodes.
    floats: float tensors that depend on an input.
    written: QLinear operators, written out in float.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        graph = model.graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self.codes: dict[str, Code] = {}
        self.floats: list[str] = []
        self.written: list[Written] = []
        self._types: dict[str, Any] = {}
        self._known = {"", *self.constants}
        for value in graph.input:
            if value.name not in self.constants:
                kind = value.type.tensor_type.elem_type
                self._types[value.name] = CODES.get(kind, np.float32)
        left = list(graph.node)
        while left:
            ready = [n for n in left if all(i in self._known or i in self._types for i in n.input)]
            if not ready:
                break
            for node in ready:
                self._visit(node)
            done = {id(n) for n in ready}
            left = [n for n in left if id(n) not in done]
        self._drop_dead_ends()

    def _drop_dead_ends(self) -> None:
        """Forget what no output depends on: nobody has to compute it."""
        wanted = {value.name for value in self.model.graph.output}
        changed = True
        while changed:
            changed = False
            for node in self.model.graph.node:
                if wanted.intersection(node.output) and not wanted.issuperset(node.input):
                    wanted.update(node.input)
                    changed = True
        self.codes = {name: code for name, code in self.codes.items() if name in wanted}
        self.floats = [name for name in self.floats if name in wanted]

    def _visit(self, node: onnx.NodeProto) -> None:
        if all(name in self._known for name in node.input):
            self._known.update(node.output)
            if node.op_type == "Constant":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            return
        for name in node.output:
            kind = self._type(node)
            self._types[name] = kind
            if kind is np.float32:
                self.floats.append(name)
            elif kind is np.int64:
                continue
            elif node.op_type == "QuantizeLinear":
                zero = self._value(node, 2)
                self.codes[name] = Code(
                    node,
                    kind,
                    node.input[0],
                    float(self.constants[node.input[1]].reshape(-1)[0]),
                    0 if zero is None else int(zero.reshape(-1)[0]),
                )
            else:
                self.codes[name] = self._made(node, kind)

    def _made(self, node: onnx.NodeProto, kind: Any) -> Code:
        """Codes that no QuantizeLinear makes: of a QLinear operator, or moved."""
        known = written(node, self.constants)
        if known is None:
            return Code(node, kind)
        self.written.append(known)
        return Code(node, kind, known.real, known.scale, known.zero)

    def _value(self, node: onnx.NodeProto, index: int) -> Array | None:
        has = len(node.input) > index and node.input[index]
        return self.constants[node.input[index]] if has else None

    def _type(self, node: onnx.NodeProto) -> Any:
        op = node.op_type
        if op in ("ArgMax", "Shape"):
            return np.int64
        if op == "DequantizeLinear":
            return np.float32
        if op == "QuantizeLinear":
            zero = self._value(node, 2)
            if zero is not None:
                return zero.dtype.type
            kinds = [a.i for a in node.attribute if a.name == "output_dtype"]
            return CODES[kinds[0]] if kinds and kinds[0] else np.uint8
        if op == "Cast":
            return CODES.get(next(a.i for a in node.attribute if a.name == "to"), np.float32)
        if op == "QLinearConcat":
            return self.constants[node.input[1]].dtype.type
        return next(self._types[n] for n in node.input if n in self._types)


class Operators:
    """All operators of a file in one session, each fed with given codes.

    Parameters
    ----------
    nodes: the file.
    codes: codes of every activation: only shapes matter here.
    extra: float tensors of the file to return as well.
    level: of ONNX Runtime's optimizations.

    Raises
    ------
    Refused
        ONNX Runtime does not take the model.
    """

    def __init__(
        self, nodes: Nodes, codes: Mapping[str, Array], extra: Iterable[str], level: str = "off"
    ) -> None:
        self.nodes = nodes
        model = onnx.ModelProto()
        model.CopyFrom(nodes.model)
        graph = model.graph
        outputs = [v.name for v in graph.output]
        del graph.output[:]
        del graph.value_info[:]
        for node in graph.node:
            node.output[:] = [n + MADE if n in nodes.codes else n for n in node.output]
        wanted = {n for n in (*outputs, *extra) if n not in nodes.codes}
        for name, code in nodes.codes.items():
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(code.dtype))
            graph.input.append(helper.make_tensor_value_info(name, kind, codes[name].shape))
            graph.output.append(helper.make_tensor_value_info(name + MADE, kind, None))
            if code.real:
                wanted.add(code.real)
        for known in nodes.written:
            graph.node.extend(known.nodes)
            graph.initializer.extend(known.initializers)
        made = {n for node in graph.node for n in node.output}
        for name in sorted(wanted & made):
            graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
        self._session = session(model, level)
        self._outputs = [v.name for v in graph.output]

    def run(self, feeds: Mapping[str, Array], codes: Mapping[str, Array]) -> Arrays:
        """Every node's result under its tensor's name; floats between them where asked for."""
        given = {**feeds, **{name: codes[name] for name in self.nodes.codes}}
        results = self._session.run(self._outputs, given)
        found = dict(zip(self._outputs, results, strict=True))
        for code in self.nodes.codes.values():
            if code.real in feeds:
                found[code.real] = feeds[code.real]
        return {name.removesuffix(MADE): array for name, array in found.items()}


def whole(model: onnx.ModelProto, feeds: Mapping[str, Array], level: str = "off") -> Arrays:
    """Run the file; every 8-bit activation and every output by name.

    Raises
    ------
    Refused
        ONNX Runtime does not take the model.
    """
    nodes = Nodes(model)
    seen = onnx.ModelProto()
    seen.CopyFrom(model)
    listed = {v.name for v in seen.graph.output}
    for name, code in nodes.codes.items():
        if name not in listed:
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(code.dtype))
            seen.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    names = [v.name for v in seen.graph.output]
    try:
        return dict(zip(names, session(seen, level).run(names, dict(feeds)), strict=True))
    except Refused:
        raise
    except Exception as error:
        raise Refused(str(error)) from error
