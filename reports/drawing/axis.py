"""One direction of a pair of axes: its range, its numbers, and the words beside it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from reports.units import tick

Shown = Callable[[float], str]
Ticks = tuple[tuple[float, str], ...]
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
"""Distances between numbers, times a power of ten."""


@dataclasses.dataclass(frozen=True, slots=True)
class Axis:
    """From `low`, at the left or below, to `high`.

    Attributes
    ----------
    ticks: (value, words) along it; a newline in the words begins another line.
    label: what it counts, with its unit.
    log: distances are ratios.
    size: of the words at the ticks, in points.
    marks: short lines at the ticks; minor: values of shorter lines without words.
    """

    low: float
    high: float
    ticks: Ticks = ()
    label: str = ""
    log: bool = False
    size: float = 9.0
    marks: bool = True
    minor: tuple[float, ...] = ()

    def share(self, value: float) -> float:
        """Where a value lies: 0 at `low`, 1 at `high`."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def value(self, share: float) -> float:
        """What lies there: the inverse of `share`."""
        if self.log:
            return float(self.low * (self.high / self.low) ** share)
        return self.low + share * (self.high - self.low)

    def clip(self, value: float) -> float:
        """The value, or the end that it lies beyond."""
        low, high = sorted((self.low, self.high))
        return min(max(value, low), high)

    def without_words(self) -> Axis:
        """The same, for axes that stand beside others with these words."""
        return dataclasses.replace(self, ticks=(), label="")


def linear(
    low: float,
    high: float,
    label: str = "",
    unit: str = "",
    *,
    most: int = 9,
    shown: Shown | None = None,
) -> Axis:
    """Round numbers at equal distances, at most `most` + 1 of them, with SI prefixes.

    Parameters
    ----------
    low, high: the range, which is widened where it is empty.
    shown: writes a number; default: with prefix and `unit`.
    """
    high = high if high > low else low + 1.0
    step = _step(high - low, most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    values = [step * i for i in range(first, last + 1)]
    write = shown or (lambda value: tick(value, unit))
    return Axis(low, high, tuple((v, write(v)) for v in values), label)


def _step(span: float, most: int) -> float:
    """The least distance that leaves no more than `most` steps in a span."""
    least = span / most
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * s for s in STEPS if power * s >= least * (1 - 1e-9))


def logarithmic(low: float, high: float, label: str = "") -> Axis:
    """Powers of ten with SI prefixes; in less than two decades 2 and 5 times them, too."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = range(first, last + 1)
    few = math.log10(high / low) < 2
    main = [d * 10.0**e for e in decades for d in ((1, 2, 5) if few else (1,))]
    minor = [d * 10.0**e for e in decades for d in range(2, 10)]
    return Axis(
        low,
        high,
        tuple((v, tick(v)) for v in main if low <= v <= high),
        label,
        log=True,
        minor=tuple(v for v in minor if low <= v <= high),
    )


def rows(names: Sequence[str], size: float = 8.0) -> Axis:
    """A row for each name at 0, 1, ..., the first on top."""
    most = max(len(names), 1)
    return Axis(most - 0.4, -0.6, tuple(enumerate(names)), size=size, marks=False)
