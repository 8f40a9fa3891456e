"""Where between two tensors, by a condition on codes: against ONNX Runtime and the oracle."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from compiler.ir import Pairwise
from tests.compiler.frontend.agreement import agreed
from tests.compiler.frontend.single import codes, findings, imported, theirs
from tests.models.qdq import Builder, Q

U, S = np.uint8, np.int8
A = Q(0.0213, 117)
SIGNED = Q(0.0213, -7, S)
SHAPE = (1, 6, 3, 5)


def selection(condition, kind=A, other=None, shape=SHAPE, constant=None):
    """Where of two inputs, or an input and a constant, by one of two conditions on a third."""
    builder = Builder()
    gate = (1, 2) if condition == "index" else (1, 1, 3, 5)
    g = builder.dequantize("g", Q(0.05, 120), shape=gate)
    if condition == "index":
        made = builder.op("ArgMax", [g], "index", axis=1, keepdims=1)
        reads = builder.op("Equal", [made, builder.constant("one", np.int64(1))], "reads")
    else:
        reads = builder.op("Greater", [g, builder.constant("zero", np.float32(0))], "reads")
    a = builder.dequantize("a", kind, shape=shape)
    if constant is None:
        b = builder.dequantize("b", other or kind, shape=shape)
    else:
        b = builder.dequantize("b", other or kind, constant)
    builder.op("Where", [reads, a, b])
    output = helper.make_tensor_value_info("y_f", TensorProto.FLOAT, None)
    graph = helper.make_graph(builder.nodes, "g", builder.inputs, [output], builder.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def feeds(model, kind=A, seed=2):
    rng = np.random.default_rng(seed)
    made = {}
    for value in model.graph.input:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        made[value.name] = codes(rng, shape, U if value.name == "g" else kind.dtype)
    return made


@pytest.mark.parametrize("condition", ["index", "map"])
@pytest.mark.parametrize("kind", [A, SIGNED], ids=["u8", "s8"])
def test_where_takes_codes_of_either(condition, kind):
    model = selection(condition, kind)
    fed = feeds(model, kind)
    for gate in (fed["g"], 255 - fed["g"]):
        fed["g"] = gate
        mine = agreed(model, fed)
        assert np.array_equal(mine, theirs(model, fed, optimize=False))
        assert not np.array_equal(mine, agreed(model, {**fed, "g": 255 - gate}))
    assert sum(isinstance(op, Pairwise) for op in imported(model).ops) == 3


def test_where_of_a_constant():
    rng = np.random.default_rng(1)
    model = selection("map", constant=codes(rng, SHAPE))
    fed = feeds(model)
    assert np.array_equal(agreed(model, fed), theirs(model, fed, optimize=False))


def test_what_else_where_may_be():
    """A function of one tensor is a table; different scales are refused."""
    ((_, op, reason),) = findings(selection("map", other=Q(0.03, 117)))
    assert op == "Where" and "different scales" in reason
    builder = Builder()
    x = builder.dequantize("x", A, shape=SHAPE)
    reads = builder.op("Greater", [x, builder.constant("zero", np.float32(0))], "reads")
    builder.op("Where", [reads, x, builder.constant("low", np.float32(-0.5))])
    model = builder.model(A)
    assert [type(op).__name__ for op in imported(model).ops] == ["UnaryTable"]
