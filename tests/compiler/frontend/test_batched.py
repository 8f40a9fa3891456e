"""Products of two activations: against ONNX Runtime's integer kernel, and the oracle."""

import numpy as np
import pytest

from compiler.ir import BatchedMatMul, Rearrange
from tests.compiler.frontend.agreement import agreed, written
from tests.compiler.frontend.single import (
    codes,
    findings,
    imported,
    qoperator_model,
    steps,
    theirs,
)
from tests.models.qdq import Builder, Q

U, S = np.uint8, np.int8
A, B, Y = Q(0.0213, 117), Q(0.0171, 99), Q(0.137, 121)
SIGNED = Q(0.0171, -7, S)
SHAPES = [
    ((1, 4, 5), (1, 5, 6)),
    ((2, 3, 4, 5), (2, 3, 5, 6)),
    ((3, 4, 5), (5, 6)),
    ((4, 5), (3, 5, 6)),
    ((2, 1, 4, 5), (1, 3, 5, 6)),
    ((5,), (3, 5, 6)),
    ((3, 4, 5), (5,)),
]


def matmul(shape_a, shape_b, a=A, b=B, y=Y, opset=17, before=(), behind=()):
    """A product of two inputs; moves and constants on its way."""
    builder = Builder()
    left = builder.dequantize("a", a, shape=shape_a)
    right = builder.dequantize("b", b, shape=shape_b)
    for side, kind, value in before:
        source = left if side == "a" else right
        name = builder.op(kind, [source, builder.constant(f"{side}_c", value)], f"{side}_scaled")
        left, right = (name, right) if side == "a" else (left, name)
    made = builder.op("MatMul", [left, right], "product" if behind else "y_f")
    for kind, value in behind:
        builder.op(kind, [made, builder.constant("c", value)])
    return builder.model(y, opset=opset)


def feeds(shape_a, shape_b, a=A, b=B, seed=0):
    rng = np.random.default_rng(seed)
    return {"a": codes(rng, shape_a, a.dtype), "b": codes(rng, shape_b, b.dtype)}


@pytest.mark.parametrize(("shape_a", "shape_b"), SHAPES)
@pytest.mark.parametrize("b", [B, SIGNED], ids=["u8", "s8"])
def test_any_batch(shape_a, shape_b, b):
    model, fed = matmul(shape_a, shape_b, b=b), feeds(shape_a, shape_b, b=b)
    mine = agreed(model, fed)
    assert steps(mine, theirs(model, fed)) == (0, 0)
    fed["a"] = fed["a"] ^ U(64)
    assert steps(mine, theirs(model, fed))[0] > 0


def test_signed_by_signed():
    """In float in ONNX Runtime: at most one element of 10^5 differs, by one step."""
    a = Q(0.0213, 11, S)
    shapes = (8, 64, 64), (8, 64, 64)
    model, fed = matmul(*shapes, a=a, b=SIGNED), feeds(*shapes, a=a, b=SIGNED)
    count, most = steps(agreed(model, fed), theirs(model, fed))
    assert most <= 1 and count <= 1


def attention(opset=17, einsum=False):
    """Scores of heads as torch writes them: Reshape, Transpose, MatMul, and the way back."""
    builder = Builder()
    tokens, heads, width = 5, 3, 7
    shape = builder.constant("split", np.array([tokens, heads, width], np.int64))
    joined = builder.constant("join", np.array([tokens, heads * width], np.int64))
    parts = {}
    for name, order in (("a", [1, 0, 2]), ("b", [1, 2, 0])):
        x = builder.dequantize(name, A if name == "a" else B, shape=(tokens, heads * width))
        split = builder.op("Reshape", [x, shape], f"{name}_split")
        parts[name] = split if einsum else builder.op("Transpose", [split], f"{name}_t", perm=order)
    if einsum:
        builder.op("Einsum", [parts["a"], parts["b"]], equation="qhd,khd->hqk")
        return builder.model(Y, opset=opset)
    scores = builder.op("MatMul", [parts["a"], parts["b"]], "scores")
    quantized = [*builder._scale("s", Y)]
    builder.op("QuantizeLinear", [scores, *quantized], "scores_q")
    builder.op("DequantizeLinear", ["scores_q", *quantized], "scores_f")
    mixed = builder.op(
        "MatMul", ["scores_f", builder.op("Transpose", [parts["b"]], "v", perm=[0, 2, 1])], "mixed"
    )
    back = builder.op("Transpose", [mixed], "back", perm=[1, 0, 2])
    builder.op("Reshape", [back, joined])
    return builder.model(Q(0.5, 128), opset=opset)


