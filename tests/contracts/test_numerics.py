"""Integer arithmetic against float32, exact fractions, and ONNX Runtime's own kernels."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.arch.numerics import (
    Affine,
    Factor,
    Mean,
    NumericsError,
    Product,
    pack_parameters,
    quantize,
    requantize,
    round24,
    round_half_even,
    split_scale,
    unpack_parameters,
)
from models.exactness import exact_session


def float32_requantize(acc, scale, zero_point, low, high):
    """The target: one float32 product, rounded half to even."""
    with np.errstate(over="ignore"):
        scaled = np.rint(acc.astype(np.float32) * np.float32(scale)).astype(np.float64)
    return np.clip(scaled + zero_point, low, high).astype(np.int64)


normal_scales = st.floats(2.0**-60, 2.0**20, width=32)


@given(normal_scales)
def test_split_scale_is_exact(scale):
    m, n = split_scale(scale)
    assert 2**23 <= m < 2**24
    assert Fraction(m) / Fraction(2) ** n == Fraction(float(np.float32(scale)))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan"), 1e-40])
def test_scales_that_do_not_split(scale):
    with pytest.raises(NumericsError, match="not a positive normal float32"):
        split_scale(scale)


@given(st.integers(0, 2**62 - 1), st.integers(0, 62))
def test_round_half_even_equals_fractions(value, shift):
    got = round_half_even(np.array([value], np.int64), shift)[0]
    assert got == round(Fraction(value, 2**shift))


@given(st.integers(-(2**62) + 2**40, 2**62 - 2**40))
def test_round24_is_one_float32_rounding(value):
    """Python rounds an integer to float64 exactly only below 2^53: go through fractions."""
    got = int(round24(np.array([value], np.int64))[0])
    excess = max(abs(value).bit_length() - 24, 0)
    assert got == round(Fraction(value, 2**excess)) * 2**excess
    if abs(value) < 2**53:
        assert got == int(np.float32(float(value)))


@pytest.mark.parametrize("span", [30, 24, 34, 12])
def test_requantize_random(span):
    rng = np.random.default_rng(span)
    for _ in range(40):
        acc = rng.integers(-(1 << span), 1 << span, 5000)
        scale = np.float32(2.0 ** rng.uniform(-span - 4, 12 - span) * rng.uniform(0.5, 1))
        zero = int(rng.integers(0, 256))
        m, n = split_scale(scale)
        assert np.array_equal(
            requantize(acc, m, n, zero, 0, 255), float32_requantize(acc, scale, zero, 0, 255)
        )


def test_requantize_near_ties():
    """Accumulators next to half-way points, where the product's own rounding decides."""
    rng = np.random.default_rng(7)
    for _ in range(300):
        scale = np.float32(2.0 ** rng.uniform(-22, -6) * rng.uniform(0.5, 1))
        half = rng.integers(0, 256, 40) + 0.5
        acc = (half / float(scale)).astype(np.int64)[:, None] + np.arange(-3, 4)
        acc = np.concatenate([acc.ravel(), -acc.ravel()])
        m, n = split_scale(scale)
        assert np.array_equal(
            requantize(acc, m, n, 3, -128, 127), float32_requantize(acc, scale, 3, -128, 127)
        )


def test_requantize_powers_of_two_tie_exactly():
    for shift in range(1, 20):
        acc = np.arange(-600, 600) * (1 << (shift - 1))
        m, n = split_scale(2.0**-shift)
        expected = np.clip([round(Fraction(int(a), 1 << shift)) for a in acc], -128, 127)
        assert np.array_equal(requantize(acc, m, n, 0, -128, 127), expected)


@pytest.mark.parametrize("exponent", [-100, -63, -40, -24, -10, -1, 0, 3, 20])
def test_requantize_saturates_and_vanishes(exponent):
    """Where int64 would overflow, and where nothing is left."""
    acc = np.array([0, 1, 2, 255, 1 << 24, (1 << 24) + 1, (1 << 35) - 1])
    acc = np.concatenate([acc, -acc])
    for mantissa in (1.0, 1.5, 1.9999999):
        scale = np.float32(mantissa * 2.0**exponent)
        m, n = split_scale(scale)
        if 0 <= n < 256:
            assert np.array_equal(
                requantize(acc, m, n, 9, 0, 255), float32_requantize(acc, scale, 9, 0, 255)
            )


def test_padding_lanes_give_the_zero_point():
    assert requantize(np.array([-5, 0, 1 << 30]), 0, 0, 17, 0, 255).tolist() == [17] * 3


def test_a_wrong_multiplier_is_noticed():
    """Twin of the tests above: one unit in the significand's last place changes results."""
    acc = np.arange(1 << 20, (1 << 20) + 200_000)
    m, n = split_scale(2.0**-13)
    right, wrong = requantize(acc, m, n, 0, 0, 255), requantize(acc, m + 2, n, 0, 0, 255)
    assert np.count_nonzero(right != wrong) > 0


def session(op, inputs, outputs, attributes=None):
    """One com.microsoft node; `inputs` are names, or constants as (name, array)."""
    constants = [onnx.numpy_helper.from_array(v[1], v[0]) for v in inputs if isinstance(v, tuple)]
    names = [v[0] if isinstance(v, tuple) else v for v in inputs]
    node = onnx.helper.make_node(op, names, ["y"], domain="com.microsoft", **(attributes or {}))
    info = [
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.UINT8, s) for n, s in outputs.items()
    ]
    graph = onnx.helper.make_graph([node], "g", info[:-1], info[-1:], constants)
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return exact_session(model.SerializeToString(), options)


def constant(name, value, dtype):
    return name, np.array(value, dtype)


