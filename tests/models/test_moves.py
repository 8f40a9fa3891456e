"""Less frequent operators against ONNX Runtime, and scalars folded into tables."""

import numpy as np
import pytest
from onnx import helper

from models.quantgraph import QuantizedGraph
from models.reference import Reference, UnsupportedGraph
from tests.models.qdq import Builder, Q, as_the_file_says, both, difference, random_codes

CODES = {"x": np.arange(256, dtype=np.uint8)}


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div", "Max", "Min"])
def test_operation_with_a_scalar_is_a_table(kind, first):
    builder = Builder()
    names = [builder.dequantize("x", Q(0.04, 120), shape=(256,))]
    names.insert(0 if first else 1, builder.constant("k", np.float32(1.7)))
    if kind == "Div" and first:  # no zero divisor
        feeds = {"x": np.arange(130, 256, dtype=np.uint8)}
        builder = Builder()
        x = builder.dequantize("x", Q(0.04, 120), shape=(126,))
        names = [builder.constant("k", np.float32(1.7)), x]
    else:
        feeds = CODES
    builder.op(kind, names)
    ours, theirs = both(builder.model(Q(0.0513, 77)), feeds)
    assert len(np.unique(ours)) > 40
    assert difference(ours, theirs) == (0, 0)
    assert difference(ours, theirs + (theirs == theirs.max()).astype(np.uint8))[0] > 0


@pytest.mark.parametrize("kind", ["Max", "Min"])
def test_extremum_of_two_scales_equals_onnx_runtime(kind):
    builder = Builder()
    a = builder.dequantize("a", Q(0.02, 30), shape=(256, 1))
    b = builder.dequantize("b", Q(0.031, 99), shape=(1, 256))
    builder.op(kind, [a, b])
    feeds = {"a": CODES["x"][:, None], "b": CODES["x"][None]}
    ours, theirs = both(builder.model(Q(0.029, 80)), feeds)
    assert difference(ours, theirs) == (0, 0)


def test_padding_is_the_quantized_constant():
    rng = np.random.default_rng(0)
    builder = Builder()
    x = builder.dequantize("x", Q(0.02, 30), shape=(1, 3, 5, 7))
    pads = builder.constant("pads", np.array([0, 0, 1, 2, 0, 0, 0, 3]))
    builder.op("Pad", [x, pads])
    ours, theirs = both(builder.model(Q(0.02, 30)), {"x": random_codes(rng, (1, 3, 5, 7))})
    assert ours.shape == (1, 3, 6, 12) and ours[0, 0, 0, 0] == 30
    assert difference(ours, theirs) == (0, 0)


@pytest.mark.parametrize("axes", [[2], [2, 3], [-1]])
def test_reduce_max_equals_onnx_runtime(axes):
    rng = np.random.default_rng(1)
    builder = Builder()
    x = builder.dequantize("x", Q(0.02, 30), shape=(1, 3, 5, 7))
    builder.op("ReduceMax", [x], axes=axes, keepdims=0)
    feeds = {"x": rng.integers(0, 90, (1, 3, 5, 7)).astype(np.uint8)}
    ours, theirs = both(builder.model(Q(0.02, 30)), feeds)
    assert ours.shape == theirs.shape and difference(ours, theirs) == (0, 0)


def test_split_has_a_tensor_per_output():
    rng = np.random.default_rng(2)
    for output in (0, 1):
        builder = Builder()
        x = builder.dequantize("x", Q(0.02, 30), shape=(1, 5, 4))
        sizes = builder.constant("sizes", np.array([2, 3]))
        builder.nodes.append(helper.make_node("Split", [x, sizes], ["p0", "p1"], "split", axis=1))
        model = builder.model(Q(0.02, 30), f"p{output}")
        codes = random_codes(rng, (1, 5, 4))
        ours, theirs = both(model, {"x": codes})
        assert np.array_equal(ours, codes[:, :2] if output == 0 else codes[:, 2:])
        assert difference(ours, theirs) == (0, 0)


def test_rescaling_alone_is_a_table():
    builder = Builder()
    x = builder.dequantize("x", Q(0.02, 30), shape=(256,))
    model = builder.model(Q(0.031, 99), x)
    assert [group.op for group in QuantizedGraph(model).groups] == ["Requantize"]
    ours, theirs = both(model, CODES)
    assert difference(ours, theirs) == (0, 0)


def test_other_activation_after_a_convolution_needs_a_quantizer_between():
    builder = Builder()
    x = builder.dequantize("x", Q(0.02, 30), shape=(1, 4, 5, 5))
    w = builder.dequantize("w", Q([0.01] * 4, 0, np.int8), np.ones((4, 4, 1, 1)))
    builder.op("Tanh", [builder.op("Conv", [x, w], "conv_f")])
    with pytest.raises(UnsupportedGraph, match=r"node tanh \(Tanh\): .* in float from Conv conv"):
        Reference(builder.model(Q(0.01, 128)))


@pytest.mark.parametrize("q", [Q([0.0003] * 4, 0, np.int32), Q(0.04, 3, np.int8)])
def test_bias_at_a_scale_of_its_own_is_rounded_to_accumulator_units(q):
    rng = np.random.default_rng(3)
    builder = Builder()
    x = builder.dequantize("x", Q(0.02, 30), shape=(64, 4))
    w = builder.dequantize("w", Q([0.01] * 4, 0, np.int8), rng.integers(-127, 128, (4, 4)))
    b = builder.dequantize("b", q, rng.integers(-120, 120, 4))
    builder.op("Gemm", [x, w, b], transB=1)
    model, feeds = builder.model(Q(0.1, 128)), {"x": random_codes(rng, (64, 4))}
    (theirs,) = as_the_file_says(model, feeds)  # ENABLE_ALL forgets the scale of an int32 bias
    count, greatest = difference(Reference(model).run(feeds)["y"], theirs)
    assert greatest <= 1 and count <= 2 and len(np.unique(theirs)) > 60
