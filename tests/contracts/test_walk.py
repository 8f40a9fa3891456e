"""Access intervals against addresses stepped one by one, the way a counter nest would."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    Array,
    ArrayMode,
    Drain,
    Elementwise,
    ElementwiseOp,
    Fold,
    FoldOp,
    Load,
    Permute,
    PermuteOp,
    Reduce,
    ReduceOp,
    Scalar,
    Space,
    Store,
    deltas,
)
from hw.arch.timing import array_outputs
from hw.arch.walk import Access, Memory, accesses, offsets
from tests.machines import folding

TINY = AcceleratorConfig.load("tiny")
FOLDING = folding("tiny")
LANES = FOLDING.lane_block


def small(low, high):
    return st.integers(low, high)


def nest(levels, top=3):
    return st.tuples(*[small(1, top)] * levels)


def steps(levels, top=20):
    return st.tuples(*[small(-top, top)] * levels)


def points(counts):
    """Counter values, innermost first."""
    for reverse in itertools.product(*map(range, reversed(counts))):
        yield reverse[::-1]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def interval(memory, addresses, write):
    return Access(memory, min(addresses), max(addresses), write)


@given(nest(3), steps(3))
def test_offsets(counts, step):
    grid = offsets(counts, step)
    assert grid.ravel().tolist() == [dot(p, step) for p in points(counts)]


@given(nest(8, 2), steps(8), steps(3, 2), nest(3), nest(3), nest(3, 4))
def test_array(counts, step, starts, pitch, dilations, bounds):
    instruction = Array(
        activation=3000,
        counts=counts,
        deltas=deltas(counts, step),
        starts=starts,
        steps=pitch,
        dilations=dilations,
        bounds=bounds,
        accumulator=3,
        weight=8,
    )
    rows = set()
    for point in points(counts):
        where = [starts[d] + point[d] * pitch[d] + point[4 + d] * dilations[d] for d in range(3)]
        if all(0 <= w < b for w, b in zip(where, bounds, strict=True)):
            rows.add(3000 + dot(point, step))
    got = accesses(instruction, TINY)
    expected = [interval(Memory.ACTIVATION, rows, False)] if rows else []
    blocks = 1
    for c in counts[3:]:
        blocks *= c
    expected.append(Access(Memory.WEIGHT, 8, 8 + 4 * blocks - 1, False))
    outputs = counts[0] * counts[1] * counts[2] * counts[3]
    expected.append(Access(Memory.ACCUMULATOR, 3, 2 + outputs, True))
    assert got == expected


def test_first_position_before_row_zero_is_stored_modulo():
    counts = (4, 1, 1, 1, 1, 1, 1, 1)
    instruction = Array(
        activation=0xFFFF,
        counts=counts,
        deltas=deltas(counts, (1, 0, 0, 0, 0, 0, 0, 0)),
        starts=(-1, 0, 0),
        bounds=(3, 1, 1),
    )
    assert accesses(instruction, TINY)[0] == Access(Memory.ACTIVATION, 0, 2, False)


@given(small(1, 7), small(1, 7), small(1, 3), small(1, 3), small(1, 3), small(1, 3))
def test_depthwise_outputs(x, y, wx, wy, ex, ey):
    assume(x >= wx and y >= wy)
    instruction = Array(
        mode=ArrayMode.DEPTHWISE,
        counts=(x, y, 2, 1, 1, 1, 1, 1),
        window_x=wx,
        window_y=wy,
        emit_x=ex,
        emit_y=ey,
    )
    columns = sum((i - wx + 1) % ex == 0 for i in range(wx - 1, x))
    lines = sum((i - wy + 1) % ey == 0 for i in range(wy - 1, y))
    assert array_outputs(instruction) == columns * lines * 2


@given(nest(4), nest(3), steps(7), steps(5))
def test_drain(counts, window, inner, outer):
    full = (*window, *counts)
    out = (1, *counts)
    instruction = Drain(
        accumulator=60,
        counts=counts,
        window=window,
        accumulator_deltas=deltas(full, inner),
        destination=1000,
        destination_deltas=deltas(out, outer),
        parameter=16,
    )
    rows = [60 + dot(p, inner) for p in points(full)]
    targets = [1000 + dot(p, outer) for p in points(out)]
    expected = [
        interval(Memory.ACCUMULATOR, rows, False),
        Access(Memory.PARAMETER, 16, 16 + counts[3] * 8 - 1, False),
    ]
    expected.append(interval(Memory.ACTIVATION, targets, True))
    assert accesses(instruction, TINY) == expected


@given(nest(4), steps(4), steps(4), steps(4), st.booleans(), st.sampled_from(ElementwiseOp))
def test_elementwise(counts, first, second, target, previous, op):
    produced = (counts[0] - 1, *counts[1:]) if previous else counts
    assume(produced[0] > 0)
    instruction = Elementwise(
        op=op,
        previous=previous,
        counts=counts,
        source0=200,
        source0_deltas=deltas(counts, first),
        source1=600,
        source1_deltas=deltas(counts, second),
        destination=1000,
        destination_deltas=deltas(produced, target),
    )
    expected = [interval(Memory.ACTIVATION, [200 + dot(p, first) for p in points(counts)], False)]
    if op is not ElementwiseOp.COPY and not previous:
        rows = [600 + dot(p, second) for p in points(counts)]
        expected.append(interval(Memory.ACTIVATION, rows, False))
    rows = [1000 + dot(p, target) for p in points(produced)]
    expected.append(interval(Memory.ACTIVATION, rows, True))
    assert accesses(instruction, TINY) == expected


@given(nest(4), nest(3), steps(7), steps(4), steps(3, 2), nest(3), nest(3, 4))
def test_reduce(counts, window, inner, outer, starts, pitch, bounds):
    full = (*window, *counts)
    instruction = Reduce(
        op=ReduceOp.SUM,
        counts=counts,
        window=window,
        source=500,
        source_deltas=deltas(full, inner),
        destination=1500,
        destination_deltas=deltas(counts, outer),
        starts=starts,
        steps=pitch,
        bounds=bounds,
    )
    rows = set()
    for point in points(full):
        where = [starts[d] + point[3 + d] * pitch[d] + point[d] for d in range(3)]
        if all(0 <= w < b for w, b in zip(where, bounds, strict=True)):
            rows.add(500 + dot(point, inner))
    expected = [interval(Memory.ACTIVATION, rows, False)] if rows else []
    targets = [1500 + dot(p, outer) for p in points(counts)]
    expected.append(interval(Memory.ACTIVATION, targets, True))
    assert accesses(instruction, TINY) == expected


@given(nest(4, 6), steps(4), steps(4), steps(4), st.sampled_from(FoldOp), st.booleans())
def test_fold(counts, first, second, target, op, gather):
    gathers = gather and op in (FoldOp.DOT, FoldOp.MAX)
    _, n1, n2, n3 = counts
    softmax = op in (FoldOp.SOFTMAX_COLLECT, FoldOp.SOFTMAX_APPLY)
    coefficients = (6, n1, n2, n3)
    results = (1, 1, -(-n2 // LANES) if gathers else n2, n3)
    written = counts if op in (FoldOp.SOFTMAX_APPLY, FoldOp.NORM_APPLY) else results
    reads = coefficients if op is FoldOp.NORM_APPLY else counts
    instruction = Fold(
        op=op,
        counts=counts,
        source0=200,
        source0_deltas=deltas(counts, first),
        source1=600,
        source1_deltas=deltas(reads, second),
        destination=1000,
        destination_deltas=deltas(written, target),
        gather=gathers,
        lanes=1,
        table=3,
    )
    expected = [interval(Memory.ACTIVATION, [200 + dot(p, first) for p in points(counts)], False)]
    if softmax or op in (FoldOp.DOT, FoldOp.NORM_APPLY):
        rows = [600 + dot(p, second) for p in points(reads)]
        expected.append(interval(Memory.ACTIVATION, rows, False))
    if op not in (FoldOp.ARGMAX, FoldOp.NORM_COLLECT):
        last = 2 * 64 + (4 if softmax else 1) * 64 - 1
        expected.append(Access(Memory.TABLE, 2 * 64, last, False))
    if op not in (FoldOp.SOFTMAX_COLLECT, FoldOp.NORM_COLLECT):
        rows = [1000 + dot(p, target) for p in points(written)]
        expected.append(interval(Memory.ACTIVATION, rows, True))
    assert accesses(instruction, FOLDING) == expected


@given(nest(4), steps(4), steps(4), steps(4), st.integers(0, 7), st.integers(0, 15), st.booleans())
def test_permute(counts, first, second, target, chosen, valid, transposes):
    written = (LANES, *counts[1:]) if transposes else counts
    instruction = Permute(
        op=PermuteOp.TRANSPOSE if transposes else PermuteOp.SELECT,
        counts=counts,
        source0=200,
        source0_deltas=deltas(counts, first),
        source1=600,
        source1_deltas=deltas(counts, second),
        destination=700,
        destination_deltas=deltas(written, target),
        select=(0, 0, chosen, *(7,) * 13),
        valid=valid,
        space=1,
    )
    expected = [interval(Memory.ACTIVATION, [200 + dot(p, first) for p in points(counts)], False)]
    wanted = (valid & 4 and chosen >= LANES) or valid & 8  # lane 3 selects byte 7
    if wanted and not transposes:
        rows = [600 + dot(p, second) for p in points(counts)]
        expected.append(interval(Memory.ACTIVATION, rows, False))
    beats = [700 + dot(p, target) for p in points(written)]
    expected.append(interval(Memory.WEIGHT, beats, True))
    assert accesses(instruction, FOLDING) == expected


@pytest.mark.parametrize("kind", [Load, Store])
@given(nest(3), steps(3), steps(3), small(1, 5))
def test_transfers(kind, counts, far, near, beats):
    instruction = kind(
        dram=4000,
        local=500,
        beats=beats,
        counts=counts,
        dram_deltas=deltas(counts, [4 * f for f in far]),
        local_deltas=deltas(counts, near),
    )
    far_bytes = [4000 + 4 * dot(p, far) + i for p in points(counts) for i in range(4 * beats)]
    rows = [500 + dot(p, near) + i for p in points(counts) for i in range(beats)]
    load = kind is Load
    assert accesses(instruction, TINY) == [
        interval(Memory.DRAM, far_bytes, not load),
        interval(Memory.ACTIVATION, rows, load),
    ]


@pytest.mark.parametrize("space", list(Space))
def test_load_fills_the_space_it_names(space):
    access = accesses(Load(space=space, local=9), TINY)[1]
    assert access == Access(Memory[space.name], 9, 9, True)


def test_scalar():
    assert accesses(Scalar(row=7), TINY) == [Access(Memory.ACTIVATION, 7, 7, False)]
