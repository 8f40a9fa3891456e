"""Dense stages of a fused chain: ARRAY and DRAIN instructions of a strip, and their constants.

A stage knows what it computes and how much of it an accumulator bank takes; where operands and
results lie (`Place`) is the schedule's business (compiler/fused/emission.py).
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from compiler.array.fields import Kernel, Place, array_instruction, drain_instruction, weight_bytes
from compiler.array.job import Job
from compiler.tile.geometry import Range, Triple, balanced, cuts, product
from compiler.tile.hfa_cost import INSTRUCTION_OVERHEAD, part_sizes
from compiler.tile.parts import DIRECT, parts_of, points_of, tiles_of
from compiler.tile.tiling import accumulator_tile
from hw.arch import timing, transform_timing
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, Drain
from hw.arch.winograd import Algorithm

Pair: TypeAlias = tuple[tuple[Array, ...], Drain]
"""What one after another adds to the same accumulators, and what empties them."""
CUTS = (1, 2, 4, 8)
"""Into how many the largest parts are cut, of a transformed stage: the transform of the first one
is hidden by nothing."""


def parameter_beats(config: AcceleratorConfig) -> int:
    """Beats of one accumulator row's parameters."""
    return config.requantize_steps * config.parameter_row_beats


@functools.lru_cache(1 << 14)
def _filled(
    config: AcceleratorConfig, algorithm: Algorithm, tiles: Triple, group: int, reduced: int
) -> tuple[int, int]:
    """Cycles until what a part needs first is transformed, and those of its instruction."""
    shape = Array(
        mode=ArrayMode.HFA,
        counts=(*tiles, group, *points_of(algorithm), reduced),
        transform_t=algorithm.temporal,
        transform_s=algorithm.spatial,
    )
    slots = timing.array_sets(shape) * transform_timing.array_slot(shape, config)
    return transform_timing.array_fill(shape, config), slots + INSTRUCTION_OVERHEAD


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
        cls,
        config: AcceleratorConfig,
        job: Job,
        kernel: Kernel,
        box: Triple,
        limit: int,
        rows: int | None = None,
    ) -> GemmStage | None:
        """The stage with the largest parts, then the most output blocks at once, that fit.

        Parameters
        ----------
        config, job, kernel: see the class.
        box: results of the largest strip along x, y, t, in front of the pool.
        limit: output blocks at most (by what weights leave room for).
        rows: of the accumulators, at most; default: all of a bank.
        """
        rows = rows or config.memory.accumulator_rows
        most = min(job.problem.groups, limit) if job.problem.joinable else 1
        chosen: GemmStage | None = None
        least = 0
        for group in sorted({balanced(job.problem.groups, n) for n in range(1, most + 1)}):
            if group > most:
                continue
            if kernel.algorithm != DIRECT:
                for stage in cls._transformed(config, job, kernel, box, group):
                    cycles = stage.alone(box)
                    if chosen is None or cycles < least:
                        chosen, least = stage, cycles
                continue
            sizes = accumulator_tile(box, kernel.pools, rows // group)
            if sizes is None:
                continue
            if chosen is None or product(sizes) >= product(chosen.sizes):
                chosen = cls(config, job, kernel, group, sizes)
        return chosen

    @classmethod
    def _transformed(
        cls, config: AcceleratorConfig, job: Job, kernel: Kernel, box: Triple, group: int
    ) -> Iterator[GemmStage]:
        """Stages with parts as large as can be, and with parts of them."""
        for cut in CUTS:
            sizes = part_sizes(kernel.axes, kernel.algorithm, box, group * cut, config)
            if sizes is not None:
                yield cls(config, job, kernel, group, sizes)

    def alone(self, box: Triple) -> int:
        """Cycles of a box between work of other modes: what is transformed first waits for it."""
        algorithm, reduced = self.kernel.algorithm, self.job.problem.reduced
        ranges = [(0, size) for size in box]
        parts = [
            tiles_of(part.count, algorithm)
            for part in parts_of(self.kernel.axes, algorithm, ranges, self.sizes)
        ]
        alike = Counter((tiles, count) for tiles in parts for _, count in self.groups)
        first, _ = _filled(self.config, algorithm, parts[0], self.groups[0][1], reduced)
        return first + sum(
            times * _filled(self.config, algorithm, tiles, count, reduced)[1]
            for (tiles, count), times in alike.items()
        )

    @property
    def rows(self) -> int:
        """Accumulator rows of a part, as many as it has at most."""
        return product(self.sizes) * self.group

    @property
    def brief(self) -> bool:
        """Whether the array takes no longer than the drain: it multiplies one vector a result."""
        direct = self.kernel.algorithm == DIRECT
        return direct and self.job.problem.reduced * self.kernel.taps == 1

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
