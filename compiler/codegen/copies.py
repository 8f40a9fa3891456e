"""Lowering of operators that move or look up codes: tables, concat, slices."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from compiler.codegen.emitter import Emitter
from compiler.codegen.limits import MAX_COUNT
from compiler.codegen.streams import (
    Compute,
    Stream,
    Tile,
    copy_limit,
    emit,
    flat,
    line_boxes,
    slot_rows,
    split_box,
)
from compiler.codegen.transfers import Box, View
from compiler.ir import Concat, Slice, UnaryTable
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Elementwise, ElementwiseOp, UnitInstruction, deltas
from hw.arch.program import Tensor

AXIS_OF = {1: 2, 2: 1, 3: 0}
"""Axis of a box (0 = x) for a canonical axis (1 = T, 2 = H, 3 = W)."""


def _lookup(field: int) -> Compute:
    """A lookup table applied to a tile."""

    def compute(tile: Tile, rows: Sequence[int], result: int) -> Iterator[UnitInstruction]:
        box = tile.sources[0]
        # A dense box is a line of rows; counts are limited, so it may take several instructions.
        for first in range(0, box.rows, MAX_COUNT):
            counts = (min(MAX_COUNT, box.rows - first), 1, 1, 1)
            step = deltas(counts, (1, 0, 0, 0))
            yield Elementwise(
                op=ElementwiseOp.COPY,
                counts=counts,
                source0=rows[0] + first,
                source0_deltas=step,
                destination=result + first,
                destination_deltas=step,
                table=field,
            )

    return compute


def table_layer(source: Tensor, target: Tensor, config: AcceleratorConfig, field: int) -> Stream:
    """A function of one tensor, its table in a field's slot."""
    tiles = [Tile((box,), box) for box in line_boxes(source.layout.rows, slot_rows(2, config))]
    return Stream([flat(View.of(source))], flat(View.of(target)), tiles, _lookup(field))


def lower_table(emitter: Emitter, op: UnaryTable, source: Tensor, target: Tensor) -> dict[str, Any]:
    """Emit a function of one tensor."""
    stream = table_layer(source, target, emitter.config, emitter.table(op.table))
    emit(emitter, stream)
    return {"rows": stream.tiles[0].target.rows}


# Moves


def move(source: View, target: View, box: Box, config: AcceleratorConfig, field: int = 0) -> Stream:
    """All of `source`, whose axes are as the target's, to `box` of the target.

    Through a table where `field` names one.
    """
    whole = Box((0, 0, 0), box.size, 0, box.blocks)
    limit = slot_rows(2, config) if field else copy_limit(config)
    if source.pitches[0] != source.lanes or target.pitches[0] != target.lanes:
        # Every row is a run of its own, and a transfer has three levels of runs: no block level.
        limit = min(limit, whole.positions)
    tiles = []
    for part in _countable(split_box(whole, limit)):
        x, y, t = (a + b for a, b in zip(part.first, box.first, strict=True))
        moved = dataclasses.replace(part, first=(x, y, t), block=part.block + box.block)
        tiles.append(Tile((part,), moved))
    return Stream([source], target, tiles, _lookup(field) if field else None)


def _countable(boxes: Sequence[Box]) -> Iterator[Box]:
    """Cut boxes further whose levels a transfer might have to count beyond its fields."""
    for box in boxes:
        longest = max((1, 2, 0), key=lambda axis: box.size[axis])
        if (max(box.size[1:]) <= MAX_COUNT and box.size[0] <= MAX_COUNT) or box.blocks > 1:
            yield box
            continue
        half = -(-box.size[longest] // 2)
        for first, count in ((0, half), (half, box.size[longest] - half)):
            begin, size = list(box.first), list(box.size)
            begin[longest] += first
            size[longest] = count
            part = dataclasses.replace(
                box, first=(begin[0], begin[1], begin[2]), size=(size[0], size[1], size[2])
            )
            yield from _countable([part])


def concat_layers(
    op: Concat,
    sources: Sequence[Tensor],
    target: Tensor,
    config: AcceleratorConfig,
    fields: Sequence[int],
) -> Iterator[Stream]:
    """Every operand goes to its place, through a table where its field is not 0."""
    view = View.of(target)
    place = 0
    for source, field in zip(sources, fields, strict=True):
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
        yield move(View.of(source), view, box, config, field)


def lower_concat(
    emitter: Emitter, op: Concat, sources: Sequence[Tensor], target: Tensor
) -> dict[str, Any]:
    """Emit a concat; each operand's table is loaded right before it is used."""
    for number, table in enumerate(op.tables):
        fields = [0] * len(op.tables)
        fields[number] = emitter.table(table)
        streams = list(concat_layers(op, sources, target, emitter.config, fields))
        emit(emitter, streams[number])
    return {}


def sliced_view(source: View, op: Slice) -> View:
    """The part of a tensor that a slice along T, H or W keeps; no byte moves."""
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


def slice_layers(
    op: Slice, source: Tensor, target: Tensor, config: AcceleratorConfig
) -> list[Stream]:
    """A strided copy; along the channels, of the blocks that hold them."""
    view, to = View.of(source), View.of(target)
    if op.axis > 0:
        view = sliced_view(view, op)
        return [move(view, to, Box((0, 0, 0), view.sizes, 0, view.blocks), config)]
    _, blocks = source.layout.lane_map.taken(range(op.start, op.stop, op.step))
    return block_layers(view, to, blocks, config)


def block_layers(
    source: View, target: View, blocks: Sequence[int], config: AcceleratorConfig
) -> list[Stream]:
    """Copies of blocks of a tensor to another one, which has no others."""
    streams = []
    place = 0
    for some in even_steps(blocks):
        part = source.part(some.start, len(some), some.step)
        streams.append(move(part, target, Box((0, 0, 0), source.sizes, place, len(some)), config))
        place += len(some)
    return streams


def even_steps(numbers: Sequence[int]) -> list[range]:
    """Cut numbers into ascending ranges, each as long as it can be."""
    result: list[range] = []
    first = 0
    while first < len(numbers):
        last = first + 1
        step = numbers[last] - numbers[first] if last < len(numbers) else 1
        while last < len(numbers) and step > 0 and numbers[last] - numbers[last - 1] == step:
            last += 1
        result.append(range(numbers[first], numbers[last - 1] + 1, max(step, 1)))
        first = last
    return result


def lower_moves(emitter: Emitter, streams: Sequence[Stream]) -> dict[str, Any]:
    """Emit copies."""
    for stream in streams:
        emit(emitter, stream)
    return {}
