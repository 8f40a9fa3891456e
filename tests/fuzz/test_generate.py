"""Random graphs: the same every time, valid, and of every form."""

from collections import Counter

import onnx
import pytest

from fuzz.catalogue import FORMS, UNDOCUMENTED
from fuzz.choices import Choices
from fuzz.feeds import make_feeds
from fuzz.generate import Plan, draw, write
from fuzz.truth import Nodes, whole

SEED = 11
GRAPHS = 250
BATCH = Plan(
    style=[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0],
    inputs=[0, 0, 0, 0, 0, 3, 0, 0, 0],
    steps=[
        ("heads", [0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1, 0]),
        ("product", [1, 1, 0, 0, 1, 0]),
        ("pair", [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]),
        ("gemm", [1, 1, 2, 0, 1, 0, 0, 0, 1, 0]),
    ],
    outputs=[0, 0, 0, 0, 0, 0, 0, 0, 0],
)
"""Products of two heads, that is a batch of two, are convolved and flattened."""


@pytest.fixture(scope="module")
def graphs():
    return [draw(SEED, number) for number in range(GRAPHS)]


def test_a_seed_and_a_plan_make_the_same_file(graphs):
    for number, graph in enumerate(graphs):
        data = graph.model.SerializeToString(deterministic=True)
        again = draw(SEED, number).model.SerializeToString(deterministic=True)
        replayed = write(Plan.of(graph.plan.text())).model.SerializeToString(deterministic=True)
        assert data == again == replayed, number
    assert draw(SEED + 1, 0).plan != graphs[0].plan


def test_onnx_runtime_takes_every_graph(graphs):
    for graph in graphs:
        assert whole(graph.model, make_feeds(graph.model))


def test_shapes_are_those_that_the_file_has(graphs):
    seen = 0
    for graph in (*graphs, write(BATCH)):
        inferred = onnx.shape_inference.infer_shapes(graph.model, data_prop=True)
        for found in inferred.graph.value_info:
            dims = [d.dim_value for d in found.type.tensor_type.shape.dim]
            known = found.type.tensor_type.HasField("shape") and all(dims)
            if known and found.name in graph.shapes:
                assert tuple(dims) == graph.shapes[found.name], found.name
                seen += 1
    assert seen > 2 * GRAPHS
    assert whole(graph.model, make_feeds(graph.model)), BATCH


def test_the_checker_takes_graphs_in_order(graphs):
    for graph in graphs:
        shapes = all(v.type.tensor_type.HasField("shape") for v in graph.model.graph.output)
        if shapes and "nodes.out_of_order" not in graph.forms:
            onnx.checker.check_model(graph.model)


def test_graphs_are_of_the_size_that_was_asked_for(graphs):
    sizes = [len(Nodes(graph.model).codes) for graph in graphs]
    assert sorted(sizes)[len(sizes) // 10] >= 2 and max(sizes) <= 40
    assert 5 <= sum(sizes) / len(sizes) <= 14


def test_forms_are_those_of_the_catalogue():
    drawn: Counter[str] = Counter()
    for number in range(1200):
        drawn.update(draw(SEED, number).forms.keys())
    assert set(drawn) <= {*FORMS, *UNDOCUMENTED}
    assert {form for form in FORMS if not drawn[form]} == set()


def test_choices_run_out_into_the_simplest():
    c = Choices(None, [3, 9])
    assert [c.below(5), c.below(5), c.below(5)] == [3, 4, 0]
    assert c.pick(("simplest", "other")) == "simplest"
    assert not c.chance(99)
    assert c.taken == [3, 4, 0, 0, 0]
