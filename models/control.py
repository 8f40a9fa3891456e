"""Put quantized straight-line graphs together with ONNX's If and Loop.

Quantizers leave the bodies of If and Loop in float. Here each part is quantized by itself, with
the same scale on both sides of every tensor that passes from part to part; then the quantizer
behind a part's input and the dequantizer before its output are cut off, so that 8-bit codes
pass through branches and loops.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.ranges import Scale

Nodes = list[onnx.NodeProto]


def scale_of(model: onnx.ModelProto, output: str) -> Scale:
    """Scale and zero point with which a graph output is dequantized."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and output in node.output:
            scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
            return float(scale), int(zero)
    raise ValueError(f"{output} is made by no DequantizeLinear")


def codes(name: str) -> str:
    """Name of the tensor that holds a tensor's codes."""
    return f"{name}_codes"


@dataclass
class Part:
    """A quantized graph whose passed tensors are codes.

    Attributes
    ----------
    nodes: in the order of the file.
    constants: its initializers.
    """

    nodes: Nodes
    constants: list[TensorProto]


def cut(path: Path, prefix: str, taken: Iterable[str], made: Iterable[str]) -> Part:
    """Read a part and cut its quantizers and dequantizers off.

    Parameters
    ----------
    path: a file that `quantize` wrote.
    prefix: goes before every name that stays inside.
    taken, made: inputs and outputs that pass as codes, under the name `codes` gives them. Other
        inputs keep their names.
    """
    model = onnx.load(path)
    graph, names = model.graph, {}
    taken, made = set(taken), set(made)
    nodes: Nodes = []
    read = {name for node in graph.node for name in node.input}
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in taken:
            names[node.output[0]] = codes(node.input[0])
        elif node.op_type == "DequantizeLinear" and node.output[0] in made:
            names[node.input[0]] = codes(node.output[0])
            if node.output[0] in read:  # the part itself goes on with it
                nodes.append(node)
        else:
            nodes.append(node)
    missing = (taken | made) - {name.removesuffix("_codes") for name in names.values()}
    if missing:
        raise RuntimeError(f"{prefix}: {', '.join(sorted(missing))} are not quantized at the edge")
    given = {value.name for value in graph.input} - taken

    def rename(name: str) -> str:
        if not name or name in given:
            return name
        return names.get(name, f"{prefix}/{name.lstrip('/')}")

    for node in nodes:
        if taken & set(node.input):
            raise RuntimeError(f"{prefix}: node {node.name} reads an input in float")
        node.name = rename(node.name)
        node.input[:] = map(rename, node.input)
        node.output[:] = map(rename, node.output)
    for tensor in graph.initializer:
        tensor.name = rename(tensor.name)
    return Part(nodes, list(graph.initializer))


class Graph:
    """Nodes and constants of a graph under construction."""

    def __init__(self, name: str):
        self.name = name
        self.nodes: Nodes = []
        self.constants: list[TensorProto] = []

    def add(self, part: Part) -> None:
        """Append a part."""
        self.nodes += part.nodes
        self.constants += part.constants

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        """Add a constant, and return its name."""
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, inputs: list[str], outputs: str | list[str], **attributes: Any) -> str:
        """Append a node named after its first output, and return that."""
        outputs = [outputs] if isinstance(outputs, str) else outputs
        self.nodes.append(helper.make_node(op, inputs, outputs, f"{op}/{outputs[0]}", **attributes))
        return outputs[0]

    def _scale(self, name: str, scale: Scale) -> list[str]:
        value, zero = np.float32(scale[0]), np.uint8(scale[1])
        return [self.constant(f"{name}_scale", value), self.constant(f"{name}_zero_point", zero)]

    def quantize(self, name: str, scale: Scale) -> str:
        """Codes of a float tensor."""
        return self.node("QuantizeLinear", [name, *self._scale(name, scale)], codes(name))

    def dequantize(self, name: str, scale: Scale, source: str | None = None) -> str:
        """A float tensor from its codes; `source`: codes of another name."""
        inputs = [source or codes(name), *self._scale(name, scale)]
        return self.node("DequantizeLinear", inputs, name)

    def body(
        self,
        inputs: Sequence[onnx.ValueInfoProto] = (),
        outputs: Sequence[onnx.ValueInfoProto] = (),
    ) -> onnx.GraphProto:
        """Close the graph."""
        return helper.make_graph(self.nodes, self.name, inputs, outputs, self.constants)


def value(name: str, kind: int, shape: tuple[int | None, ...]) -> onnx.ValueInfoProto:
    """Type of a graph's input or output."""
    return helper.make_tensor_value_info(name, kind, shape)


def branch(part: Part, name: str, outputs: Mapping[str, tuple[int, ...]]) -> onnx.GraphProto:
    """An arm of an If, whose outputs are codes; outputs of both arms differ in name.

    Parameters
    ----------
    part: what the arm computes.
    name: of the arm; goes before its outputs' names.
    outputs: shape of each tensor that the arm makes, in order.
    """
    for node in part.nodes:
        for names in (node.input, node.output):
            names[:] = [f"{name}/{each}" if each in map(codes, outputs) else each for each in names]
    graph = Graph(name)
    graph.add(part)
    results = [
        value(f"{name}/{codes(each)}", TensorProto.UINT8, shape) for each, shape in outputs.items()
    ]
    return graph.body(outputs=results)


def save(graph: onnx.GraphProto, opset: int, path: Path) -> None:
    """Check a graph and write it, the same bytes for the same graph."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version, model.producer_name = 8, "models"
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
