"""Cycles of a region's plan: emitted and timed (compiler/emit/trial.py).

Parts of a long region are whole strips, of whole groups of frames where these are short.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from compiler.emit.schedule import Slots, Step
from compiler.emit.streams import durations
from compiler.emit.trial import (
    BESIDE,
    PARTS,
    Asked,
    Partly,
    Trial,
    alone_cycles,
    ends,
    layer_cycles,
    rest,
)
from compiler.regions.constants import Constants
from compiler.regions.emission import RegionEmission
from compiler.regions.order import Turn
from compiler.regions.plan import Links, Plan
from compiler.regions.prepare import PackStage
from compiler.regions.stage import ArrayStage, Stage, VectorStage
from compiler.tile.geometry import Range
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Unit
from hw.arch.layout import ceil_div

SAMPLED = 50
"""Steps of each part of a long region, at least."""
MEAN = 0x4000_0000
"""DRAM address of mean frames."""


def trial_cycles(plan: Plan, config: AcceleratorConfig) -> int:
    """Cycles of a region alone; neither values nor the place of tensors in DRAM change them."""
    return alone_cycles(_asked(plan, config), config)


def cycles_in_network(plan: Plan, config: AcceleratorConfig) -> int:
    """Cycles of a region as those of other layers are told (`layer_cycles`)."""
    return layer_cycles(_asked(plan, config), config)


def _asked(plan: Plan, config: AcceleratorConfig) -> Asked:
    links = plan.links
    parts = plan.chunks, plan.frames, plan.strips, plan.held, plan.slots
    places = plan.regions, plan.beside, plan.joined, plan.mean_tiles
    layouts = [tensor.layout for tensor in links.tensors]
    stages = [_said(stage) for stage in plan.stages]
    key = "region", repr((layouts, tail_durations(links, config), stages, parts, places))
    return Asked(key, lambda emitter, again: _emission(emitter, plan, again))


def tail_durations(links: Links, config: AcceleratorConfig) -> tuple[Hashable, ...]:
    """All of a tail that times depend on; () without one."""
    if links.tail is None:
        return ()
    return tuple(durations(links.tail.instructions(16, 0, 0, 0), config))


def _said(stage: Stage) -> tuple[Any, ...]:
    """What the times of a stage's instructions depend on."""
    sizes = [(k, v) for k, v in sorted(vars(stage).items()) if isinstance(v, int | str | tuple)]
    own: tuple[Any, ...] = ()
    if isinstance(stage, ArrayStage):
        op = stage.op
        own = (op.weight.shape, op.stride, op.pad_begin, op.pad_end, op.dilation, op.pool)
        own += (op.groups, stage.algorithm, tuple(stage.pieces))
    elif isinstance(stage, VectorStage):
        own = (*(table is None for table in stage.tables()),)
        own += (stage.packing,) if isinstance(stage, PackStage) else ()
    return (type(stage).__name__, *own, *((k, v) for k, v in sizes if k != "name"))


def _emission(emitter: Trial, plan: Plan, again: bool) -> Sampled:
    """With tensors at a trial's addresses; or again, behind what stored the end of its operand."""
    links = plan.links
    first, *between, last = links.tensors
    first, last = ends(first, last, again)
    tail = None if links.tail is None else dataclasses.replace(links.tail, offset=BESIDE)
    emitter.scratch = {last.name: MEAN}
    links = Links(links.ops, (first, *between, last), tail)
    return Sampled(emitter, dataclasses.replace(plan, links=links))


class _Zeros(Constants):
    """Constants whose bytes nobody reads."""

    def _data(self, owner: ArrayStage, units: Range) -> tuple[bytes, bytes]:
        width = self.emitter.config.port.bytes
        weights, parameters = (bytes(units[1] * beats * width) for beats in owner.unit_beats)
        return weights, parameters


class Sampled(Partly, RegionEmission):
    """Emission of a region without its constants, and of a long one's first strips only."""

    CONSTANTS = _Zeros

    def __init__(self, emitter: Trial, plan: Plan):
        super().__init__(emitter, plan)
        # Item, results and number of the last STORE of each step that stores.
        self._items: list[int] = []
        self._results: list[int] = []
        self._stores: list[int] = []

    def _steps(self) -> Iterator[Step]:
        steps, ends = list[Step](), list[int]()
        for step in super()._steps():
            steps.append(step)
            if len(self._items) > len(ends):
                ends.append(len(steps))
        number = self._sample(len(steps))
        yield from steps if number is None else steps[: ends[number]]

    def _sample(self, steps: int) -> int | None:
        """The last storing step that is emitted; None where all are."""
        # What an item makes may be less than a line: it stores nothing.
        last = list({item: n for n, item in enumerate(self._items)}.values())
        period = ceil_div(len(last), len(self.plan.frames))
        size = max(2, ceil_div(SAMPLED * len(last), steps))
        if size > period // 2:
            size = ceil_div(size, period) * period
        if size * PARTS * 3 // 2 >= len(last):
            return None
        self._ends = tuple(last[n * size - 1] + 1 for n in range(1, PARTS + 1))
        return last[PARTS * size - 1]

    def _computed(self, turn: Turn) -> Step:
        step = super()._computed(turn)
        if turn.stage < len(self.plan.array) - 1:
            return step
        blocks = sum(part.makes[1] for part in turn.parts)
        self._items.append(turn.item)
        self._results.append(blocks * self.plan.target_box(turn.item).positions)

        def body(slots: Slots) -> None:
            step.body(slots)
            self._stores.append(self.emitter.dispatched(Unit.STORE))

        return Step(step.needs, body)

    def left(self, stored: Sequence[int]) -> int:
        """Cycles of the strips that were not emitted, told when the others are stored."""
        return rest([stored[n - 1] for n in self._stores], self._results, self._ends)
