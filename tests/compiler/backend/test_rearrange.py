"""Rearrangements: which rows move, against NumPy, apart from any instruction."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.ir import Rearrange
from compiler.lower import refusal
from compiler.lower.rearrange import moves_of
from hw.arch.axes import canonical_of, from_canonical, merged, standard, to_canonical
from hw.arch.layout import LaneMap, TensorLayout
from tests.compiler.backend.harness import CONFIGS, execute, kind, network

LANES = 4


@st.composite
def axes_pairs(draw):
    """Digits of one row-major tensor, dealt to C, T, H and W twice."""
    sizes = draw(st.lists(st.sampled_from([2, 3, 5]), min_size=1, max_size=6))
    strides = [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
    digits = list(zip(sizes, strides, strict=True))

    def dealt():
        groups = [[], [], [], []]
        for digit in draw(st.permutations(digits)):
            groups[draw(st.integers(0, 3))].append(digit)
        c, t, h, w = (merged(group) for group in groups)
        return c, t, h, w

    return dealt(), dealt()


def moved_rows(moves, data, lanes):
    """Bytes of the result: every row at the place that the loops give it."""
    rows = data.reshape(-1, lanes)
    total = math.prod(level.size for level in moves.levels)
    result = np.empty_like(rows)
    for block in range(len(rows) // total):
        for place in itertools.product(*(range(level.size) for level in moves.levels)):
            origin, to = (
                sum(n * getattr(level, side) for n, level in zip(place, moves.levels, strict=True))
                for side in ("source", "target")
            )
            result[block * total + to] = rows[block * total + origin]
    return result.reshape(-1)


@settings(deadline=None)
@given(axes_pairs(), st.booleans())
def test_rows_move_where_elements_belong(pair, ragged):
    source, target = pair
    moves = moves_of(source, target)
    assert moves is not None
    before, after = canonical_of(source), canonical_of(target)
    flat = np.random.default_rng(0).permutation(math.prod(before)).astype(np.uint16)
    tensor = to_canonical(flat, source)
    lane_map = LaneMap.dense(before[0], LANES)
    if ragged and before[0] > 1:
        parts = [LaneMap.dense(1, LANES), LaneMap.dense(before[0] - 1, LANES)]
        lane_map = LaneMap.joined(parts)
    lane_map = moves.demanded(lane_map)
    result_map = moves.result(lane_map)
    assert result_map is not None
    layouts = TensorLayout(lane_map, *before[1:]), TensorLayout(result_map, *after[1:])
    for half in (tensor & 0xFF, tensor >> 8):
        codes = half.astype(np.uint8)
        data = moved_rows(moves, layouts[0].pack(codes), LANES)
        wanted = to_canonical(from_canonical(codes, source, (codes.size,)), target)
        assert np.array_equal(layouts[1].unpack(data), wanted)
        if moves.alias:
            assert np.array_equal(data, layouts[0].pack(codes))


def flatten(shape):
    axes = standard((1, *shape))
    return axes, ((merged([d for group in axes for d in group])), (), (), ())


def test_a_flatten_is_a_view():
    source, target = flatten((3, 2, 4, 5))
    moves = moves_of(source, target)
    assert moves.alias
    assert moves.demanded(LaneMap.dense(3, LANES)) == LaneMap.dense(3, LANES)
    # Position p of channel c is feature 40·c + p.
    rows = moves.result(LaneMap.dense(3, LANES)).table()
    assert rows[[0, 39]].tolist() == [[0, 40, 80, -1], [39, 79, 119, -1]]


def test_a_renaming_of_channels_moves_nothing():
    """The shuffle of two groups: [2, n] read as [n, 2]."""
    source = (((2, 60), (5, 12)), (), ((3, 4),), ((4, 1),))
    target = (((5, 12), (2, 60)), (), ((3, 4),), ((4, 1),))
    moves = moves_of(source, target)
    assert moves.alias
    assert moves.result(LaneMap.dense(10, 16)).table()[0, :10].tolist() == [
        0, 2, 4, 6, 8, 1, 3, 5, 7, 9,
    ]  # fmt: skip


def test_channels_that_become_positions_take_blocks_of_their_own():
    source = (((2, 6), (3, 2)), ((2, 1),), (), ())
    target = (((2, 6),), ((3, 2),), ((2, 1),), ())
    moves = moves_of(source, target)
    dense = LaneMap.dense(6, LANES)
    assert moves.result(dense) is None
    wanted = moves.demanded(dense)
    assert wanted.table()[:, :2].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert moves.result(wanted) == LaneMap.dense(2, LANES)
    assert moves.demanded(wanted) == wanted


def test_axes_without_common_cuts_are_refused():
    x = kind((4, 1, 1, 6))
    source = standard((1, *x.shape))
    target = (((6, 4),), (), (), ((4, 1),))
    op = Rearrange(name="move", inputs=("x",), output="y", source=source, target=target)
    y = x.with_shape((1, 4, 1, 1, 6), target)
    why = refusal(op, [x], y, CONFIGS["tiny"])
    assert why is not None
    assert "do not divide each other" in why


@pytest.mark.parametrize("config", CONFIGS)
def test_more_loops_than_a_transfer_has(config):
    """Five digits in reverse order."""
    sizes = (2, 3, 2, 3, 2)
    digits = [(n, math.prod(sizes[i + 1 :])) for i, n in enumerate(sizes)]
    source = ((), (digits[0],), (digits[1], digits[2]), (digits[3], digits[4]))
    target = ((), (digits[4],), (digits[3], digits[2]), (digits[1], digits[0]))
    source, target = (tuple(merged(g) for g in axes) for axes in (source, target))
    shape = canonical_of(source)
    x = kind(shape)
    op = Rearrange(name="move", inputs=("x",), output="y", source=source, target=target)
    y = x.with_shape((1, *shape), target)
    assert len(moves_of(source, target).levels) > 3
    assert execute(network({"x": x}, [op], {"y": y}), CONFIGS[config]).differing() == []
