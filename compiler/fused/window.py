"""The depthwise stage of a fused chain, strip after strip: ARRAY and DRAIN, and their constants.

As with the others (compiler/fused/stages.py), where operands and results lie is the schedule's
business.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from compiler.array.depthwise import in_tiles, parameter_blocks, weight_blocks
from compiler.array.fields import Place
from compiler.array.forms import axes_of
from compiler.emit.transfers import row_field
from compiler.fused.stages import Pair
from compiler.fused.strips import Strip
from compiler.ir import Convolution
from compiler.tile.depthwise import DepthwiseProblem, DepthwiseWork
from compiler.tile.geometry import Range, Triple, balanced, cuts
from compiler.tile.parts import DIRECT
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, Drain, deltas
from hw.arch.layout import ceil_div
from hw.arch.program import Tensor
from hw.arch.winograd import Algorithm

ORDER: Triple = (0, 1, 2)


@dataclasses.dataclass(frozen=True, slots=True)
class Lines:
    """Frames and blocks of one ARRAY of the window stage, the same in every strip of a group.

    Attributes
    ----------
    frames: first (counted from the group's) and count.
    blocks: first and count.
    part: number of these blocks, whose weights come together.
    entry: first line-buffer entry.
    """

    frames: Range
    blocks: Range
    part: int
    entry: int


class WindowStage:
    """A depthwise convolution in mode DEPTHWISE, strip after strip; of one strip also in tiles.

    Parameters
    ----------
    config: the accelerator.
    op: the convolution, no temporal taps.
    source, target: operand and result; only layout and quantization count.
    keep: there are several strips, so that lines stay in the line buffer.
    algorithm: `DIRECT`, or F(2×2,3×3) for mode HFA_DEPTHWISE, which keeps no lines.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        op: Convolution,
        source: Tensor,
        target: Tensor,
        keep: bool,
        algorithm: Algorithm = DIRECT,
    ):
        assert not (keep and algorithm != DIRECT), op.name
        self.config, self.op, self.keep = config, op, keep
        self.source, self.target = source, target
        self.axes = axes_of(op, source)
        self.blocks = source.layout.blocks
        self.problem = DepthwiseProblem(config, self.axes, ORDER, self.blocks, algorithm)
        self.line = self.problem.line(self.axes[0].out)
        self.width = self.problem.line_outputs(self.axes[0].out)

    def block_size(self, frames: int, lines: int, parts: int) -> tuple[int, int] | None:
        """Frames and blocks of an instruction whose strips have so many result lines.

        The blocks come in so many parts at least.
        """
        rows = self.config.memory.accumulator_rows // (lines * self.width)
        if rows < 1:
            return None
        if frames > rows:
            return balanced(frames, rows), 1
        blocks = min(rows // frames, ceil_div(self.blocks, parts))
        return frames, balanced(self.blocks, blocks)

    def lines(self, frames: int, size: tuple[int, int], chosen: Range | None = None) -> list[Lines]:
        """Instructions of a strip of so many frames, of some blocks or all."""
        result, entry = [], 0
        begin, count = chosen or (0, self.blocks)
        for number, (first, some) in enumerate(cuts(count, size[1])):
            blocks = begin + first, some
            for part in cuts(frames, size[0]):
                result.append(Lines(part, blocks, number, entry))
                entry += self.line * part[1] * blocks[1] * self.problem.passes
        return result

    def entries(self, frames: int) -> int:
        """Line-buffer entries that so many frames keep; 0 where no lines are kept."""
        if not self.keep or self.problem.window[1] == 1:
            return 0
        return self.line * frames * self.blocks * self.problem.passes

    @property
    def garbage(self) -> int:
        """Rows behind every frame of the result that take what unused columns produce.

        Where an accumulator row holds more channels than a lane block, its other scratchpad rows
        mean nothing; they are written further along x and overwritten by the next results.
        """
        return self.config.array.blocks_per_row - 1

    def work(self, strips: Sequence[Strip], frames: Range, size: tuple[int, int]) -> DepthwiseWork:
        """What the strips of a group of frames do on the array.

        Parameters
        ----------
        size: frames and blocks of an instruction.
        """
        problem, maps = self.problem, frames[1] * self.blocks
        lines = sum(strip.outputs[1] for strip in strips)
        results = self.width * lines * maps
        tiles = maps * problem.tiles(self.axes[0].out, lines) if problem.tiled else 0
        return DepthwiseWork(
            parts=len(strips) * ceil_div(frames[1], size[0]),
            results=results,
            sums=results * problem.passes,
            tiles=tiles,
            pixels=self.axes[0].size * sum(s.inner[1] for s in strips) * maps * problem.passes,
            multiplications=problem.multiplications(results * problem.passes, tiles),
        )

    def weights(self, first: int, count: int) -> bytes:
        """Weights of some blocks, in the order of the array's nest."""
        # [block, t, pass, row, col]
        some = self._weight_blocks[first : first + count]
        if not self.problem.tiled:
            # Blocks of taps are passes, outside the lane blocks.
            some = some.transpose(1, 2, 0, 3, 4)
        return np.ascontiguousarray(some).tobytes()

    @functools.cached_property
    def _weight_blocks(self) -> npt.NDArray[np.int8]:
        return weight_blocks(self.op, self.source, ORDER, self.config)

    def parameters(self, first: int, count: int) -> bytes:
        """Requantization parameters of some blocks."""
        return b"".join(self._parameter_blocks[first : first + count])

    @functools.cached_property
    def _parameter_blocks(self) -> Sequence[bytes]:
        return parameter_blocks(self.op, self.source, self.config)

    def instructions(
        self,
        strip: Strip,
        lines: Lines,
        operand: Place,
        result: Place,
        weight: int,
        parameter: int,
        bank: int,
    ) -> Pair:
        """ARRAY and DRAIN of some frames and blocks of a strip.

        Parameters
        ----------
        strip, lines: which.
        operand: the strip's new lines of the inner map, and its frames.
        result: the lines that the pointwise convolution takes next.
        weight, parameter: first beats of these blocks' weights and parameters.
        bank: accumulator bank.
        """
        config = self.config
        x, y, _ = self.axes
        (frame, frames), (block, blocks) = lines.frames, lines.blocks
        pitches = operand.pitches
        start = (-x.pad, strip.stream[0], operand.first[2] + frame)
        # Tiles come whole: what is streamed beyond the map is clipped.
        streamed = self.problem.stream(y, y.out) if self.problem.tiled else strip.stream[1]
        nest = (self.line, streamed, frames, blocks, 1, self.problem.tap_blocks, 1, 1)
        step = (*pitches, 0, 0, 0, 0)
        array = Array(
            mode=ArrayMode.DEPTHWISE,
            signed=int(self.source.signed),
            zero_point=self.source.zero_point & 0xFF,
            activation=row_field(operand.at(start) + block * pitches[3]),
            weight=weight,
            accumulator=bank * config.memory.accumulator_rows,
            counts=nest,
            deltas=deltas(nest, step),
            starts=(-x.pad, strip.stream[0], 0),
            bounds=(x.size, y.size, frames),
            window_x=self.problem.window[0],
            window_y=self.problem.window[1],
            emit_x=x.stride,
            emit_y=y.stride,
            keep=int(self.keep),
            resume=int(strip.resume),
            # Of a window of one line nothing is kept, and entries may be more than there are.
            line=lines.entry if self.entries(frames) else 0,
        )
        if self.problem.tiled:
            array = in_tiles(array, ((0, x.out), (0, y.out), (0, frames)), step)
        counts = (x.out, strip.outputs[1], frames, blocks)
        rows = (1, self.width, self.width * counts[1], self.width * counts[1] * frames)
        out = result.pitches
        first = (0, strip.outputs[0], operand.first[2] + frame)
        drain = Drain(
            accumulator=bank * config.memory.accumulator_rows,
            counts=counts,
            accumulator_deltas=deltas((1, 1, 1, *counts), (0, 0, 0, *rows)),
            destination=result.at(first) + block * out[3],
            destination_deltas=deltas((config.array.blocks_per_row, *counts), (1, *out)),
            parameter=parameter,
            zero_point=self.target.zero_point,
            low=self.op.low,
            high=self.op.high,
        )
        return (array,), drain
