"""Softmax, norms and the greatest index over groups of elements; definitions: docs/numerics.md.

Sums and quotients are exact integers. A rounding to 24 bits is the conversion to float32, and what
follows it is a power of two.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt, prod, sqrt

import numpy as np
import torch

from models.operands import activation, reads
from models.tables import QParams, dequantize
from models.values import Call, Codes, Compute, Constant, Pending, Shape, Tensors

MOST_SHARES = 2047  # of a softmax: their sum stays below 2^31
MOST = 1024  # of a norm
"""Elements of a group."""


def _finish(fixed: torch.Tensor, target: QParams) -> torch.Tensor:
    """Integers in units of 2^-44 to codes: rounded to 24 bits, then to a step; int16."""
    steps = (fixed.to(torch.float32) * 2.0**-44).round_().to(torch.float64)
    return steps.add_(target.zero).clamp_(target.low, target.high).to(torch.int16)


def _bits(values: torch.Tensor) -> torch.Tensor:
    """Bit lengths of positive int64 below 2^53."""
    return torch.frexp(values.to(torch.float64))[1].to(torch.int64)


def _over_last(
    x: torch.Tensor, axes: list[int], make: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Apply what works on groups along the last axis to groups over any axes."""
    rest = [a for a in range(x.dim()) if a not in axes]
    order = [*rest, *axes]
    moved = x.permute(order)
    made = make(moved.reshape(*moved.shape[: len(rest)], -1)).reshape(moved.shape)
    return made.permute([order.index(a) for a in range(x.dim())])


# Softmax ----------------------------------------------------------------------------------


