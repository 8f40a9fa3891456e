"""What FOLD has beside the arithmetic of groups: operands as they lie in memory, products."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hw.arch.fold_numerics import (
    Dot,
    coefficient_rows,
    exponential_tables,
    unpack_coefficients,
    unpack_exponentials,
)
from hw.arch.numerics import Mean, NumericsError


def test_coefficients_as_they_lie_in_rows():
    rng = np.random.default_rng(2)
    gain = rng.integers(-(1 << 17), 1 << 17, (3, 8))
    offset = rng.integers(-(1 << 23), 1 << 23, (3, 8))
    rows = coefficient_rows(gain, offset)
    assert rows.shape == (3, 6, 8)
    assert rows[1, 4, 2] == (int(offset[1, 2]) >> 8) & 0xFF
    found = unpack_coefficients(rows)
    assert np.array_equal(found[0], gain) and np.array_equal(found[1], offset)
    rows[:, 2] ^= 0x80  # the sign of G's third byte does not count, its 18 bits do
    assert np.array_equal(unpack_coefficients(rows)[0], gain)
    rows[:, 2] ^= 0x82
    assert not np.array_equal(unpack_coefficients(rows)[0], gain)


def test_exponentials_as_they_lie_in_tables():
    words = [(1 << 20) - 3 * d for d in range(256)]
    data = exponential_tables(words)
    assert len(data) == 4 * 256
    assert data[4 * 7 : 4 * 8] == words[7].to_bytes(4, "little")
    assert unpack_exponentials(np.frombuffer(data, np.uint8)).tolist() == words
    wide = exponential_tables([w + (1 << 21) for w in words])
    assert unpack_exponentials(np.frombuffer(wide, np.uint8)).tolist() == words


@pytest.mark.parametrize("signed", [False, True])
def test_products_are_float32_s(signed):
    """As ONNX Runtime's QLinearMatMul: exact sum, one product in float32, rounded."""
    rng = np.random.default_rng(3)
    a = rng.integers(0, 256, (4000, 64))
    b = rng.integers(0, 256, (4000, 64)) - (128 if signed else 0)
    for _ in range(10):
        sa, sb = rng.uniform(0.005, 0.1, 2).astype(np.float32)
        sy = np.float32(sa * sb * rng.uniform(500, 20000))
        za, zb, zy = int(rng.integers(120, 136)), int(b.mean()), int(rng.integers(100, 150))
        dot = Dot.of(sa, za, sb, zb, sy, zy, bound=64 * 255 * 255)
        total = ((a - za) * (b - zb)).sum(-1)
        s = np.float32(sa * sb) / sy
        expected = np.clip(np.rint(total.astype(np.float32) * s).astype(np.int64) + zy, 0, 255)
        assert np.array_equal(dot(a, b, 0, 255), expected)
        other = dataclasses.replace(dot, zb=dot.zb + 1)
        assert not np.array_equal(other(a, b, 0, 255), expected)


REFUSED = [
    ((1, 0, 1, 0, 1, 0, (1 << 24) + 1), "up to 16777217; at most 16777216"),
    ((1, 0, 1, 0, 16, 0, 1 << 22), r"up to 4194304 at scale 0\.0625; below 262144"),
    ((1e-4, 0, 1e-4, 0, 1, 0, 1), "outside the affine arithmetic's range"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_products_that_are_refused(arguments, message):
    with pytest.raises(NumericsError, match=message):
        Dot.of(*arguments)


def test_a_product_that_just_fits():
    Dot.of(1, 0, 1, 0, 64, 0, (1 << 24) - 1)


def test_a_mean_with_its_zero_point_inside_is_float32_s():
    rng = np.random.default_rng(4)
    total = rng.integers(-1000, 1000, 5000)
    mean, first = (Mean.of(0.05, 0.05, 131, 4, add_first=f) for f in (False, True))
    scaled = total.astype(np.float32) * np.float32(0.25)
    inside = np.clip(np.rint(scaled + np.float32(131)), 0, 255)
    behind = np.clip(np.rint(scaled) + 131, 0, 255)
    assert np.array_equal(first(total, 0, 255), inside)
    assert np.array_equal(mean(total, 0, 255), behind)
    assert np.mean(inside != behind) > 0.05
