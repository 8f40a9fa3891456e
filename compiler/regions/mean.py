"""Mean frames of a temporal residual: made tile by tile, stored, and loaded behind raw frames."""

from __future__ import annotations

import functools

from compiler.emit.emitter import Emitter
from compiler.emit.transfers import Box, Strided, load_box, store_box
from compiler.emit.vector import mean_frame
from compiler.regions.plan import Plan
from compiler.regions.prepare import ResidualStage
from compiler.tile.geometry import balanced, cuts
from compiler.tile.limits import MAX_COUNT
from hw.arch.isa import UnitInstruction
from hw.arch.layout import TensorLayout, ceil_div


def mean_tiles(layout: TensorLayout, rows: int) -> tuple[Box, ...]:
    """Boxes of a source whose frames and mean frame fit so many rows."""
    line = layout.width * (layout.frames + 1)
    blocks = balanced(layout.blocks, min(layout.blocks, rows // line))
    limit = min(rows // (line * blocks), MAX_COUNT // layout.width)
    lines = balanced(layout.height, limit)
    return tuple(
        Box((0, y, 0), (layout.width, n, layout.frames), block, count)
        for y, n in cuts(layout.height, lines)
        for block, count in cuts(layout.blocks, blocks)
    )


class MeanFrame:
    """Makes the mean frame of a plan's residual.

    Parameters
    ----------
    emitter: takes the instructions.
    plan: its first stage is the residual.
    table: instruction field of the mean's table.

    Members
    -------
    readers: numbers of the items that take the mean frame.
    """

    def __init__(self, emitter: Emitter, plan: Plan, table: int):
        stage = plan.stages[0]
        assert isinstance(stage, ResidualStage)
        self.emitter, self.plan, self.stage, self.table = emitter, plan, stage, table
        frames = stage.source.layout.frames
        self.readers = [n for n, i in enumerate(plan.items) if sum(i.frames[1]) == frames]
        first = self.readers[0] if self.readers else 0
        self._deadline = max(1, first - 1) if first else 0

    @functools.cached_property
    def view(self) -> Strided:
        """Where it lies in DRAM."""
        layout = self.stage.source.layout
        lanes, row = layout.lanes, layout.width * layout.lanes
        frame = row * layout.height
        address = self.emitter.scratch[self.plan.links.target.name]
        sizes = (layout.width, layout.height, 1)
        return Strided(address, layout.blocks, sizes, (lanes, row, frame, frame), lanes)

    def before(self, number: int) -> int:
        """Tiles that have to be made before an item is prepared."""
        tiles = len(self.plan.mean_tiles)
        if number >= self._deadline:
            return tiles
        return ceil_div(tiles * (number + 1), self._deadline + 1)

    def loads(self, tile: int, slot: int) -> list[UnitInstruction]:
        """Transfers of a tile of all frames."""
        source = Strided.of(self.plan.links.source)
        return [*load_box(source, self.plan.mean_tiles[tile], self.plan.row(0, slot))]

    def make(self, tile: int, slot: int) -> None:
        """Emit the mean of a tile and its store; it lies behind the tile's frames."""
        box, source = self.plan.mean_tiles[tile], self.stage.source
        pixels = box.size[0] * box.size[1]
        row = self.plan.row(0, slot)
        result = row + box.rows
        # Lines of a box lie one after another: they are one line of pixels.
        flat = Box(box.first, (pixels, 1, box.size[2]), box.block, box.blocks)
        self.emitter.emit(mean_frame(self.stage.op, source, flat, row, result, pixels, self.table))
        target = Box((0, box.first[1], 0), (*box.size[:2], 1), box.block, box.blocks)
        self.emitter.emit(store_box(self.view, target, result))
