"""The cycle model of ARRAY HFA: transforms hide behind the stream, changes of mode do not.

That it equals the circuit, instruction by instruction, is tests/ladder/test_transformed_rtl.py.
"""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array
from hw.arch.timing import array_latency, array_occupancy, array_outputs, array_stream_cycles
from hw.arch.transform_timing import TRANSFORM_GAP, array_fill
from hw.timeline.compute import ArrayModel, array_vectors
from sim.backend import Options
from sim.cycle.backend import CycleBackend
from tests.ladder.hfa_layer import Shape, direct, make, program

TINY = AcceleratorConfig.load("tiny")
SHAPE = Shape(size=(1, 8, 12), channels=12, count=(0, 8, 12))
"""F(4×4), three sets of six tiles, one output block."""
ISSUE = 8
"""Cycles that the first set of an instruction may lose to its issue."""


def test_back_to_back_instructions_stream_without_a_gap_but_the_transforms():
    (array,) = make(SHAPE, TINY).arrays
    model = ArrayModel(TINY)
    ends = []
    cycle = 100
    for _ in range(4):
        cycle = max(cycle, model.ready(array, 0))
        ends.append(model.issue(cycle, array))
    # 36 points of 6 tiles stream in 216 cycles (a block needs 4); the next set is transformed in
    # 216 and a gap; the next instruction's first set follows the last one as closely, up to its
    # issue.
    slot = 36 * 6 + TRANSFORM_GAP
    lengths = {b - a for a, b in itertools.pairwise(ends[1:])}
    assert len(lengths) == 1
    assert 3 * 216 <= lengths.pop() <= 3 * slot + ISSUE
    first = 100 + array_fill(array, TINY) + 2 * slot + 216
    assert first - 1 <= ends[0] - array_latency(TINY) <= first + slot - 216


def test_a_small_set_takes_as_long_as_its_weights():
    (array,) = make(dataclasses.replace(SHAPE, size=(1, 4, 8), count=(0, 4, 8)), TINY).arrays
    model = ArrayModel(TINY)
    first = model.issue(0, array)
    second = model.issue(max(1, model.ready(array, 0)), array)
    # Two tiles against four cycles to load a block: half of the rate.
    assert array_stream_cycles(array, TINY) == 3 * 36 * 4
    assert second - first >= 3 * 36 * 4


@pytest.mark.parametrize("transformed_first", [True, False])
def test_a_change_of_mode_waits_for_the_stream(transformed_first):
    case = make(SHAPE, TINY)
    pair = [case.arrays[0], direct(case).arrays[0]]
    before, after = pair if transformed_first else pair[::-1]
    model = ArrayModel(TINY)
    done = model.issue(0, before)
    assert done - array_latency(TINY) <= model.ready(after, 0) <= done
    if transformed_first:
        assert model.ready(before, 0) < model.ready(after, 0)
    else:
        assert model.ready(after, 0) == array_occupancy(before, TINY)


def test_another_algorithm_waits_for_the_stream():
    array = make(SHAPE, TINY).arrays[0]
    other = make(dataclasses.replace(SHAPE, spatial=1, count=(0, 4, 4)), TINY).arrays[0]
    model = ArrayModel(TINY)
    model.issue(0, array)
    assert model.ready(array, 0) < model.ready(other, 0)


@pytest.mark.parametrize("parts", [1, 3])
def test_vectors_are_counted(parts):
    case = make(dataclasses.replace(SHAPE, parts=parts, filters=3), TINY)
    assert sum(array_vectors(a) for a in case.arrays) == 3 * 36 * 6
    assert array_outputs(case.arrays[0]) == 36 * 6
    linked = program(case)
    result = CycleBackend().run(linked, TINY, linked.memory(), Options())
    assert result.counters["array_vectors"] == 3 * 36 * 6


def test_twin_an_unknown_mode_has_other_times():
    """The model must see the mode: the same counts as GEMM take other times."""
    (array,) = make(SHAPE, TINY).arrays
    plain: Array = dataclasses.replace(array, mode=0, transform_s=0)
    assert ArrayModel(TINY).issue(0, array) != ArrayModel(TINY).issue(0, plain)
