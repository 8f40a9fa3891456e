"""The QOperator forms: integer operators whose scales are inputs of their own."""

from dataclasses import dataclass, replace

import numpy as np

from models import quantization
from models.onnxfile import CODES, MICROSOFT, STANDARD
from models.tables import QParams
from models.values import Call, Codes, Constant, Integers, Value

# Inputs of the QOperator forms: x = tensor with scale and zero point, c = plain constant,
# y = scale and zero point of the output; x* = any number of tensors.
_FORMS = {
    STANDARD[0]: {
        "QLinearConv": ("Conv", "xxyc"),
        "QLinearMatMul": ("MatMul", "xxy"),
    },
    MICROSOFT: {
        "QGemm": ("Gemm", "xxcy"),
        "QLinearAdd": ("Add", "xxy"),
        "QLinearAveragePool": ("AveragePool", "xy"),
        "QLinearConcat": ("Concat", "yx*"),
        "QLinearConv": ("Conv", "xxyc"),
        "QLinearGlobalAveragePool": ("GlobalAveragePool", "xy"),
        "QLinearLeakyRelu": ("LeakyRelu", "xy"),
        "QLinearMul": ("Mul", "xxy"),
        "QLinearReduceMean": ("ReduceMean", "xy"),
        "QLinearSigmoid": ("Sigmoid", "xy"),
        "QLinearSoftmax": ("Softmax", "xy"),
    },
}


def form(domain: str, op: str) -> tuple[str, str] | None:
    """Float operator and order of inputs of a QOperator node; None if it is none."""
    return _FORMS.get("" if domain in STANDARD else domain, {}).get(op)


@dataclass(frozen=True)
class Split:
    """A QOperator node taken apart.

    Attributes
    ----------
    call: as the float operator on tensors that stand for codes.
    target: of the result.
    """

    call: Call
    target: QParams


def split(call: Call) -> Split:
    """Separate operands from their scales and zero points.

    Raises
    ------
    UnsupportedGraph
        An input is missing, or is no 8-bit tensor.
    """
    found = form(call.node.domain, call.op)
    assert found is not None
    op, order = found
    count = len(call.operands)
    if order.endswith("x*"):
        if count < 5 or (count - 2) % 3:
            raise call.refuse(f"{count} inputs; three for each part and two are read")
        order = order[:-2] + "x" * ((count - 2) // 3)
    operands: list[Value | None] = []
    names: list[str] = []
    target: QParams | None = None
    at = 0
    for kind in order:
        if kind != "y":
            names.append(call.names[at] if at < count else "")
        if kind == "x":
            operands.append(_operand(call, op, at, first=not operands))
            at += 3
        elif kind == "y":
            if at >= count or call.operands[at] is None:
                raise call.refuse("no output scale: the result would be float")
            target, at = quantization.read(call, at, at + 1), at + 2
        else:
            operands.append(call.operands[at] if at < count else None)
            at += 1
    if target is None or not target.single or target.dtype not in CODES:
        raise call.refuse("the result needs one scale and 8 bits")
    inner = replace(call, op=op, operands=tuple(operands), names=tuple(names))
    return Split(inner, target)


def _operand(call: Call, op: str, at: int, first: bool) -> Value:
    """An integer input with the scale and zero point behind it."""
    value = call.operand(at)
    axis = None
    if not first:  # scales per output channel: axis 0, or the last of a matrix
        axis = 0 if op == "Conv" or (op == "Gemm" and call.attributes.get("transB", 0)) else -1
    if isinstance(value, Constant) and value.array.dtype in CODES:
        params = quantization.read(call, at + 1, at + 2, value.array.dtype, value.array.ndim, axis)
        _same_type(call, at, params.dtype, value.array.dtype)
        return Constant.quantized(value.name, value.array, params)
    if isinstance(value, Integers):
        params = quantization.read(call, at + 1, at + 2, value.dtype, len(value.shape), axis)
        _same_type(call, at, params.dtype, value.dtype)
        return Codes(value.name, params, value.shape)
    raise call.refuse(f"input {call.names[at]} is no 8-bit integer tensor")


def _same_type(call: Call, at: int, zero: np.dtype, codes: np.dtype) -> None:
    if zero != codes:
        raise call.refuse(f"input {call.names[at]} is {codes}, its zero point {zero}")
