"""Convolutions, and the windows that pools have as well."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from fuzz.bench import Bench, Unsuitable, Value, spread
from fuzz.forms.ends import finish, source, target
from fuzz.forms.weights import (
    Weight,
    float_bias,
    float_weight,
    integer_operands,
    make_bias,
    make_weight,
)

WIDTHS = (4, 3, 5, 7, 1, 11, 12, 16, 22, 24, 40, 44, 88)
WIDTH_WEIGHTS = (12, 12, 12, 12, 6, 12, 12, 9, 9, 7, 5, 5, 4)
MOST_WEIGHTS = 20_000


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """Attributes of a window, and the space that it makes."""

    kernel: tuple[int, ...]
    space: tuple[int, ...]
    attributes: dict[str, Any]
    padded: bool
    ceiled: bool = False


def window(b: Bench, space: tuple[int, ...], kernel: tuple[int, ...], pool: bool = False) -> Window:
    """Strides, dilations, padding for a kernel; attributes at their default are often absent."""
    c = b.c
    strides = tuple(c.pick((1, 2, 3), (75, 20, 5)) for _ in space)
    if pool and c.chance(60):
        strides = kernel
    dilated = not pool and max(kernel) > 1 and c.chance(15)
    dilations = tuple(c.pick((1, 2, 3), (30, 50, 20)) if dilated and k > 1 else 1 for k in kernel)
    extents = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True))
    ceil = pool and c.chance(25)
    attributes: dict[str, Any] = {}
    if max(strides) > 1 or c.chance(50):
        attributes["strides"] = list(strides)
    if max(dilations) > 1:
        attributes["dilations"] = list(dilations)
        b.form("conv.dilated")
    mode = c.pick(("pads", "SAME_UPPER", "SAME_LOWER", "VALID"), (82, 8, 5, 5))
    beyond = pool and any(s > k for s, k in zip(strides, kernel, strict=True))
    if mode.startswith("SAME") and (dilated or beyond):  # ONNX Runtime refuses such pools
        mode = "pads"
    pads = _pads(b, extents, pool) if mode == "pads" else [(0, 0)] * len(space)
    if mode != "pads":
        attributes["auto_pad"] = mode
    elif any(map(any, pads)) or c.chance(30):
        attributes["pads"] = [begin for begin, _ in pads] + [end for _, end in pads]
    if ceil:
        attributes["ceil_mode"] = 1
        b.form("pool.ceil_mode")
    new, padded = [], any(map(any, pads))
    for d, size in enumerate(space):
        if mode.startswith("SAME"):
            new.append(-(-size // strides[d]))
            padded |= (new[d] - 1) * strides[d] + extents[d] > size
        else:
            new.append(_length(b, size, extents[d], strides[d], pads[d], ceil))
    form = "pool" if pool else "conv"
    if max(strides) > 1:
        b.form(f"{form}.strided")
    if mode != "pads":
        b.form(f"{form}.auto_pad")
    elif padded:
        even = all(begin == end for begin, end in pads)
        b.form(f"{form}.padded" if even else f"{form}.padded_unevenly")
    return Window(kernel, tuple(new), attributes, padded, ceil)


def _pads(b: Bench, extents: tuple[int, ...], pool: bool) -> list[tuple[int, int]]:
    """Padding before and after each axis; a pool's stays below its kernel."""
    match b.c.pick(("none", "same", "free"), (35, 45, 20)):
        case "same":
            return [(min(e // 2, e - pool),) * 2 for e in extents]
        case "free":
            return [(b.c.below(e + 1 - pool), b.c.below(e + 1 - pool)) for e in extents]
        case _:
            return [(0, 0)] * len(extents)


def _length(
    b: Bench, size: int, extent: int, stride: int, pads: tuple[int, int], ceil: bool
) -> int:
    """Positions of a window along an axis."""
    room = size + sum(pads) - extent
    if room < 0:
        raise Unsuitable
    if not ceil:
        return room // stride + 1
    steps = -(-room // stride)
    if steps * stride >= size + pads[0]:  # it would start in the padding: not counted
        steps -= 1
        if b.style.opset < 22:  # shape inference counts that window, ONNX Runtime does not
            raise Unsuitable
    return steps + 1


def kernel_for(b: Bench, space: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[int, ...]:
    """A kernel, alike in all axes, flat or free."""
    form = b.c.pick(("alike", "temporal", "flat", "free"), (55, 12, 13, 20))
    k = b.c.pick(sizes)
    match form:
        case "temporal":
            kernel = (k, *(1 for _ in space[1:]))
        case "flat":
            kernel = (*(1 for _ in space[1:]), k)
        case "free":
            kernel = tuple(b.c.pick((1, *sizes)) for _ in space)
        case _:
            kernel = tuple(k for _ in space)
    return tuple(min(k, n + 1) for k, n in zip(kernel, space, strict=True))


def conv(b: Bench) -> None:
    """A dense, pointwise, grouped or depthwise convolution in one to three dimensions."""
    x = b.spatial()
    convolve(b, x)


def convolve(b: Bench, x: Value, cout: int | None = None, pointwise: bool = False) -> Value:
    """Append a convolution of a map."""
    cin, space = x.shape[1], x.shape[2:]
    kinds, weights = ("pointwise", "dense", "depthwise", "grouped"), (22, 45, 20, 13)
    kind = "pointwise" if pointwise else b.c.pick(kinds, weights)
    groups = 1
    width = cout or b.c.pick(WIDTHS, WIDTH_WEIGHTS)
    if kind == "depthwise":
        groups = cin
        width = cin * b.c.pick((1, 2), (92, 8))
    elif kind == "grouped":
        divisors = [g for g in (2, 3, 4, 11) if cin % g == 0 and g < cin]
        if not divisors:
            raise Unsuitable
        groups = b.c.pick(divisors)
        width = groups * (1 + b.c.below(4))
    kernel = (1,) * len(space)
    if kind != "pointwise":
        kernel = kernel_for(b, space, (3, 2, 5, 4, 7))
    shape = (width, cin // groups, *kernel)
    if math.prod(shape) > MOST_WEIGHTS or (kind == "depthwise" and cin == 1):
        raise Unsuitable
    win = window(b, space, kernel)
    new = (x.shape[0], width, *win.space)
    if math.prod(new) > 5000 or math.prod(new) * math.prod(shape[1:]) > 2_000_000:
        raise Unsuitable
    b.form(
        f"conv.{kind}",
        f"conv.{len(space)}d",
        f"width.{width}" if width in WIDTHS else "width.other",
    )
    weight = make_weight(b, shape, 0)
    attributes = dict(win.attributes)
    if groups > 1:
        attributes["group"] = groups
    if b.c.chance(60):
        attributes["kernel_shape"] = list(kernel)
    return _emit(b, "Conv", x, weight, math.prod(shape[1:]), new, attributes)


def channels_last(b: Bench) -> None:
    """ONNX Runtime's own QLinearConv on [1, H, W, C], between two Transposes."""
    x = b.spatial(4)
    if not x.codes or not b.style.qoperator:
        raise Unsuitable
    w, cin, space = b.writer, x.shape[1], x.shape[2:]
    width = b.c.pick(WIDTHS[:6])
    weight = make_weight(b, (width, cin, 1, 1), 0)
    sample = spread(x.sample, cin, weight.deviation, b.c.generator())
    scale, zero, result = target(b, sample)
    codes, *parameters = source(b, x)
    codes = w.node("Transpose", [codes], perm=[0, 2, 3, 1])
    inputs = [codes, *parameters, *integer_operands(b, weight), *result]
    made = w.node("QLinearConv", inputs, domain="com.microsoft", channels_last=1)
    made = w.node("Transpose", [made], perm=[0, 3, 1, 2])
    b.form("qlinear.conv.channels_last")
    b.made(Value((x.shape[0], width, *space), scale, zero, x.dtype, sample, made))


def _emit(
    b: Bench,
    op: str,
    x: Value,
    weight: Weight,
    fan_in: int,
    shape: tuple[int, ...],
    attributes: dict[str, Any],
    tokens: bool = False,
) -> Value:
    """A product of an activation and a weight, in the style's format."""
    rng = b.c.generator()
    sample = spread(x.sample, fan_in, weight.deviation, rng)
    deviation = float(sample.std())
    if b.style.qoperator and x.codes and b.c.chance(85):
        return _integer(b, op, x, weight, shape, sample, attributes, tokens)
    real = b.read(x)
    operands = [real, float_weight(b, weight)]
    if op != "MatMul":
        operands += float_bias(b, x, weight, deviation)
        if op == "Gemm" and len(operands) == 2 and b.style.opset < 11:
            operands.append(b.writer.constant(np.zeros(shape[-1], np.float32), "bias"))
    name = b.writer.node(op, operands, **attributes)
    return finish(b, name, shape, sample, tokens=tokens)


product = _emit


def _integer(
    b: Bench,
    op: str,
    x: Value,
    weight: Weight,
    shape: tuple[int, ...],
    sample: Any,
    attributes: dict[str, Any],
    tokens: bool,
) -> Value:
    """QLinearConv, QLinearMatMul or QGemm."""
    w = b.writer
    operands = [*source(b, x), *integer_operands(b, weight)]
    bias: list[str] = []
    if op != "MatMul" and b.style.bias != "none":
        bias = [w.constant(make_bias(b, x, weight, float(sample.std()))[0], "bias")]
    scale, zero, result = target(b, sample)
    b.form(f"qlinear.{op.lower()}")
    if op == "Conv":
        codes = w.node("QLinearConv", [*operands, *result, *bias], **attributes)
    elif op == "MatMul":
        codes = w.node("QLinearMatMul", [*operands, *result], **attributes)
    else:
        inputs = [*operands, *(bias or [""]), *result]
        codes = w.node("QGemm", inputs, domain="com.microsoft", **attributes)
    return b.made(Value(shape, scale, zero, x.dtype, sample, codes, tokens=tokens))
