"""Tensor layout: where every element lies, counted by hand."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.arch.layout import (
    LaneMap,
    Run,
    TensorLayout,
    canonical_shape,
    pack_transformed_weights,
    unpack_transformed_weights,
)


@st.composite
def lane_maps(draw):
    """Channels in any lanes of any blocks, some of them in several."""
    lanes = draw(st.sampled_from([4, 8]))
    blocks = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels = draw(st.integers(blocks, blocks * lanes))
    table = np.full((blocks, lanes), -1, np.int64)
    # Every block holds one channel at least; the others go where there is room.
    table[:, 0] = rng.permutation(blocks)
    free = rng.permutation(np.flatnonzero(table.reshape(-1) < 0))
    table.reshape(-1)[free[: channels - blocks]] = np.arange(blocks, channels)
    if draw(st.booleans()):
        again = free[channels - blocks :]
        table.reshape(-1)[again] = rng.integers(0, channels, again.size)
    if draw(st.booleans()):
        rows = [np.sort(row) for row in table]  # runs grow
        table = np.array(rows)
    return table


@st.composite
def layouts(draw):
    lane_map = LaneMap.of(draw(lane_maps()))
    return TensorLayout(lane_map, *(draw(st.integers(1, n)) for n in (3, 3, 4)))


@given(lane_maps())
def test_a_map_is_its_table(table):
    lane_map = LaneMap.of(table)
    assert np.array_equal(lane_map.table(), table)
    assert LaneMap.of(lane_map.table()) == lane_map
    assert lane_map.channels == len(set(table[table >= 0].tolist()))
    flat = table.reshape(-1).tolist()
    assert lane_map.first_lanes().tolist() == [flat.index(c) for c in range(lane_map.channels)]


@given(st.integers(1, 40), st.sampled_from([1, 4, 16]))
def test_dense_maps(channels, lanes):
    lane_map = LaneMap.dense(channels, lanes)
    flat = lane_map.table().reshape(-1)
    assert flat[:channels].tolist() == list(range(channels))
    assert (flat[channels:] == -1).all()
    assert flat.size < channels + lanes
    assert lane_map.is_dense
    assert LaneMap.of(lane_map.table()) == lane_map


@pytest.mark.parametrize("lanes", [1, 4])
def test_a_spread_channel_stands_in_every_lane(lanes):
    lane_map = LaneMap.spread(lanes)
    assert lane_map.table().tolist() == [[0] * lanes]
    assert LaneMap.of(lane_map.table()) == lane_map


def test_joined_maps_keep_their_lanes():
    joined = LaneMap.joined([LaneMap.dense(5, 4), LaneMap.dense(3, 4), LaneMap.dense(1, 4)])
    assert joined.table().tolist() == [
        [0, 1, 2, 3],
        [4, -1, -1, -1],
        [5, 6, 7, -1],
        [8, -1, -1, -1],
    ]
    assert not joined.is_dense
    assert str(joined) == "0..3 | 4 | 5..7 | 8"


@given(lane_maps(), st.data())
def test_taken_channels_stay_in_their_lanes(table, data):
    lane_map = LaneMap.of(table)
    kept = data.draw(
        st.lists(st.integers(0, lane_map.channels - 1), min_size=1, max_size=9, unique=True)
    )
    taken, blocks = lane_map.taken(kept)
    wanted = [[kept.index(c) if c in kept else -1 for c in row] for row in table.tolist()]
    assert taken.table().tolist() == [wanted[b] for b in blocks]
    assert [b for b, row in enumerate(wanted) if max(row) >= 0] == list(blocks)


@given(lane_maps(), st.integers(1, 4))
def test_positions_become_channels_and_channels_positions(table, positions):
    """[C, p] in row-major order, read as [C·p, 1]: the same bytes."""
    layout = TensorLayout(LaneMap.of(table), 1, 1, positions)
    merged = TensorLayout(layout.lane_map.merged(positions), 1, 1, 1)
    tensor = np.random.default_rng(0).integers(0, 256, layout.shape, dtype=np.uint8)
    flat = tensor.reshape(-1, 1, 1, 1)
    assert np.array_equal(merged.unpack(layout.pack(tensor)), flat)
    assert merged.lane_map.split(positions) == layout.lane_map


@pytest.mark.parametrize(("channels", "positions"), [(8, 2), (12, 3), (6, 4)])
def test_neighbours_in_one_row_are_no_positions(channels, positions):
    with pytest.raises(ValueError, match=r"positions|do not share a lane"):
        LaneMap.dense(channels, 4).split(positions)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ((), "of 0 blocks"),
        (((),), "block 0 holds no channel"),
        (((Run(0, 5, 0),),), "does not follow"),
        (((Run(2, 1, 0), Run(1, 1, 1)),), "does not follow lane 3"),
        (((Run(0, 2, 0), Run(1, 2, 2)),), "does not follow lane 2"),
        (((Run(0, 2, 1),),), r"these are \[1, 2\]"),
        (((Run(0, 2, 0, -1),),), "leaves the channels"),
    ],
)
def test_what_is_no_map_is_refused(blocks, message):
    with pytest.raises(ValueError, match=message):
        LaneMap(4, blocks)


@given(layouts(), st.booleans(), st.integers(0, 2**32 - 1))
def test_round_trip(layout, signed, seed):
    tensor = np.random.default_rng(seed).integers(0, 256, layout.shape, dtype=np.uint8)
    tensor = tensor.view(np.int8) if signed else tensor
    packed = layout.pack(tensor, fill=77)
    assert packed.size == layout.nbytes == layout.rows * layout.lanes
    back = layout.unpack(packed, signed)
    assert back.dtype == tensor.dtype
    assert np.array_equal(back, tensor)


@given(layouts())
def test_a_header_keeps_the_layout(layout):
    assert TensorLayout.from_mapping(json.loads(json.dumps(dataclasses.asdict(layout)))) == layout


@given(layouts())
def test_elements_lie_where_the_page_says(layout):
    """[block][T][H][W][lane]."""
    tensor = np.random.default_rng(0).integers(1, 256, layout.shape, dtype=np.uint8)
    packed = layout.pack(tensor)
    written = 0
    for block, runs in enumerate(layout.lane_map.blocks):
        for run in runs:
            for i in range(run.length):
                for t, y, x in itertools.product(*map(range, layout.shape[1:])):
                    row = ((block * layout.frames + t) * layout.height + y) * layout.width + x
                    channel = run.channel + i * run.step
                    place = row * layout.lanes + run.lane + i
                    assert packed[place] == tensor[channel, t, y, x]
                    written += 1
    assert np.count_nonzero(packed) == written  # the rest pads


def test_padding_takes_the_fill():
    layout = TensorLayout.dense((3, 1, 1, 2), 4)
    packed = layout.pack(np.zeros((3, 1, 1, 2), np.int8), fill=-5)
    assert packed.reshape(2, 4)[:, 3].tolist() == [251, 251]
    assert not packed.reshape(2, 4)[:, :3].any()


def test_other_shapes_are_refused():
    layout = TensorLayout.dense((3, 1, 1, 2), 4)
    with pytest.raises(ValueError, match=r"\[3, 1, 2, 1\] does not have the layout's shape"):
        layout.pack(np.zeros((3, 1, 2, 1), np.uint8))
    with pytest.raises(ValueError, match="of bytes"):
        layout.pack(np.zeros((3, 1, 1, 2), np.int16))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 3, 16, 8, 9), (3, 16, 8, 9)),
        ((1, 3, 8, 9), (3, 1, 8, 9)),
        ((1, 3, 9), (3, 1, 1, 9)),
        ((1, 10), (10, 1, 1, 1)),
        ((10,), (10, 1, 1, 1)),
    ],
)
def test_canonical_shapes(shape, expected):
    assert canonical_shape(shape) == expected


def test_batches_and_ranks_are_refused():
    with pytest.raises(ValueError, match="batch 2"):
        canonical_shape((2, 3))
    with pytest.raises(ValueError, match="rank 6"):
        canonical_shape((1, 3, 1, 1, 1, 1))
    with pytest.raises(ValueError, match="rank 0"):
        canonical_shape(())


@pytest.mark.parametrize(("kernel", "lw"), [((1, 3, 3), 1), ((3, 1, 1), 2), ((3, 3, 3), 4)])
def test_transformed_weights_lie_as_taps_in_row_groups(kernel, lw):
    shape = (3, *kernel, 4, 8)
    pairs = np.random.default_rng(1).integers(-128, 128, shape).astype(np.int8)
    data = pack_transformed_weights(pairs, lw)
    groups = data.view(np.int8).reshape(-1, lw, 8)
    taps = kernel[0] * kernel[1] * kernel[2]
    for q, h in itertools.product(range(3), range(4 // lw)):
        places = itertools.product(*(range(n) for n in kernel))  # kx fastest
        for tap, place in enumerate(places):
            rows = pairs[(q, *place)][h * lw : (h + 1) * lw]
            assert np.array_equal(groups[(q * (4 // lw) + h) * taps + tap], rows)
    assert np.array_equal(unpack_transformed_weights(data, kernel, (4, 8), lw), pairs)
    assert not np.array_equal(unpack_transformed_weights(data[::-1], kernel, (4, 8), lw), pairs)
