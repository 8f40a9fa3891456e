"""Functions of one tensor's codes become one table, with every bit; nothing else does."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from compiler import interpreter
from compiler.ir import Graph, Pairwise, PairwiseKind, Port, TensorType, UnaryTable, Value, verify
from compiler.onnx_import import import_onnx
from compiler.ops import make_table
from compiler.passes.base import accept_all
from compiler.passes.compose import COMPOSE
from compiler.pipeline import optimize
from hw.arch.numerics import Affine, Product
from tests.models.net import Net
from tests.models.qdq import Q

SHAPE = (1, 3, 2, 4, 8)
X = TensorType.of(SHAPE, False, 0.05, 100)
S = TensorType.of(SHAPE, False, 1 / 256, 0)
Y = TensorType.of(SHAPE, False, 0.04, 7)


def sigmoid(x):
    return (1 / (1 + np.exp(-x.astype(np.float64)))).astype(np.float32)


def table(source, output, kinds, function=sigmoid, name="Sigmoid"):
    codes = make_table(kinds[0], kinds[1], (function,))
    return UnaryTable(name=output, inputs=(source,), output=output, table=codes, function=name)


def product(a, b, output, kinds):
    arithmetic = Product.of(*(number for k in kinds for number in (k.scale, k.zero_point)))
    return Pairwise(
        name=output,
        inputs=(a, b),
        output=output,
        kind=PairwiseKind.MULTIPLY,
        arithmetic=arithmetic,
        low=0,
        high=255,
    )


def graph(ops, outputs, inputs=("x",), **types):
    values = {name: Value(name, t) for name, t in types.items()}
    made = Graph(
        "hand",
        tuple(Port(n, n) for n in inputs),
        tuple(Port(n, n) for n in outputs),
        values,
        tuple(ops),
    )
    verify(made)
    return made


def every_code(before, after):
    """Both graphs on every code of every input."""
    rng = np.random.default_rng(0)
    feeds = {
        port.value: rng.permuted(np.arange(192) % 256).astype(np.uint8).reshape(SHAPE)
        for port in before.inputs
    }
    feeds["x"] = np.resize(np.arange(255, -1, -1), SHAPE).astype(np.uint8)
    first, second = interpreter.run(before, feeds), interpreter.run(after, feeds)
    return all(np.array_equal(first[p.value], second[p.value]) for p in before.outputs)


SILU = [table("x", "s", (X, S)), product("x", "s", "y", (X, S, Y))]


def test_silu_is_one_table():
    before = graph(SILU, ["y"], x=X, s=S, y=Y)
    outcome = COMPOSE.run(before, accept_all)
    verify(outcome.graph)
    (only,) = outcome.graph.ops
    assert isinstance(only, UnaryTable) and only.inputs == ("x",)
    assert only.function == "multiply(x, Sigmoid(x))"
    assert every_code(before, outcome.graph)
    wrong = bytearray(only.table)
    wrong[77] ^= 1
    twin = UnaryTable(name="y", inputs=("x",), output="y", table=bytes(wrong), function="wrong")
    assert not every_code(before, graph([twin], ["y"], x=X, y=Y)), "a wrong entry would be seen"


def test_a_factor_that_is_needed_elsewhere_stays():
    before = graph(SILU, ["y", "s"], x=X, s=S, y=Y)
    outcome = COMPOSE.run(before, accept_all)
    assert [op.output for op in outcome.graph.ops] == ["s", "y"]
    assert all(op.inputs == ("x",) for op in outcome.graph.ops)
    assert every_code(before, outcome.graph)


def test_tables_of_tables_are_one():
    ops = [table("x", "s", (X, S)), table("s", "t", (S, X)), table("t", "y", (X, Y))]
    before = graph(ops, ["y"], x=X, s=S, t=X, y=Y)
    outcome = COMPOSE.run(before, accept_all)
    (only,) = outcome.graph.ops
    assert only.function == "Sigmoid(Sigmoid(Sigmoid(x)))" and every_code(before, outcome.graph)


@pytest.mark.parametrize(
    "before",
    [
        graph(
            [table("x", "s", (X, S)), product("z", "s", "y", (X, S, Y))],
            ["y"],
            ("x", "z"),
            x=X,
            z=X,
            s=S,
            y=Y,
        ),
        graph([table("x", "s", (X, S))], ["s"], x=X, s=S),
    ],
    ids=["two tensors", "one table"],
)
def test_what_stays_as_it_is(before):
    outcome = COMPOSE.run(before, accept_all)
    assert outcome.graph.ops == before.ops and not outcome.applied


def test_an_operand_that_is_repeated_is_another_tensor():
    """x·sigmoid(x) along an axis of one: the same value, at other positions."""
    small = TensorType.of((1, 3, 2, 4, 1), False, 0.05, 100)
    s = TensorType.of((1, 3, 2, 4, 1), False, 1 / 256, 0)
    ops = [table("v", "s", (small, s)), product("x", "s", "y", (X, s, Y))]
    before = graph(ops, ["y"], ("x", "v"), x=X, v=small, s=s, y=Y)
    assert COMPOSE.run(before, accept_all).graph.ops == before.ops


def test_the_back_end_may_decline():
    before = graph(SILU, ["y"], x=X, s=S, y=Y)
    outcome = COMPOSE.run(before, lambda op, inputs, output: "no tables")
    assert outcome.graph.ops == before.ops
    assert outcome.refused == (("y", "no tables"),)


def test_an_operator_on_two_forms_of_one_tensor():
    ops = [
        table("x", "s", (X, S)),
        table("x", "t", (X, X), np.abs, "Abs"),
        Pairwise(
            name="y",
            inputs=("t", "s"),
            output="y",
            kind=PairwiseKind.ADD,
            arithmetic=Affine.add(0.05, 100, 1 / 256, 0, 0.04, 7),
            low=3,
            high=200,
        ),
    ]
    before = graph(ops, ["y"], x=X, s=S, t=X, y=Y)
    outcome = COMPOSE.run(before, accept_all)
    (only,) = outcome.graph.ops
    assert only.function == "add(Abs(x), Sigmoid(x))" and every_code(before, outcome.graph)


def test_a_mean_that_is_subtracted_is_part_of_the_function(tmp_path):
    """(x − 0.45) · sigmoid(x − 0.45), with a pair of quantizers behind each node: one table."""
    net = Net()
    x = net.start((1, 4, 6, 6))
    centred = net.through(net.op("Sub", [x, net.floats(0.45)]), Q(0.06, 3, np.int8))
    gate = net.through(net.op("Sigmoid", [centred]), Q(1 / 256, -128, np.int8))
    net.end(net.op("Mul", [centred, gate]), Q(0.04, -60, np.int8))
    onnx.save(net.model(), tmp_path / "net.onnx")
    graph = import_onnx(tmp_path / "net.onnx").graph
    (table,) = optimize(graph).ops
    assert isinstance(table, UnaryTable)
    assert table.function == "multiply(Sub(x), Sigmoid(Sub(x)))"
