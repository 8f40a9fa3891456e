"""Recorded choices: a random graph is a list of small integers, so that it can be made smaller."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
SEEDS = 1 << 30


class Choices:
    """Draws integers, or repeats recorded ones.

    Options are listed simplest first: a recorded list in which a number was lowered makes a
    simpler graph, and a list that has run out goes on with zeros.

    Parameters
    ----------
    rng: where new choices come from; None repeats `recorded`.
    recorded: earlier choices.

    Members
    -------
    taken: what was chosen, in order.
    """

    def __init__(self, rng: random.Random | None, recorded: Sequence[int] = ()) -> None:
        self._rng = rng
        self._recorded = recorded
        self.taken: list[int] = []

    def below(self, limit: int, weights: Sequence[float] | None = None) -> int:
        """An integer from 0 to `limit` - 1."""
        if self._rng is None:
            at = len(self.taken)
            value = min(self._recorded[at] if at < len(self._recorded) else 0, limit - 1)
        elif weights is None:
            value = self._rng.randrange(limit)
        else:
            value = self._rng.choices(range(limit), weights)[0]
        self.taken.append(value)
        return value

    def between(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def pick(self, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
        """One of the options, the first of which is the simplest."""
        return options[self.below(len(options), weights)]

    def chance(self, percent: float) -> bool:
        """True in so many of a hundred cases; False is simpler."""
        return self.below(2, (100 - percent, percent)) == 1

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """Some of the options, each at most once, in their order."""
        left = list(range(len(options)))
        chosen = [left.pop(self.below(len(left))) for _ in range(count)]
        return [options[i] for i in sorted(chosen)]

    def generator(self) -> np.random.Generator:
        """Random numbers for weights and constants."""
        return np.random.default_rng(self.below(SEEDS))
