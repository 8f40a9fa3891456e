"""Lowering of softmax: the maximum of each group, the sum of its exponentials, the quotients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from compiler.emit.softmax import Counts, Passes
from compiler.emit.streams import Stream, Tile, slot_rows, split_box
from compiler.emit.transfers import Box, Strided
from compiler.lower.contracts import first_of
from compiler.lower.groups import (
    STATISTICS,
    Batch,
    Rows,
    Summed,
    boxes,
    lacks_fold,
    rows_of,
    tiles_of,
    valid_lanes,
)
from compiler.ops import Softmax, Table
from hw.arch.config import AcceleratorConfig
from hw.arch.instructions.fold import MOST_SOFTMAX_ELEMENTS, SOFTMAX_TABLES
from hw.arch.isa import UnitInstruction
from hw.arch.layout import LaneMap
from hw.arch.program import Tensor


def layer(
    op: Softmax, source: Tensor, target: Tensor, config: AcceleratorConfig, table: int
) -> Stream:
    """Whole groups, tile by tile, in batches that have statistics.

    The result of a group that takes many rows is made and stored piece by piece.
    """
    limit = slot_rows(3, config, source.layout.rows)
    parts = boxes(source, op.axes, limit)
    elements = int(np.prod([source.layout.shape[axis] for axis in op.axes]))
    passes = Passes(op, source.signed, table, elements, target.zero_point)
    valid = valid_lanes(source.layout)

    def compute(tile: Tile, rows: Sequence[int], result: int) -> Iterator[UnitInstruction]:
        whole = tile.sources[0]
        found = rows_of(whole, op.axes)
        begins = tile.target.first == whole.first
        for batch in found.batches(2):
            counts, pitches = _nest(found, batch)
            first = rows[0] + batch.offset
            if begins:
                yield passes.maximum(counts, first, pitches, valid, rows[1])
                yield passes.collect(counts, first, pitches, valid, rows[1])
            if tile.target != whole:
                # One group, some of its elements: they lie one after another.
                counts, pitches = (1, tile.target.positions, 1, 1), (0, 1, 0, 0)
                first = rows[0] + _row(tile.target, whole)
            yield passes.apply(counts, first, pitches, valid, rows[1], result + batch.offset)

    tiles = [
        tile
        for part in parts
        for tile in (_pieces(part, config) if part.rows > limit else tiles_of([part]))
    ]
    return Stream([Strided.of(source)], Strided.of(target), tiles, compute, STATISTICS)


def _pieces(part: Box, config: AcceleratorConfig) -> list[Tile]:
    """Tiles of a single group's positions; the group itself stays on chip."""
    if part.blocks > 1:
        return tiles_of([part])
    return [
        Tile((part,), piece) for piece in split_box(part, config.memory.activation_bank_rows // 2)
    ]


def _row(piece: Box, whole: Box) -> int:
    """Of the first element of a piece in a group that lies densely packed."""
    steps = zip(piece.first, whole.first, whole.pitches(), strict=False)
    return sum((first - begin) * pitch for first, begin, pitch in steps)


def _nest(rows: Rows, batch: Batch) -> tuple[Counts, Counts]:
    """Counts and pitches of n0 to n3."""
    n0, n1, n2, n3 = (rows.blocks, rows.elements, *batch.levels)
    counts = n0.count, n1.count, n2.count, n3.count
    return counts, (n0.pitch, n1.pitch, n2.pitch, n3.pitch)


class SoftmaxLowering(Summed[Softmax]):
    """Over the channels of a position, over positions of one channel, or over both."""

    operation = Softmax
    limits = (
        f"groups of {MOST_SOFTMAX_ELEMENTS} elements",
        "over channels, or over positions of a single channel",
    )

    def kind(self, op: Softmax, config: AcceleratorConfig) -> str:
        """One kind."""
        return "softmax"

    def misfit(
        self, op: Softmax, sources: Sequence[Tensor], target: Tensor, config: AcceleratorConfig
    ) -> str | None:
        """FOLD and its tables, then what all of them need."""
        tables = config.memory.tables
        few = None if tables >= SOFTMAX_TABLES else f"{config.name} has {tables} tables of 4"
        return first_of([lacks_fold(config), few]) or super().misfit(op, sources, target, config)

    def result(self, op: Softmax, maps: Sequence[LaneMap], channels: int) -> LaneMap:
        """The operand's; of one channel, in the first lane."""
        return maps[0] if channels > 1 else LaneMap.dense(1, maps[0].lanes)

    def tables(self, op: Softmax) -> Sequence[Table | None]:
        """The exponentials, 256 words."""
        return (np.asarray(op.constants.exponentials, "<u4").tobytes(),)

    def streams(
        self,
        op: Softmax,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
        tables: Sequence[int],
    ) -> Iterable[Stream]:
        """Tile by tile."""
        return [layer(op, sources[0], target, config, tables[0])]


LOWERING = SoftmaxLowering()
