"""Lowering of pools and of means over whole axes: REDUCE over windows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from compiler.codegen.emitter import Emitter, RefusedError
from compiler.codegen.geometry import Axis, cuts, halved_sizes, product, tile_sizes
from compiler.codegen.limits import (
    MAX_COUNT,
    MAX_REDUCE_COORDINATE,
    MAX_REDUCE_STRIDE,
    MAX_REDUCE_WINDOW,
)
from compiler.codegen.streams import Stream, Tile, emit, slot_rows
from compiler.codegen.transfers import Box, View, row_field
from compiler.ir import Pool, PoolKind, Reduce
from hw.arch import isa
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ReduceOp, UnitInstruction, deltas
from hw.arch.layout import ceil_div
from hw.arch.numerics import Mean
from hw.arch.program import Tensor

Axes = tuple[Axis, Axis, Axis]


def mean_fields(mean: Mean) -> dict[str, int]:
    """Instruction fields of an average."""
    return {
        "multiplier": mean.scale.multiplier,
        "shift": mean.scale.shift,
        "zero_point": mean.zero_point,
    }


def pool_axes(op: Pool, source: Tensor) -> Axes:
    """x, y, t of a pool."""
    sizes = (source.layout.width, source.layout.height, source.layout.frames)
    out = op.window.output(tuple(reversed(sizes)))
    axes = [
        Axis(
            sizes[d],
            out[2 - d],
            op.window.kernel[2 - d],
            op.window.stride[2 - d] if out[2 - d] > 1 else 1,
            1,
            op.window.pad_begin[2 - d],
        )
        for d in range(3)
    ]
    return axes[0], axes[1], axes[2]


def mean_axes(op: Reduce, source: Tensor) -> Axes:
    """x, y, t of a mean: a reduced axis has one output with a window as long as the axis."""
    sizes = (source.layout.width, source.layout.height, source.layout.frames)
    axes = [Axis(n, 1, n) if 3 - d in op.axes else Axis(n, n) for d, n in enumerate(sizes)]
    return axes[0], axes[1], axes[2]


def _source_box(axes: Axes, box: Box) -> Box:
    ranges = [a.source((f, n)) for a, f, n in zip(axes, box.first, box.size, strict=True)]
    return Box(
        (ranges[0][0], ranges[1][0], ranges[2][0]),
        (ranges[0][1], ranges[1][1], ranges[2][1]),
        box.block,
        box.blocks,
    )


def _tiles(axes: Axes, blocks: int, config: AcceleratorConfig) -> list[Tile]:
    """The tiling that loads least; empty where no tile fits."""
    usual = [tile_sizes(axis.out, 1, MAX_COUNT, 10) for axis in axes]
    others = [[n for n in halved_sizes(axis.out, 1) if n <= MAX_COUNT] for axis in axes]
    for sizes, limit in itertools.product(
        (usual, others), (slot_rows(2, config), _most_rows(config))
    ):
        tiles = _tiles_within(axes, blocks, sizes, limit)
        if tiles:
            return tiles
    return []


def _most_rows(config: AcceleratorConfig) -> int:
    """Rows of an operand where the result takes a single bank."""
    return config.memory.activation_rows - config.memory.activation_bank_rows


def _tiles_within(
    axes: Axes, blocks: int, sizes: Sequence[Sequence[int]], limit: int
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
    per_tile = max(1, min(blocks, limit // largest))
    per_tile = ceil_div(blocks, ceil_div(blocks, per_tile))
    tiles = []
    for (block, count), t, y, x in itertools.product(
        cuts(blocks, per_tile), *(cuts(axes[d].out, load[d]) for d in (2, 1, 0))
    ):
        target = Box((x[0], y[0], t[0]), (x[1], y[1], t[1]), block, count)
        tiles.append(Tile((_source_box(axes, target),), target))
    return tiles


def reduction(
    axes: Axes, source: Box, target: Box, row: int, result: int, fields: dict[str, Any]
) -> isa.Reduce:
    """REDUCE of one tile whose source box lies densely packed from `row`."""
    pitches = source.pitches()
    starts, bounds, steps = [], [], []
    for d, axis in enumerate(axes):
        start = axis.start(target.first[d])
        row += (start - source.first[d]) * pitches[d]
        starts.append(0 if axis.free else start)
        steps.append(0 if axis.free else axis.stride)
        bounds.append(1 if axis.free else axis.size)
    window = tuple(axis.kernel for axis in axes)
    counts = (*target.size, target.blocks)
    outer = [p * a.stride for p, a in zip(pitches[:3], axes, strict=True)]
    return isa.Reduce(
        counts=counts,
        window=window,
        source=row_field(row),
        source_deltas=deltas((*window, *counts), (*pitches[:3], *outer, pitches[3])),
        destination=result,
        destination_deltas=deltas(counts, target.pitches()),
        starts=tuple(starts),
        steps=tuple(steps),
        bounds=tuple(bounds),
        **fields,
    )


def layer(
    axes: Axes,
    source: Tensor,
    target: Tensor,
    fields: dict[str, Any],
    config: AcceleratorConfig,
) -> Stream:
    """Windows of a tensor, tile by tile.

    Raises
    ------
    RefusedError
        If fields do not hold a window, or the scratchpad not what one result reads.
    """
    for axis in axes:
        why = axis_refusal(axis)
        if why is not None:
            raise RefusedError(why)
    tiles = _tiles(axes, source.layout.blocks, config)
    if not tiles:
        rows = product([axis.source((0, 1))[1] for axis in axes])
        raise RefusedError(
            f"a window of {rows} positions; {config.name} has {_most_rows(config)} scratchpad rows "
            f"beside those of the result"
        )

    def compute(tile: Tile, rows: Sequence[int], result: int) -> Iterator[UnitInstruction]:
        yield reduction(axes, tile.sources[0], tile.target, rows[0], result, fields)

    return Stream([View.of(source)], View.of(target), tiles, compute)


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


def pool_layer(op: Pool, source: Tensor, target: Tensor, config: AcceleratorConfig) -> Stream:
    """A maximum or average pool."""
    fields = {
        "op": ReduceOp.MAX if op.kind is PoolKind.MAX else ReduceOp.SUM,
        "signed": int(source.signed),
        "pad": source.zero_point & 0xFF,
        "low": op.low,
        "high": op.high,
    }
    if op.mean is not None:
        fields |= mean_fields(op.mean)
    return layer(pool_axes(op, source), source, target, fields, config)


def mean_layer(op: Reduce, source: Tensor, target: Tensor, config: AcceleratorConfig) -> Stream:
    """A mean over whole axes."""
    fields = {
        "op": ReduceOp.SUM,
        "signed": int(source.signed),
        "pad": source.zero_point & 0xFF,
        "low": op.low,
        "high": op.high,
        **mean_fields(op.mean),
    }
    return layer(mean_axes(op, source), source, target, fields, config)


def lower(emitter: Emitter, stream: Stream) -> dict[str, Any]:
    """Emit a pool or a mean; returns the tiling for the report."""
    emit(emitter, stream)
    return {
        "load": list(stream.tiles[0].target.size),
        "blocks": stream.tiles[0].target.blocks,
    }
