"""FOLD beside the arithmetic of groups (hw/arch/group_numerics.py): widths, operands, DOT.

Widths are those of the circuit; a program whose sums leave them is wrong, and only the simulator
sees it (sim/functional/fold.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hw.arch.isa import FIXED_POINT
from hw.arch.numerics import Factor, Int, NumericsError, finish, round24

EXPONENTIAL_WIDTH = 21
"""Of an exponential in the tables."""
SOFTMAX_SUM_WIDTH = 31
NORM_SUM_WIDTH = 19
"""Of a sum of codes, with its sign."""
NORM_SQUARES_WIDTH = 26
GAIN_WIDTH, OFFSET_WIDTH = 18, 24
"""Of G and B, with their signs."""
COEFFICIENT_BYTES = 3
DOT_SUM_LIMIT = 1 << 24
"""Largest |Σ| of a DOT: f32(acc) is exact up to here."""
DOT_LIMIT = 1 << 18
"""Of a scaled sum, which the affine pipeline holds."""


# Operands as they lie in memory


def exponential_tables(exponentials: Sequence[int]) -> bytes:
    """The 256 exponentials of a softmax as four consecutive table slots: u32, low bytes first."""
    return np.asarray(exponentials, "<u4").tobytes()


def unpack_exponentials(data: npt.NDArray[np.uint8]) -> Int:
    """Undo `exponential_tables`; bits beyond the width do not count."""
    words = np.ascontiguousarray(data).reshape(-1).view("<u4").astype(np.int64)
    return np.asarray(words & ((1 << EXPONENTIAL_WIDTH) - 1), np.int64)


def coefficient_rows(gain: npt.ArrayLike, offset: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Coefficients of NORM_APPLY as they lie in the scratchpad, [..., 6, lanes].

    Parameters
    ----------
    gain, offset: [..., lanes], G and B: a row's lanes side by side, 0 in lanes without a channel.
    """
    words = [np.asarray(values, np.int64) for values in (gain, offset)]
    planes = [word >> 8 * place & 0xFF for word in words for place in range(COEFFICIENT_BYTES)]
    return np.stack(planes, axis=-2).astype(np.uint8)


def unpack_coefficients(rows: npt.NDArray[np.uint8]) -> tuple[Int, Int]:
    """Undo `coefficient_rows`: G (the low 18 bits) and B, each [..., lanes]."""
    planes = np.moveaxis(rows.astype(np.int64), -2, 0)
    gain, offset = (
        planes[first] | planes[first + 1] << 8 | planes[first + 2] << 16
        for first in (0, COEFFICIENT_BYTES)
    )
    return _signed(gain, GAIN_WIDTH), _signed(offset, OFFSET_WIDTH)


def _signed(word: Int, width: int) -> Int:
    half = np.int64(1) << np.int64(width - 1)
    return np.asarray(((word & (2 * half - 1)) ^ half) - half, np.int64)


# Scalar products


@dataclasses.dataclass(frozen=True, slots=True)
class Dot:
    """y = clamp(rint(round24(acc·s)) + zero_point), acc = Σ(a − za)(b − zb).

    The same codes as group_numerics.product_codes, on the grid of the affine pipeline, where sums
    and scale have bounds.

    Attributes
    ----------
    scale: s on the 2^−44 grid. za, zb, zero_point: of operands and result.
    """

    scale: Factor
    za: int
    zb: int
    zero_point: int

    @classmethod
    def of(cls, sa: float, za: int, sb: float, zb: int, sy: float, zy: int, bound: int) -> Dot:
        """s = f32(f32(sa·sb)/sy), for |acc| up to `bound`; see `scaled`."""
        s = np.float32(np.float32(np.float32(sa) * np.float32(sb)) / np.float32(sy))
        return cls.scaled(s, za, zb, zy, bound)

    @classmethod
    def scaled(cls, s: np.float32, za: int, zb: int, zy: int, bound: int) -> Dot:
        """For |acc| up to `bound`.

        Raises
        ------
        NumericsError
            If the bound exceeds 2^24, or its product with the scale reaches 2^18, or the scale is
            finer than the grid.
        """
        if bound > DOT_SUM_LIMIT:
            raise NumericsError(f"a scalar product up to {bound}; at most {DOT_SUM_LIMIT}")
        factor = Factor.of(s, "product scale")
        if bound * abs(factor.fixed) >= DOT_LIMIT << FIXED_POINT:
            raise NumericsError(
                f"a scalar product up to {bound} at scale {float(s)!r}; below {DOT_LIMIT}"
            )
        return cls(factor, za, zb, zy)

    def __call__(self, a: Int, b: Int, low: int, high: int) -> Int:
        """Apply along the last axis."""
        total = ((a - self.za) * (b - self.zb)).sum(axis=-1)
        return dot_code(total, self.scale.fixed, self.zero_point, low, high)


def dot_code(total: Int, scale: int | np.int64, zero_point: int, low: int, high: int) -> Int:
    """clamp(rint(round24(acc·s)) + zero_point, low, high), s in units of 2^-44."""
    return finish(round24(np.asarray(total * scale, np.int64)), zero_point, low, high)
