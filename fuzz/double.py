"""What a file's nodes make of codes in float64: the truth where float32 is noise.

A norm divides by the deviation of a group. Where that is hardly more than nothing, what float32 has
lost in the mean becomes steps of the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from fuzz.truth import Code, Nodes, Refused, session

Array = npt.NDArray[Any]


def between(nodes: Nodes, code: Code) -> list[onnx.NodeProto]:
    """Nodes between a tensor's quantizer and the tensors before it, the last one last."""
    producers = {n: node for node in nodes.model.graph.node for n in node.output}
    floats = set(nodes.floats)
    found: list[onnx.NodeProto] = []
    left = [code.real]
    while left:
        name = left.pop()
        node = producers.get(name)
        if node is None or name not in floats or node.op_type == "DequantizeLinear":
            continue
        if node in found:
            found.remove(node)
        found.insert(0, node)
        left.extend(node.input)
    return found


def in_double(nodes: Nodes, code: Code, codes: Mapping[str, Array]) -> Array:
    """What is quantized to a tensor, made of given codes.

    Raises
    ------
    Refused
        ONNX Runtime does not compute it in float64, or it needs more than the file's constants.
    """
    producers = {n: node for node in nodes.model.graph.node for n in node.output}
    made = between(nodes, code)
    inside = {name for node in made for name in node.output}
    feeds: dict[str, Array] = {}
    constants: list[onnx.TensorProto] = []
    for name in {name for node in made for name in node.input if name} - inside:
        node = producers.get(name)
        if node is not None and node.op_type == "DequantizeLinear":
            feeds[name] = _dequantized(node, {**nodes.constants, **codes})
            continue
        if name not in nodes.constants:
            raise Refused(f"{name} is computed from constants")
        value = nodes.constants[name]
        double = value.astype(np.float64) if value.dtype == np.float32 else value
        constants.append(numpy_helper.from_array(double, name))
    model = helper.make_model(
        helper.make_graph(
            made,
            "double",
            [
                helper.make_tensor_value_info(n, onnx.TensorProto.DOUBLE, v.shape)
                for n, v in feeds.items()
            ],
            [helper.make_tensor_value_info(code.real, onnx.TensorProto.DOUBLE, None)],
            constants,
        ),
        opset_imports=nodes.model.opset_import,
        ir_version=nodes.model.ir_version,
    )
    return np.asarray(session(model).run(None, feeds)[0])


def _dequantized(node: onnx.NodeProto, values: Mapping[str, Array]) -> Array:
    codes, scale, *zero = (values[name] for name in node.input if name)
    centred = codes.astype(np.int32) - (zero[0].astype(np.int32) if zero else 0)
    return np.asarray((centred.astype(np.float32) * scale).astype(np.float64))
