"""What the judge finds: each way of being wrong, within 200 graphs."""

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

import compiler.pipeline
from fuzz.feeds import make_feeds
from fuzz.generate import draw
from fuzz.judge import beyond, judge
from fuzz.kernels import OPERATORS
from fuzz.product import Crash, Product, Settings, names_a_node, normal
from fuzz.truth import Code, Nodes, Operators, whole
from hw.arch.layout import LaneMap
from tests.fuzz import mutants

SEED = 7
WITHIN = 200
SETTINGS = Settings(hfa="off", command=False)


def first_wrong(folder: Path, judged) -> str:
    """Kind of the first failure that `judged` finds in a graph that is accepted as it is."""
    plain = Product(SETTINGS, folder / "plain")
    for number in range(WITHIN):
        model = draw(SEED, number).model
        verdict = judged(model)
        if verdict is None or verdict.outcome != "wrong":
            continue
        if judge(plain, model).outcome == "accepted":
            return verdict.kind
    pytest.fail(f"nothing found within {WITHIN} graphs")


@pytest.mark.parametrize(
    "mutant",
    [mutants.zero_point_in_the_graph, mutants.operands_in_the_graph, mutants.pad_in_the_graph],
)
def test_a_compiler_that_is_wrong_alone(mutant, tmp_path, monkeypatch):
    lay_out = compiler.pipeline.lay_out
    changed = []

    def wrong(graph, *others):
        made = mutant(graph)
        changed.append(made is not None)
        return lay_out(made or graph, *others)

    product = Product(SETTINGS, tmp_path / "wrong")

    def judged(model):
        with monkeypatch.context() as patch:
            patch.setattr(compiler.pipeline, "lay_out", wrong)
            return judge(product, model)

    kind = first_wrong(tmp_path, judged)
    assert kind.startswith(("program differs from oracle", "float tensor", "output made by"))
    assert any(changed)


def test_a_layout_that_exchanges_two_runs(tmp_path, monkeypatch):
    joined = LaneMap.joined
    changed = []

    def wrong(maps):
        made = joined(maps)
        table = made.table()
        changed.append(len(table) > 1)
        return LaneMap.of(table[[1, 0, *range(2, len(table))]]) if len(table) > 1 else made

    product = Product(SETTINGS, tmp_path / "wrong")

    def judged(model):
        with monkeypatch.context() as patch:
            patch.setattr(LaneMap, "joined", wrong)
            return judge(product, model)

    kind = first_wrong(tmp_path, judged)
    assert kind.startswith(("program differs from oracle", "float tensor", "output made by"))
    assert any(changed)


@pytest.mark.parametrize(
    "mutant",
    [mutants.zero_point_in_the_file, mutants.operands_in_the_file, mutants.pad_in_the_file],
)
def test_a_compiler_and_an_oracle_that_are_wrong_together(mutant, tmp_path):
    product = mutants.Misread(SETTINGS, tmp_path / "wrong", mutant)
    kind = first_wrong(tmp_path, lambda model: judge(product, model))
    assert kind.startswith(("oracle differs from the file", "output made by", "float tensor"))


def test_a_traceback_is_a_failure_with_its_place(tmp_path, monkeypatch):
    def broken(*arguments):
        raise IndexError("list index out of range")

    monkeypatch.setattr(compiler.pipeline, "lay_out", broken)
    product = Product(SETTINGS, tmp_path)
    model = draw(SEED, 0).model
    file = tmp_path / "graph.onnx"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(Crash, match=r"build: IndexError in \S+ \w+, line \d+: list index"):
        product.build(file)


def test_half_way_is_either_code():
    node = helper.make_node("QuantizeLinear", ["r", "s", "z"], ["q"])
    code = Code(node, np.uint8, "r", 0.5, 10)
    real = np.float32([0.25, 0.25, 0.25, 300, -300, np.nan])
    codes = np.uint8([10, 11, 12, 255, 0, 7])
    assert beyond(code, codes, real).tolist() == [False, False, True, False, False, False]


def test_messages_are_counted_without_names_and_numbers():
    model = mutants.tiny_model([helper.make_node("Relu", ["x"], ["y"], name="relu_7")])
    message = "node relu_7 (Relu): scale 0.25e-3, 12 channels"
    assert normal(message, model) == "node NAME (Relu): scale N channels"
    assert names_a_node(message, model)
    assert not names_a_node("shape mismatch in block 3", mutants.tiny_model([]))


def test_qlinear_operators_in_float_are_what_their_kernels_round():
    """ONNX Runtime's kernels give the nearest codes to the reals of `fuzz.kernels`."""
    seen: dict[str, list[float]] = {}
    for number in range(600):
        model = draw(SEED, number).model
        if not any(node.op_type in OPERATORS for node in model.graph.node):
            continue
        feeds = make_feeds(model)
        nodes, codes = Nodes(model), whole(model, feeds)
        made = Operators(nodes, codes, []).run(feeds, codes)
        for name, code in nodes.codes.items():
            if code.node.op_type in OPERATORS and code.real:
                wrong = beyond(code, codes[name], made[code.real])
                seen.setdefault(code.node.op_type, []).append(float(wrong.mean()))
    assert set(seen) == set(OPERATORS)
    assert {op: max(shares) for op, shares in seen.items() if max(shares) > 0} == {}
