"""Operators that only move or select elements."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fuzz.bench import Bench, Unsuitable, Value, mixed

Shape = tuple[int, ...]
Moved = tuple[str, Shape]
LAST = (1 << 63) - 1
"""As exporters write an open end."""


def _identity(b: Bench, name: str, shape: Shape, integer: bool) -> Moved:
    kind = b.c.pick(("Identity",) if integer else ("Identity", "Dropout", "Cast"))
    b.form(f"move.{kind.lower()}")
    attributes: dict[str, Any] = {"to": 1} if kind == "Cast" else {}
    return b.writer.node(kind, [name], **attributes), shape


def _reshape(b: Bench, name: str, shape: Shape, integer: bool) -> Moved:
    """A view: axes of size 1 come and go, positions are split or merged."""
    space = shape[2:]
    options: list[Shape] = [shape]
    if len(shape) in (3, 4):
        options += [(*shape[:2], 1, *space), (*shape, 1)]
    if len(space) >= 2:
        options += [(*shape[:2], math.prod(space)), (*shape[:2], space[0], math.prod(space[1:]))]
    if len(space) in (1, 2) and space[-1] % 2 == 0:
        options.append((*shape[:-1], 2, space[-1] // 2))
    new = b.c.pick(options)
    written = list(new)
    match b.c.below(4):
        case 1:
            written[b.c.below(len(new))] = -1
        case 2:
            written[0] = 0
        case 3 if new[:2] == shape[:2]:
            written[1] = 0
            written[-1] = -1 if len(new) > 2 else written[-1]
    b.form("move.reshape")
    return b.writer.node("Reshape", [name, b.writer.constant(np.array(written), "shape")]), new


def _squeeze(b: Bench, name: str, shape: Shape, integer: bool) -> Moved:
    ones = [a for a, n in enumerate(shape) if n == 1 and a > 0 and a != 1]
    if not ones or len(shape) < 3:
        raise Unsuitable
    drop = b.c.sample(ones, 1 + b.c.below(len(ones)))
    new = tuple(n for a, n in enumerate(shape) if a not in drop)
    if b.c.chance(40) and b.style.opset >= 11:
        drop = [a - len(shape) for a in drop]
    b.form("move.squeeze")
    return b.writer.listed("Squeeze", name, "axes", drop, 13), new


def _unsqueeze(b: Bench, name: str, shape: Shape, integer: bool) -> Moved:
    if len(shape) > 4:
        raise Unsuitable
    at = 2 + b.c.below(len(shape) - 1)
    new = (*shape[:at], 1, *shape[at:])
    if b.c.chance(40) and b.style.opset >= 11:
        at -= len(new)
    b.form("move.unsqueeze")
    return b.writer.listed("Unsqueeze", name, "axes", [at], 13), new


def _range(b: Bench, size: int) -> tuple[int, int, int, int]:
    """Start, end and step as written, and how many elements are taken."""
    step = b.c.pick((1, 2, 3), (80, 14, 6))
    start = b.c.below(max(1, size - 1))
    stop = size - b.c.below(size - start)
    count = len(range(start, stop, step))
    if b.c.chance(30):
        start -= size
    if stop == size:
        stop = b.c.pick((size, LAST, size + 5))
    elif b.c.chance(30):
        stop -= size
    return start, stop, step, count


def _slice(b: Bench, name: str, shape: Shape, integer: bool) -> Moved:
    large = [a for a in range(1, len(shape)) if shape[a] > 1]
    if not large:
        raise Unsuitable
    axes = b.c.sample(large, min(len(large), b.c.pick((1, 2), (80, 20))))
    new, cuts = list(shape), []
    for axis in axes:
        *cut, new[axis] = _range(b, shape[axis])
        cuts.append(cut)
    starts, ends, steps = zip(*cuts, strict=True)
    b.form("slice.channels" if 1 in axes else "slice.space")
    if len(axes) > 1:
        b.form("slice.two_axes")
    if max(steps) > 1:
        b.form("slice.step")
    if b.c.chance(20):
        axes = [a - len(shape) for a in axes]
    inputs = [name, *(b.writer.constant(np.array(v), "cut") for v in (starts, ends, axes))]
    if max(steps) > 1 or b.c.chance(40):
        inputs.append(b.writer.constant(np.array(steps), "steps"))
    return b.writer.node("Slice", inputs), tuple(new)


def _gather(b: Bench, name: str, shape: Shape, integer: bool) -> Moved:
    axes = [a for a in range(2, len(shape)) if shape[a] > 1]
    if not axes or len(shape) < 4:
        raise Unsuitable
    axis = b.c.pick(axes)
    index = b.c.below(shape[axis])
    if b.c.chance(40) and b.style.opset >= 11:
        index -= shape[axis]
        b.form("gather.negative")
    rank = b.c.pick((0, 1, 2), (44, 22, 34))
    if len(shape) - 1 + rank > 5:
        rank = 1
    b.form("gather.scalar" if rank == 0 else "gather.list" if rank == 1 else "gather.nested")
    indices = b.writer.constant(np.array(index).reshape((1,) * rank), "index")
    new = (*shape[:axis], *(1,) * rank, *shape[axis + 1 :])
    return b.writer.node("Gather", [name, indices], axis=axis), new


def _transpose(b: Bench, name: str, shape: Shape, integer: bool) -> Moved:
    if len(shape) < 4:
        raise Unsuitable
    order = list(range(len(shape)))
    first = 2 + b.c.below(len(shape) - 3)
    order[first], order[-1] = order[-1], order[first]
    b.form("move.transpose")
    return b.writer.node("Transpose", [name], perm=order), tuple(shape[a] for a in order)


def _pad(b: Bench, name: str, shape: Shape, integer: bool) -> Moved:
    if integer or len(shape) < 3 or b.style.opset < 11:
        raise Unsuitable
    widths = [[0] * len(shape), [0] * len(shape)]
    axis = 2 + b.c.below(len(shape) - 2)
    widths[b.c.below(2)][axis] = 1 + b.c.below(2)
    if b.c.chance(40):
        widths[1][-1] += 1
    new = tuple(n + before + after for n, before, after in zip(shape, *widths, strict=True))
    inputs = [name, b.writer.constant(np.array([*widths[0], *widths[1]]), "pads")]
    if b.c.chance(40):
        inputs.append(b.writer.constant(np.float32(0), "value"))
    b.form("move.pad")
    return b.writer.node("Pad", inputs), new


def _expand(b: Bench, name: str, shape: Shape, integer: bool) -> Moved:
    ones = [a for a in range(2, len(shape)) if shape[a] == 1]
    if not ones:
        raise Unsuitable
    axis = b.c.pick(ones)
    new = (*shape[:axis], 2 + b.c.below(3), *shape[axis + 1 :])
    written = [1 if n == m and b.c.chance(30) else m for n, m in zip(shape, new, strict=True)]
    b.form("move.expand")
    return b.writer.node("Expand", [name, b.writer.constant(np.array(written), "shape")]), new


MOVES: tuple[tuple[Callable[[Bench, str, Shape, bool], Moved], float], ...] = (
    (_identity, 15),
    (_reshape, 22),
    (_squeeze, 10),
    (_unsqueeze, 12),
    (_slice, 34),
    (_gather, 18),
    (_transpose, 3),
    (_pad, 12),
    (_expand, 8),
)


def move(b: Bench, name: str, shape: Shape, integer: bool) -> Moved:
    """Append a move of a float tensor, or of codes.

    Raises
    ------
    Unsuitable
        The chosen one does nothing on this shape.
    """
    made, weights = zip(*MOVES, strict=True)
    name, new = b.c.pick(made, weights)(b, name, shape, integer)
    if len(new) > 5 or len(new) < 2:
        raise Unsuitable
    return name, new


# Steps ------------------------------------------------------------------------------------


def own_pairs(b: Bench) -> None:
    """A move between DequantizeLinear and QuantizeLinear."""
    x = b.value(fits=lambda v: not v.tokens)
    real, shape = move(b, b.read(x), x.shape, False)
    if b.c.chance(25):
        b.form("move.other_scale")
        b.quantized(real, shape, x.sample)
    else:
        b.form("move.own_pairs")
        b.quantized(real, shape, x.sample, like=x)


def bare(b: Bench) -> None:
    """A move behind a DequantizeLinear, read in float by what comes next."""
    x = b.value(fits=lambda v: not v.tokens)
    real, shape = move(b, b.read(x), x.shape, False)
    b.form("move.bare")
    b.made(Value(shape, x.scale, x.zero, x.dtype, x.sample, real=real))


def on_codes(b: Bench) -> None:
    """A move of integers."""
    x = b.value(fits=lambda v: v.codes and not v.tokens)
    codes, shape = move(b, b.integer(x), x.shape, True)
    b.form("move.codes")
    b.made(Value(shape, x.scale, x.zero, x.dtype, x.sample, codes=codes))


def split(b: Bench) -> None:
    """A Split into two to four parts, each with its own quantizer or none."""
    x = b.value(fits=lambda v: not v.tokens and max(v.shape[1:]) > 1)
    axis = b.c.pick([a for a in range(1, len(x.shape)) if x.shape[a] > 1])
    size = x.shape[axis]
    parts = 2 + b.c.below(min(size, 4) - 1)
    integer = bool(x.codes) and b.c.chance(20)
    data = b.integer(x) if integer else b.read(x)
    names, sizes = _split(b, data, axis - (len(x.shape) if b.c.chance(20) else 0), size, parts)
    own = not integer and b.c.below(100) >= b.style.bare
    for name, n in zip(names, sizes, strict=True):
        shape = (*x.shape[:axis], n, *x.shape[axis + 1 :])
        if own:
            b.quantized(name, shape, x.sample, like=x)
        else:
            codes, real = (name, "") if integer else ("", name)
            b.made(Value(shape, x.scale, x.zero, x.dtype, x.sample, codes, real))
    b.form("split.channels" if axis == 1 else "split.space")
    b.form("split.own_pairs" if own else "split.codes" if integer else "split.bare")


def _split(b: Bench, data: str, axis: int, size: int, parts: int) -> tuple[list[str], list[int]]:
    w, opset = b.writer, b.style.opset
    if size % parts == 0 and b.c.chance(40):
        extra: dict[str, Any] = {"num_outputs": parts} if opset >= 18 else {}
        return w.several("Split", [data], parts, axis=axis, **extra), [size // parts] * parts
    sizes: list[int] = []
    for left in range(parts - 1, 0, -1):
        sizes.append(1 + b.c.below(size - sum(sizes) - left))
    sizes.append(size - sum(sizes))
    if opset < 13:
        return w.several("Split", [data], parts, axis=axis, split=sizes), sizes
    inputs = [data, w.constant(np.array(sizes), "split")]
    return w.several("Split", inputs, parts, axis=axis), sizes


def shuffle(b: Bench) -> None:
    """Channel shuffle: Reshape, Transpose, Reshape."""
    x = b.spatial(4)
    _, channels, height, width = x.shape
    groups = [g for g in (2, 3, 4) if channels % g == 0 and channels > g]
    if not groups:
        raise Unsuitable
    g = b.c.pick(groups)
    w = b.writer
    apart = np.array([1, g, channels // g, height, width])

    def step(number: int, name: str) -> str:
        if number == 1:
            return w.node("Transpose", [name], perm=[0, 2, 1, 3, 4])
        shape = apart if number == 0 else np.array(x.shape)
        return w.node("Reshape", [name, w.constant(shape, "shape")])

    integer = bool(x.codes) and b.c.chance(30)
    name = b.integer(x) if integer else b.read(x)
    between = not integer and b.c.chance(40)
    for number in range(3):
        name = step(number, name)
        if between and number < 2:
            codes = b.quantize(name, x.scale, x.zero, x.dtype)
            name = b.dequantize(codes, x.scale, x.zero, x.dtype)
    b.form("shuffle")
    if integer:
        b.made(Value(x.shape, x.scale, x.zero, x.dtype, x.sample, codes=name))
    else:
        b.quantized(name, x.shape, x.sample, like=x)


def roll(b: Bench) -> None:
    """Elements moved round an axis: Slice, Slice, Concat."""
    x = b.spatial(4, 5)
    axes = [a for a in range(1, len(x.shape)) if x.shape[a] > 1]
    if not axes:
        raise Unsuitable
    axis = b.c.pick(axes)
    by = 1 + b.c.below(x.shape[axis] - 1)
    real, w = b.read(x), b.writer

    def part(start: int, stop: int) -> str:
        cut = [w.constant(np.array([n]), "cut") for n in (start, stop, axis)]
        return w.node("Slice", [real, *cut])

    joined = w.node("Concat", [part(by, LAST), part(0, by)], axis=axis)
    b.form("roll")
    b.quantized(joined, x.shape, mixed(x.sample), like=x)
