"""Ways to be wrong, for twins: each must be found by the judge."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compiler.ir import Graph
from compiler.ops import Concat, Convolution, Pairwise, PairwiseKind
from fuzz.product import Product

# In the compiler: its graph says something else than the file. The oracle reads the file.


def zero_point_in_the_graph(graph: Graph) -> Graph | None:
    """An inner tensor's zero point is one too high; its readers think so as well."""
    inputs = {port.value for port in graph.inputs}
    for name, value in graph.values.items():
        computed = name not in inputs and value.constant is None
        if computed and value.type.zero_point < np.iinfo(value.type.dtype).max:
            kind = dataclasses.replace(value.type, zero_point=value.type.zero_point + 1)
            changed = dataclasses.replace(value, type=kind)
            return dataclasses.replace(graph, values={**graph.values, name: changed})
    return None


def operands_in_the_graph(graph: Graph) -> Graph | None:
    """The operands of a difference, or of a concat of two alike, are exchanged."""
    for op in graph.ops:
        if len(set(op.inputs)) != 2 or len(op.inputs) != 2:
            continue
        same = graph.type(op.inputs[0]) == graph.type(op.inputs[1])
        minus = isinstance(op, Pairwise) and op.kind is PairwiseKind.SUBTRACT
        if same and (minus or isinstance(op, Concat)):
            return _with(graph, op, inputs=op.inputs[::-1])
    return None


def pad_in_the_graph(graph: Graph) -> Graph | None:
    """A convolution begins where its map begins: its padding stands at the end."""
    for op in graph.ops:
        if isinstance(op, Convolution) and any(op.pad_begin):
            ends = tuple(a + b for a, b in zip(op.pad_begin, op.pad_end, strict=True))
            return _with(graph, op, pad_begin=(0, 0, 0), pad_end=ends)
    return None


def _with(graph: Graph, op: Any, **changes: Any) -> Graph:
    made = dataclasses.replace(op, **changes)
    return dataclasses.replace(graph, ops=tuple(made if o is op else o for o in graph.ops))


# In the file that compiler and oracle read: both are wrong in the same way.


def zero_point_in_the_file(model: onnx.ModelProto) -> bool:
    """A quantizer's zero point is one too high, for its readers as well."""
    graph = model.graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    outputs = {v.name for v in graph.output}
    for node in graph.node:
        if node.op_type != "QuantizeLinear" or len(node.input) < 3 or node.input[0] in constants:
            continue
        zero = constants.get(node.input[2])
        if zero is None or zero.ndim or zero == np.iinfo(zero.dtype).max:
            continue
        readers = [n for n in graph.node if node.output[0] in n.input]
        if node.output[0] in outputs or {n.op_type for n in readers} != {"DequantizeLinear"}:
            continue
        name = node.input[2] + " + 1"
        graph.initializer.append(numpy_helper.from_array(zero + zero.dtype.type(1), name))
        for each in (node, *readers):
            del each.input[2:]
            each.input.append(name)
        return True
    return False


def operands_in_the_file(model: onnx.ModelProto) -> bool:
    """The operands of a difference or a concat are exchanged."""
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    constants = {t.name for t in model.graph.initializer}
    for node in model.graph.node:
        names = list(node.input)
        alike = len(names) == 2 and shapes.get(names[0], 0) == shapes.get(names[1], 1)
        if node.op_type in ("Sub", "Concat") and alike and not constants.intersection(names):
            node.input[:] = names[::-1]
            return names[0] != names[1]
    return False


def pad_in_the_file(model: onnx.ModelProto) -> bool:
    """A window begins where its map begins: its padding stands at the end."""
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name != "pads" or node.op_type not in ("Conv", "QLinearConv"):
                continue
            pads = list(attribute.ints)
            half = len(pads) // 2
            if any(pads[:half]):
                ends = [a + b for a, b in zip(pads[:half], pads[half:], strict=True)]
                del attribute.ints[:]
                attribute.ints.extend([0] * half + ends)
                return True
    return False


class Misread(Product):
    """A toolkit whose compiler and oracle read a file in the same wrong way.

    Parameters
    ----------
    change: alters the model; False if there is nothing to alter.
    """

    def __init__(self, settings: Any, folder: Path, change: Callable[[onnx.ModelProto], bool]):
        super().__init__(settings, folder)
        self.change = change

    def build(self, file: Path) -> str:
        """Build another file."""
        model = onnx.load(str(file))
        self.change(model)
        other = file.with_name("misread.onnx")
        onnx.save(model, str(other))
        return super().build(other)

    def reference(
        self, model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], keep: Any = None
    ) -> Any:
        """The oracle on another file."""
        other = onnx.ModelProto()
        other.CopyFrom(model)
        self.change(other)
        return super().reference(other, feeds, keep)


def tiny_model(nodes: list[onnx.NodeProto], **constants: Any) -> onnx.ModelProto:
    """A model from `x`, float [1, 2, 2], to `y`."""
    return helper.make_model(
        helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 2, 2])],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