def test_heads_move_nothing():
    model, fed = attention(), feeds((5, 21), (5, 21))
    graph = imported(model)
    products = [op for op in graph.ops if isinstance(op, BatchedMatMul)]
    assert [(p.batch, p.rows, p.inner, p.columns) for p in products] == [(3, 5, 7, 5), (3, 5, 5, 7)]
    assert not any(isinstance(op, Rearrange) for op in graph.ops)
    assert graph.type(products[0].output).shape == (5, 3, 1, 5)  # keys along C, heads along T
    assert graph.type(products[1].output).shape == (21, 1, 1, 5)  # heads and features along C
    assert steps(agreed(model, fed), theirs(model, fed)) == (0, 0)


EQUATIONS = [
    ("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)),
    ("bhqk,bhkd->bhqd", (2, 3, 4, 5), (2, 3, 5, 6)),
    ("bqhd,bkhd->bhqk", (2, 4, 3, 5), (2, 6, 3, 5)),
    ("bhqk,bkhd->bqhd", (2, 3, 4, 5), (2, 5, 3, 6)),
    ("qhd,khd->hqk", (4, 3, 5), (6, 3, 5)),
    ("qk,kd->qd", (4, 5), (5, 6)),
    ("ik,jk->ji", (4, 5), (6, 5)),
    ("tchw,thw->tc", (3, 4, 2, 5), (3, 2, 5)),
]


@pytest.mark.parametrize(("equation", "shape_a", "shape_b"), EQUATIONS)
def test_einsum(equation, shape_a, shape_b):
    builder = Builder()
    operands = [
        builder.dequantize("a", A, shape=shape_a),
        builder.dequantize("b", B, shape=shape_b),
    ]
    builder.op("Einsum", operands, equation=equation)
    model, fed = builder.model(Y), feeds(shape_a, shape_b)
    mine = agreed(model, fed)
    figures = written(model, fed)["product"]
    assert figures.elements == mine.size and figures.beyond == 0
    exact = np.einsum(equation, fed["a"].astype(int) - A.zero, fed["b"].astype(int) - B.zero)
    scale = np.float32(np.float32(A.scale) * np.float32(B.scale)) / np.float32(Y.scale)
    assert np.array_equal(mine, np.clip(np.rint(exact.astype(np.float32) * scale) + Y.zero, 0, 255))


@pytest.mark.parametrize(
    ("equation", "words"),
    [
        ("...qd,...kd->...qk", "products of two tensors"),
        ("bqd,bkd", "products of two tensors"),
        ("bqd,bke->bqk", "sums an axis of one tensor"),
        ("bqq,bkq->bqk", "twice"),
        ("qd,kd->qk", "meets shape"),
    ],
)
def test_einsums_that_are_refused(equation, words):
    builder = Builder()
    operands = [builder.dequantize(n, A, shape=(2, 4, 4)) for n in "ab"]
    builder.op("Einsum", operands, equation=equation)
    ((node, op, reason),) = findings(builder.model(Y))
    assert (node, op) == ("einsum", "Einsum") and words in reason


FACTORS = [
    {"behind": [("Mul", np.float32(0.125))]},
    {"behind": [("Div", np.float32(7.3))]},
    {"behind": [("Mul", np.full((1, 1, 1), 0.3, np.float32))]},
    {"before": [("a", "Mul", np.float32(0.31)), ("b", "Mul", np.float32(0.31))]},
    {"before": [("b", "Div", np.float32(2.7))], "behind": [("Mul", np.float32(0.77))]},
]


@pytest.mark.parametrize("how", FACTORS)
def test_constant_factors_in_float(how):
    shapes = (2, 6, 9), (2, 9, 40)
    model, fed = matmul(*shapes, y=Q(0.0213, 121), **how), feeds(*shapes)
    mine = agreed(model, fed)
    assert written(model, fed)["product"].beyond == 0
    assert steps(mine, agreed(matmul(*shapes, y=Q(0.0213, 121)), fed))[0] > 0


def test_a_factor_of_a_constant_product():
    rng = np.random.default_rng(2)
    builder = Builder()
    x = builder.dequantize("x", A, shape=(4, 9))
    scaled = builder.op("Mul", [x, builder.constant("c", np.float32(0.3))], "scaled")
    w = builder.dequantize("w", Q(0.01, 0, S), codes(rng, (9, 6), S))
    made = builder.op("MatMul", [scaled, w], "made")
    builder.op("Div", [made, builder.constant("d", np.float32(0.7))])
    model, fed = builder.model(Q(0.0217, 119)), {"x": codes(rng, (4, 9))}
    agreed(model, fed)
    assert written(model, fed)["product"].beyond == 0


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.float32(-0.125), "comes in float from MatMul"),
        (np.linspace(1, 2, 40, dtype=np.float32), "comes in float from MatMul"),
    ],
)
def test_factors_that_are_refused(value, words):
    ((_, op, reason),) = findings(matmul((6, 9), (9, 40), behind=[("Mul", value)]))
    assert op == "Mul" and words in reason


