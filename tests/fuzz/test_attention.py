"""Random graphs of attention, read by compiler and oracle, and against the file as written."""

from collections import Counter

import numpy as np
import onnx
import pytest

from compiler import interpreter
from compiler.onnx_import import import_model
from fuzz import catalogue, judge, truth
from fuzz.feeds import make_feeds
from fuzz.generate import ALL, ATTENTION, Plan, draw, write
from models.reference import Reference

SEED, GRAPHS = 5, 120
FORMS = set(catalogue.ATTENTION)


def copy(model):
    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made


def tried(model):
    """Every tensor of the compiler's equals the oracle's; the oracle keeps to the file."""
    imported = import_model(copy(model), "random")
    if imported.graph is None:
        return "refused"
    if imported.graph.host:
        return "host"
    feeds = make_feeds(model)
    values = interpreter.run(imported.graph, feeds)
    reference = Reference(copy(model))
    nodes = truth.Nodes(model)
    known = [name for name in values if name in reference.graph.names]
    theirs = reference.run(feeds, keep={*nodes.codes, *known})
    for name in known:
        assert np.array_equal(values[name].reshape(-1), theirs[name].reshape(-1)), name
    codes = {name: theirs[name] for name in nodes.codes}
    made = truth.Operators(nodes, codes, []).run(feeds, codes)
    judge._against_file(nodes, feeds, codes, made)
    return "right"


def row(count, steps):
    outcomes, forms = Counter(), Counter()
    for number in range(count):
        graph = draw(SEED, number, steps)
        forms.update(graph.forms.keys())
        try:
            outcomes[tried(graph.model)] += 1
        except Exception as error:
            error.add_note(f"graph {number} of seed {SEED}")
            raise
    return outcomes, forms


def test_a_row_of_graphs():
    outcomes, forms = row(GRAPHS, ATTENTION)
    assert outcomes["right"] >= 0.9 * (GRAPHS - outcomes["host"])
    assert set(forms) >= FORMS


@pytest.mark.slow
def test_many_graphs_of_everything():
    outcomes, forms = row(2000, ALL)
    assert outcomes["right"] >= 0.8 * (2000 - outcomes["host"])
    assert set(forms) >= FORMS


def test_a_plan_makes_the_same_file():
    graph = draw(SEED, 3, ATTENTION)
    again = write(Plan.of(graph.plan.text()))
    assert again.model.SerializeToString(True) == graph.model.SerializeToString(True)


@pytest.mark.parametrize("kind", ["softmax", "norm", "product"])
def test_twin_another_definition_is_seen(kind, monkeypatch):
    """An oracle and a compiler that agree about something wrong differ from the file."""
    from models import grouped, integer

    if kind == "product":
        right = integer.requantize
        monkeypatch.setattr(integer, "requantize", lambda acc, *rest: right(acc + 40, *rest))
    else:
        right = grouped._finish
        monkeypatch.setattr(grouped, "_finish", lambda fixed, to: right(fixed + (1 << 44), to))
    steps = {kind: ATTENTION[kind]}
    with pytest.raises((AssertionError, judge.Wrong)):
        row(10, steps)
