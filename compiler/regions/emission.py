"""Emission of a region by its plan: what all stages do with a strip stays on chip."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable, Iterator, Sequence
from typing import ClassVar

from compiler.array.fields import Place
from compiler.array.gemm import BUSY
from compiler.emit.emitter import Emitter, Probe, holds
from compiler.emit.schedule import Ring, Slots, Step, run
from compiler.emit.transfers import Box, Strided, first_parts, load_box, store_box
from compiler.regions.constants import Constants
from compiler.regions.mean import MeanFrame
from compiler.regions.order import Turn, turns
from compiler.regions.plan import Plan
from compiler.regions.prepare import ResidualStage, residual_frames
from compiler.regions.stage import Where
from compiler.tile.geometry import cuts
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import UnitInstruction
from hw.arch.layout import ceil_div


class RegionEmission:
    """Emits one region.

    Parameters
    ----------
    emitter, plan: to where, how.
    """

    CONSTANTS: ClassVar[type[Constants]] = Constants

    def __init__(self, emitter: Emitter, plan: Plan):
        self.emitter, self.plan, self.items = emitter, plan, plan.items
        self.links = plan.links
        self.source, self.target = Strided.of(self.links.source), Strided.of(self.links.target)
        self.banks = itertools.cycle((0, 1))
        self.tables = [[emitter.table(t) for t in stage.tables()] for stage in plan.prepared]
        self.mean: MeanFrame | None = None
        if isinstance(plan.stages[0], ResidualStage):
            self.mean = MeanFrame(emitter, plan, self.tables[0][1])
        self.constants = self.CONSTANTS(emitter, plan)

    def emit(self) -> None:
        """Emit the whole region."""
        steps = list(self._steps())
        # Constants that come with chunks are few, and the port has time for them.
        grouped = not self.plan.by_block
        late = grouped and self.plan.parts["port"] > BUSY * self.plan.parts["array"]
        run(self.emitter, self._rings(steps), steps, late=late, short=grouped)

    def probe(self) -> None:
        """Emit what the first, the largest and the last item need."""
        sizes = [sum(s.operand[1] + s.result[1] for s in i.strips if s) for i in self.items]
        rings = self._rings(())
        for number in sorted({0, sizes.index(max(sizes)), len(sizes) - 1}):
            steps = list(self._prepare(number))
            steps += [
                self._computed(Turn(stage, number, (part,)))
                for stage in range(len(self.plan.array))
                for part in self.plan.parts_of(stage, self.items[number])
            ]
            for step in steps:
                for name, key in step.needs.items():
                    for instruction in rings[name].fill(key, 0):
                        self.emitter.emit(instruction)
                step.body(dict.fromkeys(rings, 0))

    def _rings(self, steps: Sequence[Step]) -> dict[str, Ring]:
        # Strips that take the mean frame are loaded when all of it is stored.
        means = [n for n, step in enumerate(steps) if isinstance(step.needs.get("input"), tuple)]
        late: dict[Hashable, int] = {}
        if self.mean is not None:
            late = dict.fromkeys(self.mean.readers, means[-1] + 1 if means else 0)
        rings = {"input": Ring(self.plan.slots[0], self._fill_input, not_before=late)}
        rings |= self.constants.rings()
        if self.links.tail is not None:
            rings["beside"] = Ring(2, self._fill_beside)
        return rings

    # Order

    def _steps(self) -> Iterator[Step]:
        """The array's work in order; what the vector unit prepares comes before it."""
        prepared = means = 0
        early = self.plan.slots[len(self.plan.prepared)] if self.plan.prepared else 0
        for following, works in turns(self.plan, self.items):
            while prepared < min(following + early, len(self.items)):
                for tile in range(means, self.mean.before(prepared) if self.mean else 0):
                    yield self._mean(tile)
                    means = tile + 1
                yield from self._prepare(prepared)
                prepared += 1
            for turn in works:
                yield self._computed(turn)

    def _prepare(self, number: int) -> Iterator[Step]:
        def body(slots: Slots) -> None:
            place = self.plan.place(0, number, slots["input"])
            for stage, prepares in enumerate(self.plan.prepared):
                result = self.plan.place(stage + 1, number)
                task = self.items[number].task(stage)
                for each in prepares.instructions(task, place, result, self.tables[stage]):
                    self.emitter.emit(each)
                place = result

        strip = self.items[number].strips[0]
        if self.plan.prepared and strip is not None and strip.operand[1]:
            yield Step({"input": number}, body)

    def _mean(self, tile: int) -> Step:
        assert self.mean is not None
        mean = self.mean
        return Step({"input": ("mean", tile)}, lambda slots: mean.make(tile, slots["input"]))

    # Transfers

    def _fill_input(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        """A strip's lines in the frames that its results need; the mean frame behind the others."""
        if isinstance(key, tuple):
            assert self.mean is not None
            return self.mean.loads(key[1], slot)
        assert isinstance(key, int)
        item, place = self.items[key], self.plan.place(0, key, slot)
        begin, blocks = item.blocks or (0, self.links.source.layout.blocks)
        row = place.row + begin * place.pitches[3]
        frames, mean = item.frames[0][1], False
        if self.mean is not None:
            (_, frames), mean = residual_frames(item.frames[1], self.links.source.layout.frames)
        result: list[UnitInstruction] = []
        if frames:
            size = (*place.size[:2], frames)
            whole = Box(place.first, size, begin, blocks)
            parts = first_parts(blocks, whole.rows) if key == 0 else 1
            for first, n in cuts(blocks, ceil_div(blocks, parts)):
                box = dataclasses.replace(whole, block=begin + first, blocks=n)
                part = row + first * place.pitches[3]
                result += load_box(self.source, box, part, place.pitches)
        if mean:
            assert self.mean is not None
            box = Box((0, place.first[1], 0), (*place.size[:2], 1), 0, blocks)
            behind = row + frames * place.pitches[2]
            result += load_box(self.mean.view, box, behind, place.pitches)
        return result

    def _fill_beside(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, int) and self.links.tail is not None
        assert self.plan.beside is not None
        view = self.target
        view = dataclasses.replace(view, address=view.address + self.links.tail.offset)
        return [*load_box(view, self.plan.target_box(key), self.plan.beside.slot(slot, 2))]

    # Computation

    def _computed(self, turn: Turn) -> Step:
        plan, number = self.plan, turn.item
        stage, place = plan.array[turn.stage], turn.stage + len(plan.prepared)
        task = self.items[number].task(place)
        loaded = place == 0 and task.strip.operand[1] > 0

        def body(slots: Slots) -> None:
            operand = plan.place(place, number, slots.get("input", 0) if place == 0 else None)
            result = plan.place(place + 1, number)
            for part in turn.parts:
                constants = self.constants.place(turn.stage, task.blocks, part, slots)
                where = Where(operand, result, *constants)
                for arrays, drain in stage.instructions(task, part, where, self.banks):
                    for array in arrays:
                        self.emitter.emit(array)
                    self.emitter.emit(drain)
            if turn.stage == len(plan.array) - 1:
                self._store(turn, result, slots.get("beside", 0))

        needs = self.constants.needs(turn, task.blocks)
        if loaded:
            # Constants of a chunk are for several stages: they come behind what is waited for.
            own: dict[str, Hashable] = {"input": number}
            needs = own | needs if plan.by_block else needs | own
        if turn.stage == len(plan.array) - 1 and self.links.tail is not None:
            needs = {**needs, "beside": number}
        return Step(needs, body)

    def _store(self, turn: Turn, place: Place, slot: int) -> None:
        """Store what some parts make of an item; join it with others before.

        Parameters
        ----------
        turn: which.
        place: of the item's results.
        slot: of what they are joined with.
        """
        box = self.plan.target_box(turn.item)
        first = turn.parts[0].makes[0]
        last = min(sum(turn.parts[-1].makes), box.block + box.blocks)
        box = dataclasses.replace(box, block=first, blocks=last - first)
        skipped = first * place.pitches[3]
        row = place.row + skipped
        if self.links.tail is not None:
            assert self.plan.beside is not None and self.plan.joined is not None
            beside = self.plan.beside.slot(slot, 2) + skipped
            joined = self.plan.joined.slot(self.plan.results_before(turn.item) % 2, 2) + skipped
            for instruction in self.links.tail.instructions(box.rows, row, beside, joined):
                self.emitter.emit(instruction)
            row = joined
        self.emitter.emit(store_box(self.target, box, row, place.pitches))


def expressible(plan: Plan, config: AcceleratorConfig) -> bool:
    """Whether instructions hold what a plan asks for."""
    probe = Probe(config)
    probe.scratch = {plan.links.target.name: 0}
    return holds(lambda: RegionEmission(probe, plan).probe())
