"""hw/arch/winograd.py against direct convolution (PyTorch in float64, exact on these integers)."""

import dataclasses
import functools
import itertools
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.arch import winograd
from hw.arch.config import AcceleratorConfig
from hw.arch.winograd import (
    ALGORITHMS,
    Algorithm,
    Division,
    Pixels,
    folded_bias,
    raw_zero_point,
    wrap,
)

BITS = 36
EXTREMES = (-128, 127)
FLAT = Algorithm(0, 2)
NESTED = Algorithm(1, 2)
each_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: a.name)


def direct(x, w, padding=(0, 0, 0), dilation=(1, 1, 1)):
    """[N, C, T, H, W] ⊛ [M, C, kt, ky, kx], zero padding."""
    result = torch.nn.functional.conv3d(
        torch.from_numpy(x.astype(np.float64)),
        torch.from_numpy(w.astype(np.float64)),
        padding=padding,
        dilation=dilation,
    )
    return result.numpy().astype(np.int64)


def tile_result(algorithm, tiles, weights, bits=BITS):
    """Tiles [n, C, points], weights [M, C, taps] to [n, M, outputs], accumulators wrapping."""
    u = algorithm.transform_input(tiles)
    v = algorithm.transform_weights(weights)
    total = np.zeros((len(tiles), len(weights), *algorithm.points), np.int64)
    for channel in range(tiles.shape[1]):
        total = wrap(total + u[:, None, channel] * v[None, :, channel], bits)
    return algorithm.transform_output(total, bits)


