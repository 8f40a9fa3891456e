"""Products of two activations: where the elements of both operands and of the result lie.

The array multiplies vectors, k in their lanes, by weight blocks of k rows and n columns. One
operand streams as vectors, the other one becomes weights, and the result has n in its lanes. Of an
operand whose lanes are k, PERMUTE TRANSPOSE makes weights; one whose lanes are n, and k its
positions, is loaded as weights as it lies. Vectors whose lanes are not k are transposed, too.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from compiler.ops import BatchedMatMul
from hw.arch.axes import Axes, Digit, Digits, canonical_of
from hw.arch.layout import LaneMap, ceil_div
from hw.arch.program import Tensor

Index: TypeAlias = npt.NDArray[np.int64]
BATCH, OUTER, INNER = 0, 1, 2
"""Dimensions of a batch of matrices, row-major."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A batch of matrices with one dimension in the lanes and the other one along positions.

    Attributes
    ----------
    lane_map: that it needs: each matrix begins in a block of its own.
    base: row of the first block and position of every matrix, rows counted through the tensor.
    along: rows from there to every position.
    pitch: rows between blocks.
    blocks: of a matrix.
    heads: matrices whose lanes lie along C one after another.
    """

    lane_map: LaneMap
    base: Index
    along: Index
    pitch: int
    blocks: int
    heads: int

    def runs(self, base: Index, tensor: Tensor) -> Iterator[tuple[int, int, int]]:
        """First index, count and step of matrices that a transfer can take together.

        Those in several blocks one by one where the tensor's blocks lie anywhere.
        """
        if self.heads > 1 and tensor.places:
            yield from ((number, 1, 0) for number in range(base.size))
        else:
            yield from runs(base)

    def laid(self, lane_map: LaneMap) -> Grid:
        """The same where its only matrix has other lanes."""
        return dataclasses.replace(self, lane_map=lane_map, blocks=len(lane_map.blocks))


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Form:
    """A product as the array sees it: Y[b, m, n] = Σ over k of X[b, m, k]·W[b, k, n].

    Attributes
    ----------
    streamed, weighted: which operand is X, which is W.
    rows, inner, columns: m, k, n; columns are lanes of whole blocks where the form is laid.
    x: k in the lanes, or m where `turned`.
    w: n in the lanes, or k where `transposed`.
    y: n in the lanes.
    """

    streamed: int
    weighted: int
    rows: int
    inner: int
    columns: int
    x: Grid
    w: Grid
    y: Grid
    turned: bool
    transposed: bool

    @property
    def batch(self) -> int:
        """Matrices."""
        return self.y.base.size

    @property
    def free(self) -> bool:
        """Whether columns of the weights may be any lanes: those that the result then has."""
        return not self.transposed and self.w.heads == self.y.heads == 1

    def laid(self, maps: Sequence[LaneMap]) -> Form:
        """The form for operands that lie in some lanes, as far as it is free.

        A column keeps its lane, but need not be the same channel of the weights and of the result:
        either may number its channels another way (after a channel shuffle).
        """
        lane_map = maps[self.weighted]
        if not self.free or lane_map.channels != self.w.lane_map.channels:
            return self
        of_weights, of_result = (grid.lane_map.table().reshape(-1) for grid in (self.w, self.y))
        columns = of_weights >= 0
        renamed = np.full(lane_map.channels, -1, np.int64)
        renamed[of_weights[columns]] = of_result[columns]
        table = lane_map.table()
        return dataclasses.replace(
            self,
            columns=table.size,
            w=self.w.laid(lane_map),
            y=self.y.laid(LaneMap.of(np.where(table >= 0, renamed[table], -1))),
        )

    def maps(self) -> list[LaneMap]:
        """What both operands shall have, in their order."""
        return [(self.x if self.streamed == n else self.w).lane_map for n in (0, 1)]


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """A digit of one dimension: size, stride inside the dimension, step of its canonical axis."""

    dimension: int
    size: int
    stride: int
    step: int


def form_of(op: BatchedMatMul, lanes: int) -> Form | None:
    """The form that transposes least; None where no operand's lanes are one dimension."""
    return _form(op.batch, op.rows, op.inner, op.columns, op.left, op.right, op.target, lanes)


