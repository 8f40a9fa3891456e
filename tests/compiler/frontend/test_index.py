"""ArgMax, what may follow it, and BatchNormalization alone: against ONNX Runtime and the oracle."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization.registry import (
    IntegerOpsRegistry,
    QDQRegistry,
    QLinearOpsRegistry,
)

from compiler.ir import ArgMax, Convolution, UnaryTable
from tests.compiler.frontend.agreement import agreed, written
from tests.compiler.frontend.single import codes, findings, imported, steps, theirs
from tests.models.qdq import Builder, Q

U, S = np.uint8, np.int8
X = Q(0.0473, 131)


def fed(shape, dtype=U, seed=4):
    return {"x": codes(np.random.default_rng(seed), shape, dtype)}


def index_model(shape, x=X, moves=(), result=TensorProto.INT64, **attributes):
    """ArgMax of an input, then moves or comparisons, to a graph output that is not quantized."""
    builder = Builder()
    made = builder.op("ArgMax", [builder.dequantize("x", x, shape=shape)], "index", **attributes)
    for number, (kind, constants, own) in enumerate(moves):
        names = [builder.constant(f"c{number}_{i}", c) for i, c in enumerate(constants)]
        made = builder.op(kind, [made, *names], f"m{number}", **own)
    output = helper.make_tensor_value_info(made, result, None)
    graph = helper.make_graph(builder.nodes, "g", builder.inputs, [output], builder.constants)
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        *(((1, 2), 1), ((3, 11), -1), ((1, 6, 3, 5), 1), ((1, 6, 3, 5), 3), ((1, 9), 0)),
        *(((1, 256), 1), ((1, 400), 1), ((2, 700, 3), 1), ((1, 2, 257), 2)),
    ],
)
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("x", [X, Q(0.1, -3, S)], ids=["u8", "s8"])
def test_index_of_the_greatest(shape, axis, keepdims, x):
    model = index_model(shape, x, axis=axis, keepdims=keepdims)
    feeds = fed(shape, x.dtype)
    feeds["x"] &= np.array(-8 if x.dtype is S else 248, x.dtype)  # equal ones
    mine = agreed(model, feeds)
    assert mine.dtype == np.int64
    assert np.array_equal(mine, theirs(model, feeds, optimize=False))
    if shape[axis] > 1:
        assert not np.array_equal(mine, agreed(model, fed(shape, x.dtype, seed=8)))


def test_channels_are_read_where_they_lie():
    shapes = [(1, 6, 3, 5), (3, 11)]
    for shape in shapes:
        kinds = [type(op) for op in imported(index_model(shape, axis=1)).ops]
        assert kinds == [ArgMax]
    alone = imported(index_model((1, 9), axis=0)).ops
    assert [type(op) for op in alone] == [UnaryTable]
    (source,) = imported(index_model((1, 1, 3, 5), axis=3)).inputs
    assert source.onnx_name == "x"  # the host writes it so that the axis lies along C


def test_the_default_axis():
    model = index_model((6, 4))
    assert np.array_equal(agreed(model, fed((6, 4))), theirs(model, fed((6, 4)), optimize=False))


MOVES = [
    [("Cast", (), {"to": TensorProto.FLOAT})],
    [("Squeeze", (np.array([1], np.int64),), {}), ("Cast", (), {"to": TensorProto.FLOAT})],
    [("Reshape", (np.array([5, 3], np.int64),), {}), ("Cast", (), {"to": TensorProto.FLOAT})],
]


@pytest.mark.parametrize("moves", MOVES, ids=len)
def test_moves_and_casts_of_an_index(moves):
    model = index_model((1, 6, 3, 5), moves=moves, result=TensorProto.FLOAT, axis=1)
    mine = agreed(model, fed((1, 6, 3, 5)))
    assert mine.dtype == np.float32
    assert np.array_equal(mine, theirs(model, fed((1, 6, 3, 5)), optimize=False))


@pytest.mark.parametrize("kind", ["Equal", "Greater", "Less"])
def test_a_comparison_is_a_table(kind):
    """As the condition of a branch or a selection: int64 against int64, then codes."""
    builder = Builder()
    index = builder.op("ArgMax", [builder.dequantize("x", X, shape=(1, 4, 3, 5))], "index", axis=1)
    reads = builder.op(kind, [index, builder.constant("c", np.int64(2))], "reads")
    builder.op("Cast", [reads], to=TensorProto.FLOAT)
    model = builder.model(Q(1.0, 0))
    mine = agreed(model, fed((1, 4, 3, 5)))
    assert np.array_equal(mine, theirs(model, fed((1, 4, 3, 5)), optimize=False))
    assert set(mine.reshape(-1)) == {0, 1}
    assert written(model, fed((1, 4, 3, 5)))["function"].differ == 0


def test_an_index_of_bare_integers():
    node = helper.make_node("ArgMax", ["x"], ["y"], "argmax", axis=1)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, (2, 7))],
        [helper.make_tensor_value_info("y", TensorProto.INT64, None)],
    )
    # A bare input has no scale: a pair tells one.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    assert findings(model)
    builder = Builder()
    x = builder.dequantize("x", X, shape=(2, 7))
    builder.nodes.append(helper.make_node("QuantizeLinear", [x, "x_s", "x_z"], ["q"], "q"))
    builder.op("ArgMax", ["q"], "index", axis=1)
    output = helper.make_tensor_value_info("index", TensorProto.INT64, None)
    graph = helper.make_graph(builder.nodes, "g", builder.inputs, [output], builder.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    assert np.array_equal(agreed(model, fed((2, 7)))[:, 0], fed((2, 7))["x"].argmax(axis=1))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"select_last_index": 1}, "the last of equal"),
        ({"shape": (1, 300), "moves": [("Identity", [], {})]}, "its index has two bytes"),
        ({"axis": 7}, "axis 7"),
    ],
)
def test_indices_that_are_refused(changes, words):
    given = {"shape": (1, 7), "axis": 1, **changes}
    found = findings(index_model(**given))
    assert any(op == "ArgMax" and words in reason for _, op, reason in found)


# BatchNormalization -----------------------------------------------------------------------


def batch_norm(shape, seed=3, quantized=False, **attributes):
    rng = np.random.default_rng(seed)
    channels = shape[1]
    builder = Builder()
    operands = [builder.dequantize("x", X, shape=shape)]
    if quantized:
        operands.append(builder.dequantize("g", Q(0.011, 0, S), codes(rng, (channels,), S)))
        beta = rng.integers(-3000, 3000, channels)
        operands.append(builder.dequantize("b", Q(0.0005, 0, np.int32), beta))
    else:
        gamma = rng.normal(0, 1, channels).astype(np.float32)
        gamma[:: max(channels - 1, 2)] = 0 if channels > 2 else 1
        beta = rng.normal(0, 1, channels).astype(np.float32)
        operands += [builder.constant("g", gamma), builder.constant("b", beta)]
    operands.append(builder.constant("m", rng.normal(0, 1, channels).astype(np.float32)))
    operands.append(builder.constant("v", rng.uniform(0.1, 2, channels).astype(np.float32)))
    builder.op("BatchNormalization", operands, **attributes)
    return builder.model(Q(0.0311, 120))


@pytest.mark.parametrize("shape", [(1, 19, 5, 4), (4, 6), (1, 8, 9), (1, 5, 3, 4, 2), (1, 1, 4, 4)])
@pytest.mark.parametrize("quantized", [False, True])
def test_batch_norm_alone(shape, quantized):
    model = batch_norm(shape, quantized=quantized)
    mine = agreed(model, fed(shape))
    assert [type(op) for op in imported(model).ops] == [Convolution]
    assert written(model, fed(shape))["channelwise"].beyond == 0
    other = agreed(batch_norm(shape, seed=5, quantized=quantized), fed(shape))
    assert steps(mine, other)[0] > mine.size // 4


def test_batch_norm_then_relu_and_its_epsilon():
    builder_model = batch_norm((1, 19, 5, 4), epsilon=0.5)
    assert not np.array_equal(
        agreed(builder_model, fed((1, 19, 5, 4))),
        agreed(batch_norm((1, 19, 5, 4)), fed((1, 19, 5, 4))),
    )
    assert written(builder_model, fed((1, 19, 5, 4)))["channelwise"].beyond == 0


def changed(name, value):
    model = batch_norm((1, 19, 5, 4))
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(19, value, np.float32), name))
    return model


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: batch_norm((1, 19, 5, 4), training_mode=1), "training_mode"),
        (lambda: changed("v", -1.0), "not finite"),
        (lambda: changed("b", 1e30), "does not fit beside its factor"),
    ],
)
def test_batch_norms_that_are_refused(make, words):
    found = findings(make())
    assert any(op == "BatchNormalization" and words in reason for _, op, reason in found)


@pytest.mark.parametrize(
    ("operator", "domain", "words"),
    [
        ("Attention", "com.microsoft", "softmax, which stay float: export MatMul, Softmax, MatMul"),
        ("MultiHeadAttention", "com.microsoft", "export MatMul, Softmax, MatMul"),
        ("QAttention", "com.microsoft", "only its input and its weights are int8"),
        ("MatMulInteger", "", "quantize statically"),
        ("DynamicQuantizeLSTM", "com.microsoft", "python -m models cells"),
        ("InstanceNormalization", "", "LayerNormalization is read"),
        ("BiasGelu", "com.microsoft", "domain 'com.microsoft'"),
    ],
)
def test_operators_that_are_refused_by_name(operator, domain, words):
    builder = Builder()
    x = builder.dequantize("x", X, shape=(1, 4, 6))
    builder.op(operator, [x, x, x], domain=domain)
    model = builder.model(Q(0.1, 3))
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    ((node, op, reason),) = findings(model)
    assert (node, op) == (operator.lower(), operator) and words in reason


def test_attention_of_opset_23_is_refused_by_name():
    builder = Builder()
    x = builder.dequantize("x", X, shape=(1, 2, 4, 6))
    builder.op("Attention", [x, x, x])
    ((_, op, reason),) = findings(builder.model(Q(0.1, 3), opset=23))
    assert op == "Attention" and "export MatMul, Softmax, MatMul" in reason


def test_static_quantizers_of_onnx_runtime_have_no_rule_for_attention():
    """What docs/operators.md says; if it changes, there may be something to read."""
    ours = {"Attention", "GroupQueryAttention", "MultiHeadAttention"}
    assert not ours & (set(QDQRegistry) | set(QLinearOpsRegistry))
    assert "Softmax" in QLinearOpsRegistry and "Attention" in IntegerOpsRegistry


def test_batch_norm_of_channels_that_lie_elsewhere():
    """The second axis is the channels', wherever its elements lie."""
    model = batch_norm((1, 19, 5, 4))
    (given,) = model.graph.input
    for dim, size in zip(given.type.tensor_type.shape.dim, (1, 5, 4, 19), strict=True):
        dim.dim_value = size
    (norm,) = [n for n in model.graph.node if n.op_type == "BatchNormalization"]
    move = helper.make_node("Transpose", [norm.input[0]], ["moved"], "move", perm=[0, 3, 1, 2])
    model.graph.node.insert(list(model.graph.node).index(norm), move)
    norm.input[0] = "moved"
    feeds = fed((1, 5, 4, 19))
    turned = {"x": feeds["x"].transpose(0, 3, 1, 2).copy()}
    assert np.array_equal(agreed(model, feeds), agreed(batch_norm((1, 19, 5, 4)), turned))
