"""How the axes of a tensor in the file become channels, time, height and width.

The array works on tensors [C, T, H, W]. A file's tensor is a row-major list of elements with a
shape of any rank. `Axes` says for each of C, T, H and W which digits of the element's row-major
index it is made of: (size, stride) pairs, outermost first. A reshape of the file therefore
changes nothing but the shape, and a transpose only renames digits: neither moves a byte.

    [1, C, H, W]                 C: (C, H·W)   T: –   H: (H, W)   W: (W, 1)
    [1, H, W, C] (NHWC)          C: (C, 1)     T: –   H: (H, W·C) W: (W, C)
    [1, T, F], features as C     C: (F, 1)     T: –   H: –        W: (T, F)
    [N, C, H, W], frames as T    C: (C, H·W)   T: (N, C·H·W)      H, W as above
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Digit: TypeAlias = tuple[int, int]
"""Size and stride in elements of the row-major tensor."""
Digits: TypeAlias = tuple[Digit, ...]
Axes: TypeAlias = tuple[Digits, Digits, Digits, Digits]
Canonical: TypeAlias = tuple[int, int, int, int]

MAX_RANK = 5
"""Of a tensor that has a standard form."""


def strides_of(shape: Sequence[int]) -> list[int]:
    """Row-major strides in elements."""
    return [math.prod(shape[k + 1 :]) for k in range(len(shape))]


def merged(digits: Sequence[Digit]) -> Digits:
    """The same index with as few digits as possible; sizes of 1 vanish."""
    result: list[Digit] = []
    for size, stride in digits:
        if size == 1:
            continue
        if result and result[-1][1] == size * stride:
            result[-1] = (result[-1][0] * size, stride)
        else:
            result.append((size, stride))
    return tuple(result)


def size_of(digits: Digits) -> int:
    """Elements along an axis."""
    return math.prod(size for size, _ in digits)


def canonical_of(axes: Axes) -> Canonical:
    """(C, T, H, W)."""
    c, t, h, w = (size_of(digits) for digits in axes)
    return c, t, h, w


def aligned(shape: Sequence[int], onto: Sequence[int]) -> Axes:
    """Axes of a tensor whose every axis lies on one of C, T, H and W.

    Parameters
    ----------
    shape: of the file.
    onto: for every axis 0..3 for C, T, H, W; several axes on one follow each other outermost first.
    """
    groups: list[list[Digit]] = [[], [], [], []]
    for size, stride, target in zip(shape, strides_of(shape), onto, strict=True):
        groups[target].append((size, stride))
    c, t, h, w = (merged(group) for group in groups)
    return c, t, h, w


STANDARD = {
    0: (),
    1: (0,),
    2: (3, 0),
    3: (2, 0, 3),
    4: (1, 0, 2, 3),
    5: (1, 0, 1, 2, 3),
}
"""By rank: where each axis lies in [N, C, (T, (H,)) W]; a batch stands on an axis that no window
reaches (of rank 5 it has none, so there it must be 1)."""


def standard(shape: Sequence[int]) -> Axes:
    """Axes of [N, C, (T, (H,)) W] as convolutions and pools read them.

    Raises
    ------
    ValueError
        If the rank is above 5, or a batch stands before three axes of time and space.
    """
    rank = len(shape)
    if rank > MAX_RANK:
        raise ValueError(f"a tensor of rank {rank}; 1 to {MAX_RANK} are supported")
    if rank == MAX_RANK and shape[0] != 1:
        raise ValueError(
            f"batch {shape[0]} of a tensor with time, height and width; programs are built for 1"
        )
    return aligned(shape, STANDARD[rank])


def transposed(axes: Axes, shape: Sequence[int], order: Sequence[int]) -> Axes | None:
    """Axes after a transpose of the file's axes, which moves no byte.

    Parameters
    ----------
    axes, shape: before.
    order: axis of `shape` for each axis of the result.

    Returns
    -------
    None where a digit straddles two axes of `shape` and cannot be split between them.
    """
    before = strides_of(shape)
    after = strides_of([shape[k] for k in order])
    result = []
    for digits in axes:
        parts: list[Digit] = []
        for digit in digits:
            split = _split(digit, before)
            if split is None:
                return None
            for axis, (size, stride) in split:
                parts.append((size, stride // before[axis] * after[list(order).index(axis)]))
        result.append(merged(parts))
    c, t, h, w = result
    return c, t, h, w


def _split(digit: Digit, strides: Sequence[int]) -> list[tuple[int, Digit]] | None:
    """A digit cut at the axes' borders: (axis, part), outermost first."""
    size, stride = digit
    parts: list[tuple[int, Digit]] = []
    for axis, own in enumerate(strides):
        outer = size * stride
        if own >= outer or size == 1:
            continue
        if own <= stride:
            parts.append((axis, (size, stride)))
            return parts if stride % own == 0 else None
        if own % stride or outer % own:
            return None
        parts.append((axis, (outer // own, own)))
        size = own // stride
    return parts


def carried(target: Axes, seen: Axes, own: Axes) -> Axes | None:
    """Axes told over one row-major tensor, told over another that has the same elements.

    Parameters
    ----------
    target: over the tensor as it is seen.
    seen, own: axes of one canonical tensor over the seen and over its own row-major tensor.

    Returns
    -------
    None where digits are cut at places that do not divide each other.
    """
    atoms: list[tuple[int, int, int]] = []
    for mine, theirs in zip(seen, own, strict=True):
        parts = _refined(mine, theirs)
        if parts is None:
            return None
        atoms += parts
    atoms.sort(key=lambda atom: -atom[1])
    result = []
    for digits in target:
        found: list[Digit] = []
        for size, stride in digits:
            for length, place, other in atoms:
                low, high = max(stride, place), min(stride * size, place * length)
                if low >= high:
                    continue
                if high % low or low % place:
                    return None
                found.append((high // low, other * (low // place)))
        result.append(merged(found))
    c, t, h, w = result
    return (c, t, h, w) if canonical_of((c, t, h, w)) == canonical_of(target) else None


def _refined(first: Digits, second: Digits) -> list[tuple[int, int, int]] | None:
    """One index by common digits: (size, stride in the first, stride in the second)."""
    a, b = list(first), list(second)
    result = []
    while a and b:
        (n, s), (m, r) = a.pop(), b.pop()
        least = min(n, m)
        if n % least or m % least:
            return None
        result.append((least, s, r))
        if n > least:
            a.append((n // least, s * least))
        if m > least:
            b.append((m // least, r * least))
    return None if a or b else result


def file_axes(axes: Axes, shape: Sequence[int]) -> tuple[int | None, ...] | None:
    """For every axis of the file which of C, T, H, W it is.

    Returns
    -------
    Per axis 0..3, or None where its size is 1; None for the whole where an axis is no single one
    of them, or one of them is made of several axes.
    """
    result: list[int | None] = []
    for size, stride in zip(shape, strides_of(shape), strict=True):
        found = [k for k, digits in enumerate(axes) if digits == ((size, stride),)]
        if size > 1 and len(found) != 1:
            return None
        result.append(found[0] if size > 1 else None)
    return tuple(result)


def positions(axes: Axes) -> Digits:
    """Digits of T, H and W as one index."""
    return merged([digit for digits in axes[1:] for digit in digits])


def covers(axes: Axes, elements: int) -> bool:
    """Whether every element has one index (C, T, H, W): the digits are those of a whole number."""
    place = 1
    for size, stride in sorted((d for digits in axes for d in digits), key=lambda d: d[1]):
        if stride != place:
            return False
        place *= size
    return place == elements


def to_canonical(value: npt.NDArray[Any], axes: Axes) -> npt.NDArray[Any]:
    """A tensor of the file as a contiguous [C, T, H, W]."""
    flat = np.ascontiguousarray(value).reshape(-1)
    return np.ascontiguousarray(_by_digits(flat, axes)).reshape(canonical_of(axes))


def from_canonical(value: npt.NDArray[Any], axes: Axes, shape: Sequence[int]) -> npt.NDArray[Any]:
    """Undo `to_canonical`: [C, T, H, W] to the file's shape."""
    flat = np.empty(value.size, value.dtype)
    view = _by_digits(flat, axes)
    view[...] = value.reshape(view.shape)
    return flat.reshape(tuple(shape))


def index_of(axes: Axes, element: int) -> Canonical:
    """(c, t, h, w) of an element of the file's tensor, given by its row-major index."""
    result = []
    for digits in axes:
        place = 0
        for size, stride in digits:
            place = place * size + element // stride % size
        result.append(place)
    c, t, h, w = result
    return c, t, h, w


def _by_digits(flat: npt.NDArray[Any], axes: Axes) -> npt.NDArray[Any]:
    """A view of a row-major tensor with one axis per digit."""
    digits = [digit for group in axes for digit in group]
    size = flat.itemsize
    return np.lib.stride_tricks.as_strided(
        flat, [n for n, _ in digits], [stride * size for _, stride in digits]
    )
