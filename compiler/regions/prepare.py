"""What the vector unit prepares for a region's array: temporal residual and packing.

Differences are made strip by strip from the raw frames. The mean frame needs every frame of the
source; it is made tile by tile during the groups of frames that do not need it, stored, and loaded
with the last group, behind the frames of a strip (compiler/regions/mean.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from compiler.array.fields import Kernel, Place
from compiler.array.packing import Packing
from compiler.emit.transfers import row_field
from compiler.emit.vector import differences
from compiler.ir import TemporalResidual
from compiler.regions.stage import Task, VectorStage
from compiler.tile.geometry import Axis, Range
from hw.arch.isa import Elementwise, ElementwiseOp, Reduce, ReduceOp, deltas
from hw.arch.program import Tensor


def residual_frames(wanted: Range, frames: int) -> tuple[Range, bool]:
    """What a temporal residual needs for some frames of its result.

    Parameters
    ----------
    wanted: first and count, of the result.
    frames: of the source; the result's last frame is their mean.

    Returns
    -------
    Frames of the source for the differences (count 0: none), and whether the mean is wanted.
    """
    first, count = wanted
    mean = first + count == frames
    differences = count - mean
    return (first, differences + 1 if differences else 0), mean


class ResidualStage(VectorStage):
    """Every frame less the one before it, and the mean of all as the last one.

    Parameters
    ----------
    op: the operator.
    source, target: as in `Stage`. On chip the mean frame, if wanted, lies behind the source's.
    """

    def __init__(self, op: TemporalResidual, source: Tensor, target: Tensor):
        super().__init__(op.name, source, target)
        self.op = op

    def _needs(self, wanted: Range) -> tuple[Range, bool]:
        return residual_frames(wanted, self.source.layout.frames)

    def frames(self, wanted: Range) -> Range:
        """Raw ones; the mean counts as one more."""
        (first, count), mean = self._needs(wanted)
        return first, count + mean

    def tables(self) -> Sequence[bytes | None]:
        """Of the differences, of the mean."""
        return self.op.difference_table, self.op.average_table

    def instructions(
        self, task: Task, operand: Place, result: Place, tables: Sequence[int]
    ) -> Iterator[Elementwise]:
        """Differences of a strip, and the mean frame behind them."""
        (_, count), mean = self._needs(task.frames)
        pixels, blocks = operand.size[0] * operand.size[1], self.source.layout.blocks
        if count:
            yield differences(
                self.op, self.source, (count, pixels, blocks), operand.row, operand.pitches,
                result.row, result.pitches, tables[0],
            )  # fmt: skip
        if mean:
            signed = self.target.signed
            nest = (pixels, blocks, 1, 1)
            yield Elementwise(
                op=ElementwiseOp.COPY,
                signed=(int(signed), int(signed)),
                counts=nest,
                source0=operand.row + count * operand.pitches[2],
                source0_deltas=deltas(nest, (1, operand.pitches[3], 0, 0)),
                destination=result.row + (result.size[2] - 1) * result.pitches[2],
                destination_deltas=deltas(nest, (1, result.pitches[3], 0, 0)),
                low=-128 if signed else 0,
                high=127 if signed else 255,
            )

    def reads(self, task: Task) -> tuple[int, int]:
        """All frames that are there."""
        (_, count), mean = self._needs(task.frames)
        pixels = self.source.layout.width * task.strip.operand[1]
        return self.source.layout.blocks * pixels * (count + mean), 1 + mean


class PackStage(VectorStage):
    """Neighbours along time side by side in the lanes, for a dense convolution.

    Parameters
    ----------
    packing, kernel: of its form.
    axis: t of the convolution before it is packed.
    source, target: operand and result of the convolution.
    """

    def __init__(
        self, packing: Packing, kernel: Kernel, axis: Axis, source: Tensor, target: Tensor
    ):
        super().__init__("packed", source, target)
        self.packing, self.kernel, self.axis = packing, kernel, axis

    @property
    def blocks(self) -> int:
        """Packed ones."""
        return len(self.packing.rectangles)

    def frames(self, wanted: Range) -> Range:
        """By the taps of the convolution."""
        return self.axis.source(wanted)

    def instructions(
        self, task: Task, operand: Place, result: Place, tables: Sequence[int]
    ) -> Iterator[Reduce]:
        """A REDUCE for each packed block."""
        packing, axis, signed = self.packing, self.axis, self.kernel.signed
        x, y, t, _ = operand.pitches
        counts = (*result.size, 1)
        for block in range(self.blocks):
            start = axis.start(result.first[2]) + block * packing.taps
            taps = min(packing.taps, axis.kernel - block * packing.taps)
            yield Reduce(
                op=ReduceOp.PACK,
                signed=int(signed),
                counts=counts,
                window=(1, 1, taps),
                source=row_field(operand.at((0, operand.first[1], start))),
                source_deltas=deltas((1, 1, taps, *counts), (x, y, t, x, y, t * axis.stride, 0)),
                destination=result.row + block * result.pitches[3],
                destination_deltas=deltas(counts, result.pitches),
                starts=(0, 0, start),
                steps=(1, 1, axis.stride),
                bounds=(*result.size[:2], axis.size),
                pad=self.kernel.zero_point & 0xFF,
                pack_lanes=packing.lanes,
                low=-128 if signed else 0,
                high=127 if signed else 255,
            )

    def reads(self, task: Task) -> tuple[int, int]:
        """As many rows as taps for each result."""
        pixels = self.source.layout.width * task.strip.operand[1]
        return self.blocks * pixels * task.frames[1] * self.packing.taps, self.blocks
