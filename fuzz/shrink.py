"""Make a failing graph smaller: fewer steps, lower choices, the same failure."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

from fuzz.bench import Unsuitable
from fuzz.generate import Graph, Plan, write

Fails = Callable[[Graph], bool]
Edit = Callable[[Plan], None]


def shrink(graph: Graph, fails: Fails, seconds: float = 20.0) -> Graph:
    """The smallest graph found that still fails.

    Parameters
    ----------
    graph: fails.
    fails: whether a graph fails in the same way.
    seconds: how long to go on at most.
    """
    end = time.monotonic() + seconds
    best, better = graph, True
    while better:
        better, at = False, 0
        while at < len(edits := _edits(best.plan)):
            if time.monotonic() > end:
                return best
            made = _edited(best.plan, edits[at])
            if made is not None and _size(made) < _size(best) and fails(made):
                best, better = made, True  # what was next now stands at the same place
            else:
                at += 1
    return best


def _edited(plan: Plan, edit: Edit) -> Graph | None:
    made = copy.deepcopy(plan)
    edit(made)
    try:
        return write(made)
    except (Unsuitable, IndexError, ValueError):  # the lowered choices make no graph
        return None


def _size(graph: Graph) -> tuple[int, int, int]:
    """What makes a graph large: nodes, then elements, then choices that are not the simplest."""
    plan, proto = graph.plan, graph.model.graph
    lists = [plan.style, plan.inputs, plan.outputs, *(choices for _, choices in plan.steps)]
    numbers = [min(n, 1 << 12) for each in lists for n in each]
    elements = sum(len(t.SerializeToString()) for t in proto.initializer)
    dims = sum(d.dim_value for v in proto.input for d in v.type.tensor_type.shape.dim)
    return len(proto.node), elements + 20 * dims, sum(numbers) + sum(n > 0 for n in numbers)


def _edits(plan: Plan) -> list[Edit]:
    """Ways to make a plan a little simpler, the most promising first."""
    found: list[Edit] = [_dropped(at) for at in range(len(plan.steps) - 1, -1, -1)]
    parts: list[str | int] = ["style", "inputs", "outputs", *range(len(plan.steps))]
    found += [_simplest(which) for which in parts if any(_part(plan, which))]
    for which in parts:
        for at, value in enumerate(_part(plan, which)):
            for lower in dict.fromkeys((0, value // 2, value - 1)):
                if 0 <= lower < value:
                    found.append(_lowered(which, at, lower))
    return found


def _dropped(at: int) -> Edit:
    def edit(plan: Plan) -> None:
        del plan.steps[at]

    return edit


def _simplest(which: str | int) -> Edit:
    def edit(plan: Plan) -> None:
        part = _part(plan, which)
        part[:] = [0] * len(part)

    return edit


def _lowered(which: str | int, at: int, value: int) -> Edit:
    def edit(plan: Plan) -> None:
        _part(plan, which)[at] = value

    return edit


def _part(plan: Plan, which: str | int) -> list[int]:
    if isinstance(which, int):
        return plan.steps[which][1]
    found: list[int] = getattr(plan, which)
    return found
