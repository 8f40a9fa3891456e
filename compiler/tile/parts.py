"""Parts of a box of results: what one pass over the accumulators holds, transformed or not.

A kernel with an algorithm runs in HFA mode: positions along a transformed axis are tiles of `m`
results. Where such an axis is dilated by d, its results form d interleaved sequences, and a part is
a piece of one of them (`Part.step` = d).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence

from compiler.tile.geometry import Axis, Range, Triple, cuts, product
from hw.arch.layout import ceil_div
from hw.arch.winograd import Algorithm

DIRECT = Algorithm(0, 0)
"""No axis is transformed: mode GEMM."""
SINGLE: Triple = (1, 1, 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """Results (in front of the pool) that one pass over the accumulators holds.

    Attributes
    ----------
    first, count: along x, y, t; `count` is a multiple of the pool.
    step: distance of the results: 1, or the dilation of a transformed axis.
    """

    first: Triple
    count: Triple
    step: Triple = SINGLE


def outer_first(triple: Triple) -> Triple:
    """(x, y, t) from (t, y, x), or the other way round."""
    return triple[2], triple[1], triple[0]


@functools.cache
def outputs_of(algorithm: Algorithm) -> Triple:
    """Results of a tile along x, y, t."""
    return outer_first(algorithm.outputs)


@functools.cache
def points_of(algorithm: Algorithm) -> Triple:
    """Points of a tile along x, y, t."""
    return outer_first(algorithm.points)


def steps_of(axes: Sequence[Axis], algorithm: Algorithm) -> Triple:
    """Distance of the results of a part: the dilation where an axis is transformed."""
    x, y, t = (
        axis.dilation if m > 1 else 1 for axis, m in zip(axes, outputs_of(algorithm), strict=True)
    )
    return x, y, t


def tiles_of(count: Triple, algorithm: Algorithm) -> Triple:
    """Positions of the nest along x, y, t that make `count` results."""
    x, y, t = (ceil_div(n, m) for n, m in zip(count, outputs_of(algorithm), strict=True))
    return x, y, t


def accumulator_rows(count: Triple, algorithm: Algorithm) -> int:
    """Accumulator rows of `count` results for each output block."""
    return product(tiles_of(count, algorithm)) * product(algorithm.points)


def parts_of(
    axes: Sequence[Axis], algorithm: Algorithm, box: Sequence[Range], sizes: Triple
) -> list[Part]:
    """Cut a box of results into parts of at most `sizes` results; x varies fastest.

    Parameters
    ----------
    axes, algorithm: of the kernel.
    box: first and count along x, y, t.
    sizes: results of a part along each axis, counted inside an interleaved sequence.
    """
    steps = steps_of(axes, algorithm)
    along = []
    for (begin, total), size, step in zip(box, sizes, steps, strict=True):
        pieces = []
        for phase in range(min(step, total)):
            for first, count in cuts(ceil_div(total - phase, step), size):
                pieces.append((begin + phase + first * step, count))
        along.append(pieces)
    return [
        Part((x[0], y[0], t[0]), (x[1], y[1], t[1]), steps)
        for t, y, x in itertools.product(along[2], along[1], along[0])
    ]
