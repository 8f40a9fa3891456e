"""The order in which the array computes the stages of a region's strips.

Between what a stage makes and what reads it lies work of another one, so that no unit waits for the
drain between: of stages a, b, c (one slot between each two) the turns are b(n), a(n + 1), c(n); a's
drain writes as soon as b has read, and c hides the drains of both. Each stage further in front is a
strip further ahead. Two stages have nothing between them; with two slots their turns are
a(n + 1), b(n).

Where the array is no longer busy with a part of the stage in front of the last one's turn than the
drain is, these two take turns in parts: the drain of one is over when the next but one begins. In
the first strip the first two stages do, blocks by blocks: what one group of the first has made is
read while the next one is computed.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

from compiler.regions.plan import Item, Plan
from compiler.regions.stage import Part


@dataclasses.dataclass(frozen=True, slots=True)
class Turn:
    """What a stage computes at a time.

    Attributes
    ----------
    stage: number among the array's.
    item: which.
    parts: of it; one, unless constants come with blocks that pass together, or blocks are stored.
    """

    stage: int
    item: int
    parts: Sequence[Part]


def ahead(plan: Plan) -> tuple[int, ...]:
    """Items by which each stage of the array is ahead of the last one."""
    count, slots = len(plan.array), plan.slots[-2]
    return (*(count - 3 - number + slots for number in range(count - 1)), 0)


def turns(plan: Plan, items: Sequence[Item]) -> Iterator[tuple[int, list[Turn]]]:
    """All work of a region in order, and up to which item it reaches.

    Parameters
    ----------
    plan: of the region.
    items: some of it, or all.
    """
    skew = ahead(plan)
    behind = len(skew) - 1
    # Stages whose first strip is computed in front of their turn.
    opened = {1} if behind > 1 else set[int]()
    for number in range(-skew[0], len(items)):
        following = number + skew[0]
        groups = [_of(plan, items, k, number + skew[k]) for k in reversed(range(behind))]
        if following == 0 and opened:
            yield 0, _by_blocks(plan, groups[-1], _of(plan, items, 1, 0))
            continue
        for k in opened:
            if number + skew[k] == 0:
                groups[behind - 1 - k] = []
        *others, first = groups
        last = _of(plan, items, behind, number)
        before = [turn for group in others for turn in group]
        yield following, [*before, *_together(plan, first, last)]


def _of(plan: Plan, items: Sequence[Item], number: int, item: int) -> list[Turn]:
    """Turns of a stage of the array in an item."""
    if not 0 <= item < len(items):
        return []
    parts = plan.parts_of(number, items[item])
    if plan.by_block:
        return [Turn(number, item, parts)] if parts else []
    if number == len(plan.array) - 1:
        # What is stored at a time.
        groups = itertools.groupby(parts, key=lambda part: part.number)
        return [Turn(number, item, tuple(some)) for _, some in groups]
    return [Turn(number, item, (part,)) for part in parts]


def _together(plan: Plan, first: list[Turn], last: list[Turn]) -> list[Turn]:
    """Two stages of a turn, by turns where that hides drains."""
    if not first or not plan.array[0].brief or plan.array[-1].rows >= plan.array[0].rows:
        return [*first, *last]
    found: list[Turn] = []
    for number, turn in enumerate(first):
        begin, end = (len(last) * n // len(first) for n in (number, number + 1))
        found += [turn, *last[begin:end]]
    return found


def _by_blocks(plan: Plan, first: list[Turn], second: list[Turn]) -> list[Turn]:
    """The second stage of a strip as soon as the first has made what it reads."""
    found: list[Turn] = []
    waiting = list(second)
    for turn in first:
        found.append(turn)
        # Blocks before those of this one are whole.
        while waiting and sum(waiting[0].parts[-1].reads) <= turn.parts[0].makes[0]:
            found.append(waiting.pop(0))
    return [*found, *waiting]
