"""Lowering of norms: the sums of each group, then its elements with gain and offset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from compiler.emit.streams import Stream, Tile, slot_rows
from compiler.emit.transfers import Strided
from compiler.lower.base import Lanes, Streamed
from compiler.lower.contracts import first_of, lanes_differ
from compiler.lower.groups import (
    boxes,
    lacks_fold,
    not_counted_once,
    rows_of,
    summable,
    tiles_of,
    valid_lanes,
)
from compiler.ops import Normalize
from hw.arch.config import AcceleratorConfig
from hw.arch.instructions.fold import COEFFICIENT_ROWS, MOST_ELEMENTS
from hw.arch.isa import Fold, FoldOp, UnitInstruction, deltas
from hw.arch.layout import LaneMap, TensorLayout
from hw.arch.program import Tensor


def coefficient_rows(op: Normalize, layout: TensorLayout) -> bytes:
    """Gains and offsets by position of a group and block: six rows each, low bytes first."""
    sizes = [layout.shape[axis] for axis in op.axes if axis > 0]
    positions = int(np.prod(sizes, dtype=np.int64))
    channels = layout.lane_map.table()
    index = channels[None] * positions + np.arange(positions)[:, None, None]
    rows = []
    for values in (op.constants.gains, op.constants.offsets):
        taken = np.where(channels[None] >= 0, np.asarray(values, np.int64)[index], 0)
        rows += [taken >> shift & 0xFF for shift in (0, 8, 16)]
    # [positions, blocks, 6, lanes]
    return np.stack(rows, axis=2).astype(np.uint8).tobytes()


def layer(op: Normalize, source: Tensor, target: Tensor, config: AcceleratorConfig) -> Stream:
    """Whole groups, tile by tile, in batches that have statistics.

    Their sums go over them as often as elements count.
    """
    constants, signed = op.constants, (int(source.signed), 0)

    def compute(tile: Tile, rows: Sequence[int], result: int) -> Iterator[UnitInstruction]:
        found = rows_of(tile.target, op.axes)
        blocks, elements = found.blocks, found.elements
        for batch in found.batches(1):
            groups = batch.levels[0]
            at = rows[0] + batch.offset
            counts = (blocks.count, elements.count, groups.count, 1)
            pitches = (blocks.pitch, elements.pitch, groups.pitch, 0)
            for turn in range(constants.repeats):
                yield Fold(
                    op=FoldOp.NORM_COLLECT,
                    signed=signed,
                    counts=counts,
                    source0=at,
                    source0_deltas=deltas(counts, pitches),
                    valid=valid_lanes(source.layout),
                    first=int(turn == 0),
                    last=int(turn == constants.repeats - 1),
                    elements=constants.elements,
                    multiplier=constants.root_epsilon,
                    epsilon=constants.epsilon,
                )
            counts = (groups.count, blocks.count, elements.count, 1)
            pitches = (groups.pitch, blocks.pitch, elements.pitch, 0)
            nest = (COEFFICIENT_ROWS, *counts[1:])
            along = (1, COEFFICIENT_ROWS, COEFFICIENT_ROWS * blocks.count, 0)
            yield Fold(
                op=FoldOp.NORM_APPLY,
                signed=signed,
                counts=counts,
                source0=at,
                source0_deltas=deltas(counts, pitches),
                source1=rows[1],
                source1_deltas=deltas(nest, along),
                destination=result + batch.offset,
                destination_deltas=deltas(counts, pitches),
                elements=constants.elements,
                coefficient_shift=constants.coefficient_shift,
                zero_point=target.zero_point,
                low=op.low,
                high=op.high,
            )

    # Half as many tiles as others: each collects, and starts its elements, anew.
    parts = boxes(source, op.axes, slot_rows(3, config, 2 * source.layout.rows))
    return Stream(
        [Strided.of(source)],
        Strided.of(target),
        tiles_of(parts),
        compute,
        constant=coefficient_rows(op, source.layout),
    )


class NormalizeLowering(Streamed[Normalize]):
    """Over the channels of a position, over positions of one channel, or over both."""

    operation = Normalize
    limits = (
        f"groups of {MOST_ELEMENTS} elements",
        "over channels, or over positions of a single channel",
    )

    def kind(self, op: Normalize, config: AcceleratorConfig) -> str:
        """One kind."""
        return "norm"

    def misfit(
        self, op: Normalize, sources: Sequence[Tensor], target: Tensor, config: AcceleratorConfig
    ) -> str | None:
        """FOLD, then what every stream needs."""
        return lacks_fold(config) or super().misfit(op, sources, target, config)

    def contract(
        self, op: Normalize, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """Lanes can be summed up, and stay."""
        return first_of([not_counted_once(sources[0]), lanes_differ(sources[0], result)])

    def lanes(self, op: Normalize) -> Lanes:
        """Lane by lane, but operands that do not fill their lanes are moved."""
        return Lanes.MET

    def demands(self, op: Normalize, maps: Sequence[LaneMap]) -> list[LaneMap] | None:
        """Lanes that can be summed up."""
        return [m if summable(m) else LaneMap.dense(m.channels, m.lanes) for m in maps]

    def result(self, op: Normalize, maps: Sequence[LaneMap], channels: int) -> LaneMap:
        """The operand's."""
        return maps[0]

    def streams(
        self,
        op: Normalize,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
        tables: Sequence[int],
    ) -> Iterable[Stream]:
        """Tile by tile."""
        return [layer(op, sources[0], target, config)]

    def report(self, op: Normalize, streams: Sequence[Stream]) -> dict[str, Any]:
        """Rows of a tile."""
        return {"rows": streams[0].tiles[0].target.rows}


LOWERING = NormalizeLowering()
