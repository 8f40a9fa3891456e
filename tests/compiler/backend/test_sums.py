"""Sums of units' work: the longest unit, and what is not hidden behind it."""

import dataclasses

import pytest

from compiler.tile.sums import Sums
from compiler.tile.tiling import candidates
from tests.compiler.backend.hfa_cases import BASE as CONFIG
from tests.compiler.backend.test_ranking import CASES, convolution_ways

UNITS = ("array", "drain", "vector", "port")


@pytest.mark.parametrize("unit", UNITS)
def test_units_work_at_the_same_time(unit):
    sums = dataclasses.replace(Sums(100, 100, 100, 100, turns=20, fill=3), **{unit: 107})
    assert sums.cycles == 130
    assert sums.describe() == {**dict.fromkeys(UNITS, 100), "turns": 20, "fill": 3, unit: 107}


@pytest.mark.parametrize("case", CASES)
def test_loads_take_turns_where_they_have_one_slot(case):
    """And nothing else does."""
    _, ways = convolution_ways(CASES[case])
    slots = {True: 0, False: 0}
    for way in ways:
        for tiling in candidates(way.job.problem, CONFIG):
            assert tiling.cycles == tiling.sums.cycles
            assert bool(tiling.sums.turns) == (tiling.input_slots == 1)
            slots[tiling.input_slots == 1] += 1
    assert all(slots.values())


def test_the_array_streams_no_less_than_its_instructions():
    """Of a direct layer in one tile: each block of weights past all positions."""
    (op, _, _), ways = convolution_ways(CASES["short"])
    way = next(way for way in ways if way.direct)
    positions = 14 * 14
    blocks = (op.in_channels // CONFIG.lane_block) * 9 * (op.out_channels // CONFIG.array.cols)
    assert way.tiling.sums.array >= blocks * positions > 0.9 * way.tiling.sums.array
