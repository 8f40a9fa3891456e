"""Attention and what surrounds it: products of two activations, softmax, norms, indices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fuzz.bench import Bench, Floats, Unsuitable, Value, spread
from fuzz.forms.dense import to_tokens
from fuzz.forms.ends import finish, source, target
from fuzz.forms.functions import UNARY

MOST = 1024
"""Elements of a group."""
ROOT_EPSILON = np.float32(1e-3)


def _tokens(b: Bench) -> Value:
    ready = [v for v in b.values if v.tokens]
    return b.c.pick(ready[::-1]) if ready and not b.c.chance(20) else to_tokens(b)


def _other(b: Bench, x: Value) -> Value:
    """An activation of the shape of x: an older one, x itself, or a function of it."""
    older = [v for v in b.values if v.shape == x.shape and v.tokens == x.tokens]
    if b.c.chance(50):
        return b.c.pick(older[::-1])
    name = b.c.pick(("Neg", "Tanh", "Sigmoid"))
    sample = UNARY[name].of(x.sample.astype(np.float64), {}).astype(np.float32)
    return b.quantized(b.writer.node(name, [b.read(x)]), x.shape, sample, tokens=x.tokens)


# Products ---------------------------------------------------------------------------------


def product(b: Bench) -> None:
    """Attention without its softmax: one product, of tokens or of maps."""
    x = b.value(fits=lambda v: len(v.shape) > 2)
    y = _other(b, x)
    w = b.writer
    *lead, rows, inner = x.shape
    if rows * rows * math.prod(lead) > 4096:
        raise Unsuitable
    sample = spread(x.sample, inner, float(np.sqrt(np.mean(y.sample**2))), b.c.generator())
    shape = (*lead, rows, rows)
    order = [*range(len(lead)), len(lead) + 1, len(lead)]
    if b.style.qoperator and x.codes and y.codes and b.c.chance(60):
        right = w.node("Transpose", [b.integer(y)], perm=order)
        scale, zero, result = target(b, sample)
        inputs = [*source(b, x), right, *source(b, y)[1:], *result]
        b.form("qlinear.matmul_of_two")
        b.made(Value(shape, scale, zero, x.dtype, sample, w.node("QLinearMatMul", inputs)))
        return
    left, right = b.read(x), b.read(y)
    left, right, factor = _scaled(b, left, right)
    if b.style.opset >= 12 and b.c.chance(30):
        letters = "abcdef"[: len(lead)]
        b.form("einsum")
        equation = f"{letters}qd,{letters}kd->{letters}qk"
        real = w.node("Einsum", [left, right], equation=equation)
    else:
        b.form("matmul.two")
        real = w.node("MatMul", [left, w.node("Transpose", [right], perm=order)])
    if factor is not None:
        real = w.node(factor[0], [real, w.constant(factor[1], "factor")])
    finish(b, real, shape, sample * np.float32(0.5), tokens=True)


def _scaled(b: Bench, left: str, right: str) -> tuple[str, str, tuple[str, Any] | None]:
    """A constant factor before both operands or behind the product, or none, left in float."""
    match b.c.pick(("none", "behind", "before"), (60, 25, 15)):
        case "behind":
            b.form("matmul.factor_behind")
            op = b.c.pick(("Mul", "Div"))
            return left, right, (op, np.float32(0.5 if op == "Mul" else 2.3))
        case "before":
            b.form("matmul.factor_before")
            factor = b.writer.constant(np.float32(0.7), "factor")
            scaled = [b.writer.node("Mul", [name, factor]) for name in (left, right)]
            return scaled[0], scaled[1], None
        case _:
            return left, right, None


def heads(b: Bench) -> None:
    """Self-attention of several heads on tokens, all of it quantized."""
    x = _tokens(b)
    w = b.writer
    count, features = x.shape[-2:]
    number = b.c.pick([n for n in (1, 2, 3, 4) if features % n == 0])
    width = features // number
    if count < 2 or number * count * count > 4096 or math.prod(x.shape[:-2]) != 1:
        raise Unsuitable
    split = w.constant(np.array([count, number, width]), "heads")

    def per_head(value: Value, order: tuple[int, int, int]) -> str:
        name = w.node("Reshape", [b.read(value), split])
        name = w.node("Transpose", [name], perm=order)
        if b.style.bare or b.c.chance(50):
            return name
        codes = b.quantize(name, value.scale, value.zero, value.dtype)
        return b.dequantize(codes, value.scale, value.zero, value.dtype)

    key, values = _other(b, x), _other(b, x)
    spread_of = float(np.sqrt(np.mean(key.sample**2)))
    sample = spread(x.sample, width, spread_of, b.c.generator())
    real = w.node("MatMul", [per_head(x, (1, 0, 2)), per_head(key, (1, 2, 0))])
    scores = b.quantized(real, (number, count, count), sample, tokens=True)
    shares = _softmax(b, scores, -1)
    b.form("attention.heads")
    mixed = w.node("MatMul", [b.read(shares), per_head(values, (1, 0, 2))])
    mixed = b.read(b.quantized(mixed, (number, count, width), values.sample, tokens=True))
    back = w.node("Transpose", [mixed], perm=(1, 0, 2))
    back = w.node("Reshape", [back, w.constant(np.array([1, count, features]), "joined")])
    b.quantized(back, (1, count, features), values.sample, like=b.values[-1], tokens=True)


# Softmax ----------------------------------------------------------------------------------


def softmax(b: Bench) -> None:
    """Softmax of any tensor, over its last axis or its channels."""
    x = b.value(fits=lambda v: len(v.shape) > 1)
    flat = b.style.opset < 13
    axis = b.c.pick((-1, 1))
    if flat and axis < 0 and b.style.opset < 11:
        axis = len(x.shape) - 1
    group = math.prod(x.shape[axis:]) if flat else x.shape[axis]
    if group > MOST:
        raise Unsuitable
    _softmax(b, x, axis)


def _softmax(b: Bench, x: Value, axis: int) -> Value:
    w = b.writer
    rng = b.c.generator()
    sample = np.asarray(rng.uniform(0, 1, x.sample.size), np.float32)
    low = np.iinfo(b.style.dtype).min
    scale = b.c.pick((np.float32(1 / 256), np.float32(1 / 255), np.float32(0.0123)), (60, 30, 10))
    b.form("softmax.256" if scale == np.float32(1 / 256) else "softmax.other_scale")
    b.form("softmax.channels" if axis == 1 and len(x.shape) > 2 else "softmax.last")
    # Its kernel takes 254 for 255 steps of 1/255, and of one element makes nothing.
    alone = x.shape[axis] == 1
    if b.style.qoperator and x.codes and not alone and b.c.chance(50):
        scale, opset = np.float32(1 / 256), b.style.opset
        b.form("qlinear.softmax")
        result = [w.constant(scale, "y_scale"), w.constant(np.asarray(low, x.dtype), "y_zero")]
        inputs = [*source(b, x), *result]
        axis = axis % len(x.shape)
        codes = w.node("QLinearSoftmax", inputs, "com.microsoft", axis=axis, opset=opset)
        zero = int(np.iinfo(x.dtype).min) if low else 0
        return b.made(Value(x.shape, scale, zero, x.dtype, sample, codes, tokens=True))
    real = b.read(x)
    if b.c.chance(20):
        b.form("softmax.factor")
        real = w.node("Mul", [real, w.constant(np.float32(0.31), "factor")])
    real = w.node("Softmax", [real], axis=axis)
    codes = b.quantize(real, scale, low, b.style.dtype)
    return b.made(Value(x.shape, scale, low, b.style.dtype, sample, codes, tokens=True))


# Norms ------------------------------------------------------------------------------------


def norm(b: Bench) -> None:
    """A norm over the last axis, or over all but the first: an operator, or written out."""
    x = b.value(fits=lambda v: len(v.shape) > 1)
    written = b.style.opset < 17 or b.c.chance(50)
    first = len(x.shape) - 1 if written or b.c.chance(60) else 1
    group = x.shape[first:]
    if not 1 < math.prod(group) <= MOST:
        raise Unsuitable
    rng = b.c.generator()
    gamma = rng.normal(1, 0.3, group).astype(np.float32)
    beta = rng.normal(0, 0.3, group).astype(np.float32)
    sample = np.asarray(rng.normal(0, 1.3, x.sample.size), np.float32)
    w = b.writer
    if not written:
        b.form("norm.operator" if first == len(x.shape) - 1 else "norm.several_axes")
        operands = [b.read(x), w.constant(gamma, "gamma"), w.constant(beta, "beta")]
        axis = first - len(x.shape) if b.c.chance(50) else first
        real = w.node("LayerNormalization", operands, axis=axis, epsilon=1e-3)
    else:
        real = _written_out(b, b.read(x), group[-1], gamma, beta)
    finish(b, real, x.shape, sample, tokens=True)


def _written_out(b: Bench, x: str, count: int, gamma: Floats, beta: Floats) -> str:
    """Sub, Pow or Mul, ReduceMean, Sqrt, Div or Mul, Mul, Add."""
    w = b.writer

    def mean(name: str) -> str:
        return w.listed("ReduceMean", name, "axes", [-1], 18, keepdims=1)

    centred = w.node("Sub", [x, mean(x)])
    if b.c.chance(50):
        squared = w.node("Pow", [centred, w.constant(np.float32(2), "two")])
    else:
        squared = w.node("Mul", [centred, centred])
    variance = mean(squared)
    if b.c.chance(40):
        b.form("norm.unbiased")
        factor = w.constant(np.float32(count / (count - 1)), "factor")
        root = w.node("Sqrt", [w.node("Mul", [variance, factor])])
        root = w.node("Add", [root, w.constant(ROOT_EPSILON, "epsilon")])
    else:
        b.form("norm.biased")
        root = w.node("Sqrt", [w.node("Add", [variance, w.constant(ROOT_EPSILON, "epsilon")])])
    if b.c.chance(25):
        b.form("norm.reciprocal")
        made = w.node("Mul", [centred, w.node("Reciprocal", [root])])
    else:
        made = w.node("Div", [centred, root])
    made = w.node("Mul", [made, w.constant(gamma, "gamma")])
    return w.node("Add", [made, w.constant(beta, "beta")])


def batch_norm(b: Bench) -> None:
    """BatchNormalization that follows no convolution."""
    x = b.spatial(3, 4, 5)
    rng, channels = b.c.generator(), x.shape[1]
    constants = [
        rng.normal(1, 0.4, channels),
        rng.normal(0, 0.4, channels),
        rng.normal(0, 0.4, channels),
        rng.uniform(0.3, 2, channels),
    ]
    names = [b.writer.constant(each.astype(np.float32), "norm") for each in constants]
    b.form("batch_norm")
    real = b.writer.node("BatchNormalization", [b.read(x), *names])
    finish(b, real, x.shape, x.sample * np.float32(1.2))


def index(b: Bench) -> None:
    """ArgMax of channels or of the last axis, and a comparison of it with a constant."""
    x = b.value(fits=lambda v: len(v.shape) > 1)
    axis = b.c.pick((1, len(x.shape) - 1))
    if not 1 < x.shape[axis] <= 256:
        raise Unsuitable
    w = b.writer
    made = w.node("ArgMax", [b.read(x)], axis=axis, keepdims=1)
    shape = tuple(1 if a == axis else n for a, n in enumerate(x.shape))
    sample = np.asarray(b.c.generator().integers(0, 2, x.sample.size), np.float32)
    if b.style.opset >= 11 and b.c.chance(50):
        b.form("argmax.compared")
        made = w.node("Equal", [made, w.constant(np.array(1), "wanted")])
    else:
        b.form("argmax.cast")
        sample = sample * np.float32(x.shape[axis] - 1)
    b.quantized(w.node("Cast", [made], to=1), shape, sample, tokens=True)
