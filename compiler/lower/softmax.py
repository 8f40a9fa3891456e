"""Lowering of softmax: the maximum of each group, the sum of its exponentials, the quotients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

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
from hw.arch.isa import Fold, FoldOp, UnitInstruction, deltas
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
    common: dict[str, Any] = {
        "signed": (int(source.signed), int(source.signed)),
        "valid": valid_lanes(source.layout),
    }
    codes = (-128, 127) if source.signed else (0, 255)

    def compute(tile: Tile, rows: Sequence[int], result: int) -> Iterator[UnitInstruction]:
        whole = tile.sources[0]
        found = rows_of(whole, op.axes)
        begins = tile.target.first == whole.first
        skipped = (_row(tile.target, whole), tile.target.positions)
        for batch in found.batches(2):
            nest = _nest(found, batch)
            counts = tuple(count for count, _ in nest)
            inside = deltas(counts, tuple(pitch for _, pitch in nest))
            n2, n3 = counts[2:]
            first: dict[str, Any] = {
                "counts": counts,
                "source0": rows[0] + batch.offset,
                "source0_deltas": inside,
            }
            if begins:
                yield Fold(
                    op=FoldOp.MAX,
                    destination=rows[1],
                    destination_deltas=deltas((1, 1, n2, n3), (0, 0, 1, n2)),
                    low=codes[0],
                    high=codes[1],
                    **first,
                    **common,
                )
            second: dict[str, Any] = {
                "source1": rows[1],
                "source1_deltas": deltas(counts, (0, 0, 1, n2)),
                "elements": elements,
                "table": table,
            }
            if begins:
                yield Fold(
                    op=FoldOp.SOFTMAX_COLLECT,
                    first=1,
                    last=1,
                    multiplier=op.constants.numerator,
                    **first,
                    **second,
                    **common,
                )
            if tile.target != whole:
                # One group, some of its elements: they lie one after another.
                counts = (1, skipped[1], 1, 1)
                inside = deltas(counts, (0, 1, 0, 0))
                first |= {
                    "counts": counts,
                    "source0": rows[0] + skipped[0],
                    "source0_deltas": inside,
                }
                second |= {"source1_deltas": (0, 0, 0, 0)}
            yield Fold(
                op=FoldOp.SOFTMAX_APPLY,
                destination=result + batch.offset,
                destination_deltas=inside,
                zero_point=target.zero_point,
                low=op.low,
                high=op.high,
                **first,
                **second,
                **common,
            )

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


def _nest(rows: Rows, batch: Batch) -> tuple[tuple[int, int], ...]:
    """Count and pitch of n0 to n3."""
    levels = (rows.blocks, rows.elements, *batch.levels)
    return tuple((level.count, level.pitch) for level in levels)


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
