"""A failing graph becomes a small one that fails in the same way."""

from fuzz.generate import draw
from fuzz.shrink import shrink


def _pools_with_padding(graph):
    return any(
        n.op_type == "MaxPool" and any(a.name == "pads" and any(a.ints) for a in n.attribute)
        for n in graph.model.graph.node
    )


def test_only_what_fails_is_left():
    graph = next(
        g
        for g in (draw(3, n) for n in range(300))
        if _pools_with_padding(g) and len(g.plan.steps) > 5
    )
    calls = []

    def fails(made):
        calls.append(made)
        return _pools_with_padding(made)

    small = shrink(graph, fails, seconds=5)
    assert _pools_with_padding(small)
    assert len(small.plan.steps) <= 2 < len(graph.plan.steps)
    assert sum(n.op_type != "Constant" for n in small.model.graph.node) <= 8
    assert len(calls) < 400


def test_nothing_else_to_leave_out():
    graph = draw(3, 5)
    assert shrink(graph, lambda made: False, seconds=5) is graph
