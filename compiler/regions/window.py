"""Depthwise convolutions of frames in a region, and how their maps are cut in strips.

The window streams every line once: a strip resumes where the one before ended, with the lines
above still in the line buffer. Its results lag behind by the lines that it reaches down; strips are
cut so that what the next stage takes is complete after each of them.

A stream that resumes yields a line of results with its first line, and then with every `stride`-th:
a strip that others follow streams on to the line before the one that completes their first result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Self

from compiler.array.depthwise import in_tiles
from compiler.array.fields import Place
from compiler.array.forms import axes_of
from compiler.emit.transfers import row_field
from compiler.ir import Convolution
from compiler.regions.depthwise import DepthwiseStage
from compiler.regions.stage import Pair, Part, Sizes, Strip, Task, Where
from compiler.tile.depthwise import DepthwiseProblem, DepthwiseWork
from compiler.tile.geometry import Axis, Range, Triple, cuts
from compiler.tile.parts import DIRECT
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import ceil_div
from hw.arch.program import Tensor
from hw.arch.winograd import Algorithm

ORDER: Triple = (0, 1, 2)


def window_strips(axis: Axis, wanted: Sequence[Range]) -> list[list[Strip]]:
    """Strips of a window for ranges of its result's lines, which follow one another.

    Parameters
    ----------
    axis: y of the convolution.
    wanted: lines of its result, in order; some may be none.
    """
    strips: list[list[Strip]] = []
    coordinate, line, output = -axis.pad, 0, 0
    used = max(sum(lines) for lines in wanted)
    for first, count in wanted:
        if not count:
            strips.append([Strip((line, 0), (output, 0), (coordinate, 0), bool(strips))])
            continue
        end = axis.start(first + count - 1) + axis.kernel
        if first + count < used:
            end += axis.stride - 1
        stops = [end]
        # The first strip is longer by the window's reach: cut it, so that all need equal room.
        if (
            axis.stride == 1
            and not strips
            and min(end, axis.size) > count >= axis.start(0) + axis.kernel
        ):
            stops.insert(0, count)
        strips.append([])
        for stop in stops:
            resume = coordinate > -axis.pad
            inner = max(min(stop, axis.size) - line, 0)
            complete = stop - coordinate - (0 if resume else axis.kernel - 1)
            made = ceil_div(complete, axis.stride)
            stream = coordinate, stop - coordinate
            strips[-1].append(Strip((line, inner), (output, made), stream, resume))
            coordinate, line, output = stop, line + inner, output + made
    return strips


class WindowStage(DepthwiseStage):
    """A depthwise convolution of frames, strip after strip; of one strip also in tiles.

    Parameters
    ----------
    config, op, source, target: as in `ArrayStage`; no temporal taps.
    algorithm: `DIRECT`, or F(2×2,3×3) for mode HFA_DEPTHWISE, which keeps no lines.
    """

    once = True
    keep = False
    first_entry = kept = 0

    def __init__(
        self,
        config: AcceleratorConfig,
        op: Convolution,
        source: Tensor,
        target: Tensor,
        algorithm: Algorithm = DIRECT,
    ):
        self.axes = axes_of(op, source)
        problem = DepthwiseProblem(config, self.axes, ORDER, source.layout.blocks, algorithm)
        super().__init__(config, op, source, target, problem, self.axes[0])
        self.single = problem.tiled

    def strips(self, wanted: Sequence[Range]) -> list[list[Strip]]:
        """Cut where lines above are in the line buffer."""
        return window_strips(self.axes[1], wanted)

    def place(self, row: int, first: Triple, size: Triple) -> Place:
        """Frames have rows between them that take what unused columns produce."""
        frame = size[0] * size[1] + self.spare
        return Place(row, first, size, (1, size[0], frame, frame * size[2]))

    def room(self, size: Triple, blocks: int) -> int:
        """As they lie."""
        return blocks * size[2] * (size[0] * size[1] + self.spare)

    def sized(self, sizes: Sizes) -> Self | None:
        """Frames and blocks of an instruction; lines that fit the line buffer."""
        _, lines, frames = sizes.box
        stage = self._split(frames, lines * self.width, sizes)
        if stage is None or (sizes.keep and self.single):
            return None
        stage.keep, stage.first_entry = sizes.keep, sizes.entry
        if self.problem.window[1] > 1:
            kept = frames * (sizes.blocks or self.blocks) * self.problem.passes if sizes.keep else 1
            stage.kept = self.line * kept
            if stage.kept + sizes.entry > self.config.memory.line_pixels:
                return None
        return stage

    @property
    def entries(self) -> int:
        """What it keeps, if there is a strip that resumes."""
        return self.kept if self.keep else 0

    def parts(self, task: Task) -> list[Part]:
        """Some frames of some blocks each."""
        found: list[Part] = []
        entry = self.first_entry
        if not task.strip.result[1]:
            return found
        for number, blocks in enumerate(self.groups(task.blocks)):
            for frames in cuts(task.frames[1], self.span):
                found.append(Part(number, blocks, blocks, blocks, frames, entry))
                entry += self.line * frames[1] * blocks[1] * self.problem.passes
        return found

    def _sums(self, tasks: Sequence[Task]) -> DepthwiseWork:
        problem, x = self.problem, self.axes[0]
        some = self.share(tasks)
        maps = [task.frames[1] * n for task, n in zip(tasks, some, strict=True)]
        made = [task.strip.result[1] for task in tasks]
        results = self.width * sum(n * lines for n, lines in zip(maps, made, strict=True))
        tiles = 0
        if problem.tiled:
            tiles = sum(
                n * problem.tiles(x.out, lines) for n, lines in zip(maps, made, strict=True)
            )
        read = sum(n * task.strip.operand[1] for n, task in zip(maps, tasks, strict=True))
        parts = [ceil_div(t.frames[1], self.span) * n for t, n in zip(tasks, some, strict=True)]
        return DepthwiseWork(
            parts=sum(parts) // self.blocks,
            results=results,
            sums=results * problem.passes,
            tiles=tiles,
            pixels=x.size * read * problem.passes,
            multiplications=problem.multiplications(results * problem.passes, tiles),
        )

    def instructions(
        self, task: Task, part: Part, where: Where, banks: Iterator[int]
    ) -> Iterator[Pair]:
        """One pair."""
        x, y, _ = self.axes
        strip, operand, result, bank = task.strip, where.operand, where.result, next(banks)
        (frame, frames), (block, blocks) = part.span, part.reads
        start = (-x.pad, strip.stream[0], task.source[0] + frame)
        # Tiles come whole: what is streamed beyond the map is clipped.
        streamed = self.problem.stream(y, y.out) if self.problem.tiled else strip.stream[1]
        nest = (self.line, streamed, frames, blocks, 1, self.problem.tap_blocks, 1, 1)
        step = (*operand.pitches, 0, 0, 0, 0)
        array = dataclasses.replace(
            self._array(bank, where.weight, nest, step, x, y),
            activation=row_field(operand.at(start) + block * operand.pitches[3]),
            starts=(-x.pad, strip.stream[0], 0),
            bounds=(x.size, y.size, frames),
            keep=int(self.keep),
            resume=int(strip.resume),
            # Of a window of one line nothing is kept, and entries may be more than there are.
            line=part.entry if self.entries else 0,
        )
        if self.problem.tiled:
            array = in_tiles(array, ((0, x.out), (0, y.out), (0, frames)), step)
        counts = (x.out, strip.result[1], frames, blocks)
        first = (0, strip.result[0], task.frames[0] + frame)
        row = result.at(first) + block * result.pitches[3]
        yield (array,), self._drain(bank, where.parameter, counts, row, (1, *result.pitches))
