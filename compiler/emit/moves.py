"""Copies through the scratchpad, with or without a lookup: what moves have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from compiler.emit.streams import (
    Compute,
    Stream,
    Tile,
    copy_limit,
    slot_rows,
    split_box,
)
from compiler.emit.transfers import Box, Strided
from compiler.tile.limits import MAX_COUNT
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Elementwise, ElementwiseOp, UnitInstruction, deltas

AXIS_OF = {1: 2, 2: 1, 3: 0}
"""Axis of a box (0 = x) for a canonical axis (1 = T, 2 = H, 3 = W)."""


def lookup(field: int) -> Compute:
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


# Moves


def move(
    source: Strided, target: Strided, box: Box, config: AcceleratorConfig, field: int = 0
) -> Stream:
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
    return Stream([source], target, tiles, lookup(field) if field else None)


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


def block_layers(
    source: Strided, target: Strided, blocks: Sequence[int], config: AcceleratorConfig
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
