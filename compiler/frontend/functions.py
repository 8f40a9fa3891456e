"""Float functions of one tensor, for tables: each evaluated in float64 and rounded once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from compiler.frontend.model import Model, attributes_of, refuse
from compiler.ops.unary import Float32, Function

Real = npt.NDArray[np.float64]

SINGLE: dict[str, Callable[[Real, dict[str, Any]], Real]] = {
    "Abs": lambda x, a: np.abs(x),
    "Elu": lambda x, a: np.where(x > 0, x, a.get("alpha", 1.0) * np.expm1(np.minimum(x, 0))),
    "Erf": lambda x, a: _erf(x),
    "Exp": lambda x, a: np.exp(x),
    "Gelu": lambda x, a: _gelu(x, a.get("approximate", "none")),
    "HardSigmoid": lambda x, a: np.clip(a.get("alpha", 0.2) * x + a.get("beta", 0.5), 0, 1),
    "HardSwish": lambda x, a: x * np.clip(x / 6 + 0.5, 0, 1),
    "LeakyRelu": lambda x, a: np.where(x >= 0, x, a.get("alpha", 0.01) * x),
    "Neg": lambda x, a: -x,
    "Relu": lambda x, a: np.maximum(x, 0),
    "Sigmoid": lambda x, a: _sigmoid(x),
    "Softplus": lambda x, a: np.logaddexp(x, 0),
    "Tanh": lambda x, a: np.tanh(x),
}
"""Operators with one operand, by ONNX name."""

WITH_SCALAR: dict[str, Callable[[Any, Any], Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
}
"""Operators with two operands, one of which is a float scalar; float32 throughout."""


def _erf(x: Real) -> Real:
    return np.array([math.erf(v) for v in x.reshape(-1)]).reshape(x.shape)


def _gelu(x: Real, approximate: str) -> Real:
    if approximate == "tanh":
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        return np.asarray(0.5 * x * (1 + np.tanh(inner)))
    return np.asarray(0.5 * x * (1 + _erf(x / math.sqrt(2))))


def _sigmoid(x: Real) -> Real:
    e = np.exp(-np.abs(x))  # never overflows
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def clip_bounds(model: Model, node: onnx.NodeProto) -> tuple[float, float]:
    """Bounds of a Clip node; they are inputs since opset 11."""
    attributes = attributes_of(node)
    bounds = [attributes.get("min", -math.inf), attributes.get("max", math.inf)]
    for i, name in enumerate(node.input[1:3]):
        if not name:
            continue
        if not model.is_constant(name):
            raise refuse(node, f"bound {name} must be a constant")
        bounds[i] = float(model.constants[name].reshape(-1)[0])
    return bounds[0], bounds[1]


def clamp(model: Model, node: onnx.NodeProto) -> tuple[float, float] | None:
    """Real bounds if the node only clamps (which commutes with rounding), else None."""
    if node.op_type == "Relu":
        return 0.0, math.inf
    if node.op_type == "Clip":
        return clip_bounds(model, node)
    return None


def scalar_operand(model: Model, node: onnx.NodeProto) -> int | None:
    """Position of a float scalar constant among two operands, if there is one."""
    if node.op_type not in WITH_SCALAR or len(node.input) != 2:
        return None
    for position, name in enumerate(node.input):
        value = model.constants.get(name)
        if value is not None and value.size == 1 and value.dtype == np.float32:
            return position
    return None


def function(model: Model, node: onnx.NodeProto) -> tuple[Function, str] | None:
    """The function that a node applies and the tensor it applies it to; None if it is no such."""
    if node.op_type in SINGLE:
        attributes, operator = attributes_of(node), SINGLE[node.op_type]
        return in_double(lambda x: operator(x, attributes)), str(node.input[0])
    if node.op_type == "Clip":
        low, high = clip_bounds(model, node)
        return in_double(lambda x: np.clip(x, low, high)), str(node.input[0])
    position = scalar_operand(model, node)
    if position is None:
        return None
    scalar = np.float32(model.constants[node.input[position]].reshape(()))
    pair = WITH_SCALAR[node.op_type]
    if position == 0:
        return lambda x: np.asarray(pair(scalar, x), np.float32), str(node.input[1])
    return lambda x: np.asarray(pair(x, scalar), np.float32), str(node.input[0])


def in_double(operator: Callable[[Real], Real]) -> Function:
    """A function of float32 that is evaluated in float64 and rounded once."""

    def apply(x: Float32) -> Float32:
        return np.asarray(operator(x.astype(np.float64)), np.float32)

    return apply
