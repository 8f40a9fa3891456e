"""Write ONNX's LSTM, GRU and RNN nodes out as the Gemm and elementwise operators that they are.

Quantizers leave these nodes in float, or quantize their weights only and at run time; written out,
every matrix is a Gemm and every gate a function, which they quantize like any other (decision
0023). All directions and layouts, initial states and `linear_before_reset` are read; what depends
on values that a file does not say (`sequence_lens`), peepholes and clipping are refused.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from models.constants import declared
from models.errors import ModelsError
from models.onnxfile import STANDARD, UnsupportedGraph, attributes_of, constant_value, label, load

CELLS = ("GRU", "LSTM", "RNN")
GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
FUNCTIONS = {"GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh"), "RNN": ("Tanh",)}
PLAIN = ("Relu", "Sigmoid", "Softplus", "Softsign", "Tanh")
"""Activations without parameters."""
DRAWN = ("Bernoulli", "Dropout", "Multinomial", "RandomNormalLike", "RandomUniformLike")
"""Nodes that need not make the same of the same constants again."""
MOST = 512
"""Steps of a sequence that are written one after another."""


def expand(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """Write the cells of a float model out.

    Returns
    -------
    The new model, and the names of the nodes that were written out.

    Raises
    ------
    UnsupportedGraph
        A cell has no definition here; says which and why.
    """
    inferred = shape_inference.infer_shapes(model)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:]
    work = _Expansion(inferred, made.graph)
    for node in model.graph.node:
        if node.op_type in CELLS and node.domain in STANDARD:
            work.cell(node)
        else:
            made.graph.node.append(node)
    _prune(made.graph)
    read = {name for node in made.graph.node for name in _reads(node)}
    for tensor in [t for t in made.graph.initializer if t.name not in read]:
        made.graph.initializer.remove(tensor)
    return made, work.names


def expand_file(path: Path, target: Path) -> list[str]:
    """`expand` from file to file; the names of the nodes that were written out.

    Raises
    ------
    ModelsError
        The file cannot be read, holds no such node, or one cannot be written out.
    """
    made, names = expand(load(path))
    if not names:
        raise ModelsError(f"{path} holds no {', '.join(CELLS)} node")
    target.write_bytes(made.SerializeToString(deterministic=True))
    return names


def _prune(graph: onnx.GraphProto) -> None:
    """Drop nodes that nothing reads: what has made initial states that are zero."""
    wanted = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            wanted |= _reads(node)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))


def _evaluated(
    node: onnx.NodeProto, constants: dict[str, np.ndarray], opsets: Sequence[Any]
) -> dict[str, np.ndarray]:
    """Results of a node that reads constants alone; {} where onnx does not evaluate it."""
    results = [name for name in node.output if name]
    feeds = {name: constants[name] for name in node.input if name}
    graph = helper.make_graph(
        [node],
        "constant",
        [declared(name, array.dtype) for name, array in feeds.items()],
        [helper.make_tensor_value_info(name, 0, None) for name in results],
    )
    try:
        model = helper.make_model(graph, opset_imports=opsets)
        return dict(zip(results, ReferenceEvaluator(model).run(None, feeds), strict=True))
    except Exception:  # the evaluator raises whatever its kernels raise
        return {}


def _reads(node: onnx.NodeProto) -> set[str]:
    """Tensors that a node reads, bodies included."""
    inner = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    read = {name for graph in inner for each in graph.node for name in _reads(each)}
    return read | set(node.input) | {v.name for graph in inner for v in graph.output}


@dataclasses.dataclass(frozen=True)
class _Direction:
    """One direction of a cell.

    Attributes
    ----------
    number: 0, or 1 for the second of two.
    order: steps in the order in which they are computed.
    w, r, wb, rb: weights [gates·H, I], [gates·H, H], biases [gates·H].
    functions: f, g, h, as far as the cell has them.
    h, c: names of the initial states, [N, H]; "" for zeros.
    """

    number: int
    order: Sequence[int]
    w: np.ndarray
    r: np.ndarray
    wb: np.ndarray
    rb: np.ndarray
    functions: tuple[str, ...]
    h: str
    c: str


class _Expansion:
    def __init__(self, inferred: onnx.ModelProto, graph: onnx.GraphProto) -> None:
        self.graph, self.names = graph, list[str]()
        self.constants = {t.name: numpy_helper.to_array(t) for t in inferred.graph.initializer}
        self.shapes = {
            v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
            for v in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
            if v.type.tensor_type.HasField("shape")
        }
        self._evaluate(inferred)
        self._count = itertools.count()
        self._prefix = ""

    def _evaluate(self, inferred: onnx.ModelProto) -> None:
        """Find what nodes make of constants and shapes, as exporters write initial states."""
        for node in inferred.graph.node:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = constant_value(node)
            elif node.op_type == "Shape" and all(self.shapes.get(node.input[0], [0])):
                shape = np.array(self.shapes[node.input[0]], np.int64)
                ends = attributes_of(node)
                self.constants[node.output[0]] = shape[ends.get("start", 0) : ends.get("end")]
            elif node.op_type in DRAWN or not _reads(node):
                continue
            elif all(n in self.constants for n in _reads(node) if n):
                found = _evaluated(node, self.constants, inferred.opset_import)
                self.constants.update(found)

    # Nodes

    def _add(self, op: str, inputs: Sequence[str], output: str = "", **attributes: object) -> str:
        output = output or f"{self._prefix}/{op}{next(self._count)}"
        node = helper.make_node(op, list(inputs), [output], output, **attributes)
        self.graph.node.append(node)
        return output

    def _split(self, name: str, parts: int, width: int) -> list[str]:
        """Equal parts along axis 1; Slice is read by every quantizer and opset."""
        return [
            self._add(
                "Slice",
                [name, *(self._index([k]) for k in (part * width, (part + 1) * width, 1))],
            )
            for part in range(parts)
        ]

    def _constant(self, value: np.ndarray) -> str:
        name = f"{self._prefix}/constant{next(self._count)}"
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _index(self, values: list[int]) -> str:
        return self._constant(np.array(values, np.int64))

    def _gemm(self, x: str, weight: np.ndarray, bias: np.ndarray | None) -> str:
        """x·weightᵀ + bias."""
        inputs = [x, self._constant(weight)]
        if bias is not None and bias.any():
            inputs.append(self._constant(bias))
        return self._add("Gemm", inputs, transB=1)

    # Cells

    def cell(self, node: onnx.NodeProto) -> None:
        """Write one node out."""
        self._prefix = label(node)
        self.names.append(self._prefix)
        kind, attributes = str(node.op_type), attributes_of(node)
        inputs = [*node.input, "", "", "", "", "", "", "", ""][:8]
        if inputs[4]:
            raise UnsupportedGraph(node, "has sequence_lens: lengths that depend on values")
        if inputs[7] or attributes.get("clip") or attributes.get("input_forget"):
            raise UnsupportedGraph(node, "has peepholes, clip or input_forget")
        layout = attributes.get("layout", 0)
        shape = self.shapes.get(inputs[0], [])
        if len(shape) != 3 or min(shape) < 1:
            raise UnsupportedGraph(node, f"its input {inputs[0]} has no fixed shape: {shape}")
        steps = shape[layout]
        if steps > MOST:
            raise UnsupportedGraph(node, f"has {steps} steps; up to {MOST} are written out")
        before = bool(attributes.get("linear_before_reset", 0))
        ways = self._directions(node, kind, attributes, inputs, steps, layout)
        found = [
            self._run(kind, way, inputs[0], layout, before, int(way.r.shape[1])) for way in ways
        ]
        self._outputs(node, found, ways, layout)

    def _directions(
        self,
        node: onnx.NodeProto,
        kind: str,
        attributes: dict[str, Any],
        inputs: list[str],
        steps: int,
        layout: int,
    ) -> list[_Direction]:
        direction = str(attributes.get("direction", "forward"))
        orders = {"forward": [1], "reverse": [-1], "bidirectional": [1, -1]}[direction]
        weights = [self._known(node, name) for name in inputs[1:3]]
        rows = weights[0].shape[1]
        bias = self._known(node, inputs[3]) if inputs[3] else np.zeros((len(orders), 2 * rows))
        listed: Any = attributes.get("activations") or FUNCTIONS[kind] * len(orders)
        functions = [each.decode() if isinstance(each, bytes) else each for each in listed]
        if any(each not in PLAIN for each in functions):
            raise UnsupportedGraph(node, f"has the activations {functions}")
        count = len(FUNCTIONS[kind])
        return [
            _Direction(
                number=d,
                order=range(steps)[::way],
                w=weights[0][d],
                r=weights[1][d],
                wb=bias[d, :rows].astype(np.float32),
                rb=bias[d, rows:].astype(np.float32),
                functions=tuple(functions[d * count : (d + 1) * count]),
                h=self._initial(inputs[5], d, len(orders), layout),
                c=self._initial(inputs[6], d, len(orders), layout),
            )
            for d, way in enumerate(orders)
        ]

    def _known(self, node: onnx.NodeProto, name: str) -> np.ndarray:
        if name not in self.constants:
            raise UnsupportedGraph(node, f"its weights {name} are not constant")
        return np.asarray(self.constants[name])

    def _initial(self, name: str, number: int, count: int, layout: int) -> str:
        """The initial state of a direction, [N, H]; "" where it is zero."""
        if not name or (name in self.constants and not self.constants[name].any()):
            return ""
        axis = 1 if layout else 0
        if count == 1:
            return self._squeeze(name, axis)
        ends = [self._index([k]) for k in (number, number + 1, axis, 1)]
        return self._squeeze(self._add("Slice", [name, *ends]), axis)

    def _squeeze(self, name: str, axis: int) -> str:
        return self._add("Squeeze", [name, self._index([axis])])

    def _run(
        self, kind: str, way: _Direction, x: str, layout: int, before: bool, width: int
    ) -> tuple[dict[int, str], str, str]:
        """States h by step, the last h and the last c."""
        h, c, rows = way.h, way.c, dict[int, str]()
        for step in way.order:
            ends = [self._index([k]) for k in (step, step + 1, 1 if layout else 0, 1)]
            now = self._squeeze(self._add("Slice", [x, *ends]), 1 if layout else 0)
            if kind == "LSTM":
                h, c = self._lstm(way, now, h, c, width)
            elif kind == "GRU":
                h = self._gru(way, now, h, before, width)
            else:
                h = self._rnn(way, now, h)
            rows[step] = h
        return rows, h, c

    def _lstm(self, way: _Direction, x: str, h: str, c: str, width: int) -> tuple[str, str]:
        """One step; gates are i, o, f, c."""
        f, g, out = way.functions
        total = self._gemm(x, way.w, way.wb + way.rb)
        if h:
            total = self._add("Add", [total, self._gemm(h, way.r, None)])
        parts = self._split(total, 4, width)
        enter, leave = (self._add(f, [part]) for part in parts[:2])
        c_next = self._add("Mul", [enter, self._add(g, [parts[3]])])
        if c:
            c_next = self._add("Add", [self._add("Mul", [self._add(f, [parts[2]]), c]), c_next])
        return self._add("Mul", [leave, self._add(out, [c_next])]), c_next

    def _gru(self, way: _Direction, x: str, h: str, before: bool, width: int) -> str:
        """One step; gates are z, r, h."""
        f, g = way.functions
        inner = way.rb[2 * width :]
        outside = way.rb.copy()
        if before:
            outside[2 * width :] = 0
        parts = self._split(self._gemm(x, way.w, way.wb + outside), 3, width)
        if not h:
            reset = self._add(f, [parts[1]])
            if before and inner.any():
                hidden = self._add("Mul", [reset, self._constant(inner)])
                parts[2] = self._add("Add", [parts[2], hidden])
            new = self._add(g, [parts[2]])
            return self._add("Sub", [new, self._add("Mul", [self._add(f, [parts[0]]), new])])
        bias = np.concatenate([np.zeros(2 * width, np.float32), inner]) if before else None
        rows = 3 if before else 2
        hidden = self._gemm(h, way.r[: rows * width], bias)
        held = self._split(hidden, rows, width)
        update, reset = (
            self._add(f, [self._add("Add", [mine, its])])
            for mine, its in zip(parts[:2], held[:2], strict=True)
        )
        if before:
            late = self._add("Mul", [reset, held[2]])
        else:
            late = self._gemm(self._add("Mul", [reset, h]), way.r[2 * width :], None)
        new = self._add(g, [self._add("Add", [parts[2], late])])
        kept = self._add("Mul", [update, self._add("Sub", [h, new])])
        return self._add("Add", [new, kept])

    def _rnn(self, way: _Direction, x: str, h: str) -> str:
        total = self._gemm(x, way.w, way.wb + way.rb)
        if h:
            total = self._add("Add", [total, self._gemm(h, way.r, None)])
        return self._add(way.functions[0], [total])

    # Results

    def _outputs(
        self,
        node: onnx.NodeProto,
        found: list[tuple[dict[int, str], str, str]],
        ways: list[_Direction],
        layout: int,
    ) -> None:
        outputs = [*node.output, "", "", ""][:3]
        direction, time = (2, 1) if layout else (1, 0)
        if outputs[0]:
            rows = [
                self._joined([self._unsqueeze(h[t], [1, 2] if layout else [0, 1])
                              for h, _, _ in found], direction)
                for t in sorted(ways[0].order)
            ]  # fmt: skip
            self._joined(rows, time, outputs[0])
        ends: list[tuple[str, Callable[[tuple[dict[int, str], str, str]], str]]] = [
            (outputs[1], lambda each: each[1]),
            (outputs[2], lambda each: each[2]),
        ]
        for output, which in ends:
            if output:
                last = [self._unsqueeze(which(each), [1 if layout else 0]) for each in found]
                self._joined(last, 1 if layout else 0, output)

    def _unsqueeze(self, name: str, axes: list[int]) -> str:
        return self._add("Unsqueeze", [name, self._index(axes)])

    def _joined(self, names: list[str], axis: int, output: str = "") -> str:
        if len(names) == 1 and not output:
            return names[0]
        if len(names) == 1:
            return self._add("Identity", names, output)
        return self._add("Concat", names, output, axis=axis)
