"""Integer arithmetic of the accelerator, to the bit, on NumPy arrays.

Used by the compiler's interpreter and by the functional simulator, and followed step by step by
the RTL. Everything here is defined so that the result never differs from ONNX Runtime's fused
int8 kernels where they have an integer definition (accumulate exactly, scale in float32, round
half to even). The independent second writing is models/reference.py.

A float32 scale s is carried as significand and exponent, s = M·2^−n with 2^23 <= M < 2^24.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hw.arch.isa import FIXED_POINT

Int: TypeAlias = npt.NDArray[np.int64]
RATIO_LIMIT = 1 << 9
"""Scale ratios of the affine arithmetic lie below this, so that every sum stays below 2^63."""
CONSTANT_LIMIT = 1 << 19
PRODUCT_LIMIT = 1 << 2


class NumericsError(ValueError):
    """A scale or size that the integer arithmetic cannot carry exactly."""


def split_scale(scale: float | np.floating[Any]) -> tuple[int, int]:
    """Return (M, n) with scale = M·2^−n and 2^23 <= M < 2^24.

    Raises
    ------
    NumericsError
        If the scale is not a positive normal float32.
    """
    value = float(np.float32(scale))
    if not math.isfinite(value) or value < float(np.finfo(np.float32).tiny):
        raise NumericsError(f"the scale {scale!r} is not a positive normal float32")
    mantissa, exponent = math.frexp(value)
    return int(mantissa * (1 << 24)), 24 - exponent


def round_half_even(value: Int, shift: Int | int) -> Int:
    """value / 2^shift, rounded half to even; value >= 0, 0 <= shift <= 62."""
    shift = np.asarray(shift, np.int64)
    quotient = value >> shift
    rest = value - (quotient << shift)
    half = np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), np.int64(1) << 62)
    up = (rest > half) | ((rest == half) & ((quotient & 1) == 1))
    return np.asarray(quotient + up, np.int64)


def _excess_bits(magnitude: Int) -> Int:
    """Bits of a non-negative value beyond 24."""
    high = magnitude >> 24
    # frexp is exact here: `high` has at most 39 bits.
    return np.asarray(np.frexp(high.astype(np.float64))[1], np.int64)


def round24(value: Int) -> Int:
    """Round to 24 significant bits, half to even: one float32 rounding of a fixed-point value."""
    magnitude = np.abs(value)
    excess = _excess_bits(magnitude)
    rounded = round_half_even(magnitude, excess) << excess
    return np.asarray(np.where(value < 0, -rounded, rounded), np.int64)


TIE_WINDOWS = np.asarray([2 << q.bit_length() for q in range(1 << 9)], np.int64)
"""By integer part, in 2^−26: how far from a half the product's own rounding still gives it."""


def requantize(
    accumulator: Int, multiplier: Int | int, shift: Int | int, zero_point: int, low: int, high: int
) -> Int:
    """Accumulator to activation: clamp(rint(f32(f32(acc)·s)) + zero_point, low, high).

    The integer procedure of the RTL (never differs from float32 hardware): round |acc| to 24
    bits, multiply by the 24-bit significand, shift to 9 integer and 25 fraction bits, and decide
    the rounding with the tie window that the float32 product's own rounding opens.

    Parameters
    ----------
    accumulator: any shape, |acc| < 2^35, bias included.
    multiplier, shift: s = multiplier·2^−shift, broadcast against `accumulator`; 0 <= shift < 256.
        A multiplier of 0 gives the zero point (lanes that only pad).
    zero_point, low, high: of the output; the clamp includes the zero point.
    """
    a24 = magnitude = np.abs(accumulator)
    excess: Int | int = 0
    if magnitude.max(initial=0) >> 24:
        excess = _excess_bits(magnitude)
        a24 = round_half_even(magnitude, excess)
    product = a24 * np.asarray(multiplier, np.int64)
    # value = product · 2^−right
    right = np.asarray(shift, np.int64) - excess
    saturated = (product >> np.clip(right + 9, 0, 62)) > 0
    to_right = np.clip(right - 25, 0, 62)
    fixed = product >> to_right
    sticky = (fixed << to_right) != product
    if saturated.any():
        fixed = np.where(saturated, 0, fixed)
    fixed <<= np.clip(25 - right, 0, 34)
    q = fixed >> 25
    # Twice the distance to the middle between q and q + 1, and one more for what was cut off.
    distance = ((fixed & (1 << 25) - 1) << 1) - (1 << 25) + sticky
    tie = np.abs(distance) <= TIE_WINDOWS[q]
    result = q + np.where(tie, (q & 1) == 1, distance > 0)
    if saturated.any():
        result = np.where(saturated, np.int64(1) << 10, result)
    signed = np.where(accumulator < 0, -result, result)
    return np.asarray(np.clip(signed + zero_point, low, high), np.int64)


