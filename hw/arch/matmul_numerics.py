"""Integer arithmetic of products of two activations, to the bit. Definition: docs/numerics.md."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from hw.arch.numerics import Int, NumericsError, requantize, split_scale


@dataclasses.dataclass(frozen=True, slots=True)
class ProductScale:
    """What turns Σ(a − za)(b − zb) into codes: s = multiplier·2^−shift.

    Attributes
    ----------
    multiplier, shift: of s = f32(f32(sa·sb)/sy), see numerics.split_scale.
    za, zb, zero_point: of the operands and of the result.
    """

    multiplier: int
    shift: int
    za: int
    zb: int
    zero_point: int

    @classmethod
    def of(
        cls, sa: float, za: int, sb: float, zb: int, sy: float, zy: int, factor: float = 1.0
    ) -> ProductScale:
        """Build from scales and zero points; a constant `factor` multiplies sa·sb.

        Raises
        ------
        NumericsError
            The scale of the product is no positive normal float32.
        """
        unit = np.float32(np.float32(factor) * np.float32(np.float32(sa) * np.float32(sb)))
        multiplier, shift = split_scale(np.float32(unit / np.float32(sy)))
        if not 0 <= shift < 1 << 8:
            raise NumericsError(f"the requantization scale {unit / np.float32(sy)!r} overflows")
        return cls(multiplier, shift, za, zb, zy)


def product_codes(
    a: npt.NDArray[np.integer], b: npt.NDArray[np.integer], scale: ProductScale, low: int, high: int
) -> Int:
    """Codes of the matrix products a @ b: [..., M, K] by [..., K, N], requantized.

    y = clamp(rint(f32(f32(acc)·s)) + zy), acc = Σ(a − za)(b − zb) exactly.
    """
    # Exact: |acc| <= K·2^16 < 2^53, whatever the order of the sum.
    left = (a.astype(np.int64) - scale.za).astype(np.float64)
    right = (b.astype(np.int64) - scale.zb).astype(np.float64)
    total = np.rint(left @ right).astype(np.int64)
    return requantize(total, scale.multiplier, scale.shift, scale.zero_point, low, high)
