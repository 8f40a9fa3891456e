"""Convolutions and dense layers against ONNX Runtime's fused int8 kernels: no difference."""

import dataclasses

import numpy as np
import pytest

from compiler import interpreter
from compiler.ir import Convolution
from tests.compiler.frontend.single import (
    codes,
    findings,
    imported,
    ours,
    qoperator_model,
    steps,
    theirs,
)
from tests.models.qdq import Builder, Q, conv_model

# name: input shape, weight shape, attributes
CONVS = {
    "1d dilated": ((1, 24, 12), (16, 24, 3), {"pads": [3, 3], "dilations": [3]}),
    "2d dense": ((1, 20, 11, 13), (24, 20, 3, 3), {"pads": [1] * 4}),
    "2d stride 2": ((1, 16, 14, 14), (32, 16, 3, 3), {"pads": [1] * 4, "strides": [2, 2]}),
    "2d grouped": ((1, 32, 7, 7), (64, 8, 3, 3), {"pads": [1] * 4, "group": 4}),
    "2d uneven pads": ((1, 4, 8, 8), (4, 4, 3, 3), {"pads": [0, 1, 1, 0]}),
    "2d same upper": ((1, 4, 9, 8), (4, 4, 3, 4), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "3d dense": ((1, 5, 4, 9, 7), (6, 5, 3, 3, 3), {"pads": [1] * 6}),
    "3d temporal": ((1, 8, 6, 5, 5), (7, 8, 3, 1, 1), {"pads": [1, 0, 0, 1, 0, 0]}),
    "3d depthwise": ((1, 9, 3, 8, 8), (9, 1, 1, 3, 3), {"pads": [0, 1, 1] * 2, "group": 9}),
    "3d depthwise stride": (
        (1, 8, 4, 9, 9),
        (8, 1, 3, 3, 3),
        {"pads": [1] * 6, "group": 8, "strides": [2, 2, 2]},
    ),
    "3d stem": ((1, 3, 4, 15, 15), (16, 3, 3, 7, 7), {"pads": [1, 3, 3] * 2, "strides": [1, 2, 2]}),
}


def convolution(case, seed=0, x_type=np.uint8, y_type=np.uint8, relu=False, spread=1.0):
    """Model and feed of a convolution whose results use the whole range."""
    rng = np.random.default_rng(seed)
    x_shape, w_shape, attributes = CONVS[case]
    scales = rng.uniform(0.5, 2, w_shape[0]) * 0.003
    scale_y = float(np.sqrt(np.prod(w_shape[1:])) * 75 * 73 * 0.02 * scales.mean() / 45) * spread
    middle = 0 if y_type is np.int8 else 128
    model = conv_model(
        x_shape,
        rng.integers(-127, 128, w_shape),
        Q(0.02, int(rng.integers(-40, 40)) + (128 if x_type is np.uint8 else 0), x_type),
        Q(scales.tolist(), 0, np.int8),
        Q(scale_y, 0 if relu else middle + int(rng.integers(-40, 40)), y_type),
        rng.integers(-3000, 3000, w_shape[0]),
        relu,
        **attributes,
    )
    return model, {"x": codes(rng, x_shape, x_type)}


@pytest.mark.parametrize("case", CONVS)
def test_convolution(case):
    for seed in range(2):
        model, feeds = convolution(case, seed)
        result = ours(model, feeds)
        assert len(np.unique(result)) > 30
        assert steps(result, theirs(model, feeds)) == (0, 0)


@pytest.mark.parametrize("types", [(np.int8, np.int8), (np.uint8, np.uint8)])
def test_relu_becomes_a_clamp(types):
    model, feeds = convolution("2d dense", 1, *types, relu=True)
    (op,) = imported(model).ops
    assert isinstance(op, Convolution) and op.low == 0
    assert steps(ours(model, feeds), theirs(model, feeds)) == (0, 0)


def test_signed_activations():
    model, feeds = convolution("3d dense", 3, np.int8, np.int8)
    assert steps(ours(model, feeds), theirs(model, feeds)) == (0, 0)


def test_saturation_at_both_ends():
    model, feeds = convolution("2d dense", 5, spread=0.2)
    result = ours(model, feeds)
    assert (result == 0).mean() > 0.1 and (result == 255).mean() > 0.1
    assert steps(result, theirs(model, feeds)) == (0, 0)


def test_power_of_two_scales_tie_to_even():
    rng = np.random.default_rng(0)
    weights = rng.integers(-3, 4, (8, 4, 1, 1))
    shape = (1, 4, 16, 16)
    model = conv_model(shape, weights, Q(0.5, 128), Q([0.25] * 8, 0, np.int8), Q(1.0, 100))
    feeds = {"x": codes(rng, shape)}
    assert steps(ours(model, feeds), theirs(model, feeds)) == (0, 0)


def corrupt_weight(op):
    weight = op.weight.copy()
    weight.reshape(-1)[0] ^= 1
    return dataclasses.replace(op, weight=weight)


def corrupt_bias(op):
    return dataclasses.replace(op, bias=op.bias + np.int32(400))


def corrupt_shift(op):
    return dataclasses.replace(op, shift=op.shift + 1)


def corrupt_padding(op):
    return dataclasses.replace(op, pad_begin=op.pad_end, pad_end=op.pad_begin)


@pytest.mark.parametrize("corrupt", [corrupt_weight, corrupt_bias, corrupt_shift, corrupt_padding])
def test_twin_a_corrupted_convolution_is_seen(corrupt):
    model, feeds = convolution("2d uneven pads")
    graph = imported(model)
    broken = graph.replaced([corrupt(op) for op in graph.ops])
    assert steps(interpreter.run(broken, feeds)["y"], theirs(model, feeds))[0] > 0


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm(transposed):
    rng = np.random.default_rng(transposed)
    builder = Builder()
    weights = rng.integers(-127, 128, (40, 65))
    scales = rng.uniform(0.001, 0.004, 40)
    x = builder.dequantize("x", Q(0.03, 120), shape=(1, 65))
    w = builder.dequantize(
        "w",
        Q(scales.tolist(), 0, np.int8),
        weights if transposed else weights.T,
        axis=0 if transposed else 1,
    )
    b = builder.dequantize(
        "b",
        Q((np.float32(0.03) * scales.astype(np.float32)).tolist(), 0, np.int32),
        rng.integers(-9000, 9000, 40),
    )
    builder.op("Gemm", [x, w, b], transB=transposed)
    model = builder.model(Q(0.9, 130))
    feeds = {"x": codes(rng, (1, 65))}
    assert steps(ours(model, feeds), theirs(model, feeds)) == (0, 0)


@pytest.mark.parametrize("shape", [(1, 48), (1, 7, 48), (1, 3, 5, 48)])
def test_matmul_over_the_last_axis(shape):
    rng = np.random.default_rng(len(shape))
    builder = Builder()
    x = builder.dequantize("x", Q(0.03, 120), shape=shape)
    w = builder.dequantize("w", Q(0.002, 0, np.int8), rng.integers(-127, 128, (48, 20)))
    builder.op("MatMul", [x, w])
    model = builder.model(Q(0.3, 130))
    feeds = {"x": codes(rng, shape)}
    assert steps(ours(model, feeds), theirs(model, feeds)) == (0, 0)


def test_float_bias_and_weight_quantized_in_the_graph():
    """The form of torchao and Brevitas: Q and DQ around float weights, float bias."""
    rng = np.random.default_rng(2)
    builder = Builder()
    x = builder.dequantize("x", Q(0.02, 3, np.int8), shape=(1, 6, 9, 9))
    builder.constant("w0", rng.normal(0, 0.1, (8, 6, 3, 3)).astype(np.float32))
    scale = builder._scale("w", Q([0.002] * 8, 0, np.int8))
    builder.nodes.append(_node("QuantizeLinear", ["w0", *scale], "w_q", axis=0))
    builder.nodes.append(_node("DequantizeLinear", ["w_q", *scale], "w_f", axis=0))
    bias = rng.normal(0, 0.5, 8).astype(np.float32)
    builder.op("Conv", [x, "w_f", builder.constant("b", bias)])
    model = builder.model(Q(0.02, -4, np.int8))
    (op,) = imported(model).ops
    unit = np.float32(np.float32(0.02) * np.float32(0.002))
    assert op.bias.tolist() == np.rint(bias.astype(np.float64) / unit).astype(int).tolist()
    feeds = {"x": codes(rng, (1, 6, 9, 9), np.int8)}
    count, most = steps(ours(model, feeds), theirs(model, feeds, optimize=False))
    assert most <= 1 and count < 0.01 * 8 * 49  # a float bias is not on the accumulator's grid


def _node(op, inputs, output, **attributes):
    from onnx import helper

    return helper.make_node(op, inputs, [output], output, **attributes)


def test_unsigned_weights_around_128_are_centred():
    rng = np.random.default_rng(4)
    weights = rng.integers(0, 256, (8, 4, 3, 3))
    model = conv_model((1, 4, 9, 9), weights, Q(0.02, 100), Q(0.002, 128, np.uint8), Q(0.05, 120))
    feeds = {"x": codes(rng, (1, 4, 9, 9))}
    assert steps(ours(model, feeds), theirs(model, feeds)) == (0, 0)


def test_qlinear_conv():
    rng = np.random.default_rng(5)
    scales = rng.uniform(0.001, 0.004, 12).astype(np.float32)
    constants = {
        "xs": np.float32(0.02),
        "xz": np.uint8(111),
        "w": rng.integers(-127, 128, (12, 6, 3, 3)).astype(np.int8),
        "ws": scales,
        "wz": np.zeros(12, np.int8),
        "ys": np.float32(0.05),
        "yz": np.uint8(140),
        "b": rng.integers(-2000, 2000, 12).astype(np.int32),
    }
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"]
    shape = (1, 6, 8, 8)
    model = qoperator_model(
        "QLinearConv", "", names, {"x": (shape, np.uint8)}, constants, pads=[1] * 4
    )
    feeds = {"x": codes(rng, shape)}
    assert steps(ours(model, feeds), theirs(model, feeds)) == (0, 0)


@pytest.mark.parametrize(("op", "domain"), [("QLinearMatMul", ""), ("QGemm", "com.microsoft")])
def test_qlinear_dense(op, domain):
    rng = np.random.default_rng(6)
    constants = {
        "xs": np.float32(0.02),
        "xz": np.uint8(111),
        "w": rng.integers(-127, 128, (50, 12)).astype(np.int8),
        "ws": np.float32(0.003),
        "wz": np.int8(0),
        "b": rng.integers(-2000, 2000, 12).astype(np.int32),
        "ys": np.float32(0.2),
        "yz": np.uint8(140),
    }
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    if op == "QGemm":
        names.insert(6, "b")
    used = {n: constants[n] for n in names if n != "x"}
    model = qoperator_model(op, domain, names, {"x": ((1, 50), np.uint8)}, used)
    feeds = {"x": codes(rng, (1, 50))}
    assert steps(ours(model, feeds), theirs(model, feeds)) == (0, 0)


def single_conv(weights=None, q_w=None, q_x=None, q_y=None, bias=None, shape=(1, 4, 9, 9), **more):
    weights = np.ones((8, 4, 3, 3), np.int64) if weights is None else weights
    return conv_model(
        shape,
        weights,
        q_x or Q(0.02, 100),
        q_w or Q(0.002, 0, np.int8),
        q_y or Q(0.05, 120),
        bias,
        **more,
    )


THREE = (Q(0.02, 100), Q(0.002, 0, np.int8), Q(0.05, 120))


@pytest.mark.parametrize("shape", [(3, 4, 9, 9), (5, 4, 9)])
def test_a_batch_is_a_row_of_frames(shape):
    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 128, (8, 4, *(3,) * (len(shape) - 2)))
    model = conv_model(shape, weights, *THREE)
    feeds = {"x": codes(rng, shape)}
    assert steps(ours(model, feeds), theirs(model, feeds)) == (0, 0)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (single_conv(q_w=Q(0.002, 3, np.uint8), weights=np.full((8, 4, 3, 3), 255)), "252"),
        (conv_model((2, 4, 3, 9, 9), np.ones((8, 4, 1, 1, 1)), *THREE), "batch 2"),
        (single_conv(bias=np.full(8, 2**31 - 1)), "accumulators may reach"),
        (single_conv(q_y=Q(1e-30)), "overflow"),
        (single_conv(q_y=Q(float("inf"))), "positive normal"),
        (single_conv(shape=(1, 4, 2, 9)), "does not fit"),
    ],
)
def test_refused_convolutions_say_why(model, reason):
    assert any(reason in found[2] for found in findings(model)), findings(model)
