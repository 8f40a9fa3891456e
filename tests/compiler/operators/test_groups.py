"""Operators on groups, and products of activations, on their canonical tensors: against NumPy."""

import dataclasses

import numpy as np
import pytest

from compiler.ir import Graph, GraphError, Port, Value, verify
from compiler.ops import ArgMax, BatchedMatMul, Normalize, Softmax
from compiler.printer import print_graph
from compiler.tensor import TensorType
from hw.arch.axes import aligned
from hw.arch.group_numerics import NormConstants, SoftmaxConstants
from hw.arch.matmul_numerics import ProductScale

SHAPE = (5, 3, 2, 4)
SOURCE = TensorType.of((1, *SHAPE), False, 0.05, 120)
SHARE = TensorType.of((1, *SHAPE), False, 1 / 256, 0)
NORMED = TensorType.of((1, *SHAPE), True, 0.02, -3)
AXES = [(0,), (3,), (2, 3), (1, 2, 3), (0, 1), (0, 1, 2, 3)]
NAMES = {"name": "op", "inputs": ("x",), "output": "y"}


@pytest.fixture
def codes():
    return np.random.default_rng(5).integers(0, 256, SHAPE).astype(np.uint8)


def softmax(axes, **changes):
    constants = SoftmaxConstants.of(SOURCE.scale, SHARE.scale)
    return Softmax(**NAMES, axes=axes, constants=constants, low=0, high=255, **changes)


def norm(axes, source=SOURCE, target=NORMED):
    n = int(np.prod([SHAPE[a] for a in axes]))
    rng = np.random.default_rng(n)
    gamma, beta = rng.normal(1, 0.2, n), rng.normal(0, 0.2, n)
    constants = NormConstants.of(source.scale, target.scale, gamma, beta, reach=255, epsilon=1e-5)
    op = Normalize(**NAMES, axes=axes, constants=constants, low=-128, high=127)
    return op, gamma, beta


@pytest.mark.parametrize("axes", AXES)
def test_softmax_over_any_axes(axes, codes):
    op = softmax(axes)
    op.check([SOURCE], SHARE)
    real = np.exp((codes.astype(float) - codes.max(axis=axes, keepdims=True)) * SOURCE.scale)
    share = real / real.sum(axis=axes, keepdims=True)
    wanted = np.clip(np.rint(share * 256), 0, 255).astype(np.int64)
    got = op.evaluate([codes], [SOURCE], SHARE)
    assert got.dtype == np.uint8
    assert np.array_equal(got, wanted)
    swapped = op.evaluate([codes[::-1].copy()], [SOURCE], SHARE)
    assert not np.array_equal(swapped, wanted)


@pytest.mark.parametrize("axes", AXES)
def test_norm_over_any_axes(axes, codes):
    op, gamma, beta = norm(axes)
    op.check([SOURCE], NORMED)
    real = (codes.astype(float) - 120) * SOURCE.scale
    centred = real - real.mean(axis=axes, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=axes, keepdims=True) + 1e-5)
    shape = [n if a in axes else 1 for a, n in enumerate(SHAPE)]
    normed = centred / deviation * gamma.reshape(shape) + beta.reshape(shape)
    wanted = np.clip(np.rint(normed / NORMED.scale) - 3, -128, 127)
    got = op.evaluate([codes], [SOURCE], NORMED).astype(np.int64)
    assert np.abs(got - wanted).max() <= 1
    assert np.count_nonzero(got != wanted) <= 1
    rolled = dataclasses.replace(
        op.constants, gains=op.constants.gains[1:] + op.constants.gains[:1]
    )
    other = dataclasses.replace(op, constants=rolled).evaluate([codes], [SOURCE], NORMED)
    assert np.count_nonzero(other.astype(np.int64) != wanted) > 1


def test_argmax_takes_the_first(codes):
    target = TensorType.of((1, 1, *SHAPE[1:]), False, 1.0, 0)
    codes[:2] = np.minimum(codes[:2], 254)
    codes[2], codes[4] = 255, 255
    op = ArgMax(**NAMES)
    op.check([SOURCE], target)
    assert (op.evaluate([codes], [SOURCE], target) == 2).all()
    signed = codes.view(np.int8)
    kind = dataclasses.replace(SOURCE, signed=True)
    got = op.evaluate([signed], [kind], target)
    assert np.array_equal(got[0], signed.argmax(axis=0))


