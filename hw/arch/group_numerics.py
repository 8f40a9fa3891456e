"""Integer arithmetic of groups of elements, to the bit: softmax and norms.

A group's sums are collected first, become one reciprocal with a shift, and are then applied to
every element by the affine pipeline (44 fraction bits, see hw/arch/numerics.py). Used by the
compiler's interpreter and by the functional simulator, and followed step by step by the RTL. The
independent second writing is models/grouped.py. Definitions and bounds: docs/numerics.md.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hw.arch.instructions.fold import (
    LEAST_COEFFICIENT_SHIFT,
    MOST_COEFFICIENT_SHIFT,
)
from hw.arch.instructions.fold import MOST_ELEMENTS as MOST_ELEMENTS
from hw.arch.instructions.fold import MOST_SOFTMAX_ELEMENTS as MOST_SOFTMAX_ELEMENTS
from hw.arch.isa import FIXED_POINT
from hw.arch.numerics import (
    Int,
    NumericsError,
    round24,
    round_half_even,
)

EXPONENTIAL_BITS = 20
"""Fraction bits of an exponential; the greatest one is 2^20 itself."""
SOFTMAX_RECIPROCAL_BITS = 22
NORM_RECIPROCAL_BITS = 24
LEAST_SOFTMAX_SCALE = 2.0**-8
STANDARD_BITS = 16
"""Fraction bits of a standardized element."""
GAIN_BITS = 17
"""Magnitude of a gain."""
OFFSET_BITS = 14
"""Fraction bits of an offset, in steps of the result."""
OFFSET_LIMIT = 1 << 23
EPSILON_LIMIT = 1 << 34
ROOT_EPSILON_LIMIT = 1 << 24
ROOT_EPSILON_BITS = 8
"""Fraction bits of the ε that is added to the root."""
ROUNDING = 1 / 8
"""Steps of the result that rounding ε may move an element by; if it would, elements count more
often."""
MOST_OFF = 1 / 2
"""Steps that a result may be off, before its last rounding, in all."""
ROOT_BITS = 48
"""Of a radicand, scaled by an even shift."""


def bit_length(value: Int) -> Int:
    """Bits of non-negative integers below 2^53; 0 has none."""
    return np.asarray(np.frexp(value.astype(np.float64))[1], np.int64)


def integer_root(value: Int) -> Int:
    """⌊√value⌋ of integers 0 <= value < 2^52."""
    root = np.sqrt(value.astype(np.float64)).astype(np.int64)
    root -= root * root > value
    root += (root + 1) * (root + 1) <= value
    return np.asarray(root, np.int64)


# Softmax ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class SoftmaxConstants:
    """What softmax needs to know of the scales.

    Attributes
    ----------
    exponentials: t[d] = rint(2^20·exp(−d·sx)), d = greatest code − code, 256 entries of u21.
    numerator: k = ⌊2^15/sy⌋, u24. Down, since float32(1/255), where half a share is a tie, is
        above 1/255.
    """

    exponentials: tuple[int, ...]
    numerator: int

    @classmethod
    def of(cls, sx: float, sy: float) -> SoftmaxConstants:
        """Build for codes at scale sx and results at sy.

        Raises
        ------
        NumericsError
            The result's scale is below 1/256 or not below 2^15, or the operand's is not positive.
        """
        target, unit = float(np.float32(sy)), float(np.float32(sx))
        if not LEAST_SOFTMAX_SCALE <= target < 1 << 15:
            raise NumericsError(f"softmax at scale {target!r}; 1/256 is the least")
        if not unit > 0:
            raise NumericsError(f"softmax of codes at scale {unit!r}; it must be positive")
        whole = 1 << EXPONENTIAL_BITS
        exponentials = tuple(int(np.rint(whole * math.exp(-d * unit))) for d in range(256))
        return cls(exponentials, math.floor(2.0**15 / target))


def softmax_reciprocal(total: Int, numerator: int) -> tuple[Int, Int]:
    """Of sums S >= 2^20 of exponentials: R = min(⌊k·2^(L−2)/S⌋, 2^22 − 1) and the shift 31 − L.

    L is the bit length of S.
    """
    length = bit_length(total)
    quotient = (np.int64(numerator) << (length - 2)) // total
    return np.minimum(quotient, (1 << SOFTMAX_RECIPROCAL_BITS) - 1), 31 - length


def softmax_applied(
    exponential: Int, reciprocal: Int, shift: Int, zero_point: int, low: int, high: int
) -> Int:
    """y = clamp(rint(round24(t·R·2^shift)) + zero_point), t·R·2^shift in units of 2^−44."""
    value = round24((exponential * reciprocal) << shift)
    rounded = round_half_even(value, FIXED_POINT)
    return np.asarray(np.clip(rounded + zero_point, low, high), np.int64)


def softmax_codes(
    codes: npt.NDArray[np.integer],
    constants: SoftmaxConstants,
    zero_point: int,
    low: int,
    high: int,
) -> Int:
    """Softmax of codes over the last axis, [..., n].

    zero_point, low, high are the result's; the clamp includes the zero point.
    """
    n = codes.shape[-1]
    if not 1 <= n <= MOST_SOFTMAX_ELEMENTS:
        raise NumericsError(f"softmax over {n} elements; 1 to {MOST_SOFTMAX_ELEMENTS}")
    x = codes.astype(np.int64)
    t = np.array(constants.exponentials, np.int64)[x.max(axis=-1, keepdims=True) - x]
    reciprocal, shift = softmax_reciprocal(t.sum(axis=-1, keepdims=True), constants.numerator)
    return softmax_applied(t, reciprocal, shift, zero_point, low, high)


# Norms ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class NormConstants:
    """What a norm over groups needs to know of the scales and of ε.

    Each element of a group is counted `repeats` times, since ε is added in units of
    (sx/elements)²: in a small group they would be coarse.

    Attributes
    ----------
    elements: n, as they are counted: those of a group times `repeats`.
    repeats: m, how often the sums go over a group.
    epsilon: E0, added to n²·variance in codes; u34.
    root_epsilon: E1, added to n·deviation in codes, in units of 2^−8; u24.
    gains: G of every element of a group, in units of 2^−coefficient_shift steps; s18.
    offsets: B of every element, in units of 2^−14 steps; s24.
    coefficient_shift: q.
    off: steps that a result is off at most before its last rounding, for whatever codes.
    """

    elements: int
    repeats: int
    epsilon: int
    root_epsilon: int
    gains: tuple[int, ...]
    offsets: tuple[int, ...]
    coefficient_shift: int
    off: float

    @classmethod
    def of(
        cls,
        sx: float,
        sy: float,
        gamma: Sequence[float] | npt.NDArray[np.floating],
        beta: Sequence[float] | npt.NDArray[np.floating],
        *,
        reach: int,
        epsilon: float = 0.0,
        root_epsilon: float = 0.0,
        correction: float = 1.0,
    ) -> NormConstants:
        """γ·(x − mean)/(√(f·variance + epsilon) + root_epsilon) + β, the variance over n.

        Parameters
        ----------
        sx, sy: scales of operand and result.
        gamma, beta: of every element of a group, in order.
        reach: steps from the result's zero point to its farther end.
        epsilon: under the root (ONNX).
        root_epsilon: behind the root (the first Transformer code, VTN).
        correction: f, 1 of a biased variance, n/(n − 1) of an unbiased one.

        Raises
        ------
        NumericsError
            A constant does not fit its width, or moves results by half a step; or both ε are 0,
            when constant groups have no value.
        """
        size = len(gamma)
        if not 1 <= size <= MOST_ELEMENTS or len(beta) != size:
            raise NumericsError(f"a norm over {size} elements; 1 to {MOST_ELEMENTS}")
        _check_deviation(epsilon, root_epsilon, correction)
        x, y = float(np.float32(sx)), float(np.float32(sy))
        k = math.sqrt(1 / correction)
        real = np.asarray(gamma, np.float64) * k / y
        steps = np.asarray(beta, np.float64) / y
        if not np.isfinite(real).all() or not np.isfinite(steps).all():
            raise NumericsError("γ or β is not finite")
        under, behind = epsilon * k * k / (x * x), 256 * root_epsilon * k / x
        # Of what is added to β, as far as the result does not saturate.
        most = reach + float(np.abs(steps).max()) + 0.5
        gain = float(np.abs(real).max())
        repeats, moved = _repeats(size, under, behind, gain, most)
        n = size * repeats
        inner, outer = under * n * n, behind * n
        if inner >= EPSILON_LIMIT - 0.5 or outer >= ROOT_EPSILON_LIMIT - 0.5:
            raise NumericsError(
                f"ε is too large for codes at scale {x:g}: {inner:g} and {outer:g} units, "
                f"less than 2^34 and 2^24 are needed"
            )
        offsets = np.rint(steps * (1 << OFFSET_BITS))
        if np.abs(offsets).max() >= OFFSET_LIMIT:
            raise NumericsError(
                f"β reaches {np.abs(np.asarray(beta)).max():g}, less than 512 steps of {y:g} "
                "is needed"
            )
        shift = _coefficient_shift(real)
        gains = np.rint(np.ldexp(real, shift))
        off = moved + _coefficients(size, real, np.ldexp(gains, -shift), most)
        if not off < MOST_OFF:
            raise NumericsError(
                f"a result may be {off:.2g} steps off: ε is small for groups of {size} codes, or γ "
                "differs too much between them"
            )
        return cls(
            n,
            repeats,
            int(np.rint(inner)),
            int(np.rint(outer)),
            tuple(int(g) for g in gains),
            tuple(int(b) for b in offsets),
            shift,
            off,
        )


def _check_deviation(epsilon: float, root_epsilon: float, correction: float) -> None:
    """Raise NumericsError unless every group has a deviation above 0."""
    if not (epsilon >= 0 and root_epsilon >= 0 and epsilon + root_epsilon > 0):
        raise NumericsError(
            f"a norm with ε {epsilon:g} under and {root_epsilon:g} behind the root; "
            "one must be positive, none negative"
        )
    if not (correction > 0 and math.isfinite(correction)):
        raise NumericsError(f"a variance times {correction!r}")


def _repeats(size: int, under: float, behind: float, gain: float, most: float) -> tuple[int, float]:
    """How often elements are counted, no more than rounding ε makes necessary; what is left of it.

    Parameters
    ----------
    size: elements of a group.
    under, behind: E0/n² and E1/n before they are rounded.
    gain: the greatest, in steps of the result.
    most: steps between β and a result that does not saturate.
    """
    moved = 0.0
    for repeats in range(1, MOST_ELEMENTS // size + 1):
        moved = _rounding(size, repeats, under, behind, gain, most)
        if moved <= ROUNDING:
            break
    return repeats, moved


def _rounding(
    size: int, repeats: int, under: float, behind: float, gain: float, most: float
) -> float:
    """By how many steps rounding E0 and E1 moves an element of the worst group.

    That is one whose codes are equal but for one: V = n²·variance is m²·(size − 1), and the element
    lies √(size − 1) deviations from the mean. Two bounds, both of which hold: by the share that the
    deviation √(V + E0) + E1/256 changes by, of a result that does not saturate; and by the greatest
    change of γ·c/deviation, which is at V = E0/2 where that group can be.
    """
    if size == 1:
        return 0.0
    n = size * repeats
    inner, outer = under * n * n, behind * n
    e0, e1 = round(inner), round(outer)
    lost0, lost1 = abs(e0 - inner), abs(e1 - outer) / 256
    low0, low1 = min(e0, inner), min(e1, outer) / 256
    least = repeats * repeats * (size - 1)
    root = math.sqrt(least + low0)
    by_share = most * (lost0 / (2 * root) + lost1) / (root + low1)
    v = max(least, low0 / 2)
    change = lost0 * math.sqrt(v) / (v + low0) ** 1.5 / 2 + lost1 / math.sqrt(least)
    return float(min(by_share, gain * math.sqrt(size - 1) * change))


def _coefficients(
    size: int, real: npt.NDArray[np.float64], gains: npt.NDArray[np.float64], most: float
) -> float:
    """By how many steps all other roundings move a result that does not saturate.

    u by half of 2^−16; a gain by its own rounding times u, which is no more than √(size − 1); β by
    half of 2^−14; the root, R and the products, of 24 bits each, by less than 2^−20 together.
    """
    with np.errstate(divide="ignore"):
        u = np.minimum(math.sqrt(size - 1), most / np.abs(real))
    lost = float((np.abs(gains - real) * u).max()) if size > 1 else 0.0
    rounded = math.ldexp(float(np.abs(real).max()), -STANDARD_BITS - 1)
    return lost + rounded + math.ldexp(1, -OFFSET_BITS - 1) + math.ldexp(most, -20)


def _coefficient_shift(real: npt.NDArray[np.float64]) -> int:
    """The largest q <= 28 with which every gain rounds to less than 2^17."""
    for shift in range(MOST_COEFFICIENT_SHIFT, LEAST_COEFFICIENT_SHIFT - 1, -1):
        if np.abs(np.rint(np.ldexp(real, shift))).max() < 1 << GAIN_BITS:
            return shift
    raise NumericsError(
        f"γ over the result's scale reaches {np.abs(real).max():g}; less than 4096 is needed"
    )


def norm_reciprocal(
    sums: Int, squares: Int, elements: int, epsilon: int, root_epsilon: int
) -> tuple[Int, Int]:
    """Of sums S1 = Σx and S2 = Σx² over n codes: R and the shift of c·R (see `norm_applied`).

    D = max(n·S2 − S1² + E0, 1); h = ⌊(48 − bitlen D)/2⌋; r = ⌊√(D·4^h)⌋ + ⌊E1·2^(h−8)⌋;
    g = max(bitlen r − 24, 0); R = min(⌊2^47/⌊r/2^g⌋⌋, 2^24 − 1); the shift is h − 3 − g.
    """
    radicand = np.maximum(elements * squares - sums * sums + epsilon, 1)
    h = (ROOT_BITS - bit_length(radicand)) // 2
    root = integer_root(radicand << (2 * h))
    # E1·2^(h−8): the shift goes either way.
    root += (np.int64(root_epsilon) << h) >> ROOT_EPSILON_BITS
    g = np.maximum(bit_length(root) - NORM_RECIPROCAL_BITS, 0)
    reciprocal = (np.int64(1) << 47) // (root >> g)
    return np.minimum(reciprocal, (1 << NORM_RECIPROCAL_BITS) - 1), h - 3 - g


def norm_standardized(centred: Int, reciprocal: Int, shift: Int) -> Int:
    """u = rint(2^16·round24(c·R·2^shift)), c = n·x − S1, c·R·2^shift in units of 2^−44."""
    value = round24((centred * reciprocal) << shift)
    u = round_half_even(np.abs(value), FIXED_POINT - STANDARD_BITS)
    return np.asarray(np.where(value < 0, -u, u), np.int64)


def norm_applied(
    standardized: Int,
    gain: Int,
    offset: Int,
    coefficient_shift: int,
    zero_point: int,
    low: int,
    high: int,
) -> Int:
    """y = clamp(rint(round24(u·G·2^−(16+q) + B·2^−14)) + zero_point)."""
    scaled = (standardized * gain) << (FIXED_POINT - STANDARD_BITS - coefficient_shift)
    value = round24(scaled + (offset << (FIXED_POINT - OFFSET_BITS)))
    rounded = round_half_even(np.abs(value), FIXED_POINT)
    signed = np.where(value < 0, -rounded, rounded)
    return np.asarray(np.clip(signed + zero_point, low, high), np.int64)


def norm_codes(
    codes: npt.NDArray[np.integer],
    constants: NormConstants,
    zero_point: int,
    low: int,
    high: int,
) -> Int:
    """Norm of codes over the last axis, [..., n]; the operand's zero point cancels.

    zero_point, low, high are the result's; the clamp includes the zero point.
    """
    n, m = constants.elements, constants.repeats
    if codes.shape[-1] * m != n:
        raise NumericsError(f"a norm over {n // m} elements meets {codes.shape[-1]}")
    x = codes.astype(np.int64)
    sums, squares = m * x.sum(axis=-1, keepdims=True), m * (x * x).sum(axis=-1, keepdims=True)
    reciprocal, shift = norm_reciprocal(sums, squares, n, constants.epsilon, constants.root_epsilon)
    u = norm_standardized(n * x - sums, reciprocal, shift)
    gain, offset = np.array(constants.gains, np.int64), np.array(constants.offsets, np.int64)
    return norm_applied(u, gain, offset, constants.coefficient_shift, zero_point, low, high)
