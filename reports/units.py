"""Numbers as people read them: SI prefixes, thousands, shares."""

from __future__ import annotations

import math

_PREFIXES = (
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
    (1e-9, "n"),
    (1e-12, "p"),
    (1e-15, "f"),
)

NO_VALUE = "–"
"""Stands where a figure does not exist (a layer without multiplications has no rate)."""


def si(value: float, unit: str = "", digits: int = 3) -> str:
    """`value` with an SI prefix: ``si(5.58e9, "MAC") == "5.58 GMAC"``.

    Parameters
    ----------
    value: finite number; zero has no prefix.
    unit: appended to the prefix; may be empty.
    digits: significant digits.
    """
    if value == 0:
        return f"0 {unit}".strip()
    if not math.isfinite(value):
        return NO_VALUE
    size = abs(value)
    for index, (factor, prefix) in enumerate(_PREFIXES):
        if size < factor and index + 1 < len(_PREFIXES):
            continue
        scaled = value / factor
        if abs(float(f"{scaled:.{digits}g}")) >= 1000 and index:
            factor, prefix = _PREFIXES[index - 1]
            scaled = value / factor
        whole = len(str(int(abs(scaled))))
        return f"{scaled:.{max(digits - whole, 0)}f} {prefix}{unit}".strip()
    raise AssertionError("the last prefix takes every value")


def tick(value: float, unit: str = "") -> str:
    """`si` without zeros after the point, for axes."""
    number, *prefix = si(value, unit).split(" ")
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return " ".join((number, *prefix))


def count(value: float) -> str:
    """An integer with commas between thousands."""
    return f"{round(value):,}"


def share(value: float | None, digits: int = 1) -> str:
    """A ratio as a percentage."""
    if value is None or not math.isfinite(value):
        return NO_VALUE
    return f"{100 * value:.{digits}f} %"


def ratio(value: float | None, digits: int = 2) -> str:
    """A plain ratio."""
    if value is None or not math.isfinite(value):
        return NO_VALUE
    return f"{value:.{digits}f}"


def change(value: float, digits: int = 1) -> str:
    """A relative change as a percentage with its sign: ``change(-0.08) == "−8.0 %"``."""
    words = f"{100 * value:+.{digits}f} %"
    if not any(c in "123456789" for c in words):
        return words[1:]
    return words.replace("-", "−")
