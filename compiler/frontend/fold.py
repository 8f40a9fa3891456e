"""Evaluate what does not depend on the network's input."""

from __future__ import annotations

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from compiler.frontend.model import Array, FileError, Model, attributes_of, is_standard, label
from compiler.frontend.quantization import Quantization, parameters
from compiler.frontend.trips import ENTER, LEAVE


def fold_constants(model: Model) -> None:
    """Add every tensor computed from constants to `model.constants`.

    Dequantized weights stay out: their integers and scales are what the compiler needs.

    Raises
    ------
    FileError
        A node with constant operands cannot be evaluated.
    Unsupported
        A constant is quantized with parameters that are not read.
    """
    for node in model.nodes:
        if node.op_type == "DequantizeLinear" or (not node.input and node.op_type != "Constant"):
            continue
        if not is_standard(node) or any(a.HasField("g") for a in node.attribute):
            continue
        if node.op_type in (ENTER, LEAVE) or node.output[0] in model.flat.picks:
            continue  # constant in the first trip only, or different in each
        if node.op_type == "Shape" and node.input[0] in model.shapes:
            _shape(model, node)
        elif all(not name or model.is_constant(name) for name in node.input):
            if node.op_type == "QuantizeLinear":
                _quantize(model, node)
            else:
                _evaluate(model, node)


def quantize_array(value: Array, quantization: Quantization) -> Array:
    """QuantizeLinear: sat(rint(f32(x / s)) + zero_point)."""
    scale, zero = quantization.along(value.ndim)
    limits = np.iinfo(quantization.dtype)
    rounded = np.rint(value.astype(np.float32) / scale).astype(np.float64)
    return np.clip(rounded + zero, limits.min, limits.max).astype(quantization.dtype)


def _shape(model: Model, node: onnx.NodeProto) -> None:
    shape = np.array(model.shapes[node.input[0]], np.int64)
    attributes = attributes_of(node)
    stop = attributes.get("end", shape.size)
    model.constants[node.output[0]] = shape[attributes.get("start", 0) : stop]


def _quantize(model: Model, node: onnx.NodeProto) -> None:
    value = model.constants[node.input[0]]
    zero = node.input[2] if len(node.input) > 2 else ""
    quantization = parameters(model, node, node.input[1], zero, rank=value.ndim)
    model.constants[node.output[0]] = quantize_array(value, quantization)


def _evaluate(model: Model, node: onnx.NodeProto) -> None:
    graph = onnx.helper.make_graph(
        [node],
        "constant",
        [onnx.helper.make_empty_tensor_value_info(name) for name in node.input if name],
        [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name],
    )
    single = onnx.helper.make_model(graph, opset_imports=model.proto.opset_import)
    try:
        evaluator = ReferenceEvaluator(single)
        feeds = {name: model.constants[name] for name in node.input if name}
        results = evaluator.run(None, feeds)
    except Exception as error:  # the evaluator raises whatever its kernels raise
        raise FileError(
            f"node {label(node)} ({node.op_type}): its constant operands do not evaluate: {error}"
        ) from error
    named = zip(filter(None, node.output), results, strict=True)
    model.constants.update({name: np.asarray(value) for name, value in named})
