"""Candidates ranked by the sums of their units' work; those that may be best are timed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Protocol, Self, TypeVar

from hw.arch.config import AcceleratorConfig

TOLD = 0.92
"""Part of what the sums say that a layer takes at least..."""
UNTOLD = 2_500
"""...but for so many cycles, which short layers may save. Of the trials of the networks in
`models`, none took less (tests/compiler/backend/test_ranking.py)."""


class Ranked(Protocol):
    """A way to compute something."""

    @property
    def cycles(self) -> float:
        """That it takes."""

    @property
    def floor(self) -> float:
        """Cycles of its sums but for waits that other work may hide."""

    def merit(self, objective: str) -> tuple[float, float]:
        """What is minimized, and what decides between equals."""

    def in_cycles(self, cycles: int, config: AcceleratorConfig) -> Self:
        """The same in other time."""


Way = TypeVar("Way", bound=Ranked)


def least(cycles: float) -> int:
    """Cycles that are taken at least where the sums say so many, as a `floor`."""
    return max(0, int(cycles * TOLD) - UNTOLD)


def timed(
    ways: Iterable[Way],
    cycles: Callable[[Way], int],
    objective: str,
    config: AcceleratorConfig,
    *,
    kind: Callable[[Way], Hashable],
    most: int,
    holds: Callable[[Way], bool] = lambda _: True,
) -> list[Way]:
    """The first few and one more of every kind, best first.

    What cannot be best is told by its sums; all others are timed.

    Parameters
    ----------
    ways: best first by their sums.
    cycles: of one, timed.
    objective, config: what counts, and where.
    kind: what at least one is wanted of. most: how many are looked at of whichever kinds.
    holds: whether instructions hold one; the best one is asked.
    """
    found, seen = list[Way](), set[Hashable]()
    for way in ways:
        if len(found) >= most and kind(way) in seen:
            continue
        early = way.in_cycles(least(way.floor), config).merit(objective)
        if not found or early < found[0].merit(objective):
            way = way.in_cycles(cycles(way), config)
            first = not found or way.merit(objective) < found[0].merit(objective)
            if first and not holds(way):
                continue
        seen.add(kind(way))
        found.append(way)
        found.sort(key=lambda each: each.merit(objective))
    return found
