"""Pools and means."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fuzz.bench import Bench, Unsuitable, Value
from fuzz.forms.ends import finish, source, target
from fuzz.forms.windows import Window, kernel_for, window


def _window(b: Bench, x: Value) -> Window:
    space = x.shape[2:]
    kernel = tuple(min(k, n) for k, n in zip(kernel_for(b, space, (2, 3, 4)), space, strict=True))
    return window(b, space, kernel, pool=True)


def max_pool(b: Bench) -> None:
    """MaxPool or GlobalMaxPool: with its own quantizer, without, or on codes."""
    x = b.spatial()
    whole = b.c.chance(12)
    attributes: dict[str, Any] = {}
    shape = (*x.shape[:2], *(1 for _ in x.shape[2:]))
    if not whole:
        win = _window(b, x)
        attributes = {"kernel_shape": list(win.kernel), **win.attributes}
        shape = (*x.shape[:2], *win.space)
    op = "GlobalMaxPool" if whole else "MaxPool"
    b.form("pool.global_max" if whole else f"pool.max.{len(x.shape) - 2}d")
    integer = bool(x.codes) and b.style.opset >= 12 and not whole
    if integer and b.c.chance(70 if b.style.qoperator else 15):
        codes = b.writer.node(op, [b.integer(x)], **attributes)
        b.form("pool.max.codes")
        b.made(Value(shape, x.scale, x.zero, x.dtype, x.sample, codes=codes))
        return
    real = b.writer.node(op, [b.read(x)], **attributes)
    if b.c.below(100) < b.style.bare:
        b.form("pool.max.bare")
        b.made(Value(shape, x.scale, x.zero, x.dtype, x.sample, real=real))
    elif b.c.chance(25):
        finish(b, real, shape, x.sample)
    else:
        b.quantized(real, shape, x.sample, like=x)


def average_pool(b: Bench) -> None:
    """AveragePool; where padding does not count, windows at the border have fewer elements."""
    x = b.spatial()
    win = _window(b, x)
    attributes = {"kernel_shape": list(win.kernel), **win.attributes}
    if win.padded:
        counted = b.c.chance(50)
        if counted:
            attributes["count_include_pad"] = 1
        b.form(f"pool.average.{'counted' if counted else 'uncounted'}_pads")
    if win.ceiled:
        b.form("pool.average.ceil_mode")
    shape = (*x.shape[:2], *win.space)
    b.form("pool.average")
    _mean(b, "AveragePool", x, shape, math.prod(win.kernel), attributes)


def global_average_pool(b: Bench) -> None:
    """GlobalAveragePool."""
    x = b.spatial()
    shape = (*x.shape[:2], *(1 for _ in x.shape[2:]))
    b.form("pool.global_average")
    _mean(b, "GlobalAveragePool", x, shape, math.prod(x.shape[2:]), {})


def _mean(
    b: Bench, op: str, x: Value, shape: tuple[int, ...], n: int, attributes: dict[str, Any]
) -> None:
    sample = _averaged(x, n)
    if b.style.qoperator and x.codes and b.c.chance(70) and not attributes.get("ceil_mode"):
        scale, zero, result = target(b, sample)
        inputs = [*source(b, x), *result]
        b.form(f"qlinear.{op.lower()}")
        codes = b.writer.node(f"QLinear{op}", inputs, domain="com.microsoft", **attributes)
        b.made(Value(shape, scale, zero, x.dtype, sample, codes))
        return
    real = b.writer.node(op, [b.read(x)], **attributes)
    finish(b, real, shape, sample)


def _averaged(x: Value, n: int) -> Any:
    mean = x.sample.mean()
    return np.asarray(mean + (x.sample - mean) / math.sqrt(n), np.float32)


def reduce_mean(b: Bench) -> None:
    """ReduceMean over any axes, also those of size 1."""
    x = b.value(3, 4, 5, fits=lambda v: not v.tokens)
    rank = len(x.shape)
    groups = [(a,) for a in range(2, rank)] + [tuple(range(2, rank))]
    groups += [tuple(range(a, rank)) for a in range(3, rank - 1)]
    groups += [(1,), (0,), (2, rank - 1)] if rank > 4 else [(1,), (0,)]
    weights = [5.0] * (rank - 2) + [12.0] + [6.0] * max(0, rank - 4)
    weights += [3.0, 1.5, 3.0] if rank > 4 else [3.0, 1.5]
    axes = list(b.c.pick(groups, weights))
    keep = not b.c.chance(45)
    if not keep and 0 in axes:
        keep = True
    shape = tuple(1 if a in axes else n for a, n in enumerate(x.shape) if keep or a not in axes)
    if len(shape) < 2:
        raise Unsuitable
    b.form("mean", "mean.keepdims" if keep else "mean.no_keepdims")
    if any(x.shape[a] == 1 for a in axes):
        b.form("mean.axis_of_one")
    if 1 in axes:
        b.form("mean.channels")
    n = math.prod(x.shape[a] for a in axes)
    written = [a - rank for a in axes] if b.c.chance(40) else axes
    extra = {} if keep and b.c.chance(50) else {"keepdims": int(keep)}
    real = b.writer.listed("ReduceMean", b.read(x), "axes", written, 18, **extra)
    finish(b, real, shape, _averaged(x, n))
