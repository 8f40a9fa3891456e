"""Import a factor and an offset of every channel, written in float: y = a[c]·x + b[c].

Mul, Div, Add and Sub with a float constant per channel, and BatchNormalization that no convolution
has taken up. A depthwise 1×1 convolution whose weights are sign(a), or 127·sign(a) where there are
offsets, which its bias then holds to 1/127 of a code of x; scales are those of channels. Where a is
0 (or moves nothing: its scale is no normal float32), the unit is 1/1024 step of the result.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from compiler.frontend.builder import Operand
from compiler.frontend.groups import reals_of
from compiler.frontend.products import tokens
from compiler.frontend.site import Site
from compiler.ops import Convolution
from compiler.tensor import TensorType
from hw.arch.numerics import split_scale

SHIFT_LIMIT = 256
FINE = 127
"""Weight that divides a code of the operand, where an offset asks for it."""
CONSTANT_STEPS = 1024
"""Units of a step of the result in a channel that does not depend on its operand."""
MOST_BIAS = 1 << 30
OFFSET_STEPS = 1 / 8
"""How far an offset may be missed, in steps of the result."""

Reals = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Lines:
    """y = factor·x + offset in every channel; both float32 [C]."""

    factor: Reals
    offset: Reals


def channelwise(site: Site) -> Operand:
    """Mul, Div, Add, Sub of an activation and a float constant per channel."""
    index = 0 if site.operand(0).type is not None else 1
    source, onto = site.aligned(index)
    constant = site.operand(1 - index)
    if constant.array is None or constant.quantization is not None:
        raise site.refuse(f"divides by {constant.name}, which is no float constant")
    values = constant.array
    shape = source.kind.onnx_shape
    padded = (1,) * (len(shape) - values.ndim) + tuple(values.shape)
    places: set[int | None] = {None}
    if len(padded) == len(shape):
        places = {onto[axis] for axis, n in enumerate(padded) if n > 1}
    if padded[:-1] == (1,) * (len(shape) - 1) and places != {0}:
        source, places = tokens(site, source), {0}
    if places != {0} or any(n not in (1, size) for n, size in zip(padded, shape, strict=True)):
        raise site.refuse(
            f"constant {constant.name} of shape {list(values.shape)} on {list(shape)} is float: "
            "one value, or one for each channel is read; quantize it"
        )
    _check(site, constant.name, values)
    line = _line(site, values.reshape(-1), constant_first=index == 1)
    return _result(site, source, scaled(site, source, site.target.like(source.kind), line))


def batch_normalization(site: Site) -> Operand:
    """BatchNormalization with constant statistics."""
    if site.attributes.get("training_mode", 0) or any(site.node.output[1:]):
        raise site.refuse("computes statistics: training_mode is not read")
    source, onto = site.aligned(0)
    shape = source.kind.onnx_shape
    if len(shape) < 2:
        raise site.refuse(f"a tensor of shape {list(shape)} has no channels")
    if onto[1] not in (0, None) or source.kind.shape[0] != shape[1]:
        source = site.standard(0)
    gamma, beta, mean, variance = (reals_of(site, site.operand(i)).reshape(-1) for i in range(1, 5))
    if {v.size for v in (gamma, beta, mean, variance)} != {shape[1]}:
        raise site.refuse(f"needs {shape[1]} scales, offsets, means and variances")
    epsilon = float(site.attributes.get("epsilon", np.float32(1e-5)))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        factor = gamma / np.sqrt(variance + epsilon)
        line = Lines(factor.astype(np.float32), (beta - mean * factor).astype(np.float32))
    if not (np.isfinite(line.factor).all() and np.isfinite(line.offset).all()):
        raise site.refuse("a channel's factor or offset is not finite")
    return _result(site, source, scaled(site, source, site.target.like(source.kind), line))


def _check(site: Site, name: str, values: npt.NDArray[np.generic]) -> None:
    if values.dtype != np.float32 or not np.isfinite(values).all():
        raise site.refuse(f"{name} is {values.dtype}: finite float32 is read")


def _line(site: Site, values: Reals, constant_first: bool) -> Lines:
    """What an operator says of every channel."""
    zeros, ones = np.zeros_like(values), np.ones_like(values)
    match site.op:
        case "Mul":
            return Lines(values, zeros)
        case "Add":
            return Lines(ones, values)
        case "Sub":
            return Lines(-ones, values) if constant_first else Lines(ones, -values)
        case "Div" if not constant_first and values.all():
            return Lines((1 / values).astype(np.float32), zeros)
        case _:
            raise site.refuse("divides a constant, or by 0; or has no value for each channel")


def _result(site: Site, source: Operand, made: Operand) -> Operand:
    return Operand(made.name, made.kind.reshaped(source.kind.onnx_shape))


def scaled(site: Site, source: Operand, result: TensorType, line: Lines, part: str = "") -> Operand:
    """Each channel by its factor, plus its offset.

    Raises
    ------
    Unsupported
        An offset would be missed by more than OFFSET_STEPS, or a scale is out of range.
    """
    step, fine = np.float32(result.scale), FINE if line.offset.any() else 1
    size = np.float32(source.kind.scale) * np.abs(line.factor)
    unit = (size / np.float32(fine)).astype(np.float32)
    moves = (unit / step).astype(np.float32) >= np.finfo(np.float32).tiny
    unit = np.where(moves, unit, step / np.float32(CONSTANT_STEPS)).astype(np.float32)
    bias = np.rint(line.offset.astype(np.float64) / unit)
    missed = np.abs(bias * unit - line.offset) > OFFSET_STEPS * step
    missed |= np.abs(bias) > MOST_BIAS
    if missed.any():
        channel = int(np.argmax(missed))
        raise site.refuse(
            f"the offset {line.offset[channel]:.3g} of channel {channel} does not fit beside its "
            f"factor, in whole units of {unit[channel]:.3g}, at most 2^30 of them"
        )
    split = [split_scale(s) for s in (unit / step).astype(np.float32)]
    shift = np.array([n for _, n in split], np.int64)
    if shift.min() < 0 or shift.max() >= SHIFT_LIMIT:
        raise site.refuse(f"factors times scale {unit.min():.3g}..{unit.max():.3g} overflow")
    channels = line.factor.size
    limits = np.iinfo(site.target.dtype)
    op = Convolution(
        name=site.builder.op_name(site.node, part),
        inputs=(source.name,),
        output=site.output(),
        weight=(fine * moves * np.sign(line.factor)).astype(np.int8).reshape(channels, 1, 1, 1, 1),
        bias=bias.astype(np.int32),
        multiplier=np.array([m for m, _ in split], np.int64),
        shift=shift,
        groups=channels,
        low=int(limits.min) if part else site.low,
        high=int(limits.max) if part else site.high,
    )
    return site.emit(op, result)
