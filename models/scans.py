"""ONNX Scan read as a Loop: one trip for each element of its scanned inputs."""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from models.onnxfile import STANDARD, UnsupportedGraph, attributes_of, label


def is_scan(node: onnx.NodeProto) -> bool:
    """Whether a node is a Scan."""
    return node.op_type == "Scan" and node.domain in STANDARD


def lengths(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes that ONNX infers, by tensor."""
    graph = shape_inference.infer_shapes(model).graph
    shapes = {t.name: tuple(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        shapes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    return shapes


def looped(
    node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[onnx.NodeProto, onnx.TensorProto]:
    """The Loop in a Scan's place, and its number of trips.

    Raises
    ------
    UnsupportedGraph
        It goes backwards, or stacks along a later axis, or its length is not known.
    """
    given = attributes_of(node)
    backwards = [*given.get("scan_input_directions", []), *given.get("scan_output_directions", [])]
    if any(backwards) or any(given.get("scan_output_axes", [])):
        raise UnsupportedGraph(node, "runs backwards, or stacks along another axis than the first")
    scanned = given["num_scan_inputs"]
    carried = len(node.input) - scanned
    axes = given.get("scan_input_axes", [0] * scanned)
    body = onnx.GraphProto()
    body.CopyFrom(given["body"])
    inputs = list(body.input)
    counts = set()
    for outer, inner, axis in zip(node.input[carried:], inputs[carried:], axes, strict=True):
        shape = shapes.get(outer, ())
        counts.add(shape[axis] if -len(shape) <= axis < len(shape) else 0)
        pick = helper.make_node(
            "Gather", [outer, f"{label(node)}/trip"], [inner.name], f"{label(node)}/{inner.name}"
        )
        pick.attribute.append(helper.make_attribute("axis", axis))
        body.node.insert(0, pick)
    if len(counts) != 1 or not all(counts):
        raise UnsupportedGraph(node, f"its inputs have the lengths {sorted(counts)}")
    kinds = onnx.TensorProto
    first = helper.make_tensor_value_info(f"{label(node)}/trip", kinds.INT64, [])
    second = helper.make_tensor_value_info(f"{label(node)}/go", kinds.BOOL, [])
    results = [second, *body.output]
    del body.input[:], body.output[:]
    body.input.extend([first, second, *inputs[:carried]])
    body.output.extend(results)
    count = numpy_helper.from_array(np.array(counts.pop(), np.int64), f"{label(node)}/length")
    operands = [count.name, "", *node.input[:carried]]
    return helper.make_node("Loop", operands, node.output, label(node), body=body), count
