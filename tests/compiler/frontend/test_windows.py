"""Pools and means against ONNX Runtime."""

import dataclasses

import numpy as np
import pytest

from compiler import interpreter
from compiler.ir import AxisMean, BorderedMean, Convolution, Pool
from tests.compiler.frontend.single import (
    MICROSOFT,
    codes,
    imported,
    ours,
    qoperator_model,
    steps,
    theirs,
)
from tests.models.qdq import Builder, Q

X = Q(0.05, 99)


def one(op, shape, q_y, q_x=X, opset=17, constants=(), **attributes):
    """A model of one operator on one activation."""
    builder = Builder()
    x = builder.dequantize("x", q_x, shape=shape)
    more = [builder.constant(f"c{i}", value) for i, value in enumerate(constants)]
    builder.op(op, [x, *more], **attributes)
    return builder.model(q_y, opset=opset)


POOLS = {
    "1×2×2": ((1, 5, 4, 8, 8), {"kernel_shape": [1, 2, 2], "strides": [1, 2, 2]}),
    "padded": (
        (1, 5, 2, 7, 7),
        {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2], "pads": [0, 1, 1] * 2},
    ),
    "3×3 stride 2": ((1, 5, 15, 15), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}),
    "ceil": ((1, 5, 14, 13), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "leftover": ((1, 5, 9, 9), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "1d": ((1, 5, 11), {"kernel_shape": [3], "strides": [1]}),
}


@pytest.mark.parametrize("case", POOLS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_maximum_pool(case, dtype):
    shape, attributes = POOLS[case]
    q = Q(0.05, 9, dtype)
    model = one("MaxPool", shape, q, q, **attributes)
    feeds = {"x": codes(np.random.default_rng(0), shape, dtype)}
    assert steps(ours(model, feeds), theirs(model, feeds)) == (0, 0)


def test_twin_a_narrower_window_is_seen():
    shape, attributes = POOLS["1×2×2"]
    model = one("MaxPool", shape, X, **attributes)
    feeds = {"x": codes(np.random.default_rng(0), shape)}
    graph = imported(model)
    (op,) = graph.ops
    assert isinstance(op, Pool)
    window = dataclasses.replace(op.window, kernel=(1, 2, 1))
    broken = graph.replaced([dataclasses.replace(op, window=window)])
    assert steps(interpreter.run(broken, feeds)["y"], theirs(model, feeds))[0] > 0


@pytest.mark.parametrize("shape", [(1, 32, 7, 7), (1, 9, 3, 4, 4), (1, 16, 29)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_global_average_pool(shape, dtype):
    q = Q(0.05, 20, dtype)
    model = one("GlobalAveragePool", shape, Q(0.021, -7 if dtype is np.int8 else 70, dtype), q)
    for seed in range(4):
        feeds = {"x": codes(np.random.default_rng(seed), shape, dtype)}
        assert steps(ours(model, feeds), theirs(model, feeds)) == (0, 0)


@pytest.mark.parametrize(
    ("axes", "keep", "shape"),
    [
        ([2], 1, (1, 6, 5, 7, 7)),
        ([3, 4], 1, (1, 6, 5, 7, 7)),
        ([2, 3, 4], 0, (1, 6, 5, 7, 7)),
        ([-1, -2], 0, (1, 6, 5, 7, 7)),
        ([2], 0, (1, 6, 5, 7, 7)),
        ([0, 2], 1, (1, 6, 11)),
    ],
)
@pytest.mark.parametrize("opset", [17, 18])
def test_reduce_mean(axes, keep, shape, opset):
    where = {"axes": axes} if opset < 18 else {"constants": [np.array(axes, np.int64)]}
    model = one("ReduceMean", shape, Q(0.013, 70), opset=opset, keepdims=keep, **where)
    feeds = {"x": codes(np.random.default_rng(1), shape)}
    count, most = steps(ours(model, feeds), theirs(model, feeds))
    assert most <= 1 and count <= 1  # ORT averages in float


@pytest.mark.parametrize("axes", [[1], [1, 3], [0, 1, 2, 3, 4]])
def test_mean_over_channels_is_a_convolution_with_ones(axes):
    shape = (1, 6, 5, 7, 7)
    model = one("ReduceMean", shape, Q(0.021, 70), axes=axes, keepdims=1)
    (op,) = imported(model).ops
    assert isinstance(op, Convolution) and (op.weight == 1).all()
    feeds = {"x": codes(np.random.default_rng(1), shape)}
    count, most = steps(ours(model, feeds), theirs(model, feeds))
    assert most <= 1 and count <= 1  # ORT averages in float


@pytest.mark.parametrize("axes", [[2], [3, 4], [1], [1, 4], [0, 1, 2, 3, 4]])
def test_maximum_over_axes(axes):
    shape = (1, 6, 5, 7, 7)
    model = one("ReduceMax", shape, X, axes=axes, keepdims=0)
    feeds = {"x": codes(np.random.default_rng(1), shape)}
    assert steps(ours(model, feeds), theirs(model, feeds)) == (0, 0)


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ((1, 4, 8, 8), {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ((1, 4, 9, 9), {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 1}),
        ((1, 4, 7, 7), {"kernel_shape": [7, 7]}),
        ((1, 4, 4, 6, 6), {"kernel_shape": [4, 3, 3], "strides": [1, 3, 3]}),
        ((1, 4, 7, 7), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
        (
            (1, 4, 7, 7),
            {
                "kernel_shape": [3, 3],
                "strides": [2, 2],
                "pads": [1] * 4,
                "count_include_pad": 1,
                "ceil_mode": 1,
            },
        ),
        ((1, 4, 8, 6), {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
        ((1, 4, 9, 9), {"kernel_shape": [3, 3], "pads": [1] * 4}),
        ((1, 4, 9, 8), {"kernel_shape": [5, 3], "pads": [2, 0, 1, 1], "strides": [2, 1]}),
        ((1, 3, 5, 6, 7), {"kernel_shape": [3, 3, 3], "pads": [1] * 6}),
        ((1, 3, 10), {"kernel_shape": [4], "pads": [3, 3], "strides": [3]}),
        ((1, 4, 8, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
        ((2, 4, 7, 7), {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    ],
)
def test_average_pool(shape, attributes):
    model = one("AveragePool", shape, Q(0.031, 70), **attributes)
    feeds = {"x": codes(np.random.default_rng(1), shape)}
    count, most = steps(ours(model, feeds), theirs(model, feeds))
    assert most <= 1 and count <= 1


def test_twin_border_windows_with_the_divisor_of_those_inside():
    model = one("AveragePool", (1, 4, 9, 9), Q(0.031, 70), kernel_shape=[3, 3], pads=[1] * 4)
    feeds = {"x": codes(np.random.default_rng(1), (1, 4, 9, 9))}
    graph = imported(model)
    (op,) = graph.ops
    assert isinstance(op, Pool) and isinstance(op.mean, BorderedMean)
    assert sorted(op.mean.means) == [4, 6, 9]
    broken = graph.replaced([dataclasses.replace(op, mean=op.mean.means[9])])
    differing = steps(interpreter.run(broken, feeds)["y"], theirs(model, feeds))[0]
    assert differing > 4 * (81 - 49) // 2


@pytest.mark.parametrize("op", ["QLinearGlobalAveragePool", "QLinearAveragePool"])
def test_qlinear_averages(op):
    constants = {
        "xs": np.float32(0.05),
        "xz": np.uint8(99),
        "ys": np.float32(0.03),
        "yz": np.uint8(70),
    }
    attributes = {"kernel_shape": [6, 6]} if op == "QLinearAveragePool" else {}
    names = ["x", "xs", "xz", "ys", "yz"]
    shape = (1, 8, 6, 6)
    model = qoperator_model(op, MICROSOFT, names, {"x": (shape, np.uint8)}, constants, **attributes)
    feeds = {"x": codes(np.random.default_rng(1), shape)}
    assert steps(ours(model, feeds), theirs(model, feeds)) == (0, 0)


def test_twin_a_corrupted_mean_is_seen():
    shape = (1, 32, 7, 7)
    model = one("GlobalAveragePool", shape, Q(0.011, 70))
    feeds = {"x": codes(np.random.default_rng(0), shape)}
    graph = imported(model)
    (op,) = graph.ops
    assert isinstance(op, AxisMean)
    scale = dataclasses.replace(op.mean.scale, multiplier=op.mean.scale.multiplier * 33 // 32)
    mean = dataclasses.replace(op.mean, scale=scale)
    broken = graph.replaced([dataclasses.replace(op, mean=mean)])
    assert steps(interpreter.run(broken, feeds)["y"], theirs(model, feeds))[0] > 0
