"""The order in which the array computes the stages of a chain's strips.

S(n), T(n + 1), P(n): the temporal convolution's drain writes the inner map as soon as the window
has read it, and the pointwise convolution hides the drains of both. Where the array is no longer
busy with a part of T than the drain is (one input block), T and P take turns, the latter in smaller
parts: the drain of one is over when the next but one begins. Without a temporal convolution and
with two results S(n + 1), P(n). In the first strip T and S take turns, blocks by blocks: the window
of what one group of T has made while the next one is computed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from compiler.fused.plan import FusedPlan
from compiler.fused.strips import Strip
from compiler.tile.geometry import Range


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """What a stage computes at a time.

    Attributes
    ----------
    stage: temporal, window or pointwise.
    item: number of the group of frames and strip.
    part: group of output blocks; of the window: number of the instruction.
    """

    stage: str
    item: int
    part: int


def turns(
    plan: FusedPlan, items: Sequence[tuple[Range, Strip]]
) -> Iterator[tuple[int, list[Work]]]:
    """All work of a chain in order, and up to which item it reaches.

    Parameters
    ----------
    plan: of the chain.
    items: group of frames and strip, in order.
    """
    for number in range(-1 if ahead(plan) else 0, len(items)):
        following = number + ahead(plan)
        last = _pointwise(plan, items, number)
        if plan.temporal is None:
            works = [*_window(plan, items, following), *last]
        elif number < 0:
            works = _opening(plan, items)
        else:
            window = _window(plan, items, number) if number else []
            works = [*window, *_together(plan, _temporal(plan, items, following), last)]
        yield following, works


def ahead(plan: FusedPlan) -> int:
    """Strips by which the first stage is ahead of the last one."""
    return int(plan.temporal is not None or plan.slots["result"] == 2)


def _temporal(plan: FusedPlan, items: Sequence[tuple[Range, Strip]], item: int) -> list[Work]:
    if plan.temporal is None or item >= len(items) or not items[item][1].inner[1]:
        return []
    return [Work("temporal", item, part) for part in range(len(plan.temporal.groups))]


def _window(plan: FusedPlan, items: Sequence[tuple[Range, Strip]], item: int) -> list[Work]:
    if item >= len(items):
        return []
    parts = len(plan.window.lines(items[item][0][1], plan.split))
    return [Work("window", item, part) for part in range(parts)]


def _pointwise(plan: FusedPlan, items: Sequence[tuple[Range, Strip]], item: int) -> list[Work]:
    if item < 0 or items[item][1].pointwise is None:
        return []
    return [Work("pointwise", item, part) for part in range(len(plan.pointwise.groups))]


def _together(plan: FusedPlan, temporal: list[Work], last: list[Work]) -> list[Work]:
    """T and P of a turn, by turns where that hides drains."""
    assert plan.temporal is not None
    if not (temporal and plan.temporal.brief and plan.pointwise.rows < plan.temporal.rows):
        return [*temporal, *last]
    works: list[Work] = []
    for number, work in enumerate(temporal):
        begin, end = (len(last) * n // len(temporal) for n in (number, number + 1))
        works += [work, *last[begin:end]]
    return works


def _opening(plan: FusedPlan, items: Sequence[tuple[Range, Strip]]) -> list[Work]:
    """T and S of the first strip."""
    assert plan.temporal is not None
    works: list[Work] = []
    lines = plan.window.lines(items[0][0][1], plan.split)
    waiting = list(zip(_window(plan, items, 0), lines, strict=True))
    made = 0
    for work in _temporal(plan, items, 0):
        works.append(work)
        while waiting and sum(waiting[0][1].blocks) <= made:
            works.append(waiting.pop(0)[0])
        made = plan.temporal.made(work.part)
    return [*works, *(work for work, _ in waiting)]
