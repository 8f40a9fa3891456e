"""What the vector unit does for a fused chain: temporal residual and packing of a strip's operand.

Differences are made strip by strip from the raw frames. The mean frame needs every frame of the
source; it is made tile by tile during the groups of frames that do not need it, stored, and loaded
with the last group.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from compiler.array.fields import Place
from compiler.emit.emitter import Emitter
from compiler.emit.transfers import Box, Strided, first_parts, load_box, row_field, store_box
from compiler.emit.vector import differences, mean_frame
from compiler.fused.plan import FusedPlan
from compiler.fused.strips import Strip
from compiler.tile.geometry import Range, cuts
from hw.arch.isa import Elementwise, ElementwiseOp, Reduce, ReduceOp, UnitInstruction, deltas
from hw.arch.layout import ceil_div


def dense(row: int, first: tuple[int, int, int], size: tuple[int, int, int]) -> Place:
    """A box that lies densely packed from `row`."""
    return Place(row, first, size, Box(first, size, 0, 1).pitches())


class OperandPath:
    """Brings the temporal convolution's (or, without one, the window's) operand on chip.

    Parameters
    ----------
    emitter: takes the vector unit's instructions.
    plan: of the chain.
    items: group of frames and strip, in order.

    Members
    -------
    prepares: the vector unit works on the operand before the array reads it.
    with_mean: numbers of the items that take the mean frame.
    """

    def __init__(self, emitter: Emitter, plan: FusedPlan, items: list[tuple[Range, Strip]]):
        self.emitter, self.plan, self.items = emitter, plan, items
        self.source = plan.links.source
        self.view = Strided.of(self.source)
        self.packs = plan.temporal is not None and plan.temporal.job.packing is not None
        self.prepares = plan.links.residual is not None or self.packs
        residual = plan.links.residual
        self.mean_view: Strided | None = None
        if residual is not None:
            self.mean_view = self._mean_view()
            self.tables = (
                emitter.table(residual.difference_table),
                emitter.table(residual.average_table),
            )
        self.with_mean = [n for n, (cut, _) in enumerate(items) if plan.source_frames(cut)[1]]
        first = self.with_mean[0] if self.with_mean else 0
        self._deadline = max(1, first - 1) if first else 0

    def _mean_view(self) -> Strided:
        layout = self.source.layout
        lanes, row = layout.lanes, layout.width * layout.lanes
        frame = row * layout.height
        address = self.emitter.scratch[self.plan.links.target.name]
        sizes = (layout.width, layout.height, 1)
        return Strided(address, layout.blocks, sizes, (lanes, row, frame, frame), lanes)

    # Loads

    def raw_place(self, number: int, slot: int) -> Place:
        """What is loaded for a strip: its new lines in the frames that its results need."""
        frames, strip = self.items[number]
        (first, count), mean = self.plan.source_frames(frames)
        size = (self.source.layout.width, strip.inner[1], count + mean)
        return dense(self.plan.row("input", slot), (0, strip.inner[0], first), size)

    def loads(self, number: int, slot: int) -> list[UnitInstruction]:
        """Transfers for a strip; the mean frame lies behind the others."""
        place = self.raw_place(number, slot)
        (_, count), mean = self.plan.source_frames(self.items[number][0])
        x, y, first = place.first
        width, lines, _ = place.size
        blocks = self.source.layout.blocks
        result: list[UnitInstruction] = []
        if count:
            whole = Box((x, y, first), (width, lines, count), 0, blocks)
            parts = first_parts(blocks, whole.rows) if number == 0 else 1
            for block, n in cuts(blocks, ceil_div(blocks, parts)):
                box = dataclasses.replace(whole, block=block, blocks=n)
                row = place.row + block * place.pitches[3]
                result += load_box(self.view, box, row, place.pitches)
        if mean:
            assert self.mean_view is not None
            box = Box((x, y, 0), (width, lines, 1), 0, blocks)
            row = place.row + count * place.pitches[2]
            result += load_box(self.mean_view, box, row, place.pitches)
        return result

    def operand(self, number: int, slot: int) -> Place:
        """What the array reads; `slot` of the input ring where nothing is prepared."""
        if not self.prepares:
            return self.raw_place(number, slot)
        return self._packed(number) if self.packs else self._difference(number)

    def _difference(self, number: int) -> Place:
        frames, strip = self.items[number]
        first, count = self.plan.operand_frames(frames)
        size = (self.source.layout.width, strip.inner[1], count)
        return dense(self.plan.row("difference", number), (0, strip.inner[0], first), size)

    def _packed(self, number: int) -> Place:
        frames, strip = self.items[number]
        size = (self.source.layout.width, strip.inner[1], frames[1])
        return dense(self.plan.row("packed", number), (0, strip.inner[0], frames[0]), size)

    # Vector unit

    def prepare(self, number: int, slot: int) -> None:
        """Emit what the vector unit does for a strip."""
        place = self.raw_place(number, slot)
        if self.plan.links.residual is not None:
            for instruction in self._residual(number, place):
                self.emitter.emit(instruction)
            place = self._difference(number)
        if self.packs:
            assert self.plan.temporal is not None
            for block in range(self.plan.temporal.job.problem.blocks):
                self.emitter.emit(self._pack(number, block, place))

    def _residual(self, number: int, raw: Place) -> Iterator[Elementwise]:
        """Differences of a strip, and the mean frame behind them."""
        op = self.plan.links.residual
        assert op is not None
        target = self._difference(number)
        (_, count), mean = self.plan.source_frames(self.items[number][0])
        pixels, blocks = raw.size[0] * raw.size[1], self.source.layout.blocks
        if count:
            yield differences(
                op, self.source, (count, pixels, blocks), raw.row, raw.pitches,
                target.row, target.pitches, self.tables[0],
            )  # fmt: skip
        if mean:
            signed = self.plan.links.operand.signed
            nest = (pixels, blocks, 1, 1)
            yield Elementwise(
                op=ElementwiseOp.COPY,
                signed=(int(signed), int(signed)),
                counts=nest,
                source0=raw.row + count * raw.pitches[2],
                source0_deltas=deltas(nest, (1, raw.pitches[3], 0, 0)),
                destination=target.row + (target.size[2] - 1) * target.pitches[2],
                destination_deltas=deltas(nest, (1, target.pitches[3], 0, 0)),
                low=-128 if signed else 0,
                high=127 if signed else 255,
            )

    def _pack(self, number: int, block: int, source: Place) -> Reduce:
        """One packed block: neighbours along t side by side in the lanes."""
        stage = self.plan.temporal
        assert stage is not None and stage.job.packing is not None
        packing, axis = stage.job.packing, self.plan.temporal_axis
        target = self._packed(number)
        start = axis.start(target.first[2]) + block * packing.taps
        taps = min(packing.taps, axis.kernel - block * packing.taps)
        signed = stage.kernel.signed
        counts = (*target.size, 1)
        x, y, t, _ = source.pitches
        return Reduce(
            op=ReduceOp.PACK,
            signed=int(signed),
            counts=counts,
            window=(1, 1, taps),
            source=row_field(source.at((0, source.first[1], start))),
            source_deltas=deltas((1, 1, taps, *counts), (x, y, t, x, y, t * axis.stride, 0)),
            destination=target.row + block * target.pitches[3],
            destination_deltas=deltas(counts, target.pitches),
            starts=(0, 0, start),
            steps=(1, 1, axis.stride),
            bounds=(*target.size[:2], axis.size),
            pad=stage.kernel.zero_point & 0xFF,
            pack_lanes=packing.lanes,
            low=-128 if signed else 0,
            high=127 if signed else 255,
        )

    # Mean frame

    def means_before(self, number: int) -> int:
        """Tiles of the mean frame that have to be made before a strip is prepared."""
        tiles = len(self.plan.mean_tiles)
        if number >= self._deadline:
            return tiles
        return ceil_div(tiles * (number + 1), self._deadline + 1)

    def mean_load(self, tile: int, slot: int) -> list[UnitInstruction]:
        """Transfers of a tile of all frames."""
        return [*load_box(self.view, self.plan.mean_tiles[tile], self.plan.row("input", slot))]

    def mean(self, tile: int, slot: int) -> None:
        """Emit the mean of a tile and its store; it lies behind the tile's frames."""
        op, box = self.plan.links.residual, self.plan.mean_tiles[tile]
        assert op is not None and self.mean_view is not None
        pixels = box.size[0] * box.size[1]
        row = self.plan.row("input", slot)
        result = row + box.rows
        # Lines of a box lie one after another: they are one line of pixels.
        flat = Box(box.first, (pixels, 1, box.size[2]), box.block, box.blocks)
        self.emitter.emit(mean_frame(op, self.source, flat, row, result, pixels, self.tables[1]))
        target = Box((0, box.first[1], 0), (*box.size[:2], 1), box.block, box.blocks)
        self.emitter.emit(store_box(self.mean_view, target, result))