@functools.lru_cache(maxsize=256)
def _form(
    batch: int, m: int, k: int, n: int, left: Axes, right: Axes, target: Axes, lanes: int
) -> Form | None:
    sizes = ((batch, m, k), (batch, k, n), (batch, m, n))
    found = []
    # Weights are the right operand, then the left one: the product turned.
    for streamed, (rows, columns), column in ((0, (m, n), INNER), (1, (n, m), OUTER)):
        operands = (left, right)
        x_k, w_k = (INNER, OUTER) if streamed == 0 else (OUTER, INNER)
        y = grid(target, sizes[2], column, lanes)
        x = grid(operands[streamed], sizes[streamed], x_k, lanes)
        turned = x is None
        x = x or grid(operands[streamed], sizes[streamed], _other(x_k), lanes)
        w = grid(operands[1 - streamed], sizes[1 - streamed], _other(w_k), lanes)
        transposed = w is None
        w = w or grid(operands[1 - streamed], sizes[1 - streamed], w_k, lanes)
        if x is not None and w is not None and y is not None:
            form = Form(streamed, 1 - streamed, rows, k, columns, x, w, y, turned, transposed)
            found.append(form)
    return min(found, key=lambda f: 2 * f.turned + f.transposed, default=None)


def _other(dimension: int) -> int:
    return OUTER + INNER - dimension


def grid(axes: Axes, sizes: tuple[int, int, int], lane: int, lanes: int) -> Grid | None:
    """Matrices [batch, outer, inner] with one dimension in the lanes; None where it is not there.

    Parameters
    ----------
    axes: over the row-major tensor.
    sizes: of its dimensions.
    lane: OUTER or INNER.
    lanes: of a row.
    """
    _, frames, height, width = canonical_of(axes)
    pitches = (1, height * width, width, 1)
    parts = [_parts(digits, sizes, pitch) for digits, pitch in zip(axes, pitches, strict=True)]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    channels, places = known[0], [part for group in known[1:] for part in group]
    along = _other(lane)
    if any(p.dimension == along for p in channels) or any(p.dimension == lane for p in places):
        return None
    positions = frames * height * width
    heads = [part for part in channels if part.dimension == BATCH]
    blocks = ceil_div(sizes[lane], lanes)
    table = _table(channels, heads, sizes[lane], lane, lanes)
    rank = _value(_ranked(heads), BATCH, sizes[BATCH])
    return Grid(
        lane_map=LaneMap.of(table),
        base=rank * blocks * positions + _value(places, BATCH, sizes[BATCH]),
        along=_value(places, along, sizes[along]),
        pitch=positions,
        blocks=blocks,
        heads=math.prod(part.size for part in heads),
    )


def _parts(digits: Digits, sizes: tuple[int, int, int], pitch: int) -> list[_Part] | None:
    """An axis's digits, each of a single dimension; None where dimensions do not cut one."""
    ends = (sizes[1] * sizes[2], sizes[2], 1)
    pieces: list[Digit] = []
    for size, stride in digits:
        inside = [end for end in ends if stride < end < size * stride]
        edges = [size * stride, *inside, stride]
        for high, low in itertools.pairwise(edges):
            if high % low:
                return None
            pieces.append((high // low, low))
    found = []
    for size, stride in reversed(pieces):
        dimension = next(d for d, end in enumerate(ends) if stride >= end)
        if stride % ends[dimension]:
            return None
        found.append(_Part(dimension, size, stride // ends[dimension], pitch))
        pitch *= size
    return found[::-1]


def _value(parts: list[_Part], dimension: int, size: int) -> Index:
    """What every index of a dimension adds to the place."""
    index = np.arange(size, dtype=np.int64)
    mine = [p for p in parts if p.dimension == dimension]
    zero = np.zeros(size, np.int64)
    return np.asarray(sum((index // p.stride % p.size * p.step for p in mine), zero))


def _ranked(parts: list[_Part]) -> list[_Part]:
    """The same digits counted by themselves, the last one the innermost."""
    step, found = 1, []
    for part in reversed(parts):
        found.append(dataclasses.replace(part, step=step))
        step *= part.size
    return found[::-1]


def _table(
    channels: list[_Part], heads: list[_Part], size: int, lane: int, lanes: int
) -> npt.NDArray[Any]:
    """Channel of every lane where each matrix's channels begin a block, [blocks, lanes]."""
    count = math.prod(part.size for part in heads)
    first = np.zeros(count, np.int64)
    for part, ranked in zip(heads, _ranked(heads), strict=True):
        first += np.arange(count) // ranked.step % part.size * part.step
    wide = np.full((count, ceil_div(size, lanes) * lanes), -1, np.int64)
    wide[:, :size] = first[:, None] + _value(channels, lane, size)[None]
    return wide.reshape(-1, lanes)


def runs(values: Index) -> Iterator[tuple[int, int, int]]:
    """First index, count and step of evenly spaced pieces."""
    first = 0
    while first < values.size:
        rest = np.diff(values[first:])
        same = int(np.argmax(rest != rest[0])) if (rest != rest[:1]).any() else rest.size
        count = same + 1
        yield first, count, int(rest[0]) if count > 1 else 0
        first += count
