"""Operators on two tensors, and concat, against ONNX Runtime."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import interpreter
from compiler.ir import Concat, Pairwise, UnaryTable
from compiler.pipeline import optimize
from tests.compiler.frontend.single import (
    MICROSOFT,
    codes,
    findings,
    imported,
    ours,
    qoperator_model,
    steps,
    theirs,
)
from tests.models.qdq import Builder, Q

ALL_PAIRS = (1, 1, 256, 256)
A, B = Q(0.02137, 117), Q(0.03391, 96)  # ratios without short decimals: no ties
Y = {"Add": Q(0.06113, 99), "Sub": Q(0.05171, 128), "Mul": Q(0.1013, 101)}


def every_pair(dtype=np.uint8):
    low = np.iinfo(dtype).min
    a, b = np.meshgrid(np.arange(256) + low, np.arange(256) + low, indexing="ij")
    return {
        "a": a.astype(dtype).reshape(ALL_PAIRS),
        "b": b.astype(dtype).reshape(ALL_PAIRS),
    }


def pair_model(op, q_a, q_b, q_y, shape_a=ALL_PAIRS, shape_b=ALL_PAIRS):
    builder = Builder()
    a = builder.dequantize("a", q_a, shape=shape_a)
    b = builder.dequantize("b", q_b, shape=shape_b)
    builder.op(op, [a, b])
    return builder.model(q_y)


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_all_pairs(op):
    model = pair_model(op, A, B, Y[op])
    assert steps(ours(model, every_pair()), theirs(model, every_pair())) == (0, 0)


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(["Add", "Mul"]),
    st.floats(0.002, 0.2),
    st.floats(0.002, 0.2),
    st.integers(0, 255),
    st.integers(0, 255),
)
def test_all_pairs_random_scales(op, sa, sb, za, zb):
    scale = (sa + sb) if op == "Add" else 100 * sa * sb
    model = pair_model(op, Q(sa, za), Q(sb, zb), Q(scale, 128))
    assert steps(ours(model, every_pair()), theirs(model, every_pair())) == (0, 0)


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_signed_codes(op):
    q_a, q_b = Q(0.021, 3, np.int8), Q(0.034, -20, np.int8)
    model = pair_model(op, q_a, q_b, Q(Y[op].scale, -5, np.int8))
    feeds = every_pair(np.int8)
    assert steps(ours(model, feeds), theirs(model, feeds)) == (0, 0)


def test_subtract_differs_rarely_and_by_one():
    """ORT subtracts in float; numerics.md gives 2e-6 on random scales."""
    model = pair_model("Sub", A, B, Y["Sub"])
    count, most = steps(ours(model, every_pair()), theirs(model, every_pair()))
    assert count <= 3 and most <= 1


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_extrema_of_different_scales(op):
    model = pair_model(op, A, B, Q(0.03, 110))
    graph = imported(model)
    assert [type(o).__name__ for o in graph.ops] == ["UnaryTable", "UnaryTable", "Pairwise"]
    assert steps(ours(model, every_pair()), theirs(model, every_pair())) == (0, 0)


def test_twin_a_corrupted_constant_is_seen():
    model = pair_model("Add", A, B, Y["Add"])
    graph = imported(model)
    (op,) = graph.ops
    assert isinstance(op, Pairwise)
    k = dataclasses.replace(op.arithmetic.k, shift=op.arithmetic.k.shift + 1)
    arithmetic = dataclasses.replace(op.arithmetic, k=k)
    broken = graph.replaced([dataclasses.replace(op, arithmetic=arithmetic)])
    assert steps(interpreter.run(broken, every_pair())["y"], theirs(model, every_pair()))[0] > 0


@pytest.mark.parametrize(
    ("shape_a", "shape_b"),
    [
        ((1, 6, 4, 5, 5), (1, 6, 4, 1, 1)),
        ((1, 6, 1, 1), (1, 6, 7, 7)),
        ((1, 1, 4, 5, 5), (1, 6, 4, 5, 5)),
        ((1, 6, 7, 7), (1, 7)),
        ((7,), (1, 6, 7, 7)),
        ((6, 1, 1), (1, 1, 1, 7)),
        ((1, 6, 1, 7), (5, 1)),
    ],
)
def test_broadcast(shape_a, shape_b):
    rng = np.random.default_rng(1)
    feeds = {"a": codes(rng, shape_a), "b": codes(rng, shape_b)}
    model = pair_model("Mul", A, B, Y["Mul"], shape_a, shape_b)
    assert steps(ours(model, feeds), theirs(model, feeds)) == (0, 0)


def constant_model(value):
    builder = Builder()
    a = builder.dequantize("a", A, shape=(1, 6, 7, 7))
    builder.op("Add", [a, builder.dequantize("c", B, value)])
    return builder.model(Y["Add"])


def test_constant_operand():
    rng = np.random.default_rng(2)
    model = constant_model(rng.integers(0, 256, (6, 1, 1)))
    feeds = {"a": codes(rng, (1, 6, 7, 7))}
    (constant,) = imported(model).constants().values()
    assert constant.shape == (6, 1, 1, 1)
    assert steps(ours(model, feeds), theirs(model, feeds)) == (0, 0)


def test_scalar_constant_becomes_a_table():
    rng = np.random.default_rng(3)
    model = constant_model(200)
    feeds = {"a": codes(rng, (1, 6, 7, 7))}
    graph = optimize(imported(model))
    (op,) = graph.ops
    assert isinstance(op, UnaryTable) and "c" not in graph.values
    result = interpreter.run(graph, feeds)["y"]
    assert steps(result, theirs(model, feeds)) == (0, 0)
    broken = graph.replaced([dataclasses.replace(op, table=op.table[1:] + op.table[:1])])
    assert steps(interpreter.run(broken, feeds)["y"], result)[0] > 0


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_qlinear(op):
    constants = {
        "as": np.float32(A.scale),
        "az": np.uint8(A.zero),
        "bs": np.float32(B.scale),
        "bz": np.uint8(B.zero),
        "ys": np.float32(0.07),
        "yz": np.uint8(88),
    }
    names = ["a", "as", "az", "b", "bs", "bz", "ys", "yz"]
    shapes = {"a": (ALL_PAIRS, np.uint8), "b": (ALL_PAIRS, np.uint8)}
    model = qoperator_model(op, MICROSOFT, names, shapes, constants)
    assert steps(ours(model, every_pair()), theirs(model, every_pair())) == (0, 0)


def concat_model(axis, q_y, shape=(1, 6, 4, 5, 5)):
    builder = Builder()
    parts = [
        builder.dequantize("a", A, shape=shape),
        builder.dequantize("b", B, shape=shape),
    ]
    builder.op("Concat", parts, axis=axis)
    return builder.model(q_y)


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_concat_with_tables(axis):
    rng = np.random.default_rng(7)
    shape = (1, 6, 4, 5, 5)
    feeds = {"a": codes(rng, shape), "b": codes(rng, shape)}
    model = concat_model(axis, A)
    (op,) = imported(model).ops
    assert isinstance(op, Concat) and op.tables[0] is None and op.tables[1] is not None
    assert steps(ours(model, feeds), theirs(model, feeds)) == (0, 0)


def test_qlinear_concat():
    rng = np.random.default_rng(8)
    constants = {
        "as": np.float32(A.scale),
        "az": np.uint8(A.zero),
        "bs": np.float32(B.scale),
        "bz": np.uint8(B.zero),
        "ys": np.float32(0.04),
        "yz": np.uint8(88),
    }
    names = ["ys", "yz", "a", "as", "az", "b", "bs", "bz"]
    shapes = {"a": ((1, 3, 4), np.uint8), "b": ((1, 5, 4), np.uint8)}
    model = qoperator_model("QLinearConcat", MICROSOFT, names, shapes, constants, axis=1)
    feeds = {"a": codes(rng, (1, 3, 4)), "b": codes(rng, (1, 5, 4))}
    assert steps(ours(model, feeds), theirs(model, feeds)) == (0, 0)


def test_scale_ratio_outside_the_affine_arithmetic_is_named():
    model = pair_model("Add", Q(100.0, 3), B, Q(0.01, 5))
    (found,) = findings(model)
    assert found[1] == "Add" and "scale ratio" in found[2] and "512" in found[2]


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("own", [Q(0.0213, 101), Q(0.0171, 3)], ids=["one scale", "another"])
def test_a_concat_with_a_constant(axis, own):
    """A class token: a quantized constant beside an activation, first or last."""
    rng = np.random.default_rng(6)
    shape = (1, 5, 4) if axis == 2 else (1, 1, 6)
    builder = Builder()
    x = builder.dequantize("x", Q(0.0213, 101), shape=(1, 5, 6))
    token = builder.dequantize("token", own, codes(rng, shape))
    builder.op("Concat", [token, x, token], axis=axis)
    model, feeds = builder.model(Q(0.0213, 101)), {"x": codes(rng, (1, 5, 6))}
    mine = ours(model, feeds)
    assert steps(mine, theirs(model, feeds, optimize=False)) == (0, 0)
    assert steps(np.flip(mine, axis), mine)[0] > 0


def test_a_concat_with_a_float_constant_is_refused():
    builder = Builder()
    x = builder.dequantize("x", Q(0.0213, 101), shape=(1, 5, 6))
    builder.op("Concat", [x, builder.constant("c", np.ones((1, 1, 6), np.float32))], axis=1)
    ((_, op, reason),) = findings(builder.model(Q(0.0213, 101)))
    assert op == "Concat" and "is float: quantize it" in reason