def test_a_clamp_before_a_factor_is_refused():
    builder = Builder()
    operands = [builder.dequantize("a", A, shape=(4, 5)), builder.dequantize("b", B, shape=(5, 6))]
    relu = builder.op("Relu", [builder.op("MatMul", operands, "product")], "relu")
    builder.op("Mul", [relu, builder.constant("c", np.float32(0.5))])
    ((_, op, reason),) = findings(builder.model(Y))
    assert op == "Mul" and "comes in float" in reason


def test_shapes_that_do_not_meet():
    # shape inference of onnx refuses such files; the words are for what it cannot infer
    ((_, op, reason),) = findings(matmul((2, 4, 5), (3, 5, 6)))
    assert op == "MatMul" and "do not meet" in reason


@pytest.mark.parametrize("second", [U, S])
def test_qlinear_matmul(second):
    inputs = ["a", "a_s", "a_z", "b", "b_s", "b_z", "y_s", "y_z"]
    b = B if second is U else SIGNED
    constants = {
        "a_s": np.float32(A.scale),
        "a_z": U(A.zero),
        "b_s": np.float32(b.scale),
        "b_z": second(b.zero),
        "y_s": np.float32(Y.scale),
        "y_z": U(Y.zero),
    }
    shapes = {"a": ((3, 4, 5), U), "b": ((3, 5, 6), second)}
    model = qoperator_model("QLinearMatMul", "", inputs, shapes, constants)
    fed = feeds((3, 4, 5), (3, 5, 6), b=b)
    assert steps(agreed(model, fed), theirs(model, fed)) == (0, 0)


def test_a_clamp_behind_a_product():
    builder = Builder()
    operands = [builder.dequantize("a", A, shape=(4, 5)), builder.dequantize("b", B, shape=(5, 6))]
    builder.op("Relu", [builder.op("MatMul", operands, "product")])
    model, fed = builder.model(Q(0.05, 100)), feeds((4, 5), (5, 6))
    mine = agreed(model, fed)
    assert mine.min() == 100 and written(model, fed)["product"].beyond == 0


@pytest.mark.parametrize("shape", [(9, 5), (3, 9, 5), (2, 3, 9, 5)])
@pytest.mark.parametrize("kind", [Q(0.01, 0, S), Q(0.01, 128)], ids=["s8", "u8"])
def test_a_constant_matrix_by_an_activation(shape, kind):
    rng = np.random.default_rng(3)
    builder = Builder()
    matrix = builder.dequantize("m", kind, codes(rng, (6, 9), kind.dtype))
    builder.op("MatMul", [matrix, builder.dequantize("x", A, shape=shape)])
    model, fed = builder.model(Q(0.05, 100)), {"x": codes(rng, shape)}
    mine = agreed(model, fed)
    assert mine.shape == (*shape[:-2], 6, 5)
    assert steps(mine, theirs(model, fed))[1] <= 1
    assert written(model, fed)["product"].beyond == 0
    assert not np.array_equal(mine, agreed(model, {"x": fed["x"][..., ::-1].copy()}))
