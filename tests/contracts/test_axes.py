"""Axes of the file's tensors: reshapes and transposes against NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.arch.axes import (
    aligned,
    canonical_of,
    carried,
    covers,
    file_axes,
    from_canonical,
    index_of,
    standard,
    to_canonical,
    transposed,
)

SHAPES = st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=4).map(tuple)


def numbered(shape):
    return np.arange(int(np.prod(shape, dtype=int))).reshape(shape)


@pytest.mark.parametrize(
    ("shape", "canonical"),
    [
        ((), (1, 1, 1, 1)),
        ((7,), (7, 1, 1, 1)),
        ((3, 7), (7, 1, 1, 3)),
        ((1, 7, 5), (7, 1, 1, 5)),
        ((2, 7, 5), (7, 1, 2, 5)),
        ((2, 7, 5, 6), (7, 2, 5, 6)),
        ((1, 7, 4, 5, 6), (7, 4, 5, 6)),
    ],
)
def test_standard_form(shape, canonical):
    assert canonical_of(standard(shape)) == canonical
    x = numbered(shape)
    assert np.array_equal(
        from_canonical(to_canonical(x, standard(shape)), standard(shape), shape), x
    )


def test_channels_are_channels():
    x = numbered((1, 3, 2, 4, 5))
    assert np.array_equal(to_canonical(x, standard(x.shape)), x[0])
    assert np.array_equal(to_canonical(x[0], standard(x[0].shape)), x[0].swapaxes(0, 1))


def test_what_has_no_standard_form():
    with pytest.raises(ValueError, match="rank 6"):
        standard((1,) * 6)
    with pytest.raises(ValueError, match="batch 2"):
        standard((2, 3, 1, 1, 1))


@given(SHAPES, st.randoms(use_true_random=False))
def test_a_transpose_moves_no_byte(shape, random):
    x = numbered(shape)
    axes = standard(shape)
    order = list(range(len(shape)))
    random.shuffle(order)
    seen = transposed(axes, shape, order)
    assert seen is not None and covers(seen, x.size)
    y = np.ascontiguousarray(x.transpose(order))
    assert np.array_equal(to_canonical(y, seen), to_canonical(x, axes))
    found = file_axes(seen, y.shape)
    assert found == tuple(file_axes(axes, shape)[k] for k in order)


@given(SHAPES, SHAPES, st.randoms(use_true_random=False))
def test_reshape_then_transpose(shape, other, random):
    """[a, b] read as a·b, then cut into other axes: right, or None."""
    x = numbered(shape)
    if np.prod(other) != x.size:
        other = (x.size,)
    order = list(range(len(other)))
    random.shuffle(order)
    seen = transposed(standard(shape), other, order)
    if seen is None:
        return
    y = np.ascontiguousarray(x.reshape(other).transpose(order))
    assert np.array_equal(to_canonical(y, seen), to_canonical(x, standard(shape)))


def test_axes_that_do_not_part():
    # 6 = 2·3 elements of H and W cannot be cut into 3·2.
    assert transposed(standard((1, 1, 2, 3)), (3, 2), [1, 0]) is None


@given(SHAPES, st.randoms(use_true_random=False))
def test_carried(shape, random):
    """Other axes of what is seen, told over the tensor itself."""
    x = numbered(shape)
    order = list(range(len(shape)))
    random.shuffle(order)
    y = np.ascontiguousarray(x.transpose(order))
    seen = transposed(standard(shape), shape, order)
    onto = [random.randrange(4) for _ in y.shape]
    target = aligned(y.shape, onto)
    own = carried(target, seen, standard(shape))
    assert own is not None
    assert np.array_equal(to_canonical(x, own), to_canonical(y, target))


@given(SHAPES)
def test_index(shape):
    x = numbered(shape)
    canonical = to_canonical(x, standard(shape))
    for element in range(x.size):
        assert canonical[index_of(standard(shape), element)] == element


def test_twin_wrong_strides_do_not_cover():
    axes = standard((1, 3, 4, 5))
    assert covers(axes, 60)
    assert not covers((axes[0], axes[1], axes[2], ((5, 2),)), 60)
    assert not covers((axes[0], axes[1], axes[2], ()), 60)
