"""Lowering of concats: operands are copied to their places, through tables where scales differ.

Along channels nothing is copied where scales are equal and readers can do with blocks anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from compiler.emit.emitter import Emitter
from compiler.emit.moves import AXIS_OF, move
from compiler.emit.streams import (
    Stream,
    emit,
)
from compiler.emit.transfers import Box, Strided
from compiler.ir import Concat
from compiler.lower.base import Lanes, Moved
from compiler.lower.contracts import first_of, lanes_differ
from compiler.ops import Table
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import LaneMap, TensorLayout
from hw.arch.program import Tensor


def concat_layers(
    op: Concat,
    sources: Sequence[Tensor],
    target: Tensor,
    config: AcceleratorConfig,
    fields: Sequence[int],
) -> Iterator[Stream]:
    """Every operand goes to its place, through a table where its field is not 0."""
    view = Strided.of(target)
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
            place += Strided.of(source).sizes[axis]
        box = Box(
            (first[0], first[1], first[2]),
            (layout.width, layout.height, layout.frames),
            block,
            layout.blocks,
        )
        yield move(Strided.of(source), view, box, config, field)


class ConcatLowering(Moved[Concat]):
    """Blocks, lines or frames one after another."""

    operation = Concat
    limits = ()

    def kind(self, op: Concat, config: AcceleratorConfig) -> str:
        """One kind."""
        return "concat"

    def contract(
        self, op: Concat, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """Along T, H, W equal lanes; along channels the blocks of all, in order."""
        if op.axis > 0:
            return first_of(lanes_differ(source, result) for source in sources)
        joined = LaneMap.joined([source.lane_map for source in sources])
        if (joined.table().shape, joined.channels) != (
            result.lane_map.table().shape,
            result.channels,
        ) or not np.array_equal(joined.table(), result.lane_map.table()):
            return f"channels {joined} are taken for {result.lane_map}"
        return None

    def lanes(self, op: Concat) -> Lanes:
        """Along channels blocks are appended; else operands have to meet."""
        return Lanes.GATHERED if op.axis == 0 else Lanes.MET

    def demands(self, op: Concat, maps: Sequence[LaneMap]) -> list[LaneMap] | None:
        """Along channels any maps."""
        return list(maps) if op.axis == 0 else None

    def result(self, op: Concat, maps: Sequence[LaneMap], channels: int) -> LaneMap:
        """Along channels blocks are appended."""
        return LaneMap.joined(maps) if op.axis == 0 else maps[0]

    def keeps_bytes(self, op: Concat) -> bool:
        """Where the operands' blocks are read in its place."""
        return op.shared

    def tables(self, op: Concat) -> Sequence[Table | None]:
        """One for each operand that has another scale."""
        return op.tables

    def streams(
        self,
        op: Concat,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
        tables: Sequence[int],
    ) -> Iterable[Stream]:
        """One for each operand."""
        return concat_layers(op, sources, target, config, tables)

    def emit(
        self, emitter: Emitter, op: Concat, sources: Sequence[Tensor], target: Tensor
    ) -> dict[str, Any]:
        """Each operand's table is loaded right before it is used: they may be many."""
        if op.shared:
            return {}
        for number, table in enumerate(op.tables):
            fields = [0] * len(op.tables)
            fields[number] = emitter.table(table)
            streams = list(concat_layers(op, sources, target, emitter.config, fields))
            emit(emitter, streams[number])
        return {}


LOWERING = ConcatLowering()
