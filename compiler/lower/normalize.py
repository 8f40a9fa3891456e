"""Lowering of norms: the sums of each group, then its elements with gain and offset."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from compiler.emit.streams import LEAST_ROWS, Stream, Tile, pieces_of, slot_rows
from compiler.emit.transfers import Strided
from compiler.lower.groups import (
    Batch,
    Rows,
    Summed,
    boxes,
    rows_of,
    tiles_of,
    valid_lanes,
)
from compiler.ops import Normalize
from hw.arch.config import AcceleratorConfig
from hw.arch.instructions.fold import COEFFICIENT_ROWS
from hw.arch.isa import Fold, FoldOp, UnitInstruction, deltas
from hw.arch.layout import LaneMap, TensorLayout
from hw.arch.program import Tensor

PIECES = 4
"""In which a tile comes and goes: its sums are collected while the rest is still being loaded."""


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
    """Whole groups, tile by tile, in batches that have statistics; their blocks in pieces.

    Their sums go over them as often as elements count.
    """
    constants, signed = op.constants, (int(source.signed), 0)
    whole = source.layout.blocks

    def collect(found: Rows, batch: Batch, at: int, first: int, blocks: int, turn: int) -> Fold:
        groups, last = batch.levels[0], first + blocks == whole
        counts = (blocks, found.elements.count, groups.count, 1)
        pitches = (found.blocks.pitch, found.elements.pitch, groups.pitch, 0)
        return Fold(
            op=FoldOp.NORM_COLLECT,
            signed=signed,
            counts=counts,
            source0=at + first * found.blocks.pitch,
            source0_deltas=deltas(counts, pitches),
            valid=valid_lanes(source.layout) if last else 0,
            first=int(first == 0 and turn == 0),
            last=int(last and turn == constants.repeats - 1),
            elements=constants.elements,
            multiplier=constants.root_epsilon,
            epsilon=constants.epsilon,
        )

    def apply(
        found: Rows, batch: Batch, rows: tuple[int, int, int], first: int, blocks: int
    ) -> Fold:
        groups = batch.levels[0]
        counts = (groups.count, blocks, found.elements.count, 1)
        pitches = deltas(counts, (groups.pitch, found.blocks.pitch, found.elements.pitch, 0))
        along = (1, COEFFICIENT_ROWS, COEFFICIENT_ROWS * whole, 0)
        place = first * found.blocks.pitch
        return Fold(
            op=FoldOp.NORM_APPLY,
            signed=signed,
            counts=counts,
            source0=rows[0] + place,
            source0_deltas=pitches,
            source1=rows[1] + COEFFICIENT_ROWS * first,
            source1_deltas=deltas((COEFFICIENT_ROWS, *counts[1:]), along),
            destination=rows[2] + place,
            destination_deltas=pitches,
            elements=constants.elements,
            coefficient_shift=constants.coefficient_shift,
            zero_point=target.zero_point,
            low=op.low,
            high=op.high,
        )

    def compute(tile: Tile, rows: Sequence[int], result: int) -> Iterator[UnitInstruction]:
        found = rows_of(tile.target, op.axes)
        parts = [(box.block, box.blocks) for box in pieces_of(tile.target, pieces)]
        for batch in found.batches(1):
            at = rows[0] + batch.offset
            for turn, (first, blocks) in itertools.product(range(constants.repeats), parts):
                yield collect(found, batch, at, first, blocks, turn)
            for first, blocks in parts:
                yield apply(found, batch, (at, rows[1], result + batch.offset), first, blocks)

    parts = boxes(source, op.axes, slot_rows(3, config))
    pieces = max(1, min(PIECES, parts[0].rows // LEAST_ROWS))
    return Stream(
        [Strided.of(source)],
        Strided.of(target),
        tiles_of(parts),
        compute,
        constant=coefficient_rows(op, source.layout),
        pieces=pieces,
    )


class NormalizeLowering(Summed[Normalize]):
    """Over the channels of a position, over positions of one channel, or over both."""

    operation = Normalize

    def kind(self, op: Normalize, config: AcceleratorConfig) -> str:
        """One kind."""
        return "norm"

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


LOWERING = NormalizeLowering()
