"""The graph's inputs and outputs."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fuzz.bench import LARGEST, SAMPLES, Bench, Floats, Unsuitable, Value
from fuzz.forms import moves
from fuzz.forms.windows import WIDTH_WEIGHTS, WIDTHS

INPUT_NAMES = (
    *("x", "input:0", "serving_default_x:0", "/model/in put", "output:x", "input:", "file"),
    *("arr_0", "x.npy", "x:scale", "ünput", "name", "golden", "../x"),
)
OUTPUT_NAMES = (
    *("y", "output:0", "StatefulPartitionedCall:1", "/model/out put", "input:y", "x:scale"),
    *("file", "y.npy", "arr_0", "../y"),
)

SIZES = (2, 1, 3, 4, 5, 6, 7, 8, 9, 11, 16, 24)
SIZE_WEIGHTS = (8, 6, 10, 12, 12, 12, 12, 9, 8, 8, 6, 4)


def inputs(b: Bench) -> None:
    """One to three inputs, and sometimes one that nothing reads."""
    count = b.c.pick((1, 2, 3), (68, 24, 8))
    shape = _shape(b)
    for number in range(count):
        if number and not b.c.chance(70):
            shape = _shape(b)
        name = b.c.pick(INPUT_NAMES) if b.extra() else f"x{number}" if number else "x"
        _input(b, name, shape)
    if count > 1:
        b.form("input.several")
    if b.extra() and b.c.chance(25):
        b.form("input.unused")
        b.writer.input("unused", b.c.pick((np.float32, np.int8)), _shape(b))


def _shape(b: Bench) -> tuple[int, ...]:
    rank = b.c.pick((4, 5, 3, 2), (48, 28, 14, 10))
    channels = b.c.pick(WIDTHS, WIDTH_WEIGHTS)
    if rank == 2:
        return 1, b.c.pick((8, 3, 12, 20, 33, 64))
    most = {3: 24, 4: 11, 5: 7}[rank]
    while True:
        space = tuple(b.c.pick(SIZES, SIZE_WEIGHTS) for _ in range(rank - 2))
        space = tuple(min(n, most) for n in space)
        if rank == 5:
            space = (min(space[0], 5), *space[1:])
        if channels * math.prod(space) <= LARGEST // 4:
            b.form(f"rank.{rank}")
            return 1, channels, *space
        channels = max(1, channels // 2)


def _uniform(b: Bench, low: float, high: float) -> Floats:
    return np.linspace(low, high, SAMPLES).astype(np.float32)


def _input(b: Bench, name: str, shape: tuple[int, ...]) -> None:
    w = b.writer
    kind = b.c.pick(
        ("float", "twice", "prefix", "codes", "codes_direct", "channels_last"),
        (60, 8, 10, 10, 7, 5),
    )
    reach = float(2.0 ** b.c.below(3))
    sample = _uniform(b, -reach if b.c.chance(70) else 0.0, reach)
    b.form(f"input.{kind}")
    if kind in ("codes", "codes_direct"):
        scale, zero, dtype = b.quantization(sample)
        codes = w.input(name, dtype, shape)
        value = Value(shape, scale, zero, dtype, sample, codes)
        if kind == "codes":
            value.real = b.dequantize(codes, scale, zero, dtype)
        b.made(value)
        return
    if kind == "channels_last" and len(shape) > 2:
        _channels_last(b, name, shape, sample)
        return
    symbolic = b.extra() and b.c.chance(30)
    real = w.input(name, np.float32, ("N", *shape[1:]) if symbolic else shape)
    if symbolic:
        b.form("input.symbolic_batch")
    name = real
    if kind == "prefix":
        low, high = float(sample.min()), float(sample.max())
        real, sample, low, high = PREFIXES[b.c.below(len(PREFIXES))](b, real, low, high)
        w.properties[f"feed {name}"] = f"{low:.6g} {high:.6g}"
        b.quantized(real, shape, sample)
        return
    w.properties[f"feed {name}"] = f"{float(sample.min()):.6g} {float(sample.max()):.6g}"
    first = b.quantized(real, shape, sample)
    if kind == "twice":
        same = b.c.chance(50)
        b.form("input.twice.one_scale" if same else "input.twice.two_scales")
        if same:
            b.quantized(real, shape, sample, like=first)
        else:
            b.quantized(real, shape, sample * np.float32(0.7))


def _channels_last(b: Bench, name: str, shape: tuple[int, ...], sample: Floats) -> None:
    """[1, ..., C] and a Transpose: on codes, or behind the DequantizeLinear."""
    w, rank = b.writer, len(shape)
    last = (shape[0], *shape[2:], shape[1])
    order = [0, rank - 1, *range(1, rank - 1)]
    scale, zero, dtype = b.quantization(sample)
    integer = b.c.chance(40)
    if integer:
        codes = w.input(name, dtype, last)
        if b.c.chance(50):
            moved = w.node("Transpose", [codes], perm=order)
            b.made(Value(shape, scale, zero, dtype, sample, moved))
            return
    else:
        real = w.input(name, np.float32, last)
        w.properties[f"feed {real}"] = f"{float(sample.min()):.6g} {float(sample.max()):.6g}"
        codes = b.quantize(real, scale, zero, dtype)
    moved = w.node("Transpose", [b.dequantize(codes, scale, zero, dtype)], perm=order)
    like = Value(shape, scale, zero, dtype, sample)
    b.quantized(moved, shape, sample, like=like)


Prefixed = tuple[str, Floats, float, float]


def _image(b: Bench, x: str, low: float, high: float) -> Prefixed:
    w = b.writer
    return w.node("Div", [x, w.constant(np.float32(255))]), _uniform(b, 0, 1), 0, 255


def _standard(b: Bench, x: str, low: float, high: float) -> Prefixed:
    w = b.writer
    centred = w.node("Sub", [x, w.constant(np.float32(127.5))])
    return w.node("Div", [centred, w.constant(np.float32(127.5))]), _uniform(b, -1, 1), 0, 255


def _sigmoid(b: Bench, x: str, low: float, high: float) -> Prefixed:
    return b.writer.node("Sigmoid", [x]), _uniform(b, 0, 1), -6, 6


def _tanh(b: Bench, x: str, low: float, high: float) -> Prefixed:
    return b.writer.node("Tanh", [x]), _uniform(b, -1, 1), -3, 3


def _abs(b: Bench, x: str, low: float, high: float) -> Prefixed:
    return b.writer.node("Abs", [x]), _uniform(b, 0, high), -high, high


def _relu(b: Bench, x: str, low: float, high: float) -> Prefixed:
    return b.writer.node("Relu", [x]), _uniform(b, 0, high), -high, high


def _leaky(b: Bench, x: str, low: float, high: float) -> Prefixed:
    real = b.writer.node("LeakyRelu", [x], alpha=0.1)
    return real, _uniform(b, -0.1 * high, high), -high, high


def _neg(b: Bench, x: str, low: float, high: float) -> Prefixed:
    return b.writer.node("Neg", [x]), _uniform(b, -high, -low), low, high


PREFIXES: tuple[Callable[[Bench, str, float, float], Prefixed], ...] = (
    *(_image, _standard, _relu, _neg, _abs, _sigmoid, _tanh, _leaky),
)
"""Functions in float before the first QuantizeLinear: name, sample, and what the input spans."""


# Outputs ----------------------------------------------------------------------------------


def outputs(b: Bench) -> None:
    """Whatever nothing reads, and sometimes inner tensors; now and then a dead end is left."""
    ends = [v for v in b.values if not v.readers]
    inner = [v for v in b.values if v.readers and v.codes]
    if not ends:
        ends, inner = b.values[-1:], inner[:-1]
    if len(ends) > 1 and b.c.chance(20):
        b.form("output.dead_end")
        ends = ends[1:]
    if inner and b.c.chance(15):
        b.form("output.inner")
        ends.append(b.c.pick(inner[::-1]))
    if len(ends) > 1:
        b.form("output.several")
    declared: set[str] = set()
    for number, value in enumerate(ends):
        _output(b, value, number, declared)
    if len(b.writer.outputs) > 1 and b.c.chance(30):
        b.writer.outputs.reverse()
    if len(b.writer.inputs) > 1 and b.c.chance(40):
        b.form("input.other_order")
        b.writer.inputs.reverse()
    if b.extra() and b.c.chance(25):
        b.form("nodes.out_of_order")
        nodes = b.writer.nodes
        at = b.c.below(len(nodes))
        b.writer.nodes = nodes[at:] + nodes[:at]


def _output(b: Bench, value: Value, number: int, declared: set[str]) -> None:
    kind = b.c.pick(("float", "codes", "view", "twice"), (60, 15, 15, 10))
    if not value.codes:
        kind = "bare"
    b.form(f"output.{kind}")
    if kind == "codes":
        _declare(b, value.codes, value.dtype, value.shape, number, declared)
        return
    # An inner tensor's float name has readers: the output gets a DequantizeLinear of its own.
    if value.codes:
        real = b.dequantize(value.codes, value.scale, value.zero, value.dtype)
    else:
        real = value.real
    shape = value.shape
    if kind == "view":
        mark = b.writer.mark()
        try:
            real, shape = moves.move(b, real, shape, False)
        except Unsuitable:
            b.writer.restore(mark)
    if kind == "twice":
        other = b.dequantize(value.codes, value.scale, value.zero, value.dtype)
        if b.c.chance(40):
            _declare(b, value.codes, value.dtype, value.shape, number, declared)
        else:
            _declare(b, other, np.float32, value.shape, number, declared)
    _declare(b, real, np.float32, shape, number, declared)


def _declare(
    b: Bench, name: str, dtype: object, shape: tuple[int, ...], number: int, declared: set[str]
) -> None:
    made = any(name in node.output for node in b.writer.nodes)
    if name in declared or not made:
        return
    if b.extra() and b.c.chance(50):
        name = b.writer.rename_output(name, b.c.pick(OUTPUT_NAMES))
    declared.add(name)
    b.writer.output(name, dtype, shape if b.c.chance(50) else None)
