"""Depthwise convolutions of a region: what those of frames and those along time have in common."""

from __future__ import annotations

import abc
import copy
import functools
from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from compiler.array.depthwise import parameter_blocks, weight_blocks
from compiler.array.energy import window_picojoules
from compiler.ir import Convolution
from compiler.regions.stage import ArrayStage, Sizes, Task
from compiler.tile.depthwise import DepthwiseProblem, DepthwiseWork
from compiler.tile.geometry import Axis, Range, balanced, cuts
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, Drain, deltas
from hw.arch.layout import ceil_div
from hw.arch.program import Tensor


class DepthwiseStage(ArrayStage):
    """In mode DEPTHWISE, or in tiles: blocks, and frames or positions, are computed by themselves.

    Parameters
    ----------
    config, op, source, target: as in `ArrayStage`.
    problem: what its tiling depends on.
    axis: along which the array's lines go.

    Members
    -------
    line, width: steps of the stream along a line, and sums that it leaves.
    span: frames or positions of an instruction; group: its blocks.
    """

    by_block = True
    span = 0

    def __init__(
        self,
        config: AcceleratorConfig,
        op: Convolution,
        source: Tensor,
        target: Tensor,
        problem: DepthwiseProblem,
        axis: Axis,
    ):
        super().__init__(config, op, source, target)
        self.problem = problem
        self.line, self.width = problem.line(axis.out), problem.line_outputs(axis.out)

    def _split(self, spans: int, rows: int, sizes: Sizes) -> Self | None:
        """With so many frames or positions, each of so many accumulator rows, of some blocks."""
        most = self.config.memory.accumulator_rows // rows
        if most < 1:
            return None
        stage = copy.copy(self)
        if spans > most:
            stage.span, stage.group = balanced(spans, most), 1
        else:
            blocks = sizes.blocks or self.blocks
            limit = min(most // spans, ceil_div(blocks, sizes.parts))
            stage.span, stage.group = spans, balanced(blocks, limit)
        return stage

    @property
    def spare(self) -> int:
        """Scratchpad rows of an accumulator row that mean nothing.

        Where it holds more channels than a lane block; they are written further along the line and
        overwritten by the next results.
        """
        return self.config.array.blocks_per_row - 1

    @property
    def algorithm(self) -> str:
        """Direct or in tiles."""
        return self.problem.algorithm.name

    @property
    def unit_beats(self) -> tuple[int, int]:
        """Of a lane block."""
        return self.problem.block_beats, self.problem.parameter_beats

    def groups(self, blocks: Range | None) -> list[Range]:
        """Those of the blocks that pass together."""
        begin, count = blocks or (0, self.blocks)
        return [(begin + first, n) for first, n in cuts(count, self.group)]

    def share(self, tasks: Sequence[Task]) -> list[int]:
        """Blocks of each task."""
        return [self.blocks if task.blocks is None else task.blocks[1] for task in tasks]

    @property
    def step(self) -> int:
        """As many as it reads."""
        return self.group

    def weights(self, units: Range) -> bytes:
        """Of some lane blocks."""
        # [block, t, pass, row, col]
        some = self._weight_blocks[units[0] : sum(units)]
        if not self.problem.tiled:
            # Blocks of taps are passes, outside the lane blocks.
            some = some.transpose(1, 2, 0, 3, 4)
        return np.ascontiguousarray(some).tobytes()

    @functools.cached_property
    def _weight_blocks(self) -> npt.NDArray[np.int8]:
        return weight_blocks(self.op, self.source, self.problem.order, self.config)

    def parameters(self, units: Range) -> bytes:
        """Of some lane blocks."""
        return b"".join(self._parameter_blocks[units[0] : sum(units)])

    @functools.cached_property
    def _parameter_blocks(self) -> Sequence[bytes]:
        return parameter_blocks(self.op, self.source, self.config)

    @abc.abstractmethod
    def _sums(self, tasks: Sequence[Task]) -> DepthwiseWork:
        """What all strips do on the array."""

    def work(self, tasks: Sequence[Task], vectors: int, pairs: int) -> tuple[int, float]:
        """By what its tasks are."""
        done = self._sums(tasks)
        products = done.multiplications // self.config.array.multipliers
        return products, window_picojoules(self.problem, done)

    def _array(
        self, bank: int, weight: int, nest: tuple[int, ...], step: tuple[int, ...], x: Axis, y: Axis
    ) -> Array:
        """An ARRAY without places, starts and bounds; `x`, `y` of its window."""
        return Array(
            mode=ArrayMode.DEPTHWISE,
            signed=int(self.source.signed),
            zero_point=self.source.zero_point & 0xFF,
            weight=weight,
            accumulator=bank * self.config.memory.accumulator_rows,
            counts=nest,
            deltas=deltas(nest, step),
            window_x=self.problem.window[0],
            window_y=self.problem.window[1],
            emit_x=x.stride,
            emit_y=y.stride,
        )

    def _drain(
        self,
        bank: int,
        parameter: int,
        counts: tuple[int, int, int, int],
        row: int,
        pitches: tuple[int, ...],
    ) -> Drain:
        """Its DRAIN, told the rows between sums of an accumulator row and along `counts`."""
        _, lines, maps, _ = counts
        rows = (1, self.width, self.width * lines, self.width * lines * maps)
        return Drain(
            accumulator=bank * self.config.memory.accumulator_rows,
            counts=counts,
            accumulator_deltas=deltas((1, 1, 1, *counts), (0, 0, 0, *rows)),
            destination=row,
            destination_deltas=deltas((self.config.array.blocks_per_row, *counts), pitches),
            parameter=parameter,
            zero_point=self.target.zero_point,
            low=self.op.low,
            high=self.op.high,
        )
