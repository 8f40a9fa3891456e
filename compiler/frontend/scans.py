"""ONNX Scan as the Loop that it is: states are carried, inputs are picked, outputs are rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from compiler.frontend.model import FileError, attributes_of, is_standard, label

Sizes = Mapping[str, Sequence[int]]
"""Shapes of tensors of the file; 0 or less where they are not fixed."""


def is_scan(node: onnx.NodeProto) -> bool:
    """Whether a node is a Scan of the file."""
    return bool(is_standard(node) and node.op_type == "Scan")


def sizes(model: onnx.ModelProto) -> Sizes:
    """Shapes of the tensors of a model, as far as they are inferred."""
    graph = shape_inference.infer_shapes(model).graph
    found = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    return found | {tensor.name: list(tensor.dims) for tensor in graph.initializer}


def as_loop(node: onnx.NodeProto, shapes: Sizes) -> tuple[onnx.NodeProto, list[onnx.TensorProto]]:
    """A Loop that does what a Scan does, and the constants that it needs.

    Raises
    ------
    FileError
        It runs backwards, stacks along another axis than the first, or its length is not known.
    """
    name, attributes = label(node), attributes_of(node)

    def error(what: str) -> FileError:
        return FileError(f"node {name} (Scan): {what}")

    body, count = attributes["body"], int(attributes["num_scan_inputs"])
    states = len(node.input) - count
    for option in ("scan_input_directions", "scan_output_directions", "scan_output_axes"):
        if any(attributes.get(option, ())):
            raise error(f"{option} {list(attributes[option])}: only 0 is read")
    axes = list(attributes.get("scan_input_axes", [0] * count))
    lengths = {
        shapes[each][axis] if axis < len(shapes.get(each, ())) else 0
        for each, axis in zip(node.input[states:], axes, strict=True)
    }
    if len(lengths) != 1 or min(lengths) < 1:
        raise error(f"its inputs have the lengths {sorted(lengths)}; one fixed length is needed")
    trip, going, on = f"{name}/trip", f"{name}/go", f"{name}/goes"
    picked = [value.name for value in body.input[states:]]
    nodes = [
        helper.make_node("Gather", [outer, trip], [inner], f"{name}/{inner}", axis=axis)
        for outer, inner, axis in zip(node.input[states:], picked, axes, strict=True)
    ]
    whole = helper.make_graph(
        [*nodes, *body.node, helper.make_node("Identity", [going], [on], on)],
        body.name,
        [
            helper.make_tensor_value_info(trip, TensorProto.INT64, []),
            helper.make_tensor_value_info(going, TensorProto.BOOL, []),
            *body.input[:states],
        ],
        [helper.make_tensor_value_info(on, TensorProto.BOOL, []), *body.output],
        list(body.initializer),
    )
    length = numpy_helper.from_array(np.array(lengths.pop(), np.int64), f"{name}/length")
    inputs = [length.name, "", *node.input[:states]]
    loop = helper.make_node("Loop", inputs, list(node.output), name, body=whole)
    return loop, [length]
