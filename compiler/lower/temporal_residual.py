"""Lowering of the temporal residual gradient: differences and mean frame of a tile at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from compiler.emit.emitter import RefusedError
from compiler.emit.streams import Stream, Tile, slot_rows, split_box
from compiler.emit.transfers import Strided
from compiler.emit.vector import differences, mean_frame
from compiler.ir import TemporalResidual
from compiler.lower.base import Lanes, Streamed
from compiler.lower.contracts import lanes_differ
from compiler.ops import Table
from compiler.tile.limits import MAX_COUNT, MAX_REDUCE_WINDOW
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    UnitInstruction,
)
from hw.arch.layout import TensorLayout
from hw.arch.program import Tensor


def layer(
    op: TemporalResidual,
    source: Tensor,
    target: Tensor,
    config: AcceleratorConfig,
    tables: tuple[int, int],
) -> Stream:
    """T − 1 differences and the mean frame; all frames of some pixels make a tile.

    Parameters
    ----------
    op, source, target, config: the operator, its tensors, for what.
    tables: instruction fields of the tables of differences and mean.

    Raises
    ------
    RefusedError
        If the scratchpad does not hold all frames of a pixel, or a field their number.
    """
    view, to = Strided.of(source).merged(1), Strided.of(target).merged(1)
    frames = source.layout.frames
    if frames > MAX_REDUCE_WINDOW:
        raise RefusedError(f"{frames} frames; at most {MAX_REDUCE_WINDOW} are averaged")
    limit = min(slot_rows(2, config), MAX_COUNT * frames)
    whole = view.whole
    tiles = [Tile((box,), box) for box in split_box(whole, limit, keep=(2,))]

    def compute(tile: Tile, rows: Sequence[int], result: int) -> Iterator[UnitInstruction]:
        box = tile.target
        pitches = box.pitches()
        counts = (frames, box.size[0], box.blocks)
        yield differences(op, source, counts, rows[0], pitches, result, pitches, tables[0])
        last = result + (frames - 1) * pitches[2]
        yield mean_frame(op, source, box, rows[0], last, pitches[3], tables[1])

    return Stream([view], to, tiles, compute)


class TemporalResidualLowering(Streamed[TemporalResidual]):
    """Two instructions of VECTOR for all frames of some pixels."""

    operation = TemporalResidual
    limits = (f"{MAX_REDUCE_WINDOW} frames",)

    def kind(self, op: TemporalResidual, config: AcceleratorConfig) -> str:
        """One kind."""
        return "temporal_residual"

    def contract(
        self, op: TemporalResidual, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """The result has the operand's lanes."""
        return lanes_differ(sources[0], result)

    def lanes(self, op: TemporalResidual) -> Lanes:
        """Lane by lane."""
        return Lanes.KEPT

    def tables(self, op: TemporalResidual) -> Sequence[Table | None]:
        """Of the differences and of the mean frame."""
        return op.difference_table, op.average_table

    def streams(
        self,
        op: TemporalResidual,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
        tables: Sequence[int],
    ) -> Iterable[Stream]:
        """Tile by tile."""
        return [layer(op, sources[0], target, config, (tables[0], tables[1]))]

    def report(self, op: TemporalResidual, streams: Sequence[Stream]) -> dict[str, Any]:
        """Pixels and blocks of a tile."""
        first = streams[0].tiles[0].target
        return {"pixels": first.size[0], "blocks": first.blocks}


LOWERING = TemporalResidualLowering()
