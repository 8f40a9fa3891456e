"""What the tiles of a transformed (hFA) layer cost on the array: cycles and vectors.

An ARRAY instruction in mode HFA costs its sets times a slot (`transform_timing.array_slot`). Its
fill is hidden behind the instruction before, or behind the DRAIN that frees its bank (`late`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Sequence

from compiler.tile.geometry import Axis, Range, Triple, balanced, cuts, product
from compiler.tile.parts import outputs_of, points_of, steps_of
from compiler.tile.sums import TRANSFORMED_OVERHEAD
from hw.arch import timing, transform_timing
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode
from hw.arch.layout import ceil_div
from hw.arch.winograd import Algorithm


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """Sums over a layer.

    Attributes
    ----------
    array: cycles of the array, or of the drain of a part where that takes longer.
    drain: cycles of the drain unit.
    parts: accumulator tiles, for each group of output blocks.
    vectors: activation rows that pass the array (× rows × cols: multiplications).
    """

    array: int
    drain: int
    parts: int
    vectors: int


def units(axes: Sequence[Axis], algorithm: Algorithm) -> Triple:
    """Results along x, y, t that a load tile takes whole: all phases of a tile."""
    x, y, t = (
        m * step if m > 1 else axis.pool
        for axis, m, step in zip(
            axes, outputs_of(algorithm), steps_of(axes, algorithm), strict=True
        )
    )
    return x, y, t


def part_sizes(
    axes: Sequence[Axis], algorithm: Algorithm, load: Triple, group: int, config: AcceleratorConfig
) -> Triple | None:
    """Results of the largest equal parts of a load tile; None where no tile fits.

    The accumulators of a part hold points × tiles × group rows, U points × tiles.
    """
    points = product(points_of(algorithm))
    memory = config.memory
    limit = min(memory.accumulator_rows // (points * group), memory.transformed_rows // points)
    if limit < 1:
        return None
    m = outputs_of(algorithm)
    steps = steps_of(axes, algorithm)
    x, y, t = (ceil_div(ceil_div(n, step), o) for n, step, o in zip(load, steps, m, strict=True))
    if x > limit:
        tiles = balanced(x, limit), 1, 1
    elif x * y > limit:
        tiles = x, balanced(y, limit // x), 1
    else:
        tiles = x, y, balanced(t, limit // (x * y))
    return tiles[0] * m[0], tiles[1] * m[1], tiles[2] * m[2]


@functools.lru_cache(maxsize=4096)
def tiles_along(out: int, load: int, size: int, outputs: int, step: int) -> tuple[Range, ...]:
    """(tiles, how often) of the parts of one axis, over all load tiles and phases."""
    found: Counter[int] = Counter()
    for _, count in cuts(out, load):
        for phase in range(min(step, count)):
            for _, n in cuts(ceil_div(count - phase, step), size):
                found[ceil_div(n, outputs)] += 1
    return tuple(found.items())


def _shape(algorithm: Algorithm, tiles: int, group: int) -> Array:
    """An instruction of one set: its times depend on nothing else."""
    x, y, t = points_of(algorithm)
    return Array(
        mode=ArrayMode.HFA,
        counts=(tiles, 1, 1, group, x, y, t, 1),
        transform_t=algorithm.temporal,
        transform_s=algorithm.spatial,
    )


@functools.lru_cache(maxsize=4096)
def _slot(algorithm: Algorithm, tiles: int, group: int, config: AcceleratorConfig) -> int:
    """Cycles of a set."""
    return transform_timing.array_slot(_shape(algorithm, tiles, group), config)


def work(
    axes: Sequence[Axis],
    algorithm: Algorithm,
    config: AcceleratorConfig,
    load: Triple,
    parts: Triple,
    groups: Sequence[int],
    sets: int,
    pieces: int,
) -> Work:
    """Cost of a layer.

    Parameters
    ----------
    axes, algorithm, config: of the layer.
    load, parts: results of a load tile and of a part, along x, y, t.
    groups: sizes of the groups of output blocks.
    sets: input blocks × untransformed taps.
    pieces: instructions that each part is summed up in.
    """
    points = product(points_of(algorithm))
    latency = timing.DRAIN_START + timing.DRAIN_LATENCY
    latency += timing.output_transform_latency(
        algorithm.temporal, algorithm.spatial, "hfa_nested" in config.features
    )
    along = [
        tiles_along(axis.out, n, size, m, step)
        for axis, n, size, m, step in zip(
            axes, load, parts, outputs_of(algorithm), steps_of(axes, algorithm), strict=True
        )
    ]
    array = drain = count = vectors = 0
    sizes = Counter(groups).items()
    for x, often_x in along[0]:
        for y, often_y in along[1]:
            for t, often_t in along[2]:
                tiles, often = x * y * t, often_x * often_y * often_t
                for group, groups_of_it in sizes:
                    slot = _slot(algorithm, tiles, group, config)
                    drained = points * tiles * group * config.output_transform_steps + latency
                    streamed = sets * slot + pieces * TRANSFORMED_OVERHEAD
                    times = often * groups_of_it
                    array += times * max(streamed, drained)
                    drain += times * drained
                    count += times
                    vectors += times * points * tiles * group * sets
    return Work(array, drain, count, vectors)
