"""The first few tilings of each way to compute a layer, timed.

Sums of what the units do rank tilings. The first one of each way is timed, and so are others as
long as they may still be better than the best one: cycles that were timed choose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from compiler.array.hfa import Candidate

TIMED = 8
"""Tilings of each way that are timed at most."""
MARGIN = 0.005
"""What a trial does not tell apart: between such the order of the sums counts."""
SLACK = 1.03
"""By how much sums mistake one tiling of a way for better than another."""


def timed(
    ways: Sequence[Sequence[Candidate]],
    objective: str,
    trial: Callable[[Candidate], Candidate],
    sought: Callable[[Candidate], bool],
) -> list[Candidate]:
    """The best candidate of each way, with the cycles that the core takes.

    Parameters
    ----------
    ways: candidates of each way by sums, the best first; at least one each.
    objective: what is minimized.
    trial: a candidate as it is timed.
    sought: whether a way may be chosen: of others only the first candidate is timed.
    """
    found = [trial(way[0]) for way in ways]
    wanted = [n for n, candidate in enumerate(found) if sought(candidate)]
    # The best way first: it rules out most of the others' tilings.
    for number in sorted(wanted, key=lambda n: found[n].merit(objective)):
        first = ways[number][0]
        scale = found[number].merit(objective)[0] / first.merit(objective)[0]
        for candidate in ways[number][1:TIMED]:
            limit = min(found[n].merit(objective)[0] for n in wanted)
            if candidate.merit(objective)[0] * scale > SLACK * limit:
                continue
            now = trial(candidate)
            if better(now, found[number], objective):
                found[number] = now
    return found


def better(one: Candidate, other: Candidate, objective: str) -> bool:
    """Whether one candidate is better by more than a trial may be mistaken."""
    for mine, its in zip(one.merit(objective), other.merit(objective), strict=True):
        if mine < its * (1 - MARGIN):
            return True
        if mine > its:
            return False
    return False
