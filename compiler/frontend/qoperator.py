"""Operands of the QOperator forms: QLinearConv and its relatives."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from compiler.frontend.builder import Operand
from compiler.frontend.model import Model, attributes_of, refuse
from compiler.frontend.quantization import Quantization, parameters

# Inputs in order: x = tensor, scale, zero point; c = plain constant; y = scale and zero point of
# the result; x* = any number of tensors.
MICROSOFT = "com.microsoft"
QOPERATORS = {
    "QLinearConv": ("Conv", "xxyc"),
    "QLinearMatMul": ("MatMul", "xxy"),
    "QGemm": ("Gemm", "xxcy"),
    "QLinearAdd": ("Add", "xxy"),
    "QLinearMul": ("Mul", "xxy"),
    "QLinearConcat": ("Concat", "yx*"),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", "xy"),
    "QLinearAveragePool": ("AveragePool", "xy"),
    "QLinearReduceMean": ("ReduceMean", "xy"),
    "QLinearSigmoid": ("Sigmoid", "xy"),
    "QLinearLeakyRelu": ("LeakyRelu", "xy"),
    "QLinearSoftmax": ("Softmax", "xy"),
}

Resolve = Callable[[onnx.NodeProto, str, Quantization], Operand]


def qoperator_operands(
    model: Model, node: onnx.NodeProto, resolve: Resolve
) -> tuple[str, list[Operand | None], Quantization]:
    """Float operator name, operands and result quantization of a QOperator node.

    Parameters
    ----------
    model, node: where.
    resolve: makes the operand of an integer tensor.
    """
    op, layout = QOPERATORS[node.op_type]
    names = list(node.input)
    if layout.endswith("x*"):
        layout = layout[:-2] + "x" * ((len(names) - 2) // 3)
    operands: list[Operand | None] = []
    target: Quantization | None = None
    for position, form in enumerate(layout):
        if form == "x":
            if len(names) < 3:
                raise refuse(node, "inputs are missing")
            axis = _weight_axis(op, node) if position else None
            name, scale, zero = names[:3]
            array = model.constants.get(name)
            dtype = array.dtype if array is not None else "uint8"
            quantization = parameters(model, node, scale, zero, dtype, axis=axis)
            operands.append(resolve(node, name, quantization))
            names = names[3:]
        elif form == "y":
            if not names or not names[0]:
                raise refuse(node, "has no output scale: its result would be float")
            target = parameters(model, node, names[0], names[1] if len(names) > 1 else "")
            names = names[2:]
        elif names:
            name, names = names[0], names[1:]
            operands.append(_plain(model, node, name) if name else None)
    if target is None or not target.single:
        raise refuse(node, "the result needs one scale and 8 bits")
    return op, operands, target


def _plain(model: Model, node: onnx.NodeProto, name: str) -> Operand:
    if not model.is_constant(name):
        raise refuse(node, f"input {name} must be constant")
    return Operand(name, None, model.constants[name])


def _weight_axis(op: str, node: onnx.NodeProto) -> int:
    """Axis of the output channels in a weight with several scales."""
    if op == "Conv" or (op == "Gemm" and attributes_of(node).get("transB", 0)):
        return 0
    return 1