def random_scales(seed, count):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        sa, sb = (np.float32(2.0 ** rng.uniform(-8, -2)) for _ in range(2))
        sy = np.float32(max(sa, sb) * 2.0 ** rng.uniform(-1.5, 1.5))
        za, zb, zy = (int(z) for z in rng.integers(0, 256, 3))
        yield sa, za, sb, zb, sy, zy


ALL_PAIRS = np.array(list(itertools.product(range(256), range(256))), np.uint8).T
PAIR_SHAPE = (1, 256 * 256)


def binary(op, a, b, scales):
    sa, za, sb, zb, sy, zy = scales
    inputs = ["a", constant("sa", sa, np.float32), constant("za", za, np.uint8)]
    inputs += ["b", constant("sb", sb, np.float32), constant("zb", zb, np.uint8)]
    inputs += [constant("sy", sy, np.float32), constant("zy", zy, np.uint8)]
    shapes = dict.fromkeys(("a", "b", "y"), PAIR_SHAPE)
    return session(op, inputs, shapes).run(
        None, {"a": a.reshape(PAIR_SHAPE), "b": b.reshape(PAIR_SHAPE)}
    )[0][0]


@pytest.mark.parametrize(("op", "kind"), [("QLinearAdd", Affine.add), ("QLinearMul", Product.of)])
def test_add_and_product_equal_onnxruntime(op, kind):
    """All 65536 pairs of codes under random scales: no difference."""
    a, b = ALL_PAIRS
    differences = 0
    wide = a.astype(np.int64), b.astype(np.int64)
    for scales in random_scales(11, 25):
        mine = kind(*scales)(*wide, 0, 255)
        differences += int(np.count_nonzero(mine != binary(op, a, b, scales)))
    assert differences == 0
    sa, za, sb, zb, sy, zy = scales
    twin = kind(sa, za, np.float32(sb * np.float32(1.01)), zb, sy, zy)(*wide, 0, 255)
    assert np.count_nonzero(twin != binary(op, a, b, scales)) > 0


def test_mean_equals_onnxruntime():
    rng = np.random.default_rng(12)
    for elements in (1, 7, 49, 784):
        side = (elements, 1)
        for _ in range(6):
            sx = np.float32(2.0 ** rng.uniform(-8, -2))
            sy = np.float32(sx * 2.0 ** rng.uniform(-3.0, 1.0))
            zx, zy = (int(z) for z in rng.integers(0, 256, 2))
            x = rng.integers(0, 256, (1, 64, *side)).astype(np.uint8)
            inputs = ["x", constant("sx", sx, np.float32), constant("zx", zx, np.uint8)]
            inputs += [constant("sy", sy, np.float32), constant("zy", zy, np.uint8)]
            shapes = {"x": (1, 64, *side), "y": (1, 64, 1, 1)}
            theirs = session("QLinearGlobalAveragePool", inputs, shapes, {"channels_last": 0}).run(
                None, {"x": x}
            )[0]
            total = x.astype(np.int64).sum(axis=(2, 3)) - elements * zx
            mine = Mean.of(sx, sy, zy, elements)(total, 0, 255)
            assert np.array_equal(mine, theirs[:, :, 0, 0])


def test_subtract_adds_the_zero_point_last():
    """A difference of equal scales is exact, whatever the zero points."""
    affine = Affine.subtract(0.1, 30, 0.1, 200, 0.1, 100)
    a, b = (v.astype(np.int64) for v in ALL_PAIRS)
    expected = np.clip((a - 30) - (b - 200) + 100, 0, 255)
    assert np.array_equal(affine(a, b, 0, 255), expected)


def test_factors_are_exact_and_limited():
    for value in (0.0, 1.0, -0.375, 3.1415927, 511.9, 2.0**-40):
        factor = Factor.of(value)
        assert factor.fixed == Fraction(float(np.float32(value))) * 2**44
        assert 0 <= factor.shift < 32
        assert factor.multiplier < 1 << 24
    for value in (512.0, -600.0, 1.1e-7):
        with pytest.raises(NumericsError, match="outside the affine arithmetic's range"):
            Factor.of(value)
    with pytest.raises(NumericsError, match="at most 65793"):
        Mean.of(0.1, 0.1, 0, 65794)


def test_quantize_equals_onnxruntime_definition():
    rng = np.random.default_rng(13)
    x = rng.normal(0, 3, 20_000).astype(np.float32)
    x[:100] = (np.arange(100) - 50 + 0.5) * np.float32(0.25)  # exact ties
    for scale, zero, low, high in ((0.25, 7, 0, 255), (0.031, -5, -128, 127)):
        y = np.clip(np.rint(x / np.float32(scale)) + zero, low, high)
        assert np.array_equal(quantize(x, scale, zero, low, high), y)
        exact = np.array([round(Fraction(float(v)) / Fraction(0.25)) for v in x[:100]])
        if scale == 0.25:
            assert np.array_equal(quantize(x[:100], scale, 0, -999, 999), exact)


@given(
    st.lists(
        st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**24 - 1), st.integers(0, 255)),
        min_size=1,
        max_size=8,
    )
)
def test_parameters_round_trip(rows):
    bias, multiplier, shift = (list(column) for column in zip(*rows, strict=True))
    data = pack_parameters(bias, multiplier, shift)
    assert len(data) == 8 * len(rows)
    assert [v.tolist() for v in unpack_parameters(data)] == [bias, multiplier, shift]


@pytest.mark.parametrize("row", [(2**31, 0, 0), (0, 2**24, 0), (0, -1, 0), (0, 0, 256)])
def test_parameters_that_do_not_fit(row):
    with pytest.raises(NumericsError, match="channel 0"):
        pack_parameters(*([v] for v in row))
