"""Lowering of softmax: the maximum of each group, the sum of its exponentials, the quotients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from compiler.emit.streams import Stream, Tile, slot_rows
from compiler.emit.transfers import Strided
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
    """Whole groups, tile by tile, in batches that have statistics."""
    parts = boxes(source, op.axes, slot_rows(3, config, source.layout.rows))
    elements = int(np.prod([source.layout.shape[axis] for axis in op.axes]))
    common: dict[str, Any] = {
        "signed": (int(source.signed), int(source.signed)),
        "valid": valid_lanes(source.layout),
    }
    codes = (-128, 127) if source.signed else (0, 255)

    def compute(tile: Tile, rows: Sequence[int], result: int) -> Iterator[UnitInstruction]:
        found = rows_of(tile.target, op.axes)
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
            yield Fold(
                op=FoldOp.SOFTMAX_COLLECT,
                first=1,
                last=1,
                multiplier=op.constants.numerator,
                **first,
                **second,
                **common,
            )
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

    tiles = tiles_of(parts)
    return Stream([Strided.of(source)], Strided.of(target), tiles, compute, STATISTICS)


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
