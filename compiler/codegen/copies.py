"""Lowering of operators that move or look up codes: tables, concat, slices."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from compiler.codegen.emitter import Emitter
from compiler.codegen.streams import (
    Tile,
    copy,
    copy_limit,
    flat,
    line_boxes,
    slot_rows,
    split_box,
    stream,
)
from compiler.codegen.transfers import Box, View
from compiler.ir import Concat, Slice, Table, UnaryTable
from hw.arch.isa import Elementwise, ElementwiseOp, deltas
from hw.arch.layout import ceil_div
from hw.arch.program import Tensor

AXIS_OF = {1: 2, 2: 1, 3: 0}
"""Axis of a box (0 = x) for a canonical axis (1 = T, 2 = H, 3 = W)."""
MAX_COUNT = (1 << 12) - 1


def _apply_table(
    emitter: Emitter, source: View, target: View, boxes: Sequence[Tile], field: int
) -> None:
    """Stream tiles through a lookup table."""

    def compute(tile: Tile, rows: Sequence[int], result: int) -> None:
        box = tile.sources[0]
        # A dense box is a line of rows; counts are limited, so it may take several instructions.
        for first in range(0, box.rows, MAX_COUNT):
            counts = (min(MAX_COUNT, box.rows - first), 1, 1, 1)
            step = deltas(counts, (1, 0, 0, 0))
            emitter.emit(
                Elementwise(
                    op=ElementwiseOp.COPY,
                    counts=counts,
                    source0=rows[0] + first,
                    source0_deltas=step,
                    destination=result + first,
                    destination_deltas=step,
                    table=field,
                )
            )

    assert stream(emitter, [source], target, boxes, compute)


def lower_table(emitter: Emitter, op: UnaryTable, source: Tensor, target: Tensor) -> dict[str, Any]:
    """Emit a function of one tensor."""
    limit = slot_rows(2, emitter.config)
    boxes = line_boxes(source.layout.rows, limit)
    field = emitter.table(op.table)
    tiles = [Tile((box,), box) for box in boxes]
    _apply_table(emitter, flat(View.of(source)), flat(View.of(target)), tiles, field)
    return {"rows": boxes[0].rows}


def move(emitter: Emitter, source: View, target: View, box: Box, table: Table | None) -> None:
    """Copy all of `source`, whose axes are as the target's, to `box` of the target."""
    whole = Box((0, 0, 0), box.size, 0, box.blocks)
    limit = copy_limit(emitter.config) if table is None else slot_rows(2, emitter.config)
    if source.pitches[0] != source.lanes:
        # Every row is a run of its own, and a transfer has three levels of runs: no block level.
        limit = min(limit, whole.positions)
    tiles = []
    for part in split_box(whole, limit):
        x, y, t = (a + b for a, b in zip(part.first, box.first, strict=True))
        moved = dataclasses.replace(part, first=(x, y, t), block=part.block + box.block)
        tiles.append(Tile((part,), moved))
    if table is None:
        copy(emitter, source, target, tiles)
    else:
        _apply_table(emitter, source, target, tiles, emitter.table(table))


def lower_concat(
    emitter: Emitter, op: Concat, sources: Sequence[Tensor], target: Tensor
) -> dict[str, Any]:
    """Emit a concat: every operand goes to its place, through a table where scales differ."""
    view = View.of(target)
    place = 0
    for source, table in zip(sources, op.tables, strict=True):
        layout = source.layout
        first = [0, 0, 0]
        block = 0
        if op.axis == 0:
            block = place
            place += layout.blocks
        else:
            axis = AXIS_OF[op.axis]
            first[axis] = place
            place += View.of(source).sizes[axis]
        box = Box(
            (first[0], first[1], first[2]),
            (layout.width, layout.height, layout.frames),
            block,
            layout.blocks,
        )
        move(emitter, View.of(source), view, box, table)
    return {}


def sliced_view(source: View, op: Slice) -> View:
    """The part of a tensor that a slice keeps; no byte moves."""
    if op.axis == 0:
        first = op.start // source.lanes
        blocks = ceil_div(op.stop, source.lanes) - first
        address = source.address + first * source.pitches[3]
        return dataclasses.replace(source, address=address, blocks=blocks)
    axis = AXIS_OF[op.axis]
    sizes, pitches = list(source.sizes), list(source.pitches)
    sizes[axis] = len(range(op.start, op.stop, op.step))
    address = source.address + op.start * pitches[axis]
    pitches[axis] *= op.step
    return View(
        address,
        source.blocks,
        (sizes[0], sizes[1], sizes[2]),
        (pitches[0], pitches[1], pitches[2], pitches[3]),
        source.lanes,
    )


def lower_slice(emitter: Emitter, op: Slice, source: Tensor, target: Tensor) -> dict[str, Any]:
    """Emit a slice as a strided copy."""
    view = sliced_view(View.of(source), op)
    move(emitter, view, View.of(target), Box((0, 0, 0), view.sizes, 0, view.blocks), None)
    return {}
