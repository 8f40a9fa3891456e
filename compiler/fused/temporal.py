"""A depthwise convolution over time alone, of positions whose frames are all on chip."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from compiler.array.depthwise import parameter_blocks, weight_blocks
from compiler.array.fields import Place
from compiler.array.forms import axes_of
from compiler.emit.transfers import row_field
from compiler.fused.stages import Pair
from compiler.ir import Convolution
from compiler.tile.depthwise import DepthwiseProblem, DepthwiseWork, order_of
from compiler.tile.geometry import Range, balanced, merge
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, Drain, deltas
from hw.arch.program import Tensor


class TemporalStage:
    """Instructions in mode DEPTHWISE whose lines go along time: each position has one.

    Parameters
    ----------
    config: the accelerator.
    op: the convolution; its taps lie along time.
    source, target: operand and result; only layout and quantization count.
    """

    def __init__(self, config: AcceleratorConfig, op: Convolution, source: Tensor, target: Tensor):
        self.config, self.op = config, op
        self.source, self.target = source, target
        axes, _ = merge(axes_of(op, source))
        self.order = order_of(op)
        self.time = axes[2]
        self.problem = DepthwiseProblem(config, axes, self.order, source.layout.blocks)
        self.line = self.problem.line(self.time.out)
        self.width = self.problem.line_outputs(self.time.out)

    def size(self, positions: int, blocks: int) -> tuple[int, int] | None:
        """Positions and blocks of an instruction, told those of the largest strip."""
        rows = self.config.memory.accumulator_rows // self.width
        if rows < 1:
            return None
        if positions > rows:
            return balanced(positions, rows), 1
        return positions, balanced(blocks, rows // positions)

    @property
    def spare(self) -> int:
        """Scratchpad rows of an accumulator row that mean nothing.

        They are written where the next frame's results come; behind a block, so many frames of
        the strip have to be free.
        """
        return self.config.array.blocks_per_row - 1

    def work(self, positions: int, parts: int) -> DepthwiseWork:
        """What so many positions, in so many parts, do on the array, of all blocks."""
        problem, lines = self.problem, positions * self.problem.blocks
        results = self.width * lines
        return DepthwiseWork(
            parts=parts,
            results=results,
            sums=results * problem.passes,
            tiles=0,
            pixels=self.time.size * lines * problem.passes,
            multiplications=problem.multiplications(results * problem.passes, 0),
        )

    def weights(self, first: int, count: int) -> bytes:
        """Weights of some blocks, in the order of the array's nest."""
        # [block, t, pass, row, col]
        some = self._weight_blocks[first : first + count].transpose(1, 2, 0, 3, 4)
        return np.ascontiguousarray(some).tobytes()

    @functools.cached_property
    def _weight_blocks(self) -> npt.NDArray[np.int8]:
        return weight_blocks(self.op, self.source, self.order, self.config)

    def parameters(self, first: int, count: int) -> bytes:
        """Requantization parameters of some blocks."""
        return b"".join(self._parameter_blocks[first : first + count])

    @functools.cached_property
    def _parameter_blocks(self) -> Sequence[bytes]:
        return parameter_blocks(self.op, self.source, self.config)

    def instructions(
        self,
        positions: Range,
        blocks: Range,
        operand: Place,
        result: Place,
        weight: int,
        parameter: int,
        bank: int,
    ) -> Pair:
        """ARRAY and DRAIN of some positions, all frames.

        Parameters
        ----------
        positions: first, counted from the places' first one, and count; x and y are one axis.
        blocks: first and count, both places' block 0 being the tensor's.
        operand, result: where frames of the strip lie.
        weight, parameter: first beats of these blocks' weights and parameters.
        bank: accumulator bank.
        """
        (first, count), (block, some) = positions, blocks
        time, problem, config = self.time, self.problem, self.config
        row, _, frame, pitch = operand.row, *operand.pitches[1:]
        start = time.start(0)
        nest = (self.line, count, 1, some, 1, problem.passes, 1, 1)
        array = Array(
            mode=ArrayMode.DEPTHWISE,
            signed=int(self.source.signed),
            zero_point=self.source.zero_point & 0xFF,
            activation=row_field(row + first + start * frame + block * pitch),
            weight=weight,
            accumulator=bank * config.memory.accumulator_rows,
            counts=nest,
            deltas=deltas(nest, (frame, 1, 0, pitch, 0, 0, 0, 0)),
            starts=(start, 0, 0),
            bounds=(time.size, count, 1),
            window_x=problem.window[0],
            window_y=problem.window[1],
            emit_x=time.stride,
            emit_y=1,
        )
        counts = (time.out, count, 1, some)
        rows = (1, self.width, self.width * count, self.width * count)
        row, _, frame, pitch = result.row, *result.pitches[1:]
        drain = Drain(
            accumulator=bank * config.memory.accumulator_rows,
            counts=counts,
            accumulator_deltas=deltas((1, 1, 1, *counts), (0, 0, 0, *rows)),
            destination=row + first + block * pitch,
            destination_deltas=deltas(
                (config.array.blocks_per_row, *counts), (frame, frame, 1, 0, pitch)
            ),
            parameter=parameter,
            zero_point=self.target.zero_point,
            low=self.op.low,
            high=self.op.high,
        )
        return (array,), drain
