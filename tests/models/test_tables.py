"""Exact arithmetic behind the tables."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.tables import QParams, add_table, fma32, quantize_float

floats = st.floats(2.0**-20, 2.0**20, width=32) | st.floats(-(2.0**20), -(2.0**-20), width=32)


def _round32(value: Fraction) -> np.float32:
    """Nearest float32, ties to even, by search among neighbours (exact rationals)."""
    guess = np.float32(float(value))
    near = [
        np.nextafter(guess, np.float32(-np.inf)),
        guess,
        np.nextafter(guess, np.float32(np.inf)),
    ]
    even = lambda f: int(f.view(np.int32)) & 1  # noqa: E731
    return min(near, key=lambda f: (abs(Fraction(float(f)) - value), even(f)))


@settings(max_examples=500, deadline=None)
@given(floats, floats, floats)
def test_fma_rounds_once(a, b, c):
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    assert fma32(np.float32(a), np.float32(b), np.float32(c)) == _round32(exact)


def test_fma_where_two_roundings_fail():
    # 1 + 2^-24 + 2^-60: float64 drops the last bit and leaves a tie, which would go to 1.
    a, b, c = np.float32(2.0**-30), np.float32(2.0**-30), np.float32(1)
    tie = np.float32(2.0**-24)
    assert np.float32(np.float64(a) * np.float64(b) + np.float64(c)) == 1
    product = np.float32(1 + 2.0**-12)  # its square is 1 + 2^-11 + 2^-24: a tie in float32
    nudge = np.float32(2.0**-60)
    two_roundings = np.float32(np.float64(product) * np.float64(product) + np.float64(nudge))
    assert fma32(product, product, nudge) > two_roundings
    assert fma32(product, product, -nudge) == two_roundings
    assert fma32(a, b, c) == 1 and tie > 0


def _exact_add(a, b, y, qa, qb, qy) -> int:
    """QLinearAdd written with rationals, apart from the implementation."""
    ra, rb = np.float32(qa.unit / qy.unit), np.float32(qb.unit / qy.unit)
    inner = _round32(
        Fraction(float(ra)) * qa.zero + Fraction(float(np.float32(rb * np.float32(qb.zero))))
    )
    k = np.float32(np.float32(qy.zero) - inner)
    t = _round32(Fraction(b) * Fraction(float(rb)) + Fraction(float(k)))
    total = _round32(Fraction(a) * Fraction(float(ra)) + Fraction(float(t)))
    return int(min(255, max(0, round(Fraction(float(total))))))


def _params(scale: float, zero: int) -> QParams:
    return QParams(np.array([scale], np.float32), np.array([zero]), np.dtype(np.uint8))


def test_add_table_equals_rationals():
    rng = np.random.default_rng(0)
    qa, qb, qy = _params(0.0237, 17), _params(0.0071, 200), _params(0.0293, 90)
    table = add_table(qa, qb, qy)
    for a, b in rng.integers(0, 256, (400, 2)).tolist():
        assert table[a, b] == _exact_add(a, b, None, qa, qb, qy)
    wrong = add_table(qa, qb, _params(0.0293, 91))
    assert (wrong != table).any()


def test_quantize_saturates_and_rounds_half_to_even():
    q = _params(0.5, 10)
    values = np.array([-1e30, 0.25, 0.75, 1e30, -0.25], np.float32)
    assert quantize_float(values, q).tolist() == [0, 10, 12, 255, 10]
