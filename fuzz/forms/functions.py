"""Functions of one activation: single operators, rows of them, subgraphs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fuzz.bench import Bench, Floats, Value
from fuzz.forms.ends import clip, source, target

Reals = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class Unary:
    """An operator of one input.

    Attributes
    ----------
    since: opset.
    of: values, for the range of the result.
    attributes: drawn for each use.
    positive: only for reals above 0.
    """

    since: int
    of: Callable[[Reals, dict[str, Any]], Reals]
    attributes: Callable[[Bench], dict[str, Any]] = lambda b: {}
    positive: bool = False


def _alpha(*options: float) -> Callable[[Bench], dict[str, Any]]:
    return lambda b: {} if b.c.chance(30) else {"alpha": b.c.pick(options)}


def _sigmoid(x: Reals) -> Reals:
    return 1 / (1 + np.exp(-np.clip(x, -50, 50)))


def _erf(x: Reals) -> Reals:
    return np.array([math.erf(v) for v in x])


UNARY: dict[str, Unary] = {
    "Relu": Unary(1, lambda x, a: np.maximum(x, 0)),
    "Sigmoid": Unary(1, lambda x, a: _sigmoid(x)),
    "Tanh": Unary(1, lambda x, a: np.tanh(x)),
    "LeakyRelu": Unary(
        1, lambda x, a: np.where(x < 0, a.get("alpha", 0.01) * x, x), _alpha(0.1, 0.01, 0.3)
    ),
    "Neg": Unary(1, lambda x, a: -x),
    "Abs": Unary(1, lambda x, a: np.abs(x)),
    "HardSigmoid": Unary(1, lambda x, a: np.clip(0.2 * x + 0.5, 0, 1), _alpha(0.2, 1 / 6)),
    "HardSwish": Unary(14, lambda x, a: x * np.clip(x / 6 + 0.5, 0, 1)),
    "Elu": Unary(1, lambda x, a: np.where(x < 0, np.expm1(np.minimum(x, 0)), x), _alpha(1.0, 0.5)),
    "Gelu": Unary(
        20,
        lambda x, a: x * 0.5 * (1 + _erf(x / math.sqrt(2))),
        lambda b: b.c.pick(({}, {"approximate": "tanh"})),
    ),
    "Exp": Unary(1, lambda x, a: np.exp(np.clip(x, -20, 8))),
    "Erf": Unary(9, lambda x, a: _erf(x)),
    "Softplus": Unary(1, lambda x, a: np.logaddexp(x, 0)),
    "Selu": Unary(1, lambda x, a: 1.05 * np.where(x < 0, 1.67 * np.expm1(np.minimum(x, 0)), x)),
    "Celu": Unary(
        12, lambda x, a: np.where(x < 0, np.expm1(np.minimum(x, 0)), x), _alpha(1.0, 2.0)
    ),
    "Softsign": Unary(1, lambda x, a: x / (1 + np.abs(x))),
    "Mish": Unary(18, lambda x, a: x * np.tanh(np.logaddexp(x, 0))),
    "Sign": Unary(9, lambda x, a: np.sign(x)),
    "Floor": Unary(1, lambda x, a: np.floor(x)),
    "Ceil": Unary(1, lambda x, a: np.ceil(x)),
    "Round": Unary(11, lambda x, a: np.rint(x)),
    "Sin": Unary(7, lambda x, a: np.sin(x)),
    "Cos": Unary(7, lambda x, a: np.cos(x)),
    "Atan": Unary(7, lambda x, a: np.arctan(x)),
    "ThresholdedRelu": Unary(10, lambda x, a: np.where(x > 0.5, x, 0), _alpha(0.5, 1.0)),
    "Shrink": Unary(9, lambda x, a: np.where(np.abs(x) > 0.5, x, 0)),
    "Sqrt": Unary(1, lambda x, a: np.sqrt(np.abs(x)), positive=True),
    "Log": Unary(1, lambda x, a: np.log(np.abs(x) + 0.1), positive=True),
    "Reciprocal": Unary(1, lambda x, a: 1 / (np.abs(x) + 0.1), positive=True),
}
WITH_CONSTANT = ("Add", "Mul", "Sub", "Div", "Max", "Min", "Pow", "PRelu", "Clip")


def function(b: Bench, real: str, x: Floats) -> tuple[str, Floats]:
    """Append one function."""
    if b.c.chance(35):
        return _with_constant(b, real, x)
    names = [name for name, u in UNARY.items() if u.since <= b.style.opset]
    name = b.c.pick(names, [3.0 if UNARY[n].since > 13 else 1.0 for n in names])
    unary, w = UNARY[name], b.writer
    if unary.positive:
        real, x = w.node("Abs", [real]), np.abs(x)
        if name != "Sqrt":
            real, x = w.node("Add", [real, w.constant(np.float32(0.1))]), x + np.float32(0.1)
    attributes = unary.attributes(b)
    b.form(f"function.{name}")
    result = unary.of(x.astype(np.float64), attributes)
    return w.node(name, [real], **attributes), result.astype(np.float32)


def _with_constant(b: Bench, real: str, x: Floats) -> tuple[str, Any]:
    """An operator whose other operand is a scalar."""
    w = b.writer
    name = b.c.pick(WITH_CONSTANT)
    b.form(f"function.{name}_scalar")
    if name == "Clip":
        high = np.float32(max(0.1, float(np.abs(x).max()) * 0.6))
        low = b.c.pick((np.float32(0), None, -high))
        if low is None and b.style.opset >= 11:
            return clip(b, real, None, high), np.minimum(x, high)
        low = np.float32(0) if low is None else low
        return clip(b, real, low, high), np.clip(x, low, high)
    if name == "PRelu":
        slope = np.float32(b.c.pick((0.1, 0.25)))
        return w.node("PRelu", [real, w.constant(np.array([slope]))]), np.where(x < 0, slope * x, x)
    if name == "Pow":
        return w.node("Pow", [real, w.constant(np.float32(b.c.pick((2.0, 3.0))))]), x * x
    scalar = np.float32(b.c.pick((0.5, 2.0, 0.1, 1.7)))
    constant = w.constant(scalar.reshape((1,) * b.c.pick((0, 1))))
    swapped = name != "Div" and b.c.chance(30)
    operands = [constant, real] if swapped else [real, constant]
    of: dict[str, Callable[[Any, Any], Any]] = {
        "Add": np.add,
        "Mul": np.multiply,
        "Sub": np.subtract,
        "Div": np.divide,
        "Max": np.maximum,
        "Min": np.minimum,
    }
    result = of[name](scalar, x) if swapped else of[name](x, scalar)
    return w.node(name, operands), np.asarray(result, np.float32)


def _subgraph(b: Bench, real: str, x: Floats) -> tuple[str, Any]:
    """A float subgraph that reads its activation twice."""
    w = b.writer
    form = b.c.pick(("silu", "hard_swish", "mish", "maximum", "square", "scaled"))
    b.form("function.subgraph", f"function.subgraph.{form}")
    match form:
        case "silu":
            return w.node("Mul", [real, w.node("Sigmoid", [real])]), np.asarray(
                x * _sigmoid(x.astype(np.float64)), np.float32
            )
        case "hard_swish":
            inner = clip(
                b, w.node("Add", [real, w.constant(np.float32(3))]), np.float32(0), np.float32(6)
            )
            inner = w.node("Div", [inner, w.constant(np.float32(6))])
            return w.node("Mul", [real, inner]), x * np.clip(x / 6 + 0.5, 0, 1)
        case "mish":
            inner = w.node("Tanh", [w.node("Softplus", [real])])
            return w.node("Mul", [real, inner]), x * np.tanh(np.logaddexp(x, 0))
        case "maximum":
            scaled = w.node("Mul", [real, w.constant(np.float32(0.1))])
            return w.node("Max", [real, scaled]), np.maximum(x, 0.1 * x)
        case "square":
            return w.node("Add", [w.node("Mul", [real, real]), real]), x * x + x
        case _:
            inner = w.node("Sub", [real, w.constant(np.float32(0.3))])
            return w.node("Div", [inner, w.constant(np.float32(0.7))]), (x - 0.3) / 0.7


def unary(b: Bench) -> None:
    """One function, two or three in a row, or a subgraph, between DQ and Q."""
    x = b.value()
    if b.style.qoperator and x.codes and b.c.chance(40):
        _qlinear(b, x)
        return
    real, sample = b.read(x), x.sample
    if b.c.chance(10):
        b.form("function.relu_of_one_scale")
        b.quantized(b.writer.node("Relu", [real]), x.shape, sample, like=x, tokens=x.tokens)
        return
    if b.c.chance(18):
        real, sample = _subgraph(b, real, sample)
    else:
        count = b.c.pick((1, 2, 3), (58, 28, 14))
        if count > 1:
            b.form("function.row")
        for _ in range(count):
            real, sample = function(b, real, sample)
    sample = np.nan_to_num(np.asarray(sample, np.float32), posinf=1e3, neginf=-1e3)
    b.quantized(real, x.shape, np.clip(sample, -1e3, 1e3), tokens=x.tokens)


def _qlinear(b: Bench, x: Value) -> None:
    """QLinearSigmoid and QLinearLeakyRelu."""
    name = b.c.pick(("Sigmoid", "LeakyRelu"))
    attributes = {"alpha": 0.1} if name == "LeakyRelu" else {}
    sample = UNARY[name].of(x.sample.astype(np.float64), attributes).astype(np.float32)
    scale, zero, result = target(b, sample)
    inputs = [*source(b, x), *result]
    b.form(f"qlinear.{name.lower()}")
    codes = b.writer.node(f"QLinear{name}", inputs, domain="com.microsoft", **attributes)
    b.made(Value(x.shape, scale, zero, x.dtype, sample, codes, tokens=x.tokens))


def requantize(b: Bench) -> None:
    """Another scale, and nothing else: DequantizeLinear, QuantizeLinear."""
    x = b.value()
    b.form("requantize")
    b.quantized(b.read(x), x.shape, x.sample * np.float32(0.8), tokens=x.tokens)
