"""A region's stages, and how frames, lines and blocks of it are computed together.

Frames go in groups, lines in strips; where every stage computes blocks by themselves, these go in
chunks. The maps between the stages exist only for a strip at a time.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from compiler.array.fields import Place
from compiler.array.tail import Tail
from compiler.cost import Cost
from compiler.emit.transfers import Box, tensor_of
from compiler.ir import Chain, Convolution
from compiler.ops.chain import Member
from compiler.regions.stage import ArrayStage, Part, Stage, Strip, Task, VectorStage, packed
from compiler.tile.geometry import Range, Triple, cuts
from compiler.tile.regions import Region
from hw.arch.config import AcceleratorConfig
from hw.arch.program import Tensor


@dataclasses.dataclass(frozen=True, slots=True)
class Links:
    """The operators of a region and the tensors between them.

    Attributes
    ----------
    ops: in order.
    tensors: what is loaded, every operator's result, the last one of which is stored.
    tail: what is done with the last results before they are stored.
    """

    ops: tuple[Member, ...]
    tensors: tuple[Tensor, ...]
    tail: Tail | None = None

    @classmethod
    def of(cls, op: Chain, source: Tensor, target: Tensor, tail: Tail | None = None) -> Links:
        """Of a chain; lanes between are the operand's as long as they are kept, then dense."""
        lanes, kept = source.layout.lanes, True
        between = []
        for stage, kind in zip(op.stages, op.between, strict=False):
            kept = kept and isinstance(stage, Convolution) and stage.depthwise
            between.append(tensor_of(kind, lanes, source.layout.lane_map if kept else None))
        return cls(op.stages, (source, *between, target), tail)

    @property
    def source(self) -> Tensor:
        """What is loaded."""
        return self.tensors[0]

    @property
    def target(self) -> Tensor:
        """What is stored."""
        return self.tensors[-1]


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One step of all stages.

    Attributes
    ----------
    blocks: that pass together; None for all.
    frames: of each value; the last one's in front of its pool.
    strips: of each stage; None where it has nothing to do with it.
    """

    blocks: Range | None
    frames: tuple[Range, ...]
    strips: tuple[Strip | None, ...]

    def task(self, stage: int) -> Task:
        """What a stage computes of it."""
        strip = self.strips[stage]
        assert strip is not None
        return Task(strip, self.frames[stage], self.frames[stage + 1], self.blocks)


def lines_of(
    stages: Sequence[Stage], used: int, height: int
) -> tuple[tuple[Strip | None, ...], ...]:
    """Strips of all stages, from the last one's lines backwards.

    Parameters
    ----------
    stages: in order.
    used: lines of the last one's result, in front of its pool.
    height: of a strip of it, a multiple of the pool.

    Returns
    -------
    By step: what each stage computes, or None. A stage that cuts a strip in two makes two steps of
    it. Stages behind it take part in the last one, unless all of them take lines as they come.
    """
    steps: list[tuple[Strip | None, ...]] = [()]
    wanted = cuts(used, height)
    for number in reversed(range(len(stages))):
        behind = stages[number + 1 :]
        elastic = all(stage.elastic for stage in behind)
        before = steps if behind else [()] * len(wanted)
        steps = []
        for strips, rest in zip(stages[number].strips(wanted), before, strict=True):
            for strip in strips[:-1]:
                later = Strip(strip.result, strip.result) if elastic else None
                steps.append((strip, *(later for _ in behind)))
            last = strips[-1]
            if elastic and len(strips) > 1:
                rest = tuple(Strip(last.result, last.result) for _ in behind)
            steps.append((last, *rest))
        wanted = [strips[0].operand for strips in steps if strips[0] is not None]
    return tuple(steps)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A choice, and what it is estimated to cost.

    Attributes
    ----------
    links: operators and tensors.
    stages: the vector unit's, then the array's; value n is what stage n reads, the last one what is
        stored.
    chunks: blocks that pass together; None for all.
    frames: of each value, by group.
    lines: of a strip.
    strips: of every group and chunk: by step, of each stage.
    held: groups of blocks of each array stage whose constants are on chip; of chunks, one number.
    regions, slots: of each value, with one writer and one reader each, and the strips that they
        hold. While they are made, mean frames lie in the first one as well.
    beside, joined: LOAD to VECTOR and VECTOR to STORE of a tail, two strips each.
    mean_tiles: boxes whose mean frame is made at a time, where there is a temporal residual.
    cost: estimate; parts: cycles that it is made of. streamed: those in which the array streams, by
        stage of it.
    """

    links: Links
    stages: tuple[Stage, ...]
    chunks: tuple[Range | None, ...]
    frames: tuple[tuple[Range, ...], ...]
    lines: int
    strips: tuple[tuple[Strip | None, ...], ...]
    held: tuple[int, ...] = ()
    regions: tuple[Region, ...] = ()
    slots: tuple[int, ...] = ()
    beside: Region | None = None
    joined: Region | None = None
    mean_tiles: tuple[Box, ...] = ()
    cost: Cost = Cost(0, 0, 0, 0)  # noqa: RUF009 (frozen)
    parts: dict[str, int] = dataclasses.field(default_factory=dict)
    streamed: tuple[int, ...] = ()

    @property
    def cycles(self) -> float:
        """That it takes."""
        return self.cost.cycles

    @property
    def floor(self) -> float:
        """Cycles of its busiest unit, and of the first and last strip.

        Where a value has one slot, `cost` lets what makes it and what reads it wait for each other.
        """
        units = max(self.parts[unit] for unit in ("array", "vector", "port"))
        return units + self.parts["fill"]

    def merit(self, objective: str) -> tuple[float, float]:
        """What is minimized, and what decides between equals."""
        return self.cost.merit(objective)

    def in_cycles(self, cycles: int, config: AcceleratorConfig) -> Plan:
        """The same in other time."""
        return dataclasses.replace(self, cost=self.cost.moved(cycles, self.cost.beats, config))

    @functools.cached_property
    def prepared(self) -> tuple[VectorStage, ...]:
        """The vector unit's stages."""
        return tuple(stage for stage in self.stages if isinstance(stage, VectorStage))

    @functools.cached_property
    def array(self) -> tuple[ArrayStage, ...]:
        """The array's stages."""
        return tuple(stage for stage in self.stages if isinstance(stage, ArrayStage))

    @functools.cached_property
    def by_block(self) -> bool:
        """Blocks pass in chunks, and the constants of all stages come with them."""
        return self.chunks[0] is not None

    @functools.cached_property
    def items(self) -> list[Item]:
        """All steps in order."""
        return list(self.steps(self.frames))

    def steps(self, groups: Sequence[tuple[Range, ...]]) -> Iterator[Item]:
        """Those of some groups of frames."""
        for each in itertools.product(groups, self.chunks, self.strips):
            yield Item(each[1], each[0], each[2])

    @functools.cached_property
    def _parts(self) -> dict[tuple[int, int, int, Range | None], list[Part]]:
        return {}

    def parts_of(self, number: int, item: Item) -> list[Part]:
        """What an array stage computes of an item, in order; none where it takes no part."""
        place = number + len(self.prepared)
        strip = item.strips[place]
        if strip is None:
            return []
        key = number, strip.result[1], item.frames[place + 1][1], item.blocks
        if key not in self._parts:
            self._parts[key] = self.array[number].parts(item.task(place))
        return self._parts[key]

    def groups(self, number: int) -> int:
        """Groups of blocks of an array stage, over all chunks."""
        return sum(len(self.array[number].groups(chunk)) for chunk in self.chunks)

    # Where values lie

    def row(self, value: int, turn: int) -> int:
        """First row of the slot that the turn-th strip of a value takes."""
        return self.regions[value].slot(turn % self.slots[value], self.slots[value])

    @functools.cached_property
    def _turns(self) -> list[list[int]]:
        """Items before each one in which a stage takes part, by stage."""
        found = []
        for number in range(len(self.stages)):
            taken = (item.strips[number] is not None for item in self.items)
            found.append([0, *itertools.accumulate(taken)])
        return found

    def results_before(self, number: int) -> int:
        """Items before one in which something is stored."""
        return self._turns[-1][number]

    def place(self, value: int, number: int, turn: int | None = None) -> Place:
        """Where the part of a value lies that is read in an item, or in the next one that reads it.

        Block 0 is the tensor's. `turn`: the slot, where it is not that of the item.
        """
        item = self.items[number]
        last = value == len(self.stages)
        reader = value - 1 if last else value
        taken = next(i.strips[reader] for i in self.items[number:] if i.strips[reader] is not None)
        assert taken is not None
        row = self.row(value, self._turns[reader][number] if turn is None else turn)
        if last:
            box = self.target_box(number)
            first, size = box.first, box.size
        else:
            lines, frames = taken.operand, item.frames[value]
            width = self.stages[value].source.layout.width
            first, size = (0, lines[0], frames[0]), (width, max(lines[1], 1), frames[1])
        writer = self.stages[value - 1] if value else None
        place = packed(row, first, size) if writer is None else writer.place(row, first, size)
        if item.blocks is None:
            return place
        return dataclasses.replace(place, row=row - item.blocks[0] * place.pitches[3])

    def target_box(self, number: int) -> Box:
        """What is made of an item, behind the last stage's pool."""
        item, stage = self.items[number], self.array[-1]
        strip = item.strips[-1]
        assert strip is not None
        pools = stage.pools
        (y, lines), (t, frames) = strip.result, item.frames[-1]
        first = (0, y // pools[1], t // pools[2])
        size: Triple = self.links.target.layout.width, lines // pools[1], frames // pools[2]
        blocks = item.blocks or (0, self.links.target.layout.blocks)
        return Box(first, size, *blocks)

    # For reports

    def describe(self) -> dict[str, Any]:
        """For the report: by name of the operators, or of what they make."""
        names = [stage.name for stage in self.array]
        groups = [self.groups(number) for number in range(len(names))]
        held = self.held * len(names) if self.by_block else self.held
        values = ["input", *(stage.name for stage in self.stages)]
        report: dict[str, Any] = {
            "load": [self.links.source.layout.width, self.lines, self.frames[0][0][1]],
            "group": {stage.name: stage.group for stage in self.array},
            "held": {n: f"{h} of {g}" for n, h, g in zip(names, held, groups, strict=True)},
            "slots": dict(zip(values, self.slots, strict=True)),
            "algorithm": {stage.name: stage.algorithm for stage in self.array},
            "streamed": dict(zip(names, self.streamed, strict=True)),
            "estimate": self.cost.cycles,
            **self.parts,
        }
        chunk = self.chunks[0]
        return report if chunk is None else {**report, "blocks": chunk[1]}
