import math

import pytest

from reports.roof import Roof, intensity


def test_bound_is_the_lower_of_both():
    roof = Roof(multipliers=256, port_bytes=16)
    assert roof.ridge == 16
    assert roof.bound(4) == 64
    assert roof.bound(16) == roof.bound(1000) == roof.bound(math.inf) == 256
    assert (roof.limit(15.9), roof.limit(16)) == ("memory", "multipliers")


@pytest.mark.parametrize(("macs", "size", "expected"), [(100, 50, 2), (0, 50, 0), (0, 0, 0)])
def test_intensity(macs, size, expected):
    assert intensity(macs, size) == expected


def test_work_without_traffic_is_bounded_by_the_multipliers():
    assert Roof(16, 4).bound(intensity(10, 0)) == 16
