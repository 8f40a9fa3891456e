"""Cycles of a convolution with a tiling: emitted and timed (compiler/emit/trial.py).

Parts of a long layer are whole periods: tiles for all groups, or groups for all tiles.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from compiler.array.constants import Constants
from compiler.array.gemm import GemmEmission
from compiler.array.job import Job, Piece
from compiler.array.tail import Tail, Trailing
from compiler.emit.schedule import Step
from compiler.emit.streams import durations
from compiler.emit.trial import (
    AGAIN,
    BESIDE,
    PARTS,
    SECOND,
    SOURCE,
    TARGET,
    Asked,
    Partly,
    Trial,
    Whole,
    behind,
    layer_cycles,
    placed,
    rest,
)
from compiler.tile.geometry import Range, product
from compiler.tile.problem import Tiling
from hw.arch.config import AcceleratorConfig

SAMPLED = 50
"""Steps of each part of a long layer, at least."""


def trial_cycles(job: Job, tiling: Tiling, config: AcceleratorConfig) -> int:
    """Cycles of a layer in a network; with what trails it, where something does.

    Neither values nor the place of tensors in DRAM change them. What is trailed stays where it
    lies, for the two meet there, and all of it is emitted.
    """
    plain = dataclasses.replace(tiling, cycles=0)
    key = plain, job.problem, tuple(job.first_block), job.packing, job.phases
    light = dataclasses.replace(
        job,
        weights=np.broadcast_to(np.int8(0), job.weights.shape),
        parameters=[bytes(len(each)) for each in job.parameters],
    )
    if job.tail is not None and not isinstance(job.tail, Tail):
        return _trailed_cycles(light, job.tail, repr(key), tiling, config)
    tail, joined = job.tail, list[tuple[str, int]]()
    if tail is not None:
        joined = durations(tail.instructions(16, 0, 0, 0), config)
        tail = dataclasses.replace(tail, offset=BESIDE)
    source, target = placed(job.source, SOURCE), placed(job.target, TARGET)
    light = dataclasses.replace(light, source=source, target=target, tail=tail)

    def emission(emitter: Trial, again: bool) -> _Sampled:
        return _Sampled(emitter, _following(light) if again else light, tiling)

    asked = Asked(("convolution", repr((*key, joined, source, target))), emission)
    return layer_cycles(asked, config)


def _trailed_cycles(
    job: Job, trailing: Trailing, said: str, tiling: Tiling, config: AcceleratorConfig
) -> int:
    """Of a layer and what trails it; `said`: of the layer."""
    key = "trailed", said, repr((job.source, job.target)), trailing.key(config)

    def emission(emitter: Trial, again: bool) -> Whole:
        made = job
        if again:
            made = dataclasses.replace(
                job,
                source=behind(job.source, trailing.result),
                target=job.target.shifted(SECOND),
                tail=trailing.shifted(SECOND),
            )
        return Whole(_Timed(emitter, made, tiling).emit)

    return layer_cycles(Asked(key, emission), config)


def _following(job: Job) -> Job:
    """The same layer again, whose operand ends with what the layer before stores last."""
    source = behind(job.source, job.target)
    return dataclasses.replace(job, source=source, target=placed(job.target, AGAIN))


class _Zeros(Constants):
    """Constants whose bytes nobody reads."""

    def _weight_data(self, piece: Piece, group: Range) -> bytes:
        blocks = sum(
            part.blocks[1] * product([n for _, n in part.taps]) for part in self.parts(piece)
        )
        return bytes(group[1] * blocks * self.config.weight_block_beats * self.config.port.bytes)


class _Timed(GemmEmission):
    """Emission of a layer without its weights."""

    CONSTANTS = _Zeros


class _Sampled(Partly, _Timed):
    """The same of a long one's first tiles only."""

    def _steps(self) -> list[Step]:
        steps = super()._steps()
        ends = [number + 1 for number, _ in self._stores]
        period = len(self.tiles) if self.tiling.group_outer else len(self.groups)
        if period * 2 * PARTS > len(ends):
            period = 1  # of few long periods, the middle of one has to do
        periods = -(-SAMPLED * len(ends) // (len(steps) * period))
        stores = tuple(n * periods * period for n in range(1, PARTS + 1))
        if stores[-1] * 3 // 2 >= len(ends):
            return steps
        self._ends = stores
        return steps[: ends[stores[-1] - 1]]

    def left(self, stored: Sequence[int]) -> int:
        """Cycles of the tiles that were not emitted, told when the others are stored."""
        return rest(stored, [box.positions * box.blocks for _, box in self._stores], self._ends)
