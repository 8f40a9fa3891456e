"""REDUCE over windows, tile by tile: what pools and means over whole axes have in common."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from compiler.emit.emitter import RefusedError
from compiler.emit.streams import LEAST_ROWS, Stream, Tile, slot_rows
from compiler.emit.transfers import Box, Strided
from compiler.emit.vector import reduction
from compiler.tile.geometry import Axis, AxisTriple, Triple, cuts, halved_sizes, product, tile_sizes
from compiler.tile.limits import (
    MAX_COUNT,
    MAX_REDUCE_COORDINATE,
    MAX_REDUCE_STRIDE,
    MAX_REDUCE_WINDOW,
)
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import UnitInstruction
from hw.arch.layout import ceil_div
from hw.arch.program import Tensor

TILES = 16
"""Of a map all blocks of which would fit: the first ones are reduced while the last are made."""
LIMITS = (
    f"windows of {MAX_REDUCE_WINDOW} along an axis",
    f"stride {MAX_REDUCE_STRIDE}",
    f"maps and padding of {MAX_REDUCE_COORDINATE} along an axis on which a window slides",
)
"""What the fields of REDUCE hold."""


@dataclasses.dataclass(frozen=True, slots=True)
class Most:
    """What a tile has at most.

    Attributes
    ----------
    results: along x, y, t.
    rows: that it reads.
    """

    results: Triple
    rows: int


def _source_box(axes: AxisTriple, box: Box) -> Box:
    ranges = [a.source((f, n)) for a, f, n in zip(axes, box.first, box.size, strict=True)]
    return Box(
        (ranges[0][0], ranges[1][0], ranges[2][0]),
        (ranges[0][1], ranges[1][1], ranges[2][1]),
        box.block,
        box.blocks,
    )


def _tiles(
    axes: AxisTriple, blocks: int, config: AcceleratorConfig, most: Most | None
) -> list[Tile]:
    """The tiling that loads least; empty where no tile fits."""
    if most is not None:
        pairs = zip(axes, most.results, strict=True)
        sizes = [tile_sizes(axis.out, 1, along, 10) for axis, along in pairs]
        return _tiles_within(axes, blocks, sizes, most.rows, 1)
    usual = [tile_sizes(axis.out, 1, MAX_COUNT, 10) for axis in axes]
    others = [[n for n in halved_sizes(axis.out, 1) if n <= MAX_COUNT] for axis in axes]
    for sizes, limit in itertools.product(
        (usual, others), (slot_rows(2, config), _most_rows(config))
    ):
        tiles = _tiles_within(axes, blocks, sizes, limit, TILES)
        if tiles:
            return tiles
    return []


def _most_rows(config: AcceleratorConfig) -> int:
    """Rows of an operand where the result takes a single bank."""
    return config.memory.activation_rows - config.memory.activation_bank_rows


def _tiles_within(
    axes: AxisTriple, blocks: int, sizes: Sequence[Sequence[int]], limit: int, pieces: int
) -> list[Tile]:
    best: tuple[int, tuple[int, int, int]] | None = None
    for load in itertools.product(*sizes):
        parts = [
            [a.source(cut)[1] for cut in cuts(a.out, n)] for a, n in zip(axes, load, strict=True)
        ]
        if product([max(p) for p in parts]) > limit or product(load) > limit:
            continue
        count = product([len(p) for p in parts])
        cost = blocks * product([sum(p) for p in parts]) + 64 * count
        if best is None or cost < best[0]:
            best = cost, (load[0], load[1], load[2])
    if best is None:
        return []
    load = best[1]
    extents = [
        max(axis.source(cut)[1] for cut in cuts(axis.out, n))
        for axis, n in zip(axes, load, strict=True)
    ]
    largest = max(product(extents), product(load))
    least = max(ceil_div(blocks, pieces), ceil_div(LEAST_ROWS, largest))
    per_tile = max(1, min(blocks, limit // largest, least))
    per_tile = ceil_div(blocks, ceil_div(blocks, per_tile))
    tiles = []
    for (block, count), t, y, x in itertools.product(
        cuts(blocks, per_tile), *(cuts(axes[d].out, load[d]) for d in (2, 1, 0))
    ):
        target = Box((x[0], y[0], t[0]), (x[1], y[1], t[1]), block, count)
        tiles.append(Tile((_source_box(axes, target),), target))
    return tiles


def layer(
    axes: AxisTriple,
    source: Tensor,
    target: Tensor,
    parts: Sequence[tuple[Box, dict[str, Any]]],
    config: AcceleratorConfig,
    most: Most | None = None,
) -> Stream:
    """Windows of a tensor, tile by tile.

    Parameters
    ----------
    parts: boxes of the result that fill it, and the fields of the instructions that make them.
    most: sizes of a tile; default: as large as fits.

    Raises
    ------
    RefusedError
        If fields do not hold a window, or the scratchpad not what one result reads.
    """
    for axis in axes:
        why = axis_refusal(axis)
        if why is not None:
            raise RefusedError(why)
    tiles = _tiles(axes, source.layout.blocks, config, most)
    if not tiles:
        rows = product([axis.source((0, 1))[1] for axis in axes])
        room = _most_rows(config) if most is None else most.rows
        raise RefusedError(
            f"a window of {rows} positions; {config.name} has {room} scratchpad rows "
            f"beside those of the result"
        )

    def compute(tile: Tile, rows: Sequence[int], result: int) -> Iterator[UnitInstruction]:
        for box, fields in parts:
            part = box.common(tile.target)
            if part is not None:
                yield reduction(
                    axes, tile.sources[0], part, rows[0], result, fields, within=tile.target
                )

    return Stream([Strided.of(source)], Strided.of(target), tiles, compute, whole=most is None)


def axis_refusal(axis: Axis) -> str | None:
    """Why fields do not hold a window along an axis, or None if they do."""
    if axis.kernel > MAX_REDUCE_WINDOW:
        return f"a window of {axis.kernel}; at most {MAX_REDUCE_WINDOW} along an axis"
    if axis.stride > MAX_REDUCE_STRIDE:
        return f"stride {axis.stride}; at most {MAX_REDUCE_STRIDE}"
    if not axis.free and max(axis.size, axis.pad) > MAX_REDUCE_COORDINATE:
        return (
            f"a window on a map of {axis.size}, padded by {axis.pad}; at most "
            f"{MAX_REDUCE_COORDINATE} along an axis"
        )
    return None


def described(stream: Stream) -> dict[str, Any]:
    """The tiling for the report."""
    first = stream.tiles[0].target
    return {"load": list(first.size), "blocks": first.blocks}