def heads(batch=3, rows=4, inner=5, columns=6):
    """Scores of attention: heads are part of the operands' channels, and T of the result."""
    digits = (((batch, rows * inner), (inner, 1)), (), (), ((rows, inner),))
    right = (((batch, inner * columns), (inner, columns)), (), (), ((columns, 1),))
    target = aligned((batch, rows, columns), (1, 3, 0))
    scale = ProductScale.of(0.02, 120, 0.03, -5, 0.4, 100, 0.5)
    op = BatchedMatMul(
        name="op",
        inputs=("a", "b"),
        output="y",
        batch=batch,
        rows=rows,
        inner=inner,
        columns=columns,
        left=digits,
        right=right,
        target=target,
        scale=scale,
        low=0,
        high=255,
    )
    a = TensorType.of((batch, rows, inner), False, 0.02, 120, digits)
    b = TensorType.of((batch, inner, columns), True, 0.03, -5, right)
    y = TensorType.of((batch, rows, columns), False, 0.4, 100, target)
    return op, a, b, y


def test_products_of_heads():
    op, a, b, y = heads()
    op.check([a, b], y)
    assert y.shape == (6, 3, 1, 4) and a.shape == (15, 1, 1, 4)
    assert op.macs([a, b]) == 3 * 4 * 5 * 6
    rng = np.random.default_rng(1)
    left = rng.integers(0, 256, a.onnx_shape).astype(np.uint8)
    right = rng.integers(-128, 128, b.onnx_shape).astype(np.int8)
    real = np.float32(0.5) * (left - 120.0) * 0.02 @ ((right + 5.0) * 0.03)
    wanted = np.clip(np.rint(real / 0.4) + 100, 0, 255)
    operands = [a.in_lanes(left), b.in_lanes(right)]
    got = y.in_file_order(op.evaluate(operands, [a, b], y))
    assert np.array_equal(got, wanted)
    other = y.in_file_order(op.evaluate([operands[0][::-1].copy(), operands[1]], [a, b], y))
    assert not np.array_equal(other, wanted)


def graph_of(op, kinds, target):
    values = {n: Value(n, k) for n, k in zip(op.inputs, kinds, strict=True)}
    values["y"] = Value("y", target)
    ports = tuple(Port(n, n) for n in op.inputs)
    return Graph("one", ports, (Port("y", "y"),), values, (op,))


def test_they_are_printed():
    op, a, b, y = heads()
    graph = graph_of(op, [a, b], y)
    verify(graph)
    text = print_graph(graph)
    assert "BatchedMatMul op(a, b)" in text and "inner = 5" in text
    text = print_graph(graph_of(norm((0,))[0], [SOURCE], NORMED))
    assert "axes = (0,)" in text and "epsilon" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": 5}, "are not those of 75 elements"),
        ({"left": aligned((3, 4, 5), (1, 3, 0))}, r"reads \(5, 3, 1, 4\)"),
        ({"scale": ProductScale.of(0.02, 120, 0.03, 0, 0.4, 100)}, "zero points"),
        ({"low": -1}, "clamp"),
    ],
)
def test_products_that_do_not_fit(changes, words):
    op, a, b, y = heads()
    with pytest.raises(GraphError, match=words):
        dataclasses.replace(op, **changes).check([a, b], y)


def test_accumulators_that_leave_int32():
    op, a, b, y = heads(2, 2, 130_000, 2)
    with pytest.raises(GraphError, match="int32"):
        op.check([a, b], y)


def test_groups_that_do_not_fit():
    with pytest.raises(GraphError, match="groups over axes"):
        softmax((3, 2)).check([SOURCE], SHARE)
    with pytest.raises(GraphError, match="constants for 5"):
        dataclasses.replace(norm((0,))[0], axes=(1,)).check([SOURCE], NORMED)
    wide = TensorType.of((1, 2048, 1, 1, 1), False, 0.05, 120)
    with pytest.raises(GraphError, match="2048 elements"):
        softmax((0,)).check([wide], wide)
    many = TensorType.of((1, (1 << 16) + 1, 1, 1, 1), False, 0.05, 120)
    index = TensorType.of((1, 2, 1, 1, 1), False, 1.0, 0)
    with pytest.raises(GraphError, match="65537 channels"):
        ArgMax(**NAMES).check([many], index)
    with pytest.raises(GraphError, match="are no"):
        ArgMax(**NAMES).check([SOURCE], TensorType.of((1, 1, *SHAPE[1:]), False, 0.5, 0))
