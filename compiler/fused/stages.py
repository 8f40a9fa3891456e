"""Stages of a fused chain: ARRAY and DRAIN instructions of a strip, and their constants.

A stage knows what it computes and how much of it an accumulator bank takes; where operands and
results lie (`Place`) is the schedule's business (compiler/fused/emission.py).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from compiler.array.depthwise import parameter_blocks, weight_blocks
from compiler.array.fields import Kernel, Place, array_instruction, drain_instruction, weight_bytes
from compiler.array.forms import axes_of
from compiler.array.job import Job
from compiler.emit.transfers import row_field
from compiler.fused.strips import Strip
from compiler.ir import Convolution
from compiler.tile.depthwise import DepthwiseProblem
from compiler.tile.geometry import Range, Triple, balanced, cuts, product
from compiler.tile.hfa_cost import part_sizes
from compiler.tile.parts import DIRECT, parts_of
from compiler.tile.tiling import accumulator_tile
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, Drain, deltas
from hw.arch.layout import ceil_div
from hw.arch.program import Tensor

Pair: TypeAlias = tuple[tuple[Array, ...], Drain]
"""What one after another adds to the same accumulators, and what empties them."""
ORDER: Triple = (0, 1, 2)


def parameter_beats(config: AcceleratorConfig) -> int:
    """Beats of one accumulator row's parameters."""
    return config.requantize_steps * config.parameter_row_beats


class GemmStage:
    """A temporal or pointwise convolution, direct or transformed.

    Parameters
    ----------
    config: the accelerator.
    job: form of the convolution.
    kernel: the job's, axes not merged.
    group: output blocks computed together.
    sizes: results of a part along x, y, t.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        job: Job,
        kernel: Kernel,
        group: int,
        sizes: Triple,
    ):
        self.config, self.job, self.kernel = config, job, kernel
        self.group, self.sizes = group, sizes
        self.groups = cuts(job.problem.groups, group)

    @classmethod
    def fitting(
        cls, config: AcceleratorConfig, job: Job, kernel: Kernel, box: Triple, limit: int
    ) -> GemmStage | None:
        """The stage with the largest parts, then the most output blocks at once, that fit.

        Parameters
        ----------
        config, job, kernel: see the class.
        box: results of the largest strip along x, y, t, in front of the pool.
        limit: output blocks at most (by what weights leave room for).
        """
        rows = config.memory.accumulator_rows
        most = min(job.problem.groups, limit) if job.problem.joinable else 1
        chosen: GemmStage | None = None
        for group in sorted({balanced(job.problem.groups, n) for n in range(1, most + 1)}):
            if kernel.algorithm == DIRECT:
                sizes = accumulator_tile(box, kernel.pools, rows // group)
            else:
                sizes = part_sizes(kernel.axes, kernel.algorithm, box, group, config)
            if group > most or sizes is None:
                continue
            if chosen is None or product(sizes) >= product(chosen.sizes):
                chosen = cls(config, job, kernel, group, sizes)
        return chosen

    @property
    def item_beats(self) -> int:
        """Beats of the weights of a group of output blocks."""
        blocks = self.job.problem.reduced * self.kernel.taps * self.group
        return blocks * self.config.weight_block_beats

    @property
    def result_blocks(self) -> int:
        """Lane blocks that drains write, whole accumulator rows."""
        return self.job.problem.groups * self.config.array.blocks_per_row

    @property
    def item_parameters(self) -> int:
        """Beats of the parameters of a group of output blocks."""
        return self.group * parameter_beats(self.config)

    def weights(self, number: int) -> bytes:
        """Weights of one group of output blocks."""
        first, count = self.groups[number]
        return weight_bytes(
            self.job.weights[first : first + count], self.kernel.algorithm, self.config
        )

    def parameters(self, number: int) -> bytes:
        """Requantization parameters of one group of output blocks."""
        first, count = self.groups[number]
        return b"".join(self.job.parameters[first : first + count])

    def made(self, number: int) -> int:
        """Lane blocks of the result that are there when a group and those before it are."""
        return sum(self.groups[number]) * self.config.array.blocks_per_row

    def instructions(
        self,
        box: Sequence[Range],
        operand: Place,
        result: Place,
        number: int,
        weight: int,
        parameter: int,
        banks: Iterator[int],
        pieces: Sequence[Range] = (),
    ) -> Iterator[Pair]:
        """ARRAY and DRAIN of a box of results for one group of output blocks.

        Parameters
        ----------
        box: first and count along x, y, t, in front of the pool.
        operand, result: where they lie; the result's coordinates are behind the pool.
        number: of the group.
        weight, parameter: first beat of the group's weights and parameters.
        banks: accumulator bank of each part in turn.
        pieces: first and count of the input blocks of each ARRAY; default: all at once.
        """
        first, count = self.groups[number]
        blocks = self.config.array.blocks_per_row
        shifted = dataclasses.replace(result, row=result.row + first * blocks * result.pitches[3])
        skipped = self.job.first_block[first] * operand.pitches[3]
        operand = dataclasses.replace(operand, row=operand.row + skipped)
        block_beats = count * self.kernel.taps * self.config.weight_block_beats
        for part in parts_of(self.kernel.axes, self.kernel.algorithm, box, self.sizes):
            bank = next(banks)
            arrays = tuple(
                array_instruction(
                    self.config,
                    self.kernel,
                    part,
                    dataclasses.replace(operand, row=operand.row + begin * operand.pitches[3]),
                    groups=count,
                    blocks=blocks,
                    weight=weight + begin * block_beats,
                    bank=bank,
                    block_step=self.job.block_step,
                    accumulate=begin > 0,
                )
                for begin, blocks in pieces or [(0, self.job.problem.reduced)]
            )
            drain = drain_instruction(
                self.config,
                self.kernel,
                part,
                shifted,
                groups=count,
                bank=bank,
                parameter=parameter,
            )
            yield arrays, drain


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
    """A depthwise convolution in mode DEPTHWISE, strip after strip.

    Parameters
    ----------
    config: the accelerator.
    op: the convolution, no temporal taps.
    source, target: operand and result; only layout and quantization count.
    keep: there are several strips, so that lines stay in the line buffer.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        op: Convolution,
        source: Tensor,
        target: Tensor,
        keep: bool,
    ):
        self.config, self.op, self.keep = config, op, keep
        self.source, self.target = source, target
        self.axes = axes_of(op, source)
        self.blocks = source.layout.blocks
        self.problem = DepthwiseProblem(config, self.axes, ORDER, self.blocks)
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

    def weights(self, first: int, count: int) -> bytes:
        """Weights of some blocks, in the order of the array's nest."""
        # [block, t, pass, row, col]
        some = self._weight_blocks[first : first + count].transpose(1, 2, 0, 3, 4)
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
        nest = (self.line, strip.stream[1], frames, blocks, 1, self.problem.passes, 1, 1)
        array = Array(
            mode=ArrayMode.DEPTHWISE,
            signed=int(self.source.signed),
            zero_point=self.source.zero_point & 0xFF,
            activation=row_field(operand.at(start) + block * pitches[3]),
            weight=weight,
            accumulator=bank * config.memory.accumulator_rows,
            counts=nest,
            deltas=deltas(nest, (*pitches, 0, 0, 0, 0)),
            starts=(-x.pad, strip.stream[0], 0),
            bounds=(x.size, y.size, frames),
            window_x=self.problem.window[0],
            window_y=self.problem.window[1],
            emit_x=x.stride,
            emit_y=y.stride,
            keep=int(self.keep),
            resume=int(strip.resume),
            line=lines.entry if self.keep else 0,
        )
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
