"""Functions whose last bits no standard fixes, and codes that hang on those.

IEEE 754 fixes sums, products, quotients and roots to the bit, not exp or tanh: float32 kernels of
these lie a few units of the last place apart. A code is one step off at most where such a result is
quantized. But Floor makes a whole step of a sum of which one kernel leaves -1e-9 and another one
nothing: what the file says is then no definite value, and there is nothing to be equal to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from compiler.frontend.model import Array

POSITIVE, SIGNED = (0.0, math.inf), (-math.inf, math.inf)
INEXACT = {
    "Acos": POSITIVE,
    "Acosh": POSITIVE,
    **dict.fromkeys(("Asin", "Asinh", "Atan", "Atanh", "Log", "Pow", "Sinh", "Tan"), SIGNED),
    **dict.fromkeys(("Celu", "Elu", "Gelu", "Mish", "Selu", "Swish"), SIGNED),
    **dict.fromkeys(("Cos", "Erf", "Sin", "Tanh"), (-1.0, 1.0)),
    "Cosh": (1.0, math.inf),
    "Exp": POSITIVE,
    "Sigmoid": (0.0, 1.0),
    "Softplus": POSITIVE,
}
"""Such functions, and the range that no kernel of them leaves."""
LAST_BITS = 2.0**-21
"""How far kernels lie apart, relative to the greatest of 1, operand and result: four steps of
float32 at 1 (MLAS's polynomials for tanh and erf against their definitions)."""


EXACT_POWERS = (0.5, 1, 2, 3)
"""Kernels make these of products and roots."""


def shifted(op: str, operands: Sequence[Array | None], value: Array, shift: float) -> Array:
    """What another kernel may return in place of `value`, itself where `shift` is 0.

    At 0 all of them return what their definition says.
    """
    if not shift or op not in INEXACT:
        return value
    x, *others = (np.asarray(each, np.float64) for each in operands if each is not None)
    if op == "Pow" and np.isin(others[0], EXACT_POWERS).all():
        return value
    with np.errstate(all="ignore"):
        unit = LAST_BITS * np.maximum(1, np.maximum(np.abs(x), np.abs(value)))
        moved = np.clip(np.where(x == 0, value, value + shift * unit), *INEXACT[op])
        return np.where(np.isfinite(moved), moved, value).astype(value.dtype)


def uncertain(codes: Callable[[float], Array]) -> tuple[int, int, int] | None:
    """Where the last bits of a function decide its code, by more than one step.

    Parameters
    ----------
    codes: of all results, by `shift`.

    Returns
    -------
    Index, least and greatest code of the first; None where there is none.
    """
    found = np.stack([np.asarray(codes(shift), np.int64) for shift in (0.0, -1.0, 1.0)])
    low, high = found.min(axis=0), found.max(axis=0)
    wide = np.flatnonzero(high - low > 1)
    return (int(wide[0]), int(low[wide[0]]), int(high[wide[0]])) if wide.size else None