def softmax(call: Call) -> Pending:
    """Softmax over one axis; before opset 13 over all axes from one on."""
    x = activation(call, 0)
    rank, opset = len(x.shape), call.attributes.get("opset", call.opset)
    axis = call.attributes.get("axis", -1 if opset >= 13 else 1)
    if not -rank <= axis < rank:
        raise call.refuse(f"axis {axis} of a tensor of rank {rank}")
    axes = [axis % rank] if opset >= 13 else list(range(axis % rank, rank))
    count = prod(x.shape[a] for a in axes)
    if count > MOST_SHARES:
        raise call.refuse(f"softmax over {count} elements; {MOST_SHARES} are defined")
    exponentials = np.rint(2.0**20 * np.exp(-np.arange(256) * float(x.params.unit)))
    table = torch.from_numpy(exponentials.astype(np.int64))

    def kernel(tensors: Tensors, target: QParams) -> torch.Tensor:
        scale = float(target.unit)
        if not 2.0**-8 <= scale < 2.0**15:
            raise call.refuse(f"the result's scale is {scale}; 1/256 is the least")

        def shares(codes: torch.Tensor) -> torch.Tensor:
            t = table[codes.amax(dim=-1, keepdim=True) - codes]
            total = t.sum(dim=-1, keepdim=True)
            length = _bits(total)
            numerator = torch.tensor(int(2.0**15 / scale)) << (length - 2)
            reciprocal = (numerator // total).clamp_max(2**22 - 1)
            return _finish((t * reciprocal) << (31 - length), target)

        if count == 1:  # each is the whole of its group: float says exactly 1
            one = torch.tensor(float(np.rint(np.float32(1) / target.unit)) + target.zero)
            return one.clamp(target.low, target.high).to(torch.int16).expand(x.shape)
        return _over_last(x.tensor(tensors).to(torch.int64), axes, shares)

    return Pending(call.node, reads(x), kernel, x.shape, "softmax")


# Norms ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Norm:
    """gain·(x - mean)/(sqrt(spread·variance + inner) + outer) + offset.

    Attributes
    ----------
    axes: that a group goes over.
    gain, offset: float64, broadcasting against x; they differ within groups only.
    inner, outer, spread: as above.
    """

    axes: list[int]
    gain: np.ndarray
    offset: np.ndarray
    inner: float = 0.0
    outer: float = 0.0
    spread: float = 1.0


def norm(call: Call, x: Codes, make: Norm) -> Pending:
    """A norm of a tensor of codes; whatever is wrong with it is the call's."""
    params, shape = x.params, x.shape
    n = prod(shape[a] for a in make.axes)
    if n > MOST:
        raise call.refuse(f"a norm over {n} elements; {MOST} are defined")
    if not (make.inner >= 0 and make.outer >= 0 and make.inner + make.outer > 0):
        raise call.refuse("has no positive constant under or behind the root")
    if not 0 < make.spread < np.inf:
        raise call.refuse(f"multiplies the variance by {make.spread}")
    k, sx = sqrt(1 / make.spread), float(params.unit)
    group = [size if a in make.axes else 1 for a, size in enumerate(shape)]
    try:
        gains, offsets = (np.broadcast_to(v, group) for v in (make.gain, make.offset))
    except ValueError:
        raise call.refuse(f"gain or offset do not fit groups {group}") from None
    order = [*(a for a in range(len(shape)) if a not in make.axes), *make.axes]
    gains, offsets = (v.transpose(order).reshape(-1) for v in (gains, offsets))
    constants = make.inner * k * k / (sx * sx), 256 * make.outer * k / sx

    def at(target: QParams) -> _Fixed:
        step = float(target.unit)
        reach = max(target.high - target.zero, target.zero - target.low)
        return _fixed(call, constants, gains * k / step, offsets / step, reach)

    def kernel(tensors: Tensors, target: QParams) -> torch.Tensor:
        to = at(target)

        def normed(x: torch.Tensor) -> torch.Tensor:
            counted = x.repeat_interleave(to.counted, dim=-1)
            u = _standardized(counted, n * to.counted, to.under, to.behind)[..., :: to.counted]
            return _finish((u * to.gain << (28 - to.fraction)) + (to.offset << 30), target)

        return _over_last(tensors[x.name].to(torch.int64), make.axes, normed)

    def lost(target: QParams) -> float:
        return at(target).off * float(target.unit)

    return Pending(call.node, (x.name,), kernel, shape, "norm", lost=lost)


@dataclass(frozen=True)
class _Fixed:
    """A norm's constants as integers.

    Attributes
    ----------
    counted: how often each element counts.
    under, behind: what stands under and behind the root, in units of the sums.
    gain, offset: of each element; `fraction` bits of a gain, 14 of an offset.
    off: steps by which a result may be off before it is rounded.
    """

    counted: int
    under: int
    behind: int
    gain: torch.Tensor
    fraction: int
    offset: torch.Tensor
    off: float


def _fixed(
    call: Call, constants: tuple[float, float], gains: np.ndarray, offsets: np.ndarray, reach: int
) -> _Fixed:
    """Constants of a norm whose results lie at most `reach` steps from the zero point."""
    size, most = gains.size, reach + 0.5 + float(np.abs(offsets).max())
    counted, moved = _counted(size, constants, float(np.abs(gains).max()), most)
    under, behind = (round(e) for e in _units(size * counted, constants))
    if under >= 2**34 or behind >= 2**24:
        raise call.refuse("what stands under or behind the root is too large")
    fraction, gain = _gains(call, gains)
    offset = torch.from_numpy(np.rint(offsets * 2**14).astype(np.int64))
    if int(offset.abs().max()) >= 2**23:
        raise call.refuse("an offset is beyond 512 steps of the result")
    off = moved + float(np.abs(gains).max()) / 2**17 + 2**-15 + most / 2**20
    if size > 1:
        error = np.abs(gain.numpy() / 2**fraction - gains)
        # Of a result that does not saturate u·gain is below `most`.
        off += max(
            e * (sqrt(size - 1) if abs(g) * sqrt(size - 1) <= most else most / abs(g))
            for e, g in zip(error.tolist(), gains.tolist(), strict=True)
        )
    if off >= 1 / 2:
        raise call.refuse(f"results may be {off:.2g} steps off")
    return _Fixed(counted, under, behind, gain, fraction, offset, off)


def _units(n: int, constants: tuple[float, float]) -> tuple[float, float]:
    """What stands under and behind the root, in units of sums over n codes."""
    return constants[0] * n * n, constants[1] * n


def _counted(
    size: int, constants: tuple[float, float], gain: float, most: float
) -> tuple[int, float]:
    """How often each element counts, and by how many steps the worst group's results move then.

    It is constant but for one element, by one code: docs/numerics.md, "Norms". 1/8 step is aimed
    at.
    """
    if size == 1:
        return 1, 0.0
    m, moved = 0, 1.0
    while moved > 1 / 8 and (m + 1) * size <= MOST:
        m += 1
        exact = _units(size * m, constants)
        under, behind = (min(e, round(e)) for e in exact)
        wrong = [abs(e - round(e)) for e in exact]
        v = m * m * (size - 1)
        deviation = sqrt(v + under)
        share = (wrong[0] / deviation / 2 + wrong[1] / 256) / (deviation + behind / 256)
        at = max(v, under / 2)
        change = wrong[0] / 2 * sqrt(at) / (at + under) ** 1.5 + wrong[1] / 256 / sqrt(v)
        moved = min(share * most, change * gain * sqrt(size - 1))
    return m, moved


def _gains(call: Call, real: np.ndarray) -> tuple[int, torch.Tensor]:
    """Fraction bits, at most 28, that bring gains below 2^17; and the gains."""
    fraction = 28
    while fraction >= 5:
        gain = np.rint(real * 2.0**fraction)
        if np.abs(gain).max() < 2**17:
            return fraction, torch.from_numpy(gain.astype(np.int64))
        fraction -= 1
    raise call.refuse("a gain is 4096 steps of the result or more")


def _standardized(x: torch.Tensor, n: int, under: int, behind: int) -> torch.Tensor:
    """(x - mean)/deviation with 16 fraction bits, groups along the last axis."""
    total = x.sum(dim=-1, keepdim=True)
    radicand = n * (x * x).sum(dim=-1, keepdim=True) - total * total + under
    reciprocals, shifts = [], []
    for each in radicand.reshape(-1).tolist():
        d = max(each, 1)
        h = (48 - d.bit_length()) // 2
        root = isqrt(d << 2 * h) + (behind << h) // 256
        g = max(root.bit_length() - 24, 0)
        reciprocals.append(min(2**47 // (root >> g), 2**24 - 1))
        shifts.append(h - 3 - g)
    r = torch.tensor(reciprocals).reshape(radicand.shape)
    shift = torch.tensor(shifts).reshape(radicand.shape)
    fixed = ((n * x - total) * r) << shift
    return (fixed.to(torch.float32) * 2.0**-28).round_().to(torch.int64)


def layer_norm(call: Call) -> Pending:
    """LayerNormalization over all axes from one on."""
    rank = len(activation(call, 0).shape)
    axis = call.attributes.get("axis", -1)
    if not -rank <= axis < rank:
        raise call.refuse(f"axis {axis} of a tensor of rank {rank}")
    gain, has_offset = reals(call, 1), len(call.operands) > 2 and call.operands[2] is not None
    offset = reals(call, 2) if has_offset else np.zeros(())
    inner = float(call.attributes.get("epsilon", np.float32(1e-5)))
    x = call.operand(0)
    if not isinstance(x, Codes):
        raise call.refuse("its operand is constant")
    return norm(call, x, Norm(list(range(axis % rank, rank)), gain, offset, inner))


INDEX = QParams(np.ones(1, np.float32), np.zeros(1, np.int64), np.dtype(np.uint8))
"""How a code stands for an index: it is the index."""


def arg_max(call: Call, name: str, of: Shape) -> tuple[Compute, Shape]:
    """Index of the first of the greatest codes along an axis, and its shape.

    Of more than 256 elements two bytes stand along an axis behind the others, the low one first.
    """
    axis = call.attributes.get("axis", 0)
    if not -len(of) <= axis < len(of):
        raise call.refuse(f"axis {axis} of a tensor of rank {len(of)}")
    axis %= len(of)
    if call.attributes.get("select_last_index", 0):
        raise call.refuse("select_last_index is not read")
    if of[axis] > 1 << 16:
        raise call.refuse(f"an index of {of[axis]} elements has more than two bytes")
    keep = bool(call.attributes.get("keepdims", 1))
    shape = tuple(1 if a == axis else n for a, n in enumerate(of) if keep or a != axis)
    along = [-1 if a == axis else 1 for a in range(len(of))]

    def compute(tensors: Tensors) -> torch.Tensor:
        codes = tensors[name]
        greatest = codes == codes.amax(dim=axis, keepdim=True)
        # Counted down, the first one that is the greatest has the largest number.
        number = torch.arange(of[axis], 0, -1).reshape(along)
        first = of[axis] - (greatest * number).amax(dim=axis, keepdim=keep)
        if of[axis] > 256:
            first = torch.stack((first % 256, first // 256), dim=-1)
        return first.to(torch.uint8)

    return compute, (*shape, 2) if of[axis] > 256 else shape


def reals(call: Call, index: int) -> np.ndarray:
    """A constant operand, float or dequantized, in float64."""
    value = call.operand(index)
    if not isinstance(value, Constant):
        raise call.refuse(f"input {call.names[index]} must be constant")
    if value.codes is not None and value.params is not None:
        return dequantize(value.codes, value.params).astype(np.float64)
    return value.array.astype(np.float64)
