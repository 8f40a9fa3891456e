"""Operators on two tensors, or a tensor and a constant, and concatenation."""

from __future__ import annotations

from typing import Any

import numpy as np

from fuzz.bench import Bench, Floats, Unsuitable, Value, mixed
from fuzz.forms.ends import finish, source, target
from fuzz.forms.functions import UNARY
from fuzz.forms.windows import WIDTHS, convolve

KINDS: dict[str, Any] = {
    "Add": np.add,
    "Mul": np.multiply,
    "Sub": np.subtract,
    "Max": np.maximum,
    "Min": np.minimum,
}
WEIGHTS = (40, 22, 18, 10, 10)


def pair(b: Bench) -> None:
    """Add, Mul, Sub, Max or Min of two activations."""
    x = b.value()
    y = _partner(b, x)
    op = b.c.pick(tuple(KINDS), WEIGHTS)
    _apply(b, op, x, y, np.asarray(KINDS[op](x.sample, np.roll(y.sample, 1)), np.float32))


def _apply(b: Bench, op: str, x: Value, y: Value, sample: Floats) -> None:
    if b.c.chance(25):
        x, y = y, x
    shape = tuple(int(n) for n in np.broadcast_shapes(x.shape, y.shape))
    tokens = x.tokens or y.tokens
    b.form(f"pair.{op}")
    if op in ("Add", "Mul") and b.style.qoperator and x.codes and y.codes and b.c.chance(80):
        inputs = [*source(b, x), *source(b, y)]
        scale, zero, result = target(b, sample)
        b.form(f"qlinear.{op.lower()}")
        codes = b.writer.node(f"QLinear{op}", [*inputs, *result], domain="com.microsoft")
        b.made(Value(shape, scale, zero, x.dtype, sample, codes, tokens=tokens))
        return
    real = b.writer.node(op, [b.read(x), b.read(y)])
    finish(b, real, shape, sample, tokens=tokens)


def _partner(b: Bench, x: Value) -> Value:
    """A second operand: an older tensor of this shape (a residual), the same, or a new one."""
    older = [v for v in b.values if v.shape == x.shape and v is not x and v.tokens == x.tokens]
    if older and b.c.chance(60):
        b.form("pair.residual")
        return b.c.pick(older[::-1])
    kind = b.c.pick(("branch", "function", "same"), (50, 35, 15))
    if kind == "branch" and len(x.shape) > 2 and not x.tokens:
        b.form("pair.branch")
        return _aside(b, x, x.shape[1])
    if kind == "same":
        b.form("pair.same_operand")
        return x
    name = b.c.pick(("Neg", "Sigmoid", "Tanh"))
    sample = UNARY[name].of(x.sample.astype(np.float64), {}).astype(np.float32)
    return b.quantized(b.writer.node(name, [b.read(x)]), x.shape, sample, tokens=x.tokens)


def _aside(b: Bench, x: Value, width: int) -> Value:
    """A pointwise convolution of a tensor, of stride 1 and without padding."""
    y = convolve(b, x, width, pointwise=True)  # moves before its quantizer may change the shape
    if y.shape != (x.shape[0], width, *x.shape[2:]):
        raise Unsuitable
    return y


def gate(b: Bench) -> None:
    """A map times (or plus) one value per channel, or one map for all channels."""
    x = b.spatial(4, 5)
    rank = len(x.shape)
    per_channel = not b.c.chance(35)
    if per_channel:
        real = b.writer.node("GlobalAveragePool", [b.read(x)])
        y = b.quantized(real, (*x.shape[:2], *(1,) * (rank - 2)), x.sample * np.float32(0.3))
        if b.c.chance(40):
            y = _aside(b, y, x.shape[1])
    else:
        y = _aside(b, x, 1)
    if b.c.chance(75):
        sample = UNARY["Sigmoid"].of(y.sample.astype(np.float64), {}).astype(np.float32)
        y = b.quantized(b.writer.node("Sigmoid", [b.read(y)]), y.shape, sample)
    op = b.c.pick(("Mul", "Add", "Sub", "Max"), (70, 15, 10, 5))
    b.form("gate.channels" if per_channel else "gate.map")
    sample = np.asarray(KINDS[op](x.sample, np.roll(y.sample, 1)), np.float32)
    _apply(b, op, x, y, sample)


def constant(b: Bench) -> None:
    """A tensor and a constant of any rank: scalar, per channel, per element; quantized or float."""
    x = b.value()
    rank = len(x.shape)
    form = b.c.pick(
        (
            "scalar",
            "scalar_of_rank",
            "scalar_of_higher_rank",
            "channels",
            "channels_flat",
            "elements",
        ),
        (22, 14, 10, 28, 12, 14),
    )
    channel = rank - 1 if x.tokens else 1
    per_channel = tuple(n if a == channel else 1 for a, n in enumerate(x.shape))
    shapes = {
        "scalar": (),
        "scalar_of_rank": (1,) * rank,
        "scalar_of_higher_rank": (1,) * (rank + 1),
        "channels": per_channel,
        "channels_flat": per_channel[channel:],
        "elements": x.shape,
    }
    shape = shapes[form]
    if len(shape) > 5:
        raise Unsuitable
    quantized = b.c.chance(70)
    op = b.c.pick((*KINDS, "Div"), (*WEIGHTS, 40))
    rng = b.c.generator()
    positive = op == "Div" or (quantized and op == "Mul")
    drawn = rng.uniform(0.3, 1.5, shape) if positive else rng.normal(0, 0.8, shape)
    value = np.asarray(drawn, np.float32)
    if op == "Div" and quantized:
        op = "Mul"
    name, sample = _constant(b, value, quantized)
    b.form(
        f"constant.{form}", f"constant.{'quantized' if quantized else 'float'}", f"constant.{op}"
    )
    operands = [b.read(x), name]
    apply = {**KINDS, "Div": np.divide}[op]
    if op != "Div" and b.c.chance(25):
        operands.reverse()
        made = apply(sample, x.sample)
    else:
        made = apply(x.sample, sample)
    result = tuple(int(n) for n in np.broadcast_shapes(x.shape, shape))
    real = b.writer.node(op, operands)
    finish(b, real, result, np.asarray(made, np.float32), tokens=x.tokens)


