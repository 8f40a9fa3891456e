"""Files that ONNX Runtime reads in one way only, or not at all: the same answer, or a finding."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler.frontend.model import FileError, Unsupported
from compiler.frontend.schema import check_schema
from tests.compiler.frontend.agreement import agreed
from tests.compiler.frontend.single import codes, findings, imported, theirs

INITIALIZERS = {
    "s": np.float32(0.05),
    "z": np.int8(5),
    "w": np.arange(-12, 12, dtype=np.int8).reshape(3, 4, 1, 2),
    "pads": np.array([0, 0, 0, 1, 0, 0, 0, 2], np.int64),
}
SHAPE = (1, 4, 3, 5)


def model(*nodes, opset=13, **more):
    """Codes x; nodes; whatever is called y is the output."""
    constants = {**INITIALIZERS, **more}
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
    x = helper.make_tensor_value_info("x", TensorProto.INT8, SHAPE)
    y = helper.make_tensor_value_info("y", TensorProto.INT8, None)
    graph = helper.make_graph(nodes, "net", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def between(*nodes, **more):
    """DequantizeLinear; nodes from `a` to `b`; QuantizeLinear."""
    first = helper.make_node("DequantizeLinear", ["x", "s", "z"], ["a"], "dq")
    last = helper.make_node("QuantizeLinear", ["b", "s", "z"], ["y"], "q")
    return model(first, *nodes, last, **more)


def given():
    return {"x": codes(np.random.default_rng(3), SHAPE, np.int8)}


@pytest.mark.parametrize("value", [None, np.int8(-7)])
def test_a_pad_of_bare_codes_fills_with_a_code(value):
    more = {} if value is None else {"v": value}
    made, feeds = between(helper.make_node("Identity", ["a"], ["b"], "same"), **more), given()
    made.graph.node[-1].output[0] = "codes"
    made.graph.node.append(helper.make_node("Pad", ["codes", "pads", *more], ["y"], "pad"))
    right = theirs(made, feeds)
    assert np.array_equal(agreed(made, feeds), right)
    assert right[0, 0, 0, 0] == (0 if value is None else -7)
    # Twin: between DequantizeLinear and QuantizeLinear a 0 is the zero point.
    real = between(helper.make_node("Pad", ["a", "pads"], ["b"], "pad"))
    assert np.array_equal(agreed(real, feeds), theirs(real, feeds))
    assert not np.array_equal(theirs(real, feeds), right)


def test_an_output_that_stands_twice_is_one():
    made = between(helper.make_node("Relu", ["a"], ["b"], "relu"))
    made.graph.output.append(made.graph.output[0])
    assert [port.onnx_name for port in imported(made).outputs] == ["y"]


def test_an_axis_that_is_listed_twice_counts_once():
    once, twice = (
        between(helper.make_node("ReduceMean", ["a"], ["b"], "mean", axes=axes))
        for axes in ([3], [3, 3])
    )
    feeds = given()
    right = agreed(once, feeds)
    assert np.array_equal(agreed(twice, feeds), right)
    assert np.abs(right - theirs(twice, feeds).astype(int)).max() <= 1
    other = between(helper.make_node("ReduceMean", ["a"], ["b"], "mean", axes=[2]))
    assert agreed(other, feeds).shape != right.shape


def test_double_is_not_rounded_to_float():
    nodes = [
        helper.make_node("Cast", ["a"], ["d"], "wide", to=TensorProto.DOUBLE),
        helper.make_node("Add", ["d", "much"], ["e"], "add"),
        helper.make_node("Sub", ["e", "much"], ["f"], "sub"),
        helper.make_node("Cast", ["f"], ["b"], "narrow", to=TensorProto.FLOAT),
    ]
    made, feeds = between(*nodes, much=np.float64(1e9)), given()
    assert np.array_equal(agreed(made, feeds), theirs(made, feeds, optimize=False))
    assert len(np.unique(agreed(made, feeds))) > 9
    # Twin: where float32 stands between the two, nothing is left of the operand.
    rounded = [
        *nodes[:2],
        helper.make_node("Cast", ["e"], ["g"], "round", to=TensorProto.FLOAT),
        helper.make_node("Sub", ["g", "little"], ["b"], "sub"),
    ]
    made = between(*rounded, much=np.float64(1e9), little=np.float32(1e9))
    assert np.array_equal(agreed(made, feeds), theirs(made, feeds, optimize=False))
    assert len(np.unique(agreed(made, feeds))) == 1


@pytest.mark.parametrize(
    ("to", "reason"),
    [
        (TensorProto.FLOAT16, "computes in float16: remove the casts around it"),
        (TensorProto.BFLOAT16, "casts to bfloat16, which is not computed in"),
    ],
)
def test_narrow_floats_are_refused_by_name(to, reason):
    nodes = [
        helper.make_node("Cast", ["a"], ["h"], "narrow", to=to),
        helper.make_node("Sigmoid", ["h"], ["t"], "sigmoid"),
        helper.make_node("Cast", ["t"], ["b"], "wide", to=TensorProto.FLOAT),
    ]
    assert reason in [why for _, _, why in findings(between(*nodes))]


def convolution(**attributes):
    dq = helper.make_node("DequantizeLinear", ["w", "s"], ["f"], "weight")
    return dq, helper.make_node("Conv", ["a", "f"], ["b"], "conv", **attributes)


DAMAGED = {
    "strides as floats": (convolution(strides=[1.0, 1.0]), "attribute strides is of type FLOATS"),
    "strides as a number": (convolution(strides=2), "attribute strides is of type INT;"),
    "no kernel": ([helper.make_node("MaxPool", ["a"], ["b"], "p")], "kernel_shape is missing"),
    "windows in the padding": (
        [helper.make_node("MaxPool", ["a"], ["b"], "p", kernel_shape=[2, 2], pads=[0, 2, 0, 0])],
        "a window lies in the padding alone",
    ),
    "no weights": ([helper.make_node("Conv", ["a"], ["b"], "c")], "input 1 (W) is missing"),
    "a dropout that drops": (
        [helper.make_node("Dropout", ["a", "half", "yes"], ["b"], "drop")],
        "training_mode is set",
    ),
    "two vectors": (
        [
            helper.make_node("Reshape", ["a", "flat"], ["v"], "view"),
            helper.make_node("MatMul", ["v", "v"], ["b"], "dot"),
        ],
        "a product of two vectors is not read",
    ),
    "pads of another rank": (
        [helper.make_node("Pad", ["a", "short"], ["b"], "pad")],
        "pads [1, 1] for 4 axes",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_the_schema_does_not_know_is_a_finding(case):
    nodes, reason = DAMAGED[case]
    more = {"short": np.array([1, 1], np.int64), "flat": np.array([-1])}
    made = between(*nodes, half=np.float32(0.5), yes=np.array(True), **more)
    found = [why for _, _, why in findings(made)]
    assert any(reason in why for why in found), found
    assert not findings(between(*convolution(strides=[1, 1])))


def test_a_result_that_may_not_go_without_a_name():
    with pytest.raises(Unsupported, match=r"output 0 \(Y\) has no name"):
        check_schema(helper.make_node("Relu", ["a"], [""], "r"), 13)
    check_schema(helper.make_node("Relu", ["a"], ["b"], "r"), 13)


def test_results_that_may_go_without_a_name():
    pool = helper.make_node("MaxPool", ["a"], ["b", ""], "pool", kernel_shape=[1, 2])
    drop = helper.make_node("Dropout", ["a", "half", "no"], ["b", ""], "drop")
    feeds = given()
    for node in (pool, drop):
        made = between(node, half=np.float32(0.5), no=np.array(False))
        assert np.array_equal(agreed(made, feeds), theirs(made, feeds, optimize=False))


@pytest.mark.parametrize("scale", [2.7e36, 3e38, np.inf])
def test_a_scale_whose_codes_are_no_numbers(scale):
    nodes = [helper.make_node("Relu", ["a"], ["b"], "relu")]
    made = between(*nodes, s=np.float32(scale))
    reasons = [why for _, _, why in findings(made)]
    assert reasons and all("Mask with a finite number" in why for why in reasons), reasons
    # Twin: the greatest code of a smaller one is a number, and right.
    made, feeds = between(*nodes, s=np.float32(2.5e36)), given()
    assert np.array_equal(agreed(made, feeds), theirs(made, feeds, optimize=False))


@pytest.mark.parametrize("kind", ["Add", "Sub"])
def test_a_scalar_before_a_float_product_is_no_norm(kind):
    dq, conv = convolution()
    conv.output[0] = "c"
    (found,) = findings(between(dq, conv, helper.make_node(kind, ["s", "c"], ["b"], "bias")))
    assert found == ("bias", kind, "its input c comes in float from Conv conv: quantize it")


@pytest.mark.parametrize("shape", [(1,), (1, 3)])
def test_a_bias_of_another_shape_is_refused(shape):
    dq, conv = convolution()
    conv.input.append("bias")
    (found,) = findings(between(dq, conv, bias=np.ones(shape, np.float32)))
    assert found[2] == f"bias bias has shape {list(shape)} for 3 channels"
    assert not findings(between(dq, conv, bias=np.ones(3, np.float32)))


@pytest.mark.parametrize(
    ("inputs", "attributes", "reason"),
    [
        (8, {}, "attribute axis is missing"),
        (8, {"axis": [1]}, "attribute axis is of the wrong type"),
        (7, {"axis": 1}, "7 inputs; two of the result and three of each part are read"),
        (2, {"axis": 1}, "2 inputs; two of the result and three of each part are read"),
        (8, {"axis": 1}, None),
    ],
)
def test_a_qlinearconcat_that_is_damaged(inputs, attributes, reason):
    made = between(helper.make_node("Relu", ["a"], ["b"], "relu"))
    made.graph.node[-1].output[0] = "c"
    names = ["s", "z", *["c", "s", "z"] * 2][:inputs]
    joined = helper.make_node(
        "QLinearConcat", names, ["y"], "cat", domain="com.microsoft", **attributes
    )
    made.graph.node.append(joined)
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert [why for _, _, why in findings(made)] == ([reason] if reason else [])


def test_an_if_without_branches():
    made = between(helper.make_node("If", ["k"], ["b"], "if"), k=np.array(True))
    with pytest.raises(FileError, match=r"node if \(If\): it has no branches"):
        findings(made)


def test_both_names_of_the_standard_domain():
    made = between(*convolution())
    for node in made.graph.node:
        node.domain = "ai.onnx"
    feeds = given()
    assert np.array_equal(agreed(made, feeds), agreed(between(*convolution()), feeds))
