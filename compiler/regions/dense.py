"""A dense convolution of a region, direct or transformed: a strip's instructions and constants."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Self

from compiler.array.energy import dense_picojoules
from compiler.array.fields import array_instruction, drain_instruction, weight_bytes
from compiler.array.forms import axes_of, jobs, packed_parameters
from compiler.array.hfa import fold, refusal, transformed
from compiler.array.job import Job
from compiler.ir import Convolution
from compiler.policy import OFF, SUPPORTED, Policy
from compiler.regions.stage import ArrayStage, Pair, Part, Sizes, Strip, Task, Where
from compiler.tile.geometry import Axis, AxisTriple, Range, Triple, balanced, cuts, product
from compiler.tile.hfa_cost import part_sizes, tiles_along
from compiler.tile.parts import DIRECT, outputs_of, parts_of, points_of, steps_of
from compiler.tile.sums import TRANSFORMED_OVERHEAD
from compiler.tile.tiling import accumulator_tile
from hw.arch import timing, transform_timing
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode
from hw.arch.program import Tensor
from hw.arch.winograd import Algorithm

CUTS = (1, 2, 4, 8)
"""Into how many the largest parts are cut, of a transformed stage: the transform of the first one
is hidden by nothing."""


def forms(
    op: Convolution,
    source: Tensor,
    target: Tensor,
    config: AcceleratorConfig,
    policy: Policy,
    leads: bool,
) -> Iterator[Job]:
    """Every way to compute a dense convolution that strips allow, with all three axes.

    `leads`: it reads what is loaded, which the vector unit may pack along time.
    """
    axes = axes_of(op, source)
    for job in jobs(op, source, target, config):
        packing = job.packing
        if job.phases is not None or (packing is not None and not (leads and packing.axis == 2)):
            continue
        if policy.forced is None or refusal(op, job, policy.forced, config) is not None:
            yield _merged_back(job, axes)
        if packing is not None or "hfa" not in config.features or policy.hfa == OFF:
            continue
        try:
            folded = fold(op, source)
        except ValueError:
            continue  # the folded bias leaves its 32 bits
        lanes = target.layout.lane_channels()
        parameters = packed_parameters(folded, lanes, config.array.cols)
        for algorithm in SUPPORTED:
            wanted = policy.forced is None or policy.forced == algorithm
            if wanted and refusal(op, job, algorithm, config) is None:
                yield _merged_back(transformed(job, algorithm, parameters), axes)


def _merged_back(job: Job, axes: AxisTriple) -> Job:
    """A job whose kernel has all three axes, as strips cut them."""
    if job.packing is not None:
        t = axes[2]
        axes = axes[0], axes[1], Axis(t.out, t.out, pool=t.pool)
    return dataclasses.replace(job, kernel=dataclasses.replace(job.kernel, axes=axes))


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
    return transform_timing.array_fill(shape, config), slots + TRANSFORMED_OVERHEAD


@functools.lru_cache(1 << 14)
def _alone(
    config: AcceleratorConfig,
    axes: AxisTriple,
    algorithm: Algorithm,
    box: Triple,
    sizes: Triple,
    amounts: tuple[int, int, int],
) -> int:
    """`DenseStage.alone`; `amounts`: output blocks, those of a group, input blocks."""
    total, group, reduced = amounts
    x, y, t = (
        tiles_along(n, n, size, m, step)
        for n, size, m, step in zip(
            box, sizes, outputs_of(algorithm), steps_of(axes, algorithm), strict=True
        )
    )
    groups = Counter(count for _, count in cuts(total, group))
    # The first part is one of the most tiles.
    most = x[0][0], y[0][0], t[0][0]
    first, _ = _filled(config, algorithm, most, min(group, total), reduced)
    return first + sum(
        nx * ny * nt * times * _filled(config, algorithm, (tx, ty, tt), count, reduced)[1]
        for (tx, nx), (ty, ny), (tt, nt) in itertools.product(x, y, t)
        for count, times in groups.items()
    )


class DenseStage(ArrayStage):
    """A convolution of all channels, direct or transformed.

    Parameters
    ----------
    config, op, source, target: as in `ArrayStage`.
    job: form of the convolution, its kernel's axes not merged.

    Members
    -------
    group: output blocks computed together.
    sizes: results of a part along x, y, t.
    """

    sizes: Triple = (0, 0, 0)

    def __init__(
        self, config: AcceleratorConfig, op: Convolution, source: Tensor, target: Tensor, job: Job
    ):
        super().__init__(config, op, source, target)
        self.job, self.kernel, self.pools = job, job.kernel, job.kernel.pools

    def strips(self, wanted: Sequence[Range]) -> list[list[Strip]]:
        """What several strips need is made, or loaded, for each of them."""
        y = self.kernel.axes[1]
        return [[Strip(y.source(lines) if lines[1] else lines, lines)] for lines in wanted]

    def frames(self, wanted: Range) -> Range:
        """By the taps along time."""
        return self.kernel.axes[2].source(wanted)

    @property
    def blocks(self) -> int:
        """Lane blocks that drains write, whole accumulator rows."""
        return self.job.problem.groups * self.config.array.blocks_per_row

    # Sizes

    def sized(self, sizes: Sizes) -> Self | None:
        """The largest parts, then the most output blocks at once, that fit."""
        problem = self.job.problem
        limit = -(-problem.groups // sizes.parts)
        if sizes.share > 1:
            limit = min(limit, self.config.weight_beats // (sizes.share * self.unit_beats[0]))
        rows = sizes.rows or self.config.memory.accumulator_rows
        most = min(problem.groups, limit) if problem.joinable else 1
        chosen: Self | None = None
        least = 0
        for group in sorted({balanced(problem.groups, n) for n in range(1, most + 1)}):
            if group > most:
                continue
            if self.kernel.algorithm != DIRECT:
                for stage in self._transformed(sizes.box, group):
                    cycles = stage.alone(sizes.box)
                    if chosen is None or cycles < least:
                        chosen, least = stage, cycles
                continue
            found = accumulator_tile(sizes.box, self.kernel.pools, rows // group)
            if found and (chosen is None or product(found) >= product(chosen.sizes)):
                chosen = self._with(group, found)
        if chosen is not None and self.kernel.algorithm == DIRECT:
            chosen.pieces = sizes.pieces
        return chosen

    def _with(self, group: int, sizes: Triple) -> Self:
        stage = copy.copy(self)
        stage.group, stage.sizes = group, sizes
        return stage

    def _transformed(self, box: Triple, group: int) -> Iterator[Self]:
        """With parts as large as can be, and with parts of them."""
        kernel = self.kernel
        for cut in CUTS:
            sizes = part_sizes(kernel.axes, kernel.algorithm, box, group * cut, self.config)
            if sizes is not None:
                yield self._with(group, sizes)

    def alone(self, box: Triple) -> int:
        """Cycles of a box between work of other modes: what is transformed first waits for it."""
        problem, kernel = self.job.problem, self.kernel
        amounts = problem.groups, self.group, problem.reduced
        return _alone(self.config, kernel.axes, kernel.algorithm, box, self.sizes, amounts)

    @property
    def algorithm(self) -> str:
        """Of the transform."""
        return self.kernel.algorithm.name

    @property
    def rows(self) -> int:
        """Accumulator rows of a part, as many as it has at most."""
        return product(self.sizes) * self.group

    @property
    def brief(self) -> bool:
        """Where it is direct, of one input block and one tap."""
        direct = self.kernel.algorithm == DIRECT
        return direct and self.job.problem.reduced * self.kernel.taps == 1

    # Constants

    @property
    def unit_beats(self) -> tuple[int, int]:
        """Of an output block."""
        config = self.config
        weights = self.job.problem.reduced * self.kernel.taps * config.weight_block_beats
        return weights, config.requantize_steps * config.parameter_row_beats

    def groups(self, blocks: Range | None) -> list[Range]:
        """Output blocks; all of them, whatever passes."""
        return cuts(self.job.problem.groups, self.group)

    @property
    def step(self) -> int:
        """Output blocks may be several lane blocks wide."""
        return self.group * self.config.array.blocks_per_row

    def weights(self, units: Range) -> bytes:
        """Of some output blocks."""
        first, count = units
        some = self.job.weights[first : first + count]
        return weight_bytes(some, self.kernel.algorithm, self.config)

    def parameters(self, units: Range) -> bytes:
        """Of some output blocks."""
        first, count = units
        return b"".join(self.job.parameters[first : first + count])

    # Instructions

    def parts(self, task: Task) -> list[Part]:
        """A group of output blocks each."""
        per_row = self.config.array.blocks_per_row
        if not task.strip.result[1]:
            return []
        whole = 0, self.source.layout.blocks
        return [
            Part(number, units, whole, (units[0] * per_row, units[1] * per_row))
            for number, units in enumerate(self.groups(task.blocks))
        ]

    def instructions(
        self, task: Task, part: Part, where: Where, banks: Iterator[int]
    ) -> Iterator[Pair]:
        """As many pairs as the accumulators ask for."""
        (first, count), operand, result = part.units, where.operand, where.result
        kernel, job = self.kernel, self.job
        box = ((0, kernel.axes[0].out), task.strip.result, task.frames)
        shifted = dataclasses.replace(result, row=result.row + part.makes[0] * result.pitches[3])
        skipped = job.first_block[first] * operand.pitches[3]
        operand = dataclasses.replace(operand, row=operand.row + skipped)
        block_beats = count * kernel.taps * self.config.weight_block_beats
        for each in parts_of(kernel.axes, kernel.algorithm, box, self.sizes):
            bank = next(banks)
            arrays = tuple(
                array_instruction(
                    self.config,
                    kernel,
                    each,
                    dataclasses.replace(operand, row=operand.row + begin * operand.pitches[3]),
                    groups=count,
                    blocks=blocks,
                    weight=where.weight + begin * block_beats,
                    bank=bank,
                    block_step=job.block_step,
                    accumulate=begin > 0,
                )
                for begin, blocks in self.pieces or [(0, job.problem.reduced)]
            )
            drain = drain_instruction(
                self.config,
                kernel,
                each,
                shifted,
                groups=count,
                bank=bank,
                parameter=where.parameter,
            )
            yield arrays, drain

    def work(self, tasks: Sequence[Task], vectors: int, pairs: int) -> tuple[int, float]:
        """By what its instructions stream."""
        passes = pairs / len(self.groups(None))
        return vectors, dense_picojoules(self.job, self.config, vectors, self.group, passes)
