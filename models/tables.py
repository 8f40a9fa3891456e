"""Quantization parameters and the operations small enough to be written as tables.

A unary function of an 8-bit tensor has 256 results, an operation on two of them 65536. Each is
evaluated here once, with IEEE float32 roundings exactly where ONNX Runtime's kernels have them
(docs/numerics.md), and applied by lookup.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

F32 = np.float32


@dataclass(frozen=True)
class QParams:
    """How integers stand for reals: real = (integer - zero_point) · scale.

    Attributes
    ----------
    scale: float32, one element or one per channel.
    zero_point: int64, as long as `scale`, or one element.
    dtype: uint8, int8, or int32 for biases.
    axis: the channel axis where scales differ per channel.
    """

    scale: np.ndarray
    zero_point: np.ndarray
    dtype: np.dtype
    axis: int | None = None

    @property
    def single(self) -> bool:
        """Whether there is one scale for all elements."""
        return self.scale.size == 1

    @property
    def low(self) -> int:
        """Least code."""
        return int(np.iinfo(self.dtype).min)

    @property
    def high(self) -> int:
        """Greatest code."""
        return int(np.iinfo(self.dtype).max)

    @property
    def zero(self) -> int:
        """The zero point of a tensor with a single one."""
        return int(self.zero_point[0])

    @property
    def unit(self) -> np.float32:
        """The scale of a tensor with a single one."""
        return F32(self.scale[0])

    def codes(self) -> np.ndarray:
        """All 256 codes, ascending, int64."""
        return np.arange(self.low, self.high + 1, dtype=np.int64)

    def spread(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """Scale and zero point shaped to broadcast against a tensor of this rank."""
        if self.axis is None:
            return self.scale[0], self.zero_point[0]
        shape = [1] * rank
        shape[self.axis] = -1
        return self.scale.reshape(shape), self.zero_point.reshape(shape)

    def same_as(self, other: "QParams") -> bool:
        """Whether both read the same integer as the same real."""
        return (
            self.dtype == other.dtype
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )


def saturate(rounded: np.ndarray, zero_point: Any, params: QParams) -> np.ndarray:
    """Add the zero point to rounded float32 values and clamp; no number (NaN) is the least code.

    The last is what ONNX Runtime's kernels for x86 make of it.
    """
    # In float64, so that the sum of a large value and the zero point is not rounded again.
    real = rounded.astype(np.float64) + zero_point
    codes = np.clip(np.where(np.isnan(real), -np.inf, real), params.low, params.high)
    return np.asarray(codes, params.dtype)  # of rank 0 numpy makes a scalar


def quantize_float(value: np.ndarray, params: QParams) -> np.ndarray:
    """QuantizeLinear: sat(rint(f32(x / s)) + zp), round half to even."""
    scale, zero = params.spread(value.ndim)
    return saturate(np.rint(value.astype(F32) / scale), zero, params)


def dequantize(codes: np.ndarray, params: QParams) -> np.ndarray:
    """DequantizeLinear: f32((q - zp) · s); float32, same shape."""
    scale, zero = params.spread(codes.ndim)
    return np.asarray((codes.astype(np.int64) - zero).astype(F32) * scale)


def requantize_table(source: QParams, target: QParams) -> np.ndarray:
    """Table of a change of scale, on all 256 codes, ascending."""
    return quantize_float(dequantize(source.codes(), source), target)


def fma32(a: Any, b: Any, c: Any) -> np.ndarray:
    """round32(a·b + c) with a single rounding, a, b, c float32 (an FMA instruction).

    The product of two float32 is exact in float64. Its sum with c may not be: the sum is
    rounded to odd in float64 (two-sum gives the lost part), after which rounding to float32 is
    correct because float64 has more than two bits to spare (Boldo and Melquiond 2008).
    """
    product = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    product, addend = np.broadcast_arrays(product, np.asarray(c, np.float64))
    total = product + addend
    back = total - product
    lost = (product - (total - back)) + (addend - back)
    bits = np.ascontiguousarray(total).view(np.int64)
    # Truncate toward zero where rounding went away from it, then set the last bit.
    away = (lost != 0) & ((lost > 0) != (total > 0))
    bits = np.where(lost != 0, (bits - away) | 1, bits)
    return bits.view(np.float64).astype(F32)


def _codes(params: QParams) -> np.ndarray:
    return params.codes().astype(F32)


def add_table(a: QParams, b: QParams, y: QParams) -> np.ndarray:
    """QLinearAdd on all pairs of codes; [256, 256] indexed by (a - low, b - low).

    docs/numerics.md: ra = f32(sa/sy), rb = f32(sb/sy),
    k = f32(zy - fma(ra, za, f32(rb·zb))), y = sat(rint(fma(a, ra, fma(b, rb, k)))).
    """
    return _linear_table(a, b, y, F32(a.unit / y.unit), F32(b.unit / y.unit), F32(y.zero), 0)


def add_float_table(a: QParams, b: QParams, y: QParams) -> np.ndarray:
    """A sum in float: as `add_table`, the zero point added after rounding."""
    return _linear_table(a, b, y, F32(a.unit / y.unit), F32(b.unit / y.unit), F32(0), y.zero)


def sub_table(a: QParams, b: QParams, y: QParams) -> np.ndarray:
    """Sub: as `add_table` with -sb, the zero point added after rounding (docs/numerics.md)."""
    return _linear_table(a, b, y, F32(a.unit / y.unit), -F32(b.unit / y.unit), F32(0), y.zero)


def _linear_table(
    a: QParams,
    b: QParams,
    y: QParams,
    ra: np.float32,
    rb: np.float32,
    before: np.float32,
    after: int,
) -> np.ndarray:
    """ra·a + rb·b less the zero points, plus `before` the rounding and `after` it."""
    k = F32(before - fma32(ra, F32(a.zero), F32(rb * F32(b.zero))))
    inner = fma32(_codes(b), rb, k)
    outer = fma32(_codes(a)[:, None], ra, inner[None, :])
    return saturate(np.rint(outer), after, y)


def mul_table(a: QParams, b: QParams, y: QParams) -> np.ndarray:
    """QLinearMul on all pairs: s = f32(f32(sa·sb)/sy), y = sat(rint(f32(f32(p·s) + zy)))."""
    scale = F32(F32(a.unit * b.unit) / y.unit)
    product = ((a.codes() - a.zero)[:, None] * (b.codes() - b.zero)[None, :]).astype(F32)
    return saturate(np.rint(product * scale + F32(y.zero)), 0, y)


def div_table(a: QParams, b: QParams, y: QParams) -> np.ndarray:
    """Div of two tensors in float32, on all pairs; 0 / 0 is no number."""
    with np.errstate(divide="ignore", invalid="ignore"):
        real = dequantize(a.codes(), a)[:, None] / dequantize(b.codes(), b)[None, :]
    return quantize_float(real, y)


PAIRS: dict[str, Callable[[QParams, QParams, QParams], np.ndarray]] = {
    "Add": add_table,
    "Sub": sub_table,
    "Mul": mul_table,
    "Div": div_table,
}
