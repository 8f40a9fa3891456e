"""Cycles of a convolution with a tiling: emitted and timed (compiler/emit/trial.py).

A short layer is timed behind itself, as the layers of a network follow one another: its operand
ends with what the one before stores last, while its weights come before. A long layer repeats
itself: some of its tiles are emitted, in three parts of whole periods. Between the ends of the
first and the second one units work as in the middle of the layer, so that what is left takes as
long as they do for as many results; the third one keeps the port as busy behind.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from compiler.array.constants import Constants
from compiler.array.gemm import GemmEmission
from compiler.array.job import Job, Piece
from compiler.array.tail import Tail
from compiler.emit.schedule import Step
from compiler.emit.transfers import Strided
from compiler.emit.trial import PAGE, PARTS, Trial, rest, timed
from compiler.tile.geometry import Range, product
from compiler.tile.problem import Tiling
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Elementwise, Fold, Permute, Reduce, Unit
from hw.arch.timing import vector_duration

SAMPLED = 50
"""Steps of each part of a long layer, at least."""
SHORT = 300
"""Instructions of a layer up to which it matters that its first weights come during the one before:
it is timed behind itself. Where a layer is longer, what comes before its first result is little."""
KEPT = 4096
"""Timed candidates that are remembered: networks repeat their layers."""
SOURCE, TARGET, AGAIN, BESIDE = 0x1000_0000, 0x2000_0000, 0x3000_0000, 0x0800_0000
"""DRAM addresses of a trial's operand and result, and from there to what that is joined with."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """A question: `key` is all that the answer depends on."""

    key: Hashable
    job: Job = dataclasses.field(compare=False)
    tiling: Tiling = dataclasses.field(compare=False)


def trial_cycles(job: Job, tiling: Tiling, config: AcceleratorConfig) -> int | None:
    """Cycles of a layer alone; None where something trails it, which is timed with it only.

    Neither values nor the place of tensors in DRAM change them.
    """
    if job.tail is not None and not isinstance(job.tail, Tail):
        return None
    source, target = _placed(job.source, SOURCE), _placed(job.target, TARGET)
    tail, joined = None, ()
    if job.tail is not None:
        tail, joined = dataclasses.replace(job.tail, offset=BESIDE), durations(job.tail, config)
    plain = dataclasses.replace(tiling, cycles=0)
    views = source, target, job.packing, job.phases
    key = plain, job.problem, joined, tuple(job.first_block), *views
    light = dataclasses.replace(
        job,
        source=source,
        target=target,
        tail=tail,
        weights=np.broadcast_to(np.int8(0), job.weights.shape),
        parameters=[bytes(len(each)) for each in job.parameters],
    )
    return _cycles(_Asked(repr(key), light, tiling), config)


def _placed(view: Strided, base: int) -> Strided:
    """The same view elsewhere, as far from a page's start as it is."""
    moved = base - min((view.address, *view.places)) // PAGE * PAGE
    places = tuple(place + moved for place in view.places)
    return dataclasses.replace(view, address=view.address + moved, places=places)


def durations(tail: Tail, config: AcceleratorConfig) -> tuple[Any, ...]:
    """How long what is done with some rows takes."""
    found = []
    for each in tail.instructions(16, 0, 0, 0):
        assert isinstance(each, Elementwise | Reduce | Fold | Permute)
        found.append((type(each).__name__, vector_duration(each, config)))
    return tuple(found)


@functools.lru_cache(maxsize=KEPT)
def _cycles(asked: _Asked, config: AcceleratorConfig) -> int:
    emitter, job = Trial(config), asked.job
    first = _Sampled(emitter, job, asked.tiling)
    first.emit()
    if first.sampled or len(emitter.instructions) > SHORT:
        found = timed(emitter.instructions, config)
        return found.cycles + first.left(found.stored)
    stores = emitter.dispatched(Unit.STORE)
    _Sampled(emitter, _following(job), asked.tiling).emit()
    stored = timed(emitter.instructions, config, ahead=True).stored
    return stored[-1] - stored[stores - 1]


def _following(job: Job) -> Job:
    """The same layer again, whose operand ends with what the layer before stores last."""
    moved = _end(job.target) - _end(job.source)
    source = dataclasses.replace(
        job.source,
        address=job.source.address + moved,
        places=tuple(place + moved for place in job.source.places),
    )
    return dataclasses.replace(job, source=source, target=_placed(job.target, AGAIN))


def _end(view: Strided) -> int:
    """The first byte behind a view's last row."""
    last = sum((n - 1) * pitch for n, pitch in zip(view.sizes, view.pitches, strict=False))
    block = view.places[-1] if view.places else view.address + (view.blocks - 1) * view.pitches[3]
    return block + last + view.lanes


class _Zeros(Constants):
    """Constants whose bytes nobody reads."""

    def _weight_data(self, piece: Piece, group: Range) -> bytes:
        blocks = sum(
            part.blocks[1] * product([n for _, n in part.taps]) for part in self.parts(piece)
        )
        return bytes(group[1] * blocks * self.config.weight_block_beats * self.config.port.bytes)


class _Sampled(GemmEmission):
    """Emission of a layer without its weights, and of a long one's first tiles only."""

    CONSTANTS = _Zeros
    _ends: tuple[int, ...] = ()

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

    @property
    def sampled(self) -> bool:
        """Whether only the first tiles were emitted."""
        return bool(self._ends)

    def left(self, stored: Sequence[int]) -> int:
        """Cycles of the tiles that were not emitted, told when the others are stored."""
        return rest(stored, [box.positions * box.blocks for _, box in self._stores], self._ends)
