"""Lowering of the index of the greatest channel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from compiler.emit.streams import Stream, Tile, slot_rows
from compiler.emit.transfers import Box, Strided
from compiler.lower.base import Lanes, Streamed
from compiler.lower.contracts import first_of, not_dense
from compiler.lower.groups import boxes, lacks_fold, rows_of, valid_lanes
from compiler.ops import ArgMax
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Fold, FoldOp, UnitInstruction, deltas
from hw.arch.layout import LaneMap, TensorLayout
from hw.arch.program import Tensor


def layer(source: Tensor, target: Tensor, config: AcceleratorConfig) -> Stream:
    """Every position of a tile, its channels folded into an index."""

    def compute(tile: Tile, rows: Sequence[int], result: int) -> Iterator[UnitInstruction]:
        found = rows_of(tile.sources[0], (0,))
        positions = tile.target.positions
        counts = (found.blocks.count, 1, positions, 1)
        yield Fold(
            op=FoldOp.ARGMAX,
            signed=(int(source.signed), 0),
            counts=counts,
            source0=rows[0],
            source0_deltas=deltas(counts, (found.blocks.pitch, 0, 1, 0)),
            destination=result,
            destination_deltas=deltas((1, 1, positions, 1), (0, 0, 1, 0)),
            valid=valid_lanes(source.layout),
        )

    parts = boxes(source, (0,), slot_rows(2, config, source.layout.rows))
    tiles = [Tile((box,), Box(box.first, box.size, 0, 1)) for box in parts]
    return Stream([Strided.of(source)], Strided.of(target), tiles, compute)


class ArgMaxLowering(Streamed[ArgMax]):
    """The index of a lane, which is the channel where lanes are dense."""

    operation = ArgMax
    limits = ()

    def kind(self, op: ArgMax, config: AcceleratorConfig) -> str:
        """One kind."""
        return "argmax"

    def misfit(
        self, op: ArgMax, sources: Sequence[Tensor], target: Tensor, config: AcceleratorConfig
    ) -> str | None:
        """FOLD, then what every stream needs."""
        return lacks_fold(config) or super().misfit(op, sources, target, config)

    def contract(
        self, op: ArgMax, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """Lanes are channels; the index stands in the first ones."""
        return first_of([not_dense(sources[0]), not_dense(result)])

    def lanes(self, op: ArgMax) -> Lanes:
        """The first one."""
        return Lanes.OWN

    def demands(self, op: ArgMax, maps: Sequence[LaneMap]) -> list[LaneMap] | None:
        """Lanes that are channels."""
        return [LaneMap.dense(m.channels, m.lanes) for m in maps]

    def result(self, op: ArgMax, maps: Sequence[LaneMap], channels: int) -> LaneMap:
        """The first lane, or two."""
        return LaneMap.dense(channels, maps[0].lanes)

    def streams(
        self,
        op: ArgMax,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
        tables: Sequence[int],
    ) -> Iterable[Stream]:
        """Tile by tile."""
        return [layer(sources[0], target, config)]


LOWERING = ArgMaxLowering()
