"""Weights and biases as exporters write them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from fuzz.bench import Bench, Unsuitable, Value

SPREAD = 60
"""Standard deviation of weight codes."""


@dataclasses.dataclass(eq=False, slots=True)
class Weight:
    """A quantized weight.

    Attributes
    ----------
    codes: int8, or uint8 around `zero`.
    scale: one, or one per output channel.
    zero: zero point.
    axis: of the output channels.
    deviation: standard deviation of the real weights, for the range of the result.
    """

    codes: npt.NDArray[Any]
    scale: npt.NDArray[np.float32]
    zero: int
    axis: int
    deviation: float


def make_weight(b: Bench, shape: tuple[int, ...], axis: int) -> Weight:
    """Random weights; with per-channel scales sometimes a dead channel."""
    rng = b.c.generator()
    codes = np.clip(np.rint(rng.normal(0, SPREAD, shape)), -127, 127).astype(np.int8)
    unit = 0.004 * 2.0 ** b.c.below(4)
    channels = shape[axis]
    if b.style.per_channel:
        b.form("weights.per_channel")
        factors = rng.uniform(0.5, 1.5, channels)
        scale = np.array([b.rounded(unit * f) for f in factors], np.float32)
        if channels > 2 and b.extra() and b.style.scales == "full":
            b.form("weights.dead_channel")
            np.moveaxis(codes, axis, 0)[channels // 2] = 0
            scale[channels // 2] = 1.0
    else:
        b.form("weights.per_tensor")
        scale = np.array([b.rounded(unit)], np.float32)
    if b.style.weights == "unsigned":
        b.form("weights.unsigned")
        return Weight(
            (codes.astype(np.int16) + 128).astype(np.uint8), scale, 128, axis, unit * SPREAD
        )
    return Weight(codes, scale, 0, axis, unit * SPREAD)


def _quantization(b: Bench, weight: Weight, axis: int) -> tuple[list[str], dict[str, Any]]:
    """Inputs and attributes of the weight's Q and DQ."""
    w = b.writer
    dtype = weight.codes.dtype
    if weight.scale.size == 1 and not b.style.per_channel:
        scale = w.constant(np.float32(weight.scale[0]), "w_scale")
        zero = np.asarray(weight.zero, dtype)
        attributes: dict[str, Any] = {}
    else:
        scale = w.constant(weight.scale, "w_scale")
        zero = np.full(weight.scale.size, weight.zero, dtype)
        attributes = {"axis": axis}
    if weight.zero == 0 and dtype == np.int8 and b.style.zero_points != "given":
        return [scale], attributes
    return [scale, w.constant(zero, "w_zero")], attributes


def float_weight(b: Bench, weight: Weight) -> str:
    """The weight as a float tensor behind its DequantizeLinear."""
    w, style, codes = b.writer, b.style, weight.codes
    if style.per_channel and style.opset < 13:  # DequantizeLinear has no axis yet
        raise Unsuitable
    form = style.weights
    if form == "quantized":
        b.form("weights.quantized_in_the_graph")
        return _quantized(b, weight)
    if form == "transposed":
        b.form("weights.transposed")
        order = (*range(2, codes.ndim), 1, 0)  # as [k, ..., in, out]
        inverse = tuple(int(i) for i in np.argsort(order))
        inputs, attributes = _quantization(b, weight, order.index(weight.axis))
        stored = w.constant(codes.transpose(order), "kernel")
        real = w.node("DequantizeLinear", [stored, *inputs], **attributes)
        return w.node("Transpose", [real], perm=list(inverse))
    stored = w.constant(codes, "weight")
    if form == "clipped":
        b.form("weights.clipped")
        bounds = [w.constant(np.int8(n), "bound") for n in (-127, 127)]
        stored = w.node("Clip", [stored, *bounds])
    inputs, attributes = _quantization(b, weight, weight.axis)
    return w.node("DequantizeLinear", [stored, *inputs], **attributes)


def _quantized(b: Bench, weight: Weight) -> str:
    """Float weights, QuantizeLinear, DequantizeLinear."""
    w = b.writer
    shape = [1] * weight.codes.ndim
    shape[weight.axis] = weight.scale.size
    real = weight.codes.astype(np.float32) * weight.scale.reshape(shape)
    inputs, attributes = _quantization(b, weight, weight.axis)
    extra = dict(attributes)
    if len(inputs) == 1:
        if b.style.zero_points == "output_dtype":
            b.form("weights.output_dtype")
            extra["output_dtype"] = 3
        else:  # the type must be said somewhere
            zero = np.zeros(weight.scale.size if attributes else (), np.int8)
            inputs.append(w.constant(zero, "w_zero"))
    codes = w.node("QuantizeLinear", [w.constant(real, "weight"), *inputs], **extra)
    return w.node("DequantizeLinear", [codes, *inputs], **attributes)


def make_bias(
    b: Bench, x: Value, weight: Weight, deviation: float
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Bias codes in units of the accumulator, those units, and the reals."""
    channels = weight.codes.shape[weight.axis]
    unit = (np.float32(x.scale) * weight.scale).astype(np.float32)
    real = b.c.generator().normal(0, 0.4 * deviation, channels)
    codes = np.clip(np.rint(real / unit), -(2**30), 2**30).astype(np.int32)
    return codes, unit, (codes * unit).astype(np.float32)


def float_bias(b: Bench, x: Value, weight: Weight, deviation: float) -> list[str]:
    """The bias as a float tensor; nothing if the style has none."""
    w, form = b.writer, b.style.bias
    b.form(f"bias.{form}")
    if form == "none":
        return []
    codes, unit, real = make_bias(b, x, weight, deviation)
    if form == "float":
        return [w.constant(real, "bias")]
    if form == "int8":
        scale = np.float32(np.abs(real).max() / 127 + 1e-9)
        small = np.clip(np.rint(real / scale), -127, 127).astype(np.int8)
        return [b.dequantize(w.constant(small, "bias"), scale, 0, np.int8)]
    name = w.constant(codes, "bias")
    if not b.style.per_channel:
        return [b.dequantize(name, unit[0], 0, np.int32)]
    inputs = [name, w.constant(unit, "bias_scale")]
    if b.style.zero_points == "given":
        inputs.append(w.constant(np.zeros(unit.size, np.int32), "bias_zero"))
    return [w.node("DequantizeLinear", inputs, axis=0)]


def integer_operands(b: Bench, weight: Weight) -> list[str]:
    """Codes, scale and zero point for a QLinear operator."""
    w, dtype = b.writer, weight.codes.dtype
    single = not b.style.per_channel
    scale = np.float32(weight.scale[0]) if single else weight.scale
    zero = np.asarray(weight.zero, dtype)
    if not single:
        zero = np.full(weight.scale.size, weight.zero, dtype)
    return [
        w.constant(weight.codes, "weight"),
        w.constant(scale, "w_scale"),
        w.constant(zero, "w_zero"),
    ]