@dataclasses.dataclass(frozen=True, slots=True)
class Factor:
    """A float32 constant on the 2^−44 grid: ±multiplier·2^(shift − 44)."""

    multiplier: int
    shift: int
    negative: bool = False

    @classmethod
    def of(
        cls, value: float | np.floating[Any], what: str = "scale ratio", limit: int = RATIO_LIMIT
    ) -> Factor:
        """Encode a float32.

        Raises
        ------
        NumericsError
            If the value needs finer steps than 2^−44 or reaches the limit.
        """
        number = float(np.float32(value))
        if number == 0.0:
            return cls(0, 0)
        multiplier, n = split_scale(abs(number))
        shift = FIXED_POINT - n
        while shift < 0 and multiplier % 2 == 0:
            multiplier //= 2
            shift += 1
        if shift < 0 or abs(number) >= limit:
            raise NumericsError(
                f"the {what} {number!r} is outside the affine arithmetic's range (2^-21 .. {limit})"
            )
        return cls(multiplier, shift, number < 0)

    @property
    def fixed(self) -> int:
        """The value in units of 2^−44."""
        value = self.multiplier << self.shift
        return -value if self.negative else value


@dataclasses.dataclass(frozen=True, slots=True)
class Affine:
    """y = sat(rint(round24(a·ra + round24(b·rb + k))) + zero_point).

    ONNX Runtime's QLinearAdd has its zero point inside k (`add`); a sum or difference in float
    that a QuantizeLinear rounds adds it after rounding (`add_float`, `subtract`).
    """

    ra: Factor
    rb: Factor
    k: Factor
    zero_point: int

    @classmethod
    def add(cls, sa: float, za: int, sb: float, zb: int, sy: float, zy: int) -> Affine:
        """QLinearAdd: ra = f32(sa/sy), rb = f32(sb/sy), k = f32(zy − fma(ra, za, f32(rb·zb)))."""
        return cls._of(sa, za, sb, zb, sy, zy, negative=False, inside=zy)

    @classmethod
    def add_float(cls, sa: float, za: int, sb: float, zb: int, sy: float, zy: int) -> Affine:
        """A sum that ONNX Runtime computes in float: the zero point follows the rounding."""
        return cls._of(sa, za, sb, zb, sy, zy, negative=False, inside=0)

    @classmethod
    def subtract(cls, sa: float, za: int, sb: float, zb: int, sy: float, zy: int) -> Affine:
        """A difference: as `add` with −sb; the zero point follows the rounding."""
        return cls._of(sa, za, sb, zb, sy, zy, negative=True, inside=0)

    @classmethod
    def _of(
        cls,
        sa: float,
        za: int,
        sb: float,
        zb: int,
        sy: float,
        zy: int,
        *,
        negative: bool,
        inside: int,
    ) -> Affine:
        ra = np.float32(np.float32(sa) / np.float32(sy))
        rb = np.float32(np.float32(sb) / np.float32(sy))
        if negative:
            rb = np.float32(-rb)
        fa, fb = Factor.of(ra), Factor.of(rb)
        inner = int(round24(np.array(fb.fixed * zb, np.int64)))
        outer = int(round24(np.array(fa.fixed * za + inner, np.int64)))
        k = int(round24(np.array((inside << FIXED_POINT) - outer, np.int64)))
        constant = Factor.of(k / 2.0**FIXED_POINT, "constant", CONSTANT_LIMIT)
        return cls(fa, fb, constant, zy - inside)

    def __call__(self, a: Int, b: Int, low: int, high: int) -> Int:
        """Apply to codes a, b (int64 arrays)."""
        t = round24(b * self.rb.fixed + self.k.fixed)
        v = round24(a * self.ra.fixed + t)
        return finish(v, self.zero_point, low, high)


