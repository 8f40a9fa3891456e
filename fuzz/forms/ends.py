"""What stands between an operator and its quantizer: a clamp, moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fuzz.bench import Bench, Floats, Unsuitable, Value
from fuzz.forms import moves


def finish(
    b: Bench,
    real: str,
    shape: Sequence[int],
    sample: Floats,
    clamp: bool = True,
    tokens: bool = False,
) -> Value:
    """Append clamp and moves, if any, and the quantizer."""
    if clamp:
        real, sample = clamped(b, real, sample)
    if not tokens and b.style.bare and b.extra() and b.c.chance(40):
        for _ in range(1 + b.c.below(2)):
            mark = b.writer.mark()
            try:
                real, shape = moves.move(b, real, tuple(shape), False)
            except Unsuitable:
                b.writer.restore(mark)
                break
            b.form("move.before_q")
    return b.quantized(real, shape, sample, tokens=tokens)


def clamped(b: Bench, real: str, sample: Floats) -> tuple[str, Floats]:
    """Nothing, a Relu or a Clip."""
    match b.c.pick(("none", "relu", "clip"), (60, 28, 12)):
        case "relu":
            b.form("clamp.relu")
            return b.writer.node("Relu", [real]), np.maximum(sample, 0)
        case "clip":
            b.form("clamp.clip")
            high = np.float32(max(0.05, round(float(np.abs(sample).max()) * 0.7, 3)))
            low = np.float32(b.c.pick((0.0, -float(high), -0.5 * float(high))))
            return clip(b, real, low, high), np.clip(sample, low, high)
        case _:
            return real, sample


def clip(b: Bench, real: str, low: np.float32 | None, high: np.float32 | None) -> str:
    """A Clip in float; bounds are inputs since opset 11."""
    w = b.writer
    if b.style.opset < 11:
        bounds: dict[str, Any] = {
            key: float(value) for key, value in (("min", low), ("max", high)) if value is not None
        }
        return w.node("Clip", [real], **bounds)
    names = ["" if v is None else w.constant(np.float32(v), "bound") for v in (low, high)]
    return w.node("Clip", [real, *names])


def target(b: Bench, sample: Floats) -> tuple[np.float32, int, list[str]]:
    """Quantization of a QLinear operator's result: values, and names of scale and zero point."""
    scale, zero, dtype = b.quantization(sample)
    names = [
        b.writer.constant(scale, "y_scale"),
        b.writer.constant(np.asarray(zero, dtype), "y_zero"),
    ]
    return scale, zero, names


def source(b: Bench, value: Value) -> list[str]:
    """Codes, scale and zero point of an activation, for a QLinear operator."""
    w = b.writer
    return [
        b.integer(value),
        w.constant(value.scale, "x_scale"),
        w.constant(np.asarray(value.zero, value.dtype), "x_zero"),
    ]
