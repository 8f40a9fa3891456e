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
from compiler.fused.choice import Cost
from compiler.fused.operand import dense
from compiler.fused.stages import Pair
from compiler.fused.strips import Strip, strips_of
from compiler.fused.temporal import TemporalStage
from compiler.fused.window import Lines, WindowStage
from compiler.ir import DepthwisePair
from compiler.tile.convolution_cost import (
    ARRAY_OVERHEAD,
    DRAIN_OVERHEAD,
    LOAD_OVERHEAD,
    PORT_EFFICIENCY,
    STORE_OVERHEAD,
)
from compiler.tile.geometry import Range, balanced, cuts
from compiler.tile.regions import Region, split_banks
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


@dataclasses.dataclass(frozen=True, slots=True)
class PairPlan:
    """A choice of sizes, and what it is estimated to cost.

    Attributes
    ----------
    window, temporal: the stages.
    chunks: blocks that pass together.
    lines: of a strip; strips: of every chunk.
    window_size: frames and blocks of an instruction of the first stage.
    temporal_size: positions and blocks of one of the second.
    input, inner, output: regions of two strips each.
    cycles, beats, vectors: estimates, as in `Cost`.
    """

    window: WindowStage
    temporal: TemporalStage
    chunks: tuple[Range, ...]
    lines: int
    strips: tuple[Strip, ...]
    window_size: tuple[int, int]
    temporal_size: tuple[int, int]
    input: Region
    inner: Region
    output: Region
    cycles: int = 0
    beats: int = 0
    vectors: int = 0

    @property
    def cost(self) -> Cost:
        """Its estimates."""
        return Cost(self.cycles, self.beats, self.vectors)

    @property
    def beats_of_weights(self) -> tuple[int, int]:
        """Beats of the weights and of the parameters of a chunk's block."""
        weights = self.window.problem.block_beats + self.temporal.problem.block_beats
        return weights, 2 * self.window.problem.parameter_beats

    def window_lines(self, chunk: Range) -> list[Lines]:
        """Instructions of the first stage in a strip of some blocks."""
        return self.window.lines(self.frames, self.window_size, chunk)

    @property
    def frames(self) -> int:
        """Of what is loaded."""
        return self.window.source.layout.frames

    def parts(self, strip: Strip, chunk: Range) -> list[tuple[Range, Range]]:
        """Positions and blocks of each instruction of the second stage."""
        positions = strip.outputs[1] * self.window.axes[0].out
        size = min(self.temporal_size[0], positions)
        blocks = [(chunk[0] + first, n) for first, n in cuts(chunk[1], self.temporal_size[1])]
        return [(part, some) for some in blocks for part in cuts(positions, size)]

    def describe(self) -> dict[str, Any]:
        """For the report."""
        return {
            "blocks": self.chunks[0][1],
            "lines": self.lines,
            "frames_and_blocks": list(self.window_size),
            "positions_and_blocks": list(self.temporal_size),
            "estimate": self.cycles,
        }


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
    weights, parameters = (min(len(chunks), 2) * blocks * n for n in plan.beats_of_weights)
    if weights > config.weight_beats:
        return None
    if parameters > config.parameter_rows * config.parameter_row_beats:
        return None
    return _with_cost(plan, config)


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


def _with_cost(plan: PairPlan, config: AcceleratorConfig) -> PairPlan:
    """The plan with its estimates: of the busiest unit, and of the first and last strip's way."""
    window, temporal = plan.window, plan.temporal
    array = drain = loads = stores = vectors = 0
    width, layout = window.axes[0].out, window.source.layout
    for chunk in plan.chunks:
        for strip in plan.strips:
            many, (_, made) = plan.window_lines(chunk), strip.outputs
            streamed = plan.frames * window.line * strip.stream[1] * window.problem.passes
            parts = plan.parts(strip, chunk)
            positions = made * width
            streamed += temporal.line * positions * temporal.problem.passes
            vectors += streamed * chunk[1]
            array += streamed * chunk[1] + (len(many) + len(parts)) * ARRAY_OVERHEAD
            results = (plan.frames + temporal.time.out) * positions * chunk[1]
            drain += results * config.requantize_steps + (len(many) + len(parts)) * DRAIN_OVERHEAD
            loads += plan.frames * layout.width * strip.inner[1] * chunk[1]
            stores += temporal.time.out * positions * chunk[1]
    items = len(plan.chunks) * len(plan.strips)
    weights = sum(plan.beats_of_weights) * layout.blocks
    port = (loads + stores + weights) / PORT_EFFICIENCY
    port += items * (LOAD_OVERHEAD + STORE_OVERHEAD)
    fill = (loads + array + drain + stores) // items + LOAD_OVERHEAD + STORE_OVERHEAD
    cycles = int(max(array, drain, port)) + fill
    return dataclasses.replace(plan, cycles=cycles, beats=loads + stores + weights, vectors=vectors)


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
        self.slots = min(len(plan.chunks), 2)
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
        """Weights of both stages, then their parameters."""
        assert isinstance(key, int)
        plan, chunk = self.plan, self.plan.chunks[key]
        groups: list[tuple[WindowStage | TemporalStage, list[Range]]] = [
            (plan.window, [(chunk[0] + b, n) for b, n in cuts(chunk[1], plan.window_size[1])]),
            (plan.temporal, [(chunk[0] + b, n) for b, n in cuts(chunk[1], plan.temporal_size[1])]),
        ]
        loads: list[UnitInstruction] = []
        for space in (Space.WEIGHT, Space.PARAMETER):
            for number, (stage, ranges) in enumerate(groups):
                make = stage.weights if space == Space.WEIGHT else stage.parameters
                data = b"".join(make(*each) for each in ranges)
                place = self._constants(slot)[number][space == Space.PARAMETER]
                loads.append(self.emitter.load_constant(data, space, place))
        return loads

    def _constants(self, slot: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """First beats of the weights and parameters of both stages in a slot."""
        problems = self.plan.window.problem, self.plan.temporal.problem
        weights, parameters = self.plan.beats_of_weights
        weight = self.weights + slot * self.chunk * weights
        parameter = self.parameters + slot * self.chunk * parameters
        first = weight, parameter
        second = (
            weight + self.chunk * problems[0].block_beats,
            parameter + self.chunk * problems[0].parameter_beats,
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
            weight, parameter = self._constants(slots["constants"])[0]
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
            weight, parameter = self._constants(slots["constants"])[1]
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
