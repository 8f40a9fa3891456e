"""Two depthwise convolutions, of frames and over time: the map between them stays on chip.

Some blocks of some lines, all frames of them, are a strip. The array computes the frames of a strip
before the positions of the one before, so that it waits for neither's drain. Lines that the window
needs again stay in the line buffer, as in a chain (compiler/fused/strips.py).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from compiler.array.fields import Place
from compiler.emit.emitter import Emitter, Probe, holds
from compiler.emit.schedule import Ring, Slots, Step, run
from compiler.emit.transfers import Box, Strided, first_parts, load_box, store_box
from compiler.fused.operand import dense
from compiler.fused.pair_plan import PairPlan, with_cost
from compiler.fused.stages import Pair
from compiler.fused.strips import Strip, strips_of
from compiler.fused.temporal import TemporalStage
from compiler.fused.window import WindowStage
from compiler.ir import DepthwisePair
from compiler.tile.geometry import Range, balanced, cuts
from compiler.tile.regions import split_banks
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Space, UnitInstruction
from hw.arch.layout import ceil_div
from hw.arch.program import Tensor

HEIGHTS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32)
"""Lines of a strip that are tried, beside the whole map."""
SLOTS = 2
"""Strips of each map on chip."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tensors:
    """What a pair reads, what lies between, and what it makes."""

    source: Tensor
    inner: Tensor
    target: Tensor


def plans(op: DepthwisePair, tensors: Tensors, config: AcceleratorConfig) -> Iterator[PairPlan]:
    """Every plan that fits, of the sizes worth trying."""
    axis = WindowStage(config, op.spatial, tensors.source, tensors.inner, True).axes[1]
    blocks = tensors.source.layout.blocks
    sizes = sorted({ceil_div(blocks, n) for n in range(1, blocks + 1)})
    for lines in sorted({h for h in HEIGHTS if h < axis.out} | {axis.out}):
        strips = tuple(strips_of(axis, axis.out, lines))
        window = WindowStage(config, op.spatial, tensors.source, tensors.inner, len(strips) > 1)
        temporal = TemporalStage(config, op.temporal, tensors.inner, tensors.target)
        for size in sizes:
            plan = _plan(window, temporal, tuple(cuts(blocks, size)), lines, strips)
            if plan is not None:
                yield plan


def best(
    op: DepthwisePair, tensors: Tensors, config: AcceleratorConfig, objective: str
) -> PairPlan | None:
    """The plan that costs least of those that instructions hold; None where none fits."""
    ranked = sorted(plans(op, tensors, config), key=lambda plan: plan.cost.merit(objective))
    return next((plan for plan in ranked if _holds(plan, tensors, config)), None)


def _holds(plan: PairPlan, tensors: Tensors, config: AcceleratorConfig) -> bool:
    return holds(lambda: PairEmission(Probe(config), plan, tensors).probe())


def _plan(
    window: WindowStage,
    temporal: TemporalStage,
    chunks: tuple[Range, ...],
    lines: int,
    strips: tuple[Strip, ...],
) -> PairPlan | None:
    """The plan of some sizes, or None where something does not fit."""
    config, memory, blocks = window.config, window.config.memory, chunks[0][1]
    frames, made = window.source.layout.frames, max(strip.outputs[1] for strip in strips)
    first = _window_size(window, frames, made, blocks)
    positions = window.axes[0].out * made
    second = temporal.size(positions, blocks)
    if first is None or second is None:
        return None
    if window.problem.window[1] > 1:
        kept = frames * blocks * window.problem.passes if window.keep else 1
        if window.line * kept > memory.line_pixels:
            return None
    frame = positions + window.garbage
    rows = (
        blocks * frames * window.source.layout.width * max(strip.inner[1] for strip in strips),
        blocks * frames * frame,
        blocks * (temporal.time.out + temporal.spare) * positions,
    )
    output, inner, source = (SLOTS * n for n in reversed(rows))
    regions = split_banks([output, inner, source], config)
    if regions is None:
        return None
    plan = PairPlan(
        window, temporal, chunks, lines, strips, first, second, regions[2], regions[1], regions[0]
    )
    slots = _constant_slots(plan, config)
    return None if slots is None else with_cost(dataclasses.replace(plan, slots=slots), config)


