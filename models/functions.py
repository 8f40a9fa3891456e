"""Elementwise float functions of one tensor of codes, evaluated on all of its 256 codes.

Definition: dequantize in float32; evaluate each node in float64 on its operands and round once to
the type that the node gives, float32 above all; quantize. For + - * / and the square root that is
the float32 result; the others are correctly rounded as far as float64 libraries are. What is not
written here is evaluated by onnx's reference evaluator, in float64 too.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx.reference import ReferenceEvaluator

from models.onnxfile import FLOATS
from models.tables import F32
from models.values import Call

Real = npt.NDArray[np.float64]
Attributes = dict[str, Any]


def _erf(x: Real) -> Real:
    result: Real = np.vectorize(math.erf, otypes=[np.float64])(x)
    return result


def _gelu(x: Real, attributes: Attributes) -> Real:
    if attributes.get("approximate", "none") != "none":
        part = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    else:
        part = _erf(x / math.sqrt(2))
    # The sum as float32: far below 0 nothing is left of it, which a Floor behind it sees.
    gelu: Real = 0.5 * x * (F32(1) + part.astype(F32)).astype(np.float64)
    return gelu


def _sigmoid(x: Real) -> Real:
    # Written without overflow on either side.
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def _elu(x: Real, alpha: float) -> Real:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _hard_sigmoid(x: Real, attributes: Attributes) -> Real:
    alpha: float = attributes.get("alpha", float(F32(0.2)))
    beta: float = attributes.get("beta", 0.5)
    return np.clip(alpha * x + beta, 0, 1)


def _selu(x: Real, attributes: Attributes) -> Real:
    alpha: float = attributes.get("alpha", 1.67326319217681884765625)
    gamma: float = attributes.get("gamma", 1.05070102214813232421875)
    return gamma * _elu(x, alpha)


def _celu(x: Real, attributes: Attributes) -> Real:
    alpha: float = attributes.get("alpha", 1.0)
    return np.maximum(x, 0) + np.minimum(alpha * np.expm1(np.minimum(x, 0) / alpha), 0)


def _shrink(x: Real, attributes: Attributes) -> Real:
    bias: float = attributes.get("bias", 0.0)
    limit: float = attributes.get("lambd", 0.5)
    return np.where(x < -limit, x + bias, np.where(x > limit, x - bias, 0))


# By ONNX name: float64 operands in, float64 out.
_SINGLE: dict[str, Callable[[Real, Attributes], Real]] = {
    "Abs": lambda x, a: np.abs(x),
    "Ceil": lambda x, a: np.ceil(x),
    "Celu": _celu,
    "Cos": lambda x, a: np.cos(x),
    "Elu": lambda x, a: _elu(x, a.get("alpha", 1.0)),
    "Erf": lambda x, a: _erf(x),
    "Exp": lambda x, a: np.exp(x),
    "Floor": lambda x, a: np.floor(x),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda x, a: x * np.clip(float(F32(1 / 6)) * x + 0.5, 0, 1),
    "Identity": lambda x, a: x,
    "LeakyRelu": lambda x, a: np.where(x >= 0, x, a.get("alpha", float(F32(0.01))) * x),
    "Log": lambda x, a: np.log(x),
    "Mish": lambda x, a: x * np.tanh(np.logaddexp(x, 0)),
    "Neg": lambda x, a: -x,
    "Reciprocal": lambda x, a: 1 / x,
    "Relu": lambda x, a: np.maximum(x, 0),
    "Round": lambda x, a: np.rint(x),
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": lambda x, a: _sigmoid(x),
    "Sign": lambda x, a: np.sign(x),
    "Sin": lambda x, a: np.sin(x),
    "Softplus": lambda x, a: np.logaddexp(x, 0),
    "Softsign": lambda x, a: x / (1 + np.abs(x)),
    "Sqrt": lambda x, a: np.sqrt(x),
    "Swish": lambda x, a: x * _sigmoid(a.get("alpha", 1.0) * x),
    "Tanh": lambda x, a: np.tanh(x),
    "ThresholdedRelu": lambda x, a: np.where(x > a.get("alpha", 1.0), x, 0),
}
_SEVERAL: dict[str, Callable[[Sequence[Real]], Real]] = {
    "Add": lambda v: v[0] + v[1],
    "Div": lambda v: v[0] / v[1],
    "Max": lambda v: np.maximum.reduce(np.broadcast_arrays(*v)),
    "Min": lambda v: np.minimum.reduce(np.broadcast_arrays(*v)),
    "Mul": lambda v: v[0] * v[1],
    "PRelu": lambda v: np.where(v[0] >= 0, v[0], v[1] * v[0]),
    "Pow": lambda v: np.power(v[0], v[1]),
    "Sub": lambda v: v[0] - v[1],
    "Where": lambda v: np.where(v[0], v[1], v[2]),
}
_BY_EVALUATOR = (
    *("Acos", "Acosh", "And", "Asin", "Asinh", "Atan", "Atanh", "BitwiseAnd", "BitwiseNot"),
    *("BitwiseOr", "BitwiseXor", "Cosh", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN"),
    *("Less", "LessOrEqual", "Mean", "Mod", "Not", "Or", "Sinh", "Sum", "Tan", "Xor"),
)
ELEMENTWISE = (*_SINGLE, *_SEVERAL, *_BY_EVALUATOR, "Cast", "Clip")
"""Operators that may be part of a table, by ONNX name."""


def clip_bounds(call: Call) -> tuple[float, float]:
    """Bounds of a Clip node, which are inputs since opset 11."""
    bounds = [call.attributes.get("min", -math.inf), call.attributes.get("max", math.inf)]
    for index in (1, 2):
        given = call.constant(index)
        if given is not None:
            if given.size != 1:
                raise call.refuse(f"bound {call.names[index]} is no scalar")
            bounds[index - 1] = float(given.reshape(()))
    return bounds[0], bounds[1]


def evaluate(call: Call, operands: Sequence[np.ndarray | None]) -> np.ndarray:
    """Value of one node on every code.

    Parameters
    ----------
    call: an elementwise operator.
    operands: 256 entries each, or one for a constant; None where an optional one is absent.
    """
    values = [None if v is None else _wide(v) for v in operands]
    kind = _result_type(call, operands)
    with np.errstate(all="ignore"):
        if call.op == "Cast":
            return np.asarray(operands[0]).astype(_cast_type(call))
        if call.op == "Clip":
            low, high = clip_bounds(call)
            result = np.minimum(np.maximum(_present(call, values, 0), low), high)
        elif any(v is not None and v.dtype != np.float64 for v in values) and call.op != "Where":
            result = _by_evaluator(call, values)  # integers divide and round otherwise
        elif call.op in _SINGLE:
            result = _SINGLE[call.op](_present(call, values, 0), call.attributes)
        elif call.op in _SEVERAL:
            result = _SEVERAL[call.op]([_present(call, values, i) for i in range(len(values))])
        else:
            result = _by_evaluator(call, values)
        result = np.asarray(result)
        return result.astype(kind) if result.dtype in FLOATS else result


def _present(call: Call, values: Sequence[np.ndarray | None], index: int) -> np.ndarray:
    """An operand that must be there."""
    value = values[index]
    if value is None:
        raise call.refuse(f"input {index} is missing")
    return value


def _wide(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float64) if value.dtype in FLOATS else value


def _result_type(call: Call, operands: Sequence[np.ndarray | None]) -> np.dtype:
    """Type of a float result: that of the operands."""
    chosen = operands[1:] if call.op == "Where" else operands
    return next((v.dtype for v in chosen if v is not None and v.dtype in FLOATS), np.dtype("f4"))


def _cast_type(call: Call) -> np.dtype:
    kind: np.dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(call.attributes["to"]))
    if kind not in (*FLOATS, np.dtype(bool)) and kind.kind not in "iu":
        raise call.refuse(f"a cast to {kind} is not read")
    return kind


def _by_evaluator(call: Call, values: Sequence[np.ndarray | None]) -> np.ndarray:
    graph = onnx.helper.make_graph(
        [call.node],
        "node",
        [
            onnx.helper.make_tensor_value_info(
                name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), None
            )
            for name, value in dict(zip(call.node.input, values, strict=False)).items()
            if name and value is not None
        ],
        [onnx.helper.make_tensor_value_info(call.node.output[0], 0, None)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", call.opset)])
    feeds = {n: v for n, v in zip(call.node.input, values, strict=False) if n}
    try:
        return np.asarray(ReferenceEvaluator(model).run(None, feeds)[0])
    except Exception as error:  # the evaluator raises whatever its kernels raise
        raise call.refuse(f"does not evaluate on codes: {error}") from error
