"""The structure of a graph with arms: operators of one arm stand together, after what they read."""

import dataclasses

import pytest

from compiler.arms import Fork, regrouped, structured
from compiler.ir import Graph, GraphError, Join, Port, Predicate, Slice, TensorType, Value, verify

KIND = TensorType.of((1, 4, 1, 1, 1), False, 0.5, 3)
FINE, COARSE = (("b", True),), (("b", False),)
HOLDS = Predicate(((0, 0, 0, 0),), ((0, 9),))


def copy(source, output):
    return Slice(name=output, inputs=(source,), output=output, axis=3, start=0, stop=1)


def join(then, otherwise, output, tested="x"):
    return Join(
        name=output,
        inputs=(then, otherwise, tested),
        output=output,
        branch="b",
        condition="c",
        predicate=HOLDS,
    )


def graph(ops, paths, output):
    names = ("x", *(op.output for op in ops))
    values = {name: Value(name, KIND) for name in names}
    port = (Port(output, output),)
    return Graph("g", (Port("x", "x"),), port, values, tuple(ops), paths=paths)


OPS = [
    copy("x", "a"),
    copy("x", "f1"),
    copy("x", "c1"),
    join("f1", "c1", "j1"),
    copy("a", "late"),
    copy("late", "f2"),
    copy("j1", "after"),
    join("f2", "a", "j2"),
    copy("j2", "y"),
]
PATHS = {"f1": FINE, "f2": FINE, "c1": COARSE}


def test_arms_stand_together_behind_what_they_read():
    """`late` is made after the first join of the arms that need it."""
    verify(graph(OPS, PATHS, "y"))
    ops = regrouped(OPS, lambda name: PATHS.get(name, ()))
    order = [op.output for op in ops]
    assert order == ["a", "late", "f1", "f2", "c1", "j1", "after", "j2", "y"]
    verify(graph(ops, PATHS, "y"))
    items = list(structured(ops, lambda name: PATHS.get(name, ())))
    (fork,) = (item for item in items if isinstance(item, Fork))
    assert [op.output for op in fork.then] == ["f1", "f2"]
    assert [op.output for op in fork.otherwise] == ["c1"]


@pytest.mark.parametrize(
    ("ops", "paths", "output"),
    [
        ([copy("x", "f"), copy("f", "y")], {"f": FINE}, "y"),
        ([copy("x", "f"), copy("f", "c"), join("x", "c", "y")], {"f": FINE, "c": COARSE}, "y"),
        ([copy("x", "f"), join("x", "f", "y")], {"f": FINE}, "y"),
        ([copy("x", "f"), join("f", "x", "y", tested="f")], {"f": FINE}, "y"),
        ([copy("x", "f")], {"f": FINE}, "f"),
    ],
)
def test_what_an_arm_makes_is_read_in_it_or_by_its_join(ops, paths, output):
    with pytest.raises(GraphError, match=r"made in an arm only|is not defined"):
        verify(graph(ops, paths, output))
    verify(graph(ops, {}, output))


def test_joins_are_of_one_type():
    other = dataclasses.replace(KIND, scale=0.25)
    made = graph([copy("x", "f"), join("f", "x", "y")], {"f": FINE}, "y")
    values = {**made.values, "y": Value("y", other)}
    with pytest.raises(GraphError, match="other scales"):
        verify(dataclasses.replace(made, values=values))