def convolve(algorithm, x, w, padding, pad_value, bits=BITS):
    """[C, T, H, W] ⊛ [M, C, kt, ky, kx] by tiles; ragged tiles are computed whole and clipped."""
    sizes = [n + 2 * p - k + 1 for n, p, k in zip(x.shape[1:], padding, w.shape[2:], strict=True)]
    tiles = [-(-n // a.outputs) for n, a in zip(sizes, algorithm.axes, strict=True)]
    rests = [
        range(k if a.taps == 1 else 1) for k, a in zip(w.shape[2:], algorithm.axes, strict=True)
    ]
    behind = [
        (n - 1) * a.outputs + a.points + rest[-1] - size - p
        for n, a, rest, size, p in zip(
            tiles, algorithm.axes, rests, x.shape[1:], padding, strict=True
        )
    ]
    pads = [(0, 0), *((p, max(b, 0)) for p, b in zip(padding, behind, strict=True))]
    padded = np.pad(x, pads, constant_values=pad_value)
    total = np.zeros((len(w), *tiles, *algorithm.points), np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(padded, algorithm.points, (1, 2, 3))
    for tap in itertools.product(*rests):
        starts = tuple(
            slice(t, t + n * a.outputs, a.outputs)
            for t, n, a in zip(tap, tiles, algorithm.axes, strict=True)
        )
        inner = tuple(slice(t, t + a.taps) for t, a in zip(tap, algorithm.axes, strict=True))
        u = algorithm.transform_input(windows[:, *starts])
        v = algorithm.transform_weights(w[:, :, *inner])
        total = wrap(total + np.einsum("ctyxijk,ncijk->ntyxijk", u, v), bits)
    y = algorithm.transform_output(total, bits).transpose(0, 1, 4, 2, 5, 3, 6)
    whole = y.reshape(len(w), *(n * a.outputs for n, a in zip(tiles, algorithm.axes, strict=True)))
    return whole[:, *(slice(n) for n in sizes)]


def basis_pairs(algorithm):
    """L·y for every pair of a unit pixel and a unit tap, and the direct results."""
    pixels, taps = math.prod(algorithm.points), math.prod(algorithm.kernel)
    tiles = np.eye(pixels, dtype=np.int64).reshape(pixels, 1, *algorithm.points)
    weights = np.eye(taps, dtype=np.int64).reshape(taps, 1, *algorithm.kernel)
    u, v = algorithm.transform_input(tiles), algorithm.transform_weights(weights)
    return algorithm.scaled(u * v[None, :, 0], BITS), direct(tiles, weights)


# Proof: both sides are bilinear, so equality on all basis pairs is equality everywhere.


@each_algorithm
def test_equals_convolution_on_all_basis_pairs(algorithm):
    result, expected = basis_pairs(algorithm)
    assert expected.any()
    np.testing.assert_array_equal(result, algorithm.scale * expected)
    np.testing.assert_array_equal(Division.by(algorithm.scale, BITS)(result), expected)


@pytest.mark.parametrize("matrix", ["input_rows", "weight_rows", "output_rows"])
@pytest.mark.parametrize("index", [1, 2])
def test_basis_pairs_see_every_coefficient(matrix, index, monkeypatch):
    transform = winograd.TRANSFORMS[index]
    rows = getattr(transform, matrix)
    for row, column in itertools.product(range(len(rows)), range(len(rows[0]))):
        changed = [list(r) for r in rows]
        changed[row][column] += 1
        wrong = dataclasses.replace(transform, **{matrix: tuple(map(tuple, changed))})
        transforms = [*winograd.TRANSFORMS]
        transforms[index] = wrong
        monkeypatch.setattr(winograd, "TRANSFORMS", tuple(transforms))
        result, expected = basis_pairs(Algorithm(index, 0))
        assert (result != wrong.scale * expected).any(), (row, column)


@each_algorithm
def test_random_and_extreme_tiles(algorithm):
    rng = np.random.default_rng(3)
    shape = (40, 3, *algorithm.points)
    kernel = (5, 3, *algorithm.kernel)
    for tiles, weights in (
        (rng.integers(-128, 128, shape), rng.integers(-128, 128, kernel)),
        (rng.integers(-255, 256, shape), rng.integers(-128, 128, kernel)),
        (rng.choice(EXTREMES, shape), rng.choice(EXTREMES, kernel)),
        (np.full(shape, -128), np.full(kernel, -128)),
        (np.full(shape, 255), np.full(kernel, -128)),
    ):
        np.testing.assert_array_equal(
            tile_result(algorithm, tiles, weights, 40), direct(tiles, weights)
        )


# Widths.


def corner_range(matrix, boxes):
    """Range over all corners that the signs of a form's coefficients select."""
    low = high = 0
    for box in boxes:
        best = np.where(matrix > 0, box[1], box[0])
        worst = np.where(matrix > 0, box[0], box[1])
        high = max(high, int((best * matrix).sum(axis=1).max()))
        low = min(low, int((worst * matrix).sum(axis=1).min()))
    return low, high


@each_algorithm
@pytest.mark.parametrize("operand", Pixels)
def test_input_range_is_attained_and_never_left(algorithm, operand):
    pixels = math.prod(algorithm.points)
    unit = np.eye(pixels, dtype=np.int64).reshape(pixels, *algorithm.points)
    response = algorithm.transform_input(unit).reshape(pixels, pixels).T
    low, high = algorithm.input_range(operand)
    assert (low, high) == corner_range(response, operand.value)
    # The extreme tiles themselves, through the transform.
    tiles = np.concatenate([np.where(response > 0, b, a) for a, b in operand.value])
    tiles = np.concatenate([tiles, *(np.where(response > 0, a, b) for a, b in operand.value)])
    u = algorithm.transform_input(tiles.reshape(-1, *algorithm.points))
    assert (u.min(), u.max()) == (low, high)
    bits = algorithm.input_bits(operand)
    np.testing.assert_array_equal(wrap(u, bits), u)
    assert (wrap(u, bits - 1) != u).any()


@each_algorithm
def test_weight_range_is_attained_and_never_left(algorithm):
    taps = math.prod(algorithm.kernel)
    unit = np.eye(taps, dtype=np.int64).reshape(taps, *algorithm.kernel)
    response = algorithm.transform_weights(unit).reshape(taps, -1).T
    tiles = np.concatenate(
        [np.where(response > 0, *EXTREMES), np.where(response > 0, *reversed(EXTREMES))]
    )
    v = algorithm.transform_weights(tiles.reshape(-1, *algorithm.kernel))
    assert (v.min(), v.max()) == algorithm.weight_range() == corner_range(response, [EXTREMES])
    bits = algorithm.weight_bits()
    np.testing.assert_array_equal(wrap(v, bits), v)
    assert (wrap(v, bits - 1) != v).any()


@pytest.mark.parametrize(
    "algorithm", [Algorithm(1, 0), Algorithm(2, 0), Algorithm(0, 1)], ids=lambda a: a.name
)
@pytest.mark.parametrize("operand", Pixels)
def test_input_range_over_every_corner(algorithm, operand):
    pixels = math.prod(algorithm.points)
    corners = ((np.arange(1 << pixels)[:, None] >> np.arange(pixels)) & 1).astype(bool)
    u = [
        algorithm.transform_input(np.where(corners, b, a).reshape(-1, *algorithm.points))
        for a, b in operand.value
    ]
    assert (np.min(u), np.max(u)) == algorithm.input_range(operand)


def test_widths():
    widths = {
        a.name: (a.input_bits(Pixels.RAW), a.input_bits(Pixels.CENTRED), a.weight_bits(), a.scale)
        for a in ALGORITHMS
    }
    assert widths == {
        "F(2,3)": (9, 10, 10, 2),
        "F(4,3)": (12, 12, 11, 24),
        "F(2×2,3×3)": (10, 11, 12, 4),
        "F(4×4,3×3)": (15, 16, 14, 576),
        "F(2,3)⊗F(2×2,3×3)": (11, 12, 13, 8),
        "F(4,3)⊗F(2×2,3×3)": (14, 14, 14, 96),
        "F(2,3)⊗F(4×4,3×3)": (16, 17, 16, 1152),
        "F(4,3)⊗F(4×4,3×3)": (18, 19, 17, 13824),
    }


@pytest.mark.parametrize("operand", Pixels)
def test_sum_range_is_attained(operand):
    terms = 7
    sums = [
        terms * x * w for box in operand.value for x in range(box[0], box[1] + 1) for w in EXTREMES
    ]
    assert (min(sums), max(sums)) == winograd.sum_range(operand, terms)


def test_signed_bits():
    cases = {(0, 0): 1, (-1, 0): 1, (-128, 127): 8, (-128, 128): 9, (-129, 0): 9, (0, 255): 9}
    assert {bounds: winograd.signed_bits(*bounds) for bounds in cases} == cases


# Accumulators.


def extreme_layer(algorithm, operand, channels):
    """Signs at random; the first tile and kernel give the largest sum, the second ones the largest
    products in the point with the widest operands."""
    rng = np.random.default_rng(5)
    low, high = operand.value[-1]
    tiles = rng.choice((low, high), (4, channels, *algorithm.points))
    weights = rng.choice(EXTREMES, (3, channels, *algorithm.kernel))
    tiles[0], weights[0] = low, -128
    rows = [
        functools.reduce(np.kron, (np.array(getattr(axis, name)) for axis in algorithm.axes))
        for name in ("input_rows", "weight_rows")
    ]
    forms = [np.where(rows[0] > 0, low, high), np.where(rows[0] > 0, high, low)]
    sizes = np.abs([(form * rows[0]).sum(axis=1) for form in forms])
    side, point = np.unravel_index(np.argmax(sizes * np.abs(rows[1]).sum(axis=1)), sizes.shape)
    tiles[1] = forms[side][point].reshape(algorithm.points)
    weights[1] = np.where(rows[1][point] < 0, 127, -128).reshape(algorithm.kernel)
    return tiles, weights


@pytest.mark.parametrize(
    ("algorithm", "operand", "channels", "bits", "early"),
    [
        (Algorithm(2, 0), Pixels.CENTRED, 512, 30, False),
        (FLAT, Pixels.CENTRED, 512, 35, False),
        (FLAT, Pixels.RAW, 512, 34, True),
        (NESTED, Pixels.RAW, 512, 36, True),
        (NESTED, Pixels.CENTRED, 256, 36, True),
        (NESTED, Pixels.CENTRED, 512, 37, True),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_wrapping_accumulators_are_exact_and_one_bit_fewer_is_not(
    algorithm, operand, channels, bits, early
):
    assert algorithm.accumulator_bits(operand, channels) == bits
    tiles, weights = extreme_layer(algorithm, operand, channels)
    expected = direct(tiles, weights)
    products = np.einsum(
        "ncijk,mcijk->nmijk",
        algorithm.transform_input(tiles),
        algorithm.transform_weights(weights),
    )
    # L·y wraps in every case; the sums in front of the output transform wrap in the `early` ones.
    scaled = algorithm.scale * expected
    assert (wrap(scaled, bits) != scaled).any()
    assert (wrap(products, bits) != products).any() == early
    np.testing.assert_array_equal(tile_result(algorithm, tiles, weights, bits), expected)
    assert (tile_result(algorithm, tiles, weights, bits - 1) != expected).any()


def test_untransformed_taps_count_in_the_sum():
    assert FLAT.accumulator_bits(Pixels.RAW, 512, 27) == 35
    assert FLAT.accumulator_bits(Pixels.CENTRED, 512, 27) == 36


@each_algorithm
def test_division_is_exact_on_its_whole_range(algorithm):
    division = Division.by(algorithm.scale, BITS)
    top = 1 << (division.bits - 1)
    y = np.array([-top, -top + 1, -3, -1, 0, 1, 2, 9, 27, top - 1])
    np.testing.assert_array_equal(division(wrap(y * algorithm.scale, BITS)), y)
    if division.inverse != 1:
        wrong = dataclasses.replace(division, inverse=division.inverse ^ 4)
        assert (wrong(wrap(y * algorithm.scale, BITS)) != y).any()
    wrong = dataclasses.replace(division, shift=division.shift + 1)
    assert (wrong(wrap(y * algorithm.scale, BITS)) != y).any()
    narrow = dataclasses.replace(division, bits=division.bits - 1)
    assert (narrow(wrap(y * algorithm.scale, BITS)) != y).any()


@pytest.mark.parametrize(("odd", "factor"), [(3, 21), (9, 7)])
def test_inverse_is_four_additions(odd, factor):
    """1/odd = −factor·(1 + 2^6)(1 + 2^12)(1 + 2^24) modulo 2^36, as the circuit computes it."""
    chain = -factor * (1 + (1 << 6)) * (1 + (1 << 12)) * (1 + (1 << 24))
    assert chain % (1 << 36) == pow(odd, -1, 1 << 36)
    assert chain % (1 << 49) != pow(odd, -1, 1 << 49)


def test_division_without_room():
    with pytest.raises(ValueError, match="leaves -1 bits"):
        Division.by(1 << 9, 8)


# Verdicts.


@pytest.mark.parametrize(
    ("algorithm", "operand", "channels", "text"),
    [
        (NESTED, Pixels.RAW, 512, "exact: .*16 of 17 bits, .*16 of 16 bits, .*36 of 36 bits"),
        (NESTED, Pixels.CENTRED, 512, "accumulators of 512 channels need 37 bits, .* is 36"),
        (NESTED, Pixels.RAW, 1024, "accumulators of 1024 channels need 37 bits, .* is 36"),
        (Algorithm(2, 2), Pixels.RAW, 16, "activations need 18 bits, array.activation_bits is 17"),
    ],
)
def test_verdict_names_width_and_limit(algorithm, operand, channels, text):
    base = AcceleratorConfig.load("base")
    array = dataclasses.replace(base.array, activation_bits=17, weight_bits=16)
    verdict = algorithm.fits(array, base.memory, channels, operand)
    assert bool(verdict) == text.startswith("exact")
    assert re.search(text, verdict.reason), verdict.reason


def test_int8_array_is_too_narrow():
    base = AcceleratorConfig.load("base")
    array = dataclasses.replace(base.array, activation_bits=9, weight_bits=8)
    verdict = Algorithm(1, 0).fits(array, base.memory, 16)
    assert not verdict
    assert "transformed weights need 10 bits, array.weight_bits is 8" in verdict.reason


# Zero point, padding, ragged tiles.


@st.composite
def layers(draw):
    algorithm = draw(st.sampled_from(ALGORITHMS))
    kernel = tuple(3 if a.taps == 3 else draw(st.sampled_from((1, 3))) for a in algorithm.axes)
    padding = tuple(draw(st.integers(0, k - 1)) for k in kernel)
    size = tuple(
        draw(st.integers(max(1, k - 2 * p), 9)) for k, p in zip(kernel, padding, strict=True)
    )
    channels, outputs = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    signed = draw(st.booleans())
    first = -128 if signed else 0
    codes = st.sampled_from((rng.integers(0, 256, (channels, *size)),
                             rng.choice((0, 255), (channels, *size))))  # fmt: skip
    x = draw(codes) + first
    w = rng.integers(-128, 128, (outputs, channels, *kernel))
    zero_point = first + draw(st.integers(0, 255))
    return algorithm, x, w, padding, zero_point, signed


@settings(max_examples=300, deadline=None)
@given(layers(), st.sampled_from(Pixels))
def test_layers_equal_direct_convolution(layer, operand):
    algorithm, x, w, padding, zero_point, signed = layer
    expected = direct((x - zero_point)[None], w, padding)[0]
    if operand is Pixels.CENTRED:
        result = convolve(algorithm, x - zero_point, w, padding, 0, 40)
    else:
        raw = x if signed else x - 128
        z = raw_zero_point(zero_point, signed)
        bias = folded_bias(np.zeros(len(w), np.int64), w, z)
        result = convolve(algorithm, raw, w, padding, z, 40) + bias[:, None, None, None]
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("dilation", [2, 3])
def test_dilated_time_is_interleaved_sequences(dilation):
    rng = np.random.default_rng(7)
    x, w = rng.integers(-128, 128, (4, 11, 2, 3)), rng.integers(-128, 128, (3, 4, 3, 1, 1))
    padded = np.pad(x, ((0, 0), (dilation, dilation), (0, 0), (0, 0)))
    result = np.zeros((3, 11, 2, 3), np.int64)
    for phase in range(dilation):
        part = convolve(Algorithm(2, 0), padded[:, phase::dilation], w, (0, 0, 0), 0)
        result[:, phase::dilation] = part
    np.testing.assert_array_equal(result, direct(x[None], w, (dilation, 0, 0), (dilation, 1, 1))[0])


@pytest.fixture
def padded_layer():
    rng = np.random.default_rng(11)
    return rng.integers(0, 256, (3, 1, 7, 7)), rng.integers(-128, 128, (2, 3, 1, 3, 3)), 17


def test_raw_padding_with_zero_is_wrong(padded_layer):
    x, w, zero_point = padded_layer
    z = raw_zero_point(zero_point, signed=False)
    bias = folded_bias(np.zeros(2, np.int64), w, z)[:, None, None, None]
    expected = direct((x - zero_point)[None], w, (0, 1, 1))[0]
    right = convolve(FLAT, x - 128, w, (0, 1, 1), z) + bias
    np.testing.assert_array_equal(right, expected)
    wrong = convolve(FLAT, x - 128, w, (0, 1, 1), 0) + bias
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    np.testing.assert_array_equal(wrong[inner], expected[inner])
    assert (wrong != expected).any()
    assert (right - bias != expected).any()


def test_folded_bias_has_32_bits():
    weights = np.full((1, 1 << 17, 1, 1, 1), -128)
    folded_bias(np.zeros(1, np.int64), weights, -127)
    with pytest.raises(ValueError, match="2147483648 does not fit 32 bits"):
        folded_bias(np.zeros(1, np.int64), weights, -128)


def test_wrong_shapes_and_transforms_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 6, 5\) instead of \(1, 6, 6\)"):
        FLAT.transform_input(np.zeros((1, 6, 5), np.int64))
    with pytest.raises(ValueError, match=r"temporal transform 3; known: 0\.\.2"):
        Algorithm(3, 0)


def test_names_and_gains():
    gains = {a.name: round(a.gain, 3) for a in ALGORITHMS}
    assert gains["F(2,3)⊗F(4×4,3×3)"] == 6.0
    assert gains["F(4×4,3×3)"] == 4.0
    assert gains["F(4,3)"] == 2.0
    assert Algorithm(0, 0).name == "direct"
