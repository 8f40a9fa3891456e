import math

import pytest

from reports.units import change, count, ratio, share, si, tick


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (5.58e9, "MAC", "5.58 GMAC"),
        (0, "J", "0 J"),
        (999.9e3, "B", "1.00 MB"),
        (999.4e3, "B", "999 kB"),
        (1.5e-12, "J", "1.50 pJ"),
        (3e-18, "J", "0.00 fJ"),
        (12.0, "", "12.0"),
        (-2500, "", "-2.50 k"),
    ],
)
def test_prefixes(value, unit, expected):
    assert si(value, unit) == expected


def test_axis_labels_carry_no_zeros():
    assert [tick(v, "J") for v in (2e-3, 2.5e-3, 0, 100e-6)] == ["2 mJ", "2.5 mJ", "0 J", "100 µJ"]


def test_missing_values_are_shown_as_missing():
    assert share(None) == ratio(math.inf) == si(math.nan) == "–"
    assert count(1234567) == "1,234,567"
    assert share(0.125) == "12.5 %"


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0375, "+3.8 %"), (-0.08, "−8.0 %"), (0.0, "0.0 %"), (-0.0001, "0.0 %"), (2.0, "+200.0 %")],
)
def test_changes_have_a_sign_unless_they_are_none(value, words):
    assert change(value) == words
