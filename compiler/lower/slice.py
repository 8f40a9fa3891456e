"""Lowering of slices: a strided copy (along channels of the blocks that hold them), or none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from compiler.emit.moves import AXIS_OF, block_layers, move
from compiler.emit.streams import (
    Stream,
)
from compiler.emit.transfers import Strided
from compiler.ir import Slice
from compiler.lower.base import Lanes, Moved
from compiler.lower.contracts import lanes_differ
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import LaneMap, TensorLayout
from hw.arch.program import Tensor


def sliced_view(source: Strided, op: Slice) -> Strided:
    """The part of a tensor that a slice along T, H or W keeps; no byte moves."""
    axis = AXIS_OF[op.axis]
    sizes, pitches = list(source.sizes), list(source.pitches)
    sizes[axis] = len(range(op.start, op.stop, op.step))
    offset = op.start * pitches[axis]
    pitches[axis] *= op.step
    return Strided(
        source.address + offset,
        source.blocks,
        (sizes[0], sizes[1], sizes[2]),
        (pitches[0], pitches[1], pitches[2], pitches[3]),
        source.lanes,
        tuple(place + offset for place in source.places),
    )


def slice_layers(
    op: Slice, source: Tensor, target: Tensor, config: AcceleratorConfig
) -> list[Stream]:
    """A strided copy; along the channels, of the blocks that hold them."""
    view, to = Strided.of(source), Strided.of(target)
    if op.axis > 0:
        view = sliced_view(view, op)
        return [move(view, to, view.whole, config)]
    _, blocks = source.layout.lane_map.taken(range(op.start, op.stop, op.step))
    return block_layers(view, to, blocks, config)


class SliceLowering(Moved[Slice]):
    """What is kept is copied, if it cannot be read where it is."""

    operation = Slice
    limits = ()

    def kind(self, op: Slice, config: AcceleratorConfig) -> str:
        """One kind."""
        return "slice"

    def contract(
        self, op: Slice, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """Along T, H, W the operand's lanes; along channels those blocks that hold them."""
        source = sources[0]
        if op.axis > 0:
            return lanes_differ(source, result)
        table = source.lane_map.table()
        _, blocks = source.lane_map.taken(range(op.start, op.stop, op.step))
        its = result.lane_map.table()
        wanted = np.where(its >= 0, op.start + its * op.step, -1)
        if len(blocks) != len(its) or ((its >= 0) & (table[list(blocks)] != wanted)).any():
            return f"channels {result.lane_map} do not lie in the operand's lanes"
        return None

    def lanes(self, op: Slice) -> Lanes:
        """Along channels some of the operand's blocks."""
        return Lanes.GATHERED if op.axis == 0 else Lanes.MET

    def result(self, op: Slice, maps: Sequence[LaneMap], channels: int) -> LaneMap:
        """Along channels some of the blocks."""
        return maps[0] if op.axis else maps[0].taken(range(op.start, op.stop, op.step))[0]

    def keeps_bytes(self, op: Slice) -> bool:
        """Where the operand's blocks are read in its place."""
        return op.shared

    def streams(
        self,
        op: Slice,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
        tables: Sequence[int],
    ) -> Iterable[Stream]:
        """Copies."""
        return [] if op.shared else slice_layers(op, sources[0], target, config)


LOWERING = SliceLowering()
