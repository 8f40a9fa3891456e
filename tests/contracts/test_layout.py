"""Tensor layout: where every element lies, counted by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.arch.layout import (
    TensorLayout,
    canonical_shape,
    pack_transformed_weights,
    unpack_transformed_weights,
)

layouts = st.builds(
    TensorLayout,
    segments=st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
    frames=st.integers(1, 3),
    height=st.integers(1, 3),
    width=st.integers(1, 4),
    lanes=st.sampled_from([4, 8]),
)


@given(layouts, st.booleans(), st.integers(0, 2**32 - 1))
def test_round_trip(layout, signed, seed):
    shape = (layout.channels, layout.frames, layout.height, layout.width)
    tensor = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    tensor = tensor.view(np.int8) if signed else tensor
    packed = layout.pack(tensor, fill=77)
    assert packed.size == layout.nbytes == layout.rows * layout.lanes
    back = layout.unpack(packed, signed)
    assert back.dtype == tensor.dtype
    assert np.array_equal(back, tensor)


@given(layouts)
def test_elements_lie_where_the_page_says(layout):
    """[block][T][H][W][lane]; every segment starts a block."""
    shape = (layout.channels, layout.frames, layout.height, layout.width)
    tensor = np.random.default_rng(0).integers(1, 256, shape, dtype=np.uint8)
    packed = layout.pack(tensor)
    channel = block = 0
    for segment in layout.segments:
        for inner in range(segment):
            b, lane = block + inner // layout.lanes, inner % layout.lanes
            for t, y, x in itertools.product(*map(range, shape[1:])):
                row = ((b * layout.frames + t) * layout.height + y) * layout.width + x
                assert packed[row * layout.lanes + lane] == tensor[channel + inner, t, y, x]
        channel += segment
        block += -(-segment // layout.lanes)
    assert np.count_nonzero(packed) == tensor.size  # the rest pads


def test_padding_takes_the_fill():
    layout = TensorLayout((3,), 1, 1, 2, 4)
    packed = layout.pack(np.zeros((3, 1, 1, 2), np.int8), fill=-5)
    assert packed.reshape(2, 4)[:, 3].tolist() == [251, 251]
    assert not packed.reshape(2, 4)[:, :3].any()


def test_other_shapes_are_refused():
    layout = TensorLayout((3,), 1, 1, 2, 4)
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