@dataclasses.dataclass(frozen=True, slots=True)
class Product:
    """QLinearMul: y = sat(rint(f32(f32(p·s) + zy))), p = (a − za)(b − zb)."""

    scale: Factor
    za: int
    zb: int
    zero_point: int

    @classmethod
    def of(cls, sa: float, za: int, sb: float, zb: int, sy: float, zy: int) -> Product:
        """s = f32(f32(sa·sb)/sy)."""
        s = np.float32(np.float32(np.float32(sa) * np.float32(sb)) / np.float32(sy))
        return cls(Factor.of(s, "product scale", PRODUCT_LIMIT), za, zb, zy)

    def __call__(self, a: Int, b: Int, low: int, high: int) -> Int:
        """Apply to codes a, b (int64 arrays)."""
        t = round24((a - self.za) * (b - self.zb) * self.scale.fixed)
        v = round24(t + (self.zero_point << FIXED_POINT))
        return finish(v, 0, low, high)


@dataclasses.dataclass(frozen=True, slots=True)
class Mean:
    """Average over n elements: y = sat(rint(f32(acc·s)) + zy), s = f32(sx / f32(sy·n)).

    Attributes
    ----------
    scale, zero_point: s, zy.
    add_first: zy is added before the rounding, y = sat(rint(f32(f32(acc·s) + zy))), as ONNX
        Runtime's QLinearAveragePool does.
    """

    scale: Factor
    zero_point: int
    add_first: bool = False

    @classmethod
    def of(cls, sx: float, sy: float, zy: int, elements: int, *, add_first: bool = False) -> Mean:
        """Build for `elements` averaged values.

        Raises
        ------
        NumericsError
            If the sum may exceed 2^24, where float32 would round it first.
        """
        if elements * 255 > 1 << 24:
            raise NumericsError(f"a mean over {elements} elements; at most {(1 << 24) // 255}")
        s = np.float32(np.float32(sx) / np.float32(np.float32(sy) * np.float32(elements)))
        Factor.of(np.float32(sx) / np.float32(sy), "scale ratio")  # bounds sums times scale
        return cls(Factor.of(s, "mean scale"), zy, add_first)

    def __call__(self, total: Int, low: int, high: int) -> Int:
        """Apply to sums of (code − zero point)."""
        value = round24(total * self.scale.fixed)
        if not self.add_first:
            return finish(value, self.zero_point, low, high)
        return finish(round24(value + (self.zero_point << FIXED_POINT)), 0, low, high)


def finish(value: Int, zero_point: int, low: int, high: int) -> Int:
    """Fixed point in units of 2^-44 to a code: clamp(rint(value) + zero_point, low, high)."""
    rounded = round_half_even(np.abs(value), FIXED_POINT)
    signed = np.where(value < 0, -rounded, rounded)
    return np.asarray(np.clip(signed + zero_point, low, high), np.int64)


def quantize(
    value: npt.NDArray[np.float32], scale: float, zero_point: int, low: int, high: int
) -> Int:
    """QuantizeLinear: sat(rint(f32(x/s)) + zero_point); what is no number gives the least code."""
    scaled = np.rint(np.asarray(value, np.float32) / np.float32(scale)).astype(np.float64)
    scaled = np.where(np.isnan(scaled), -np.inf, scaled)  # as ONNX Runtime's kernels do
    return np.asarray(np.clip(scaled + zero_point, low, high), np.int64)


PARAMETER_BYTES = 8


def pack_parameters(bias: Sequence[int], multiplier: Sequence[int], shift: Sequence[int]) -> bytes:
    """Requantization parameters of consecutive channels as they lie in memory.

    Eight bytes a channel, little-endian: bias (32 bits, signed), multiplier (24), shift (8).

    Raises
    ------
    NumericsError
        If a value does not fit.
    """
    out = bytearray()
    for channel, (b, m, n) in enumerate(zip(bias, multiplier, shift, strict=True)):
        if not -(1 << 31) <= b < 1 << 31 or not 0 <= m < 1 << 24 or not 0 <= n < 256:
            raise NumericsError(
                f"channel {channel}: bias {b}, multiplier {m}, shift {n} do not fit 32, 24 and 8 "
                f"bits"
            )
        out += ((b & 0xFFFFFFFF) | m << 32 | n << 56).to_bytes(PARAMETER_BYTES, "little")
    return bytes(out)


def unpack_parameters(data: bytes) -> tuple[Int, Int, Int]:
    """Undo `pack_parameters`: bias, multiplier, shift."""
    words = np.frombuffer(data, "<u8")
    bias = (words & 0xFFFFFFFF).astype(np.uint32).view(np.int32).astype(np.int64)
    return (
        bias,
        ((words >> np.uint64(32)) & np.uint64(0xFFFFFF)).astype(np.int64),
        (words >> np.uint64(56)).astype(np.int64),
    )
