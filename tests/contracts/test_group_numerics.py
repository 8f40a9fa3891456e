"""Softmax, norms and products of activations: exact integers by hand, and float64."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.arch.group_numerics import (
    MOST_ELEMENTS,
    NormConstants,
    SoftmaxConstants,
    bit_length,
    integer_root,
    norm_applied,
    norm_codes,
    norm_reciprocal,
    norm_standardized,
    softmax_codes,
    softmax_reciprocal,
)
from hw.arch.matmul_numerics import ProductScale, product_codes
from hw.arch.numerics import NumericsError, split_scale
from tests.groups_by_hand import norm_by_hand, softmax_by_hand

LENGTHS = (1, 2, 16, 49, 196, 400, 784, 1024, 1152, 2047)


@given(st.integers(0, 2**50))
def test_bits_and_roots(value):
    array = np.array([value], np.int64)
    assert bit_length(array)[0] == value.bit_length()
    assert integer_root(array)[0] == math.isqrt(value)


@given(
    st.lists(st.integers(0, 255), min_size=1, max_size=40),
    st.floats(2.0**-12, 1, width=32),
    st.sampled_from([1 / 256, 1 / 255, 1 / 200, 0.0313]),
    st.sampled_from([(0, 0, 255), (-128, -128, 127), (3, 0, 255)]),
)
def test_softmax_is_its_definition(codes, sx, sy, result):
    constants = SoftmaxConstants.of(sx, sy)
    got = softmax_codes(np.array([codes]), constants, *result)[0]
    assert got.tolist() == softmax_by_hand(codes, sx, sy, *result)


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("sy", [1 / 256, 1 / 255], ids=["1/256", "1/255"])
def test_softmax_against_float(n, sy):
    rng = np.random.default_rng(n)
    codes = rng.integers(0, 256, (max(1, 200_000 // n), n))
    for sx in (0.005, 0.02, 0.07):
        got = softmax_codes(codes, SoftmaxConstants.of(sx, sy), 0, 0, 255)
        real = np.exp((codes - codes.max(axis=1, keepdims=True)) * float(np.float32(sx)))
        share = real / real.sum(axis=1, keepdims=True) / float(np.float32(sy))
        apart = np.abs(got - np.clip(np.rint(share), 0, 255))
        assert apart.max() <= 1
        # 200,000 elements: at 2e-5 four differ; three times as many are no accident.
        assert np.count_nonzero(apart) <= 12


def test_halves_at_1_255_are_rounded_as_float_rounds_them():
    constants = SoftmaxConstants.of(0.1, 1 / 255)
    share = np.float32(0.5) / np.float32(1 / 255)
    assert (softmax_codes(np.full((1, 2), 9), constants, 0, 0, 255) == np.rint(share)).all()


def test_softmax_of_equal_and_lonely_codes():
    constants = SoftmaxConstants.of(0.1, 1 / 256)
    assert (softmax_codes(np.full((1, 16), 200), constants, 0, 0, 255) == 16).all()
    one = np.zeros((1, 1024), np.int64)
    one[0, 77] = 255
    got = softmax_codes(one, constants, 0, 0, 255)
    assert got[0, 77] == 255 and got.sum() == 255


def test_reciprocals_stay_in_their_width():
    total = np.array([2**20, 2**20 + 1, 2**30 - 1, 1024 * 2**20, 2047 * 2**20], np.int64)
    reciprocal, shift = softmax_reciprocal(total, 1 << 23)
    assert reciprocal.max() < 1 << 22 and reciprocal.min() >= 1 << 21
    assert shift.tolist() == [10, 10, 1, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0.1, 0.0039), "1/256 is the least"),
        ((-0.1, 1 / 256), "must be positive"),
    ],
)
def test_softmax_scales_that_are_refused(arguments, words):
    with pytest.raises(NumericsError, match=words):
        SoftmaxConstants.of(*arguments)


def test_groups_that_are_too_long():
    constants = SoftmaxConstants.of(0.1, 1 / 256)
    with pytest.raises(NumericsError, match="2048 elements"):
        softmax_codes(np.zeros((1, 2048), np.int64), constants, 0, 0, 255)
    with pytest.raises(NumericsError, match="1025 elements"):
        NormConstants.of(0.1, 0.1, np.ones(1025), np.zeros(1025), reach=128, epsilon=1e-5)


@given(st.data())
def test_norm_is_its_definition(data):
    codes = data.draw(st.lists(st.integers(-128, 127), min_size=1, max_size=24))
    n = len(codes)
    reals = st.floats(-4, 4, width=32)
    gamma = data.draw(st.lists(reals, min_size=n, max_size=n))
    beta = data.draw(st.lists(reals, min_size=n, max_size=n))
    epsilon, root = data.draw(st.sampled_from([(1e-5, 0.0), (0.0, 1e-3), (1e-3, 1e-3)]))
    constants = NormConstants.of(
        data.draw(st.floats(2.0**-9, 2.0**-5, width=32)),
        data.draw(st.floats(2.0**-4, 1, width=32)),
        gamma,
        beta,
        reach=130,
        epsilon=epsilon,
        root_epsilon=root,
        correction=1.0 if n == 1 else data.draw(st.sampled_from([1.0, n / (n - 1)])),
    )
    got = norm_codes(np.array([codes]), constants, -3, -128, 127)[0]
    assert got.tolist() == norm_by_hand(codes, constants, -3, -128, 127)


def float_norm(codes, sx, gamma, beta, epsilon, root, correction):
    real = codes * float(np.float32(sx))
    centred = real - real.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True) * correction
    return gamma * centred / (np.sqrt(variance + epsilon) + root) + beta


@pytest.mark.parametrize("n", [8, 44, 176, 512, 1024])
@pytest.mark.parametrize("unbiased", [False, True])
def test_norm_against_float(n, unbiased):
    rng = np.random.default_rng(n)
    codes = np.clip(np.rint(rng.normal(0, 30, (200_000 // n, n))), -128, 127).astype(np.int64)
    gamma, beta = rng.normal(1, 0.3, n), rng.normal(0, 0.3, n)
    sx, sy = 0.0213, 0.0317
    how = (0.0, 1e-3, n / (n - 1)) if unbiased else (1e-5, 0.0, 1.0)
    constants = NormConstants.of(
        sx, sy, gamma, beta, reach=128, epsilon=how[0], root_epsilon=how[1], correction=how[2]
    )
    got = norm_codes(codes, constants, 0, -128, 127)
    real = float_norm(codes, sx, gamma, beta, *how)
    apart = np.abs(got - np.clip(np.rint(real / float(np.float32(sy))), -128, 127))
    assert apart.max() <= 1
    assert (apart > 0).mean() <= 4e-4


@pytest.mark.parametrize("n", [2, 512, 1024])
def test_norm_of_extreme_groups(n):
    gamma, beta = np.ones(n), np.zeros(n)
    constants = NormConstants.of(0.02, 0.05, gamma, beta, reach=128, epsilon=1e-5)
    lonely, waves = np.full((1, n), -128), np.where(np.arange(n) % 2, 127, -128)[None]
    lonely[0, 0] = 127
    for codes in (np.full((1, n), 77), lonely, waves):
        real = float_norm(codes, 0.02, gamma, beta, 1e-5, 0.0, 1.0)
        wanted = np.clip(np.rint(real / float(np.float32(0.05))), -128, 127)
        assert np.array_equal(norm_codes(codes, constants, 0, -128, 127), wanted)


def test_norm_stays_in_its_widths():
    """Sums, roots and shares of the worst groups, at every length."""
    for n in range(2, MOST_ELEMENTS + 1, 7):
        codes = np.full((1, n), -128)
        codes[0, 0] = 127
        sums, squares = codes.sum(axis=1), (codes**2).sum(axis=1)
        for epsilon, root in ((0, 1), (2**34 - 1, 2**24 - 1)):
            reciprocal, shift = norm_reciprocal(sums, squares, n, epsilon, root)
            assert 0 < reciprocal[0] < 1 << 24 and shift[0] >= 0
            u = norm_standardized(n * codes - sums, reciprocal, shift)
            assert np.abs(u).max() < 1 << 21


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epsilon": 0.0}, "one must be positive"),
        ({"epsilon": -1.0}, "none negative"),
        ({"epsilon": 1e7}, "too large"),
        ({"root_epsilon": 1e4}, "too large"),
        ({"gamma": [5000.0, 1.0]}, "less than 4096"),
        ({"gamma": [4000.0, *[1.0155] * 999], "beta": [0.0] * 1000}, "0.5[0-9]* steps off"),
        ({"beta": [600.0, 1.0]}, "less than 512 steps"),
        ({"gamma": [np.nan, 1.0]}, "not finite"),
        ({"correction": 0.0}, "a variance times"),
        ({"beta": [1.0]}, "a norm over 2 elements"),
    ],
)
def test_norms_that_are_refused(changes, words):
    given = {"gamma": [1.0, 1.0], "beta": [0.0, 0.0], "epsilon": 1e-5, **changes}
    with pytest.raises(NumericsError, match=words):
        NormConstants.of(0.02, 1.0, reach=128, **given)


@pytest.mark.parametrize(("n", "sx"), [(2, 0.3), (9, 0.05), (24, 0.1), (176, 0.07), (1000, 0.02)])
def test_almost_constant_groups_are_right(n, sx):
    """ε counts most where all codes but one are equal, and elements count more often for it."""
    gamma, beta = np.full(n, 1.3), np.zeros(n)
    constants = NormConstants.of(sx, 0.031, gamma, beta, reach=128, epsilon=1e-5)
    assert constants.elements == n * constants.repeats <= MOST_ELEMENTS
    assert constants.off < 1 / 8 + 1 / 64
    codes = np.full((6, n), -5)
    codes[:, 0] += np.array([0, 1, 2, 3, -1, 9])
    real = float_norm(codes, sx, gamma, beta, 1e-5, 0.0, 1.0) / float(np.float32(0.031))
    real = np.clip(real, -128, 127)
    assert np.abs(norm_codes(codes, constants, 0, -128, 127) - real).max() <= 0.5 + constants.off
    if n == 9:  # counted once
        epsilon = round(1e-5 * n * n / sx**2)
        once = dataclasses.replace(constants, elements=n, repeats=1, epsilon=epsilon)
        assert np.abs(norm_codes(codes, once, 0, -128, 127) - real).max() > 1


@given(st.data())
@settings(max_examples=200)
def test_no_result_is_further_off_than_is_said(data):
    """Groups at random, and all but constant ones, at any scales and ε, against float64."""
    n = data.draw(st.one_of(st.integers(2, 40), st.integers(2, MOST_ELEMENTS)))
    exponent = data.draw(st.floats(-12, -1))
    behind = data.draw(st.booleans())
    sx, sy = data.draw(st.floats(2.0**-10, 1, width=32)), data.draw(st.floats(2.0**-8, 1, width=32))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    gamma, beta = rng.normal(1, 0.3, n), rng.normal(0, 0.3, n)
    if data.draw(st.booleans()):
        gamma[0] = 4000 * sy  # gains are coarse then
    zero = int(rng.integers(0, 256))
    how = {"root_epsilon" if behind else "epsilon": 10**exponent}
    try:
        norm = NormConstants.of(sx, sy, gamma, beta, reach=max(zero, 255 - zero), **how)
    except NumericsError as error:
        assert re.search("too large|steps off", str(error))
        return
    codes = rng.integers(0, 256, (20, n))
    codes[:14] = 100 + (rng.random((14, n)) < 1 / n) * rng.integers(1, 4, (14, 1))
    inner, outer = (0.0, 10**exponent) if behind else (10**exponent, 0.0)
    real = float_norm(codes, sx, gamma, beta, inner, outer, 1.0) / float(np.float32(sy))
    real = np.clip(real + zero, 0, 255)
    assert np.abs(norm_codes(codes, norm, zero, 0, 255) - real).max() <= 0.5 + norm.off


def test_what_is_off_is_bounded_by_what_does_not_saturate():
    """1,024 elements count once; half of a unit of ε is lost, and the result is 32 deviations."""
    coarse = math.sqrt(1e-5 * 1024**2 / 0.5)
    fine, wide = (
        NormConstants.of(coarse, sy, np.ones(1024), np.zeros(1024), reach=128, epsilon=1e-5)
        for sy in (0.01, 100)
    )
    assert fine.repeats == wide.repeats == 1
    assert 128.5 / 1023 / 4 < fine.off < 0.033 and wide.off < 2**-12


@given(st.floats(2.0**-11, 4000, width=32))
def test_gains_fill_their_width(gamma):
    constants = NormConstants.of(1.0, 1.0, [gamma], [0.0], reach=128, epsilon=1.0)
    assert abs(constants.gains[0]) < 1 << 17
    wider = round(gamma * 2.0 ** (constants.coefficient_shift + 1))
    assert constants.coefficient_shift == 28 or abs(wider) >= 1 << 17


def test_applied_norm_uses_gain_and_offset():
    one = np.array([1 << 16], np.int64)
    assert norm_applied(one, np.array([5 << 10]), np.array([2 << 14]), 10, 1, 0, 255)[0] == 8


@pytest.mark.parametrize("signed", [(False, False), (False, True), (True, True)])
def test_products_against_float32(signed):
    """f32(f32(acc)·s), rounded half to even, on the same exact sums."""
    rng = np.random.default_rng(3)
    a, b = (rng.integers(-128 if s else 0, 128 if s else 256, (6, 40, 40)) for s in signed)
    za, zb = (int(rng.integers(-128 if s else 0, 128 if s else 256)) for s in signed)
    scale = ProductScale.of(0.0213, za, 0.0171, zb, 0.371, 120, 0.125)
    unit = np.float32(np.float32(0.125) * np.float32(np.float32(0.0213) * np.float32(0.0171)))
    real = (((a - za) @ (b - zb)).astype(np.float32)) * np.float32(unit / np.float32(0.371))
    wanted = np.clip(np.rint(real).astype(np.int64) + 120, 0, 255)
    assert np.array_equal(product_codes(a, b, scale, 0, 255), wanted)
    other = ProductScale(scale.multiplier, scale.shift, za, zb + 1, 120)
    assert not np.array_equal(product_codes(a, b, other, 0, 255), wanted)


def test_product_scales():
    scale = ProductScale.of(0.5, 0, 0.25, 0, 1.0, 0)
    assert (scale.multiplier, scale.shift) == split_scale(0.125)
    with pytest.raises(NumericsError, match="overflows"):
        ProductScale.of(1.0, 0, 2.0**40, 0, 1.0, 0)
    with pytest.raises(NumericsError, match="positive normal"):
        ProductScale.of(1e-30, 0, 1e-20, 0, 1.0, 0)
