"""QLinear operators written out in float: what their results are the nearest codes to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Array = npt.NDArray[Any]
REAL = "\N{PRIME}real"
"""Suffix of the real behind a QLinear operator's result."""

# Inputs in order: x = tensor, scale, zero point; w = the same, a weight; c = bias; y = scale and
# zero point of the result; * = the last again, any number of times.
OPERATORS = {
    "QLinearConv": ("Conv", "xwyc"),
    "QLinearMatMul": ("MatMul", "xwy"),
    "QGemm": ("Gemm", "xwcy"),
    "QLinearAdd": ("Add", "xxy"),
    "QLinearMul": ("Mul", "xxy"),
    "QLinearConcat": ("Concat", "yx*"),
    "QLinearAveragePool": ("AveragePool", "xy"),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", "xy"),
    "QLinearSigmoid": ("Sigmoid", "xy"),
    "QLinearLeakyRelu": ("LeakyRelu", "xy"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """A QLinear operator in float.

    Attributes
    ----------
    nodes, initializers: from the codes of its operands to the tensor `real`.
    real: name of the real result.
    scale, zero: what the codes of the result mean.
    """

    nodes: tuple[onnx.NodeProto, ...]
    initializers: tuple[onnx.TensorProto, ...]
    real: str
    scale: float
    zero: int


def written(node: onnx.NodeProto, constants: Mapping[str, Array]) -> Written | None:
    """Write a QLinear operator out; None for one that is not known here.

    Parameters
    ----------
    constants: values of the file's constants by name.
    """
    if node.op_type not in OPERATORS or any(a.name == "channels_last" for a in node.attribute):
        return None
    op, layout = OPERATORS[node.op_type]
    output = node.output[0]
    names = list(node.input)
    layout = layout.replace("x*", "x" * ((len(names) - 2) // 3))
    nodes: list[onnx.NodeProto] = []
    initializers: list[onnx.TensorProto] = []
    operands: list[str] = []
    unit: Array = np.ones(1, np.float32)  # of the accumulator, for the bias
    scale, zero = np.float32(1), 0
    for number, form in enumerate(layout):
        name = f"{output}{REAL} {number}"
        if form == "y":
            scale, zero = constants[names[0]].reshape(-1)[0], constants[names[1]].reshape(-1)[0]
            names = names[2:]
        elif form == "c":
            if names and names[0]:
                bias = constants[names[0]].astype(np.float32) * unit
                initializers.append(numpy_helper.from_array(bias.astype(np.float32), name))
                operands.append(name)
            elif op == "Gemm":  # without C only since opset 11
                initializers.append(numpy_helper.from_array(np.zeros(1, np.float32), name))
                operands.append(name)
            names = names[1:]
        else:
            unit = np.asarray(unit * constants[names[1]], np.float32)
            if names[0] in constants:
                axis = _axis(node, op)
                codes, factor, offset = (constants[n] for n in names[:3])
                value = _dequantized(codes, factor, offset, axis)
                initializers.append(numpy_helper.from_array(value, name))
            else:
                nodes.append(helper.make_node("DequantizeLinear", names[:3], [name]))
            operands.append(name)
            names = names[3:]
    made = helper.make_node(op, operands, [output + REAL])
    made.attribute.extend(node.attribute)
    return Written((*nodes, made), tuple(initializers), output + REAL, float(scale), int(zero))


def _axis(node: onnx.NodeProto, op: str) -> int:
    """Axis of the output channels of a weight."""
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if op == "Conv" or transposed else 1


def _dequantized(codes: Array, scale: Array, zero: Array, axis: int) -> Array:
    if scale.size > 1:
        shape = [1] * codes.ndim
        shape[axis] = scale.size
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    else:
        scale, zero = scale.reshape(()), zero.reshape(())
    centred = codes.astype(np.int32) - zero.astype(np.int32)
    return np.asarray(centred.astype(np.float32) * scale, np.float32)
