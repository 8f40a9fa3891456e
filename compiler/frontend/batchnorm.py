"""Import BatchNormalization that follows no convolution: a depthwise 1×1×1 convolution.

y = a[c]·x + b[c] with a = γ/√(σ² + ε), b = β − μ·a. Weights are ±127, so that the bias, in units of
|a|·sx/127, is fine enough: half a unit is 1/254 of a step of x.
"""

from __future__ import annotations

import numpy as np

from compiler.frontend.builder import Operand
from compiler.frontend.groups import Reals, reals_of
from compiler.frontend.products import FREE_BITS, SHIFT_LIMIT
from compiler.frontend.site import Site
from compiler.ops import Convolution
from hw.arch.numerics import split_scale

WEIGHT = 127


def batch_norm(site: Site) -> Operand:
    """BatchNormalization with constant statistics."""
    source = site.standard(0)
    if site.attributes.get("training_mode", 0) or any(site.node.output[1:]):
        raise site.refuse("computes statistics: training_mode is not read")
    channels = source.kind.shape[0]
    shape = source.kind.onnx_shape
    if len(shape) < 2 or shape[1] != channels:
        raise site.refuse(f"a tensor of shape {list(shape)} has no channels")
    scale, offset = _affine(site, channels)
    unit = np.float32(source.kind.scale) * np.abs(scale).astype(np.float32) / np.float32(WEIGHT)
    # A channel that is constant has a free unit, fine enough for its constant.
    free = np.ldexp(np.float32(1), np.frexp(offset)[1] - FREE_BITS).astype(np.float32)
    unit = np.where(scale == 0, free, unit).astype(np.float32)
    with np.errstate(divide="ignore", over="ignore"):
        bias = np.rint(offset / unit.astype(np.float64))
    if not np.isfinite(bias).all() or np.abs(bias).max() >= 1 << 31:
        raise site.refuse("an offset leaves int32 in units of its scale over 127")
    split = [split_scale(each) for each in unit / np.float32(site.target.scale[0])]
    if not all(0 <= shift < SHIFT_LIMIT for _, shift in split):
        raise site.refuse("a requantization scale overflows")
    op = Convolution(
        name=site.builder.op_name(site.node),
        inputs=(source.name,),
        output=site.output(),
        weight=(np.sign(scale) * WEIGHT).astype(np.int8).reshape(channels, 1, 1, 1, 1),
        bias=bias.astype(np.int32),
        multiplier=np.array([m for m, _ in split], np.int64),
        shift=np.array([n for _, n in split], np.int64),
        groups=channels,
        low=site.low,
        high=site.high,
    )
    return site.emit(op, site.target.like(source.kind))


def _affine(site: Site, channels: int) -> tuple[Reals, Reals]:
    """a and b of every channel."""
    gamma, beta, mean, variance = (reals_of(site, site.operand(i)).reshape(-1) for i in range(1, 5))
    if {v.size for v in (gamma, beta, mean, variance)} != {channels}:
        raise site.refuse(f"needs {channels} scales, offsets, means and variances")
    epsilon = float(site.attributes.get("epsilon", np.float32(1e-5)))
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = gamma / np.sqrt(variance + epsilon)
        offset = beta - mean * scale
    if not np.isfinite(scale).all() or not np.isfinite(offset).all():
        raise site.refuse("a channel's scale or offset is not finite")
    return scale, offset
