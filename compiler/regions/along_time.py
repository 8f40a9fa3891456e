"""Depthwise convolutions along time alone in a region: each position has a line of its frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Self

from compiler.array.fields import Place
from compiler.array.forms import axes_of
from compiler.emit.transfers import row_field
from compiler.ir import Convolution
from compiler.regions.depthwise import DepthwiseStage
from compiler.regions.stage import Pair, Part, Sizes, Task, Where
from compiler.tile.depthwise import DepthwiseProblem, DepthwiseWork, order_of
from compiler.tile.geometry import Axis, Range, Triple, cuts, merge
from hw.arch.config import AcceleratorConfig
from hw.arch.program import Tensor


class TimeStage(DepthwiseStage):
    """A depthwise convolution over time alone, of positions whose frames are all on chip."""

    elastic = whole = True

    def __init__(self, config: AcceleratorConfig, op: Convolution, source: Tensor, target: Tensor):
        axes, _ = merge(axes_of(op, source))
        self.time = axes[2]
        problem = DepthwiseProblem(config, axes, order_of(op), source.layout.blocks)
        super().__init__(config, op, source, target, problem, self.time)

    def frames(self, wanted: Range) -> Range:
        """All of them."""
        return 0, self.time.size

    def place(self, row: int, first: Triple, size: Triple) -> Place:
        """Behind a block so many frames are free: unused columns are written there."""
        frame = size[0] * size[1]
        return Place(row, first, size, (1, size[0], frame, frame * (size[2] + self.spare)))

    def room(self, size: Triple, blocks: int) -> int:
        """As they lie."""
        return blocks * (size[2] + self.spare) * size[0] * size[1]

    def sized(self, sizes: Sizes) -> Self | None:
        """Positions and blocks of an instruction."""
        positions = sizes.box[0] * sizes.box[1]
        return self._split(positions, self.width, sizes)

    def _positions(self, task: Task) -> int:
        return self.source.layout.width * task.strip.result[1]

    def parts(self, task: Task) -> list[Part]:
        """Some positions of some blocks each."""
        positions = self._positions(task)
        return [
            Part(number, blocks, blocks, blocks, part)
            for number, blocks in enumerate(self.groups(task.blocks))
            for part in cuts(positions, min(self.span, max(positions, 1)))
        ]

    def _sums(self, tasks: Sequence[Task]) -> DepthwiseWork:
        problem = self.problem
        some = self.share(tasks)
        lines = sum(self._positions(task) * n for task, n in zip(tasks, some, strict=True))
        results = self.width * lines
        return DepthwiseWork(
            parts=sum(some) // self.blocks,
            results=results,
            sums=results * problem.passes,
            tiles=0,
            pixels=self.time.size * lines * problem.passes,
            multiplications=problem.multiplications(results * problem.passes, 0),
        )

    def instructions(
        self, task: Task, part: Part, where: Where, banks: Iterator[int]
    ) -> Iterator[Pair]:
        """One pair of all frames; x and y are one axis."""
        operand, result, bank = where.operand, where.result, next(banks)
        (first, count), (block, blocks), time = part.span, part.reads, self.time
        _, _, frame, pitch = operand.pitches
        start = time.start(0)
        nest = (self.line, count, 1, blocks, 1, self.problem.passes, 1, 1)
        step = (frame, 1, 0, pitch, 0, 0, 0, 0)
        array = dataclasses.replace(
            self._array(bank, where.weight, nest, step, time, Axis(1, 1)),
            activation=row_field(operand.row + first + start * frame + block * pitch),
            starts=(start, 0, 0),
            bounds=(time.size, count, 1),
        )
        _, _, frame, pitch = result.pitches
        row = result.row + first + block * pitch
        pitches = (frame, frame, 1, 0, pitch)
        yield (
            (array,),
            self._drain(bank, where.parameter, (time.out, count, 1, blocks), row, pitches),
        )