def _constant_slots(plan: PairPlan, config: AcceleratorConfig) -> int | None:
    """Chunks whose constants are on chip; None where two are too many.

    Positions of a strip are computed behind the frames of the next one: if that is another chunk's
    only one, constants of the chunk after it would be late, and LOAD brings its operand behind
    them.
    """
    room = config.weight_beats, config.parameter_rows * config.parameter_row_beats
    chunks, blocks = len(plan.chunks), plan.chunks[0][1]
    most = 2 if len(plan.strips) > 1 else 3
    for slots in sorted({min(chunks, n) for n in (2, most)}, reverse=True):
        needed = (slots * blocks * n for n in plan.beats_of_weights)
        if all(n <= beats for n, beats in zip(needed, room, strict=True)):
            return slots
    return None


def _window_size(
    window: WindowStage, frames: int, lines: int, blocks: int
) -> tuple[int, int] | None:
    """Frames and blocks of an instruction of the first stage."""
    rows = window.config.memory.accumulator_rows // (lines * window.width)
    if rows < 1:
        return None
    if frames > rows:
        return balanced(frames, rows), 1
    return frames, balanced(blocks, rows // frames)


class PairEmission:
    """Emits one pair by a plan.

    Parameters
    ----------
    emitter, plan, tensors: to where, how, what.
    """

    def __init__(self, emitter: Emitter, plan: PairPlan, tensors: Tensors):
        self.emitter, self.config, self.plan = emitter, emitter.config, plan
        self.source, self.target = Strided.of(tensors.source), Strided.of(tensors.target)
        self.items = list(itertools.product(plan.chunks, plan.strips))
        self.slots = plan.slots
        self.chunk = plan.chunks[0][1]
        weights, parameters = plan.beats_of_weights
        self.weights = emitter.weights.take(self.slots * self.chunk * weights)
        self.parameters = emitter.parameters.take(self.slots * self.chunk * parameters)
        self.banks = itertools.cycle((0, 1))

    def emit(self) -> None:
        """Emit the whole layer."""
        run(self.emitter, self._rings(), list(self._steps(range(len(self.items)))))

    def probe(self) -> None:
        """Emit what the first, the largest and the last strip need."""
        sizes = [strip.inner[1] + strip.outputs[1] for _, strip in self.items]
        largest = max(range(len(sizes)), key=sizes.__getitem__)
        rings = self._rings()
        for number in sorted({0, largest, len(sizes) - 1}):
            for step in (self._window(number), self._temporal(number)):
                for name, key in step.needs.items():
                    for instruction in rings[name].fill(key, 0):
                        self.emitter.emit(instruction)
                step.body(dict.fromkeys(rings, 0))

    def _rings(self) -> dict[str, Ring]:
        return {
            "input": Ring(SLOTS, self._fill),
            "constants": Ring(self.slots, self._fill_constants),
        }

    def _steps(self, numbers: Sequence[int]) -> Iterator[Step]:
        """The frames of a strip before the positions of the one before."""
        for number in numbers:
            yield self._window(number)
            if number:
                yield self._temporal(number - 1)
        yield self._temporal(numbers[-1])

    # Transfers

    def _fill(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, int)
        (block, blocks), strip = self.items[key]
        first, count = strip.inner
        box = Box((0, first, 0), (self.source.sizes[0], count, self.plan.frames), block, blocks)
        row = self.plan.input.slot(slot, SLOTS)
        parts = first_parts(blocks, box.rows) if key == 0 else 1
        return [
            load
            for begin, some in cuts(blocks, ceil_div(blocks, parts))
            for load in load_box(
                self.source,
                dataclasses.replace(box, block=block + begin, blocks=some),
                row + begin * box.positions,
            )
        ]

    def _fill_constants(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        """Weights of both stages in a transfer, and their parameters in one."""
        assert isinstance(key, int)
        plan, chunk = self.plan, self.plan.chunks[key]
        groups: list[tuple[WindowStage | TemporalStage, list[Range]]] = [
            (plan.window, [(chunk[0] + b, n) for b, n in cuts(chunk[1], plan.window_size[1])]),
            (plan.temporal, [(chunk[0] + b, n) for b, n in cuts(chunk[1], plan.temporal_size[1])]),
        ]
        loads: list[UnitInstruction] = []
        for space in (Space.WEIGHT, Space.PARAMETER):
            data = b"".join(
                (stage.weights if space == Space.WEIGHT else stage.parameters)(*each)
                for stage, ranges in groups
                for each in ranges
            )
            place = self._constants(slot, chunk[1])[0][space == Space.PARAMETER]
            loads.append(self.emitter.load_constant(data, space, place))
        return loads

    def _constants(self, slot: int, blocks: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """First beats of the weights and parameters of both stages, of some blocks in a slot."""
        problems = self.plan.window.problem, self.plan.temporal.problem
        weights, parameters = self.plan.beats_of_weights
        weight = self.weights + slot * self.chunk * weights
        parameter = self.parameters + slot * self.chunk * parameters
        first = weight, parameter
        second = (
            weight + blocks * problems[0].block_beats,
            parameter + blocks * problems[0].parameter_beats,
        )
        return first, second

    # Computation

    def _inner(self, number: int) -> Place:
        """Where the first stage's results of a strip lie; block 0 is the tensor's."""
        (block, _), strip = self.items[number]
        size = (self.plan.window.axes[0].out, strip.outputs[1], self.plan.frames)
        frame = size[0] * size[1] + self.plan.window.garbage
        pitches = 1, size[0], frame, frame * size[2]
        row = self.plan.inner.slot(number % SLOTS, SLOTS) - block * pitches[3]
        return Place(row, (0, strip.outputs[0], 0), size, pitches)

    def _result(self, number: int) -> Place:
        """Where the second stage's results of a strip lie."""
        (block, _), strip = self.items[number]
        temporal = self.plan.temporal
        size = (self.plan.window.axes[0].out, strip.outputs[1], temporal.time.out)
        frame = size[0] * size[1]
        pitches = 1, size[0], frame, frame * (size[2] + temporal.spare)
        row = self.plan.output.slot(number % SLOTS, SLOTS) - block * pitches[3]
        return Place(row, (0, strip.outputs[0], 0), size, pitches)

    def _emit(self, pair: Pair) -> None:
        arrays, drain = pair
        for array in arrays:
            self.emitter.emit(array)
        self.emitter.emit(drain)

    def _needs(self, number: int) -> dict[str, Hashable]:
        return {"constants": number // len(self.plan.strips)}

    def _window(self, number: int) -> Step:
        chunk, strip = self.items[number]
        window = self.plan.window
        loaded = strip.inner[1] > 0

        def body(slots: Slots) -> None:
            size = (self.source.sizes[0], max(strip.inner[1], 1), self.plan.frames)
            row = self.plan.input.slot(slots["input"], SLOTS) if loaded else self.plan.input.row
            place = dense(row, (0, strip.inner[0], 0), size)
            place = dataclasses.replace(place, row=row - chunk[0] * place.pitches[3])
            weight, parameter = self._constants(slots["constants"], chunk[1])[0]
            for lines in self.plan.window_lines(chunk):
                skipped = lines.blocks[0] - chunk[0]
                self._emit(
                    window.instructions(
                        strip,
                        lines,
                        place,
                        self._inner(number),
                        weight + skipped * window.problem.block_beats,
                        parameter + skipped * window.problem.parameter_beats,
                        next(self.banks),
                    )
                )

        needs = self._needs(number)
        return Step({"input": number, **needs} if loaded else needs, body)

    def _temporal(self, number: int) -> Step:
        chunk, strip = self.items[number]
        temporal = self.plan.temporal

        def body(slots: Slots) -> None:
            weight, parameter = self._constants(slots["constants"], chunk[1])[1]
            for positions, blocks in self.plan.parts(strip, chunk):
                skipped = blocks[0] - chunk[0]
                self._emit(
                    temporal.instructions(
                        positions,
                        blocks,
                        self._inner(number),
                        self._result(number),
                        weight + skipped * temporal.problem.block_beats,
                        parameter + skipped * temporal.problem.parameter_beats,
                        next(self.banks),
                    )
                )
            place = self._result(number)
            box = Box(place.first, place.size, *chunk)
            row = self.plan.output.slot(number % SLOTS, SLOTS)
            self.emitter.emit(store_box(self.target, box, row, place.pitches))

        return Step(self._needs(number), body)


def lower(emitter: Emitter, plan: PairPlan, tensors: Tensors) -> dict[str, Any]:
    """Emit a pair; returns the tiling for the report."""
    PairEmission(emitter, plan, tensors).emit()
    return plan.describe()