def _constant(b: Bench, value: Floats, quantized: bool) -> tuple[str, Floats]:
    """A constant operand, and a sample of it."""
    sample = np.resize(value.reshape(-1), 48).astype(np.float32)
    if not quantized:
        return b.writer.constant(value, "operand"), sample
    scale, zero, dtype = b.quantization(sample)
    limits = np.iinfo(dtype)
    codes = np.clip(np.rint(value / scale) + zero, limits.min, limits.max).astype(dtype)
    return b.dequantize(b.writer.constant(codes, "operand"), scale, zero, dtype), sample


def prelu(b: Bench) -> None:
    """PRelu with a slope per channel."""
    x = b.spatial()
    slopes = np.asarray(b.c.generator().uniform(-0.3, 1.2, x.shape[1]), np.float32)
    slope = b.writer.constant(slopes.reshape(-1, *(1 for _ in x.shape[2:])), "slope")
    b.form("prelu.channels")
    real = b.writer.node("PRelu", [b.read(x), slope])
    factor = np.resize(slopes, x.sample.shape)
    finish(b, real, x.shape, np.where(x.sample < 0, factor * x.sample, x.sample))


def concat(b: Bench) -> None:
    """Two to four tensors joined along channels, time or space."""
    x = b.value(2, 3, 4, 5)
    rank = len(x.shape)
    axis = b.c.pick(range(1, rank), [60] + [40 / (rank - 2)] * (rank - 2) if rank > 2 else [1])
    count = 2 + b.c.pick((0, 1, 2), (65, 23, 12))
    pieces = [x]
    while len(pieces) < count:
        pieces.append(_piece(b, x, axis))
    first = b.c.below(len(pieces))
    pieces = pieces[first:] + pieces[:first]
    shape = (*x.shape[:axis], sum(p.shape[axis] for p in pieces), *x.shape[axis + 1 :])
    tokens = x.tokens
    b.form("concat.channels" if axis == 1 and not tokens else "concat.space", f"concat.{count}_way")
    written = axis - rank if b.c.chance(25) and b.style.opset >= 11 else axis
    sample = mixed(*(p.sample for p in pieces))
    alike = all(p.same_type(pieces[0]) for p in pieces)
    if alike and all(p.codes for p in pieces) and b.c.chance(50):
        b.form("concat.codes")
        codes = b.writer.node("Concat", [b.integer(p) for p in pieces], axis=written)
        b.made(Value(shape, x.scale, x.zero, x.dtype, sample, codes, tokens=tokens))
        return
    if b.style.qoperator and all(p.codes for p in pieces) and b.c.chance(80):
        operands = [name for p in pieces for name in source(b, p)]
        scale, zero, result = target(b, sample)
        b.form("qlinear.concat")
        inputs = [*result, *operands]
        codes = b.writer.node("QLinearConcat", inputs, domain="com.microsoft", axis=written)
        b.made(Value(shape, scale, zero, x.dtype, sample, codes, tokens=tokens))
        return
    real = b.writer.node("Concat", [b.read(p) for p in pieces], axis=written)
    if alike and b.c.chance(60):
        b.form("concat.one_scale")
        b.quantized(real, shape, sample, like=x, tokens=tokens)
    else:
        b.quantized(real, shape, sample, tokens=tokens)


def _piece(b: Bench, x: Value, axis: int) -> Value:
    """Something that a tensor can be joined with."""

    def fits(v: Value) -> bool:
        same = len(v.shape) == len(x.shape) and v.tokens == x.tokens
        return same and all(
            n == m for a, (n, m) in enumerate(zip(v.shape, x.shape, strict=True)) if a != axis
        )

    older = [v for v in b.values if fits(v)]
    alike = [v for v in older if v.same_type(x)]
    if b.c.chance(20) and len(alike) > 1:
        return b.c.pick(alike[::-1])
    if b.c.chance(45) and len(older) > 1:
        return b.c.pick(older[::-1])
    if axis == 1 and len(x.shape) > 2 and not x.tokens:
        return _aside(b, x, b.c.pick(WIDTHS[:9]))
    if len(x.shape) > 2 and not x.tokens and b.c.chance(40):
        return _aside(b, x, x.shape[1])
    name = b.c.pick(("Relu", "Tanh", "Neg"))
    sample = UNARY[name].of(x.sample.astype(np.float64), {}).astype(np.float32)
    return b.quantized(b.writer.node(name, [b.read(x)]), x.shape, sample, tokens=x.tokens)
