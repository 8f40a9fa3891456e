"""Sizes of a depthwise pair (compiler/fused/pair.py), and what they are estimated to cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from compiler.array.energy import moved_picojoules, window_picojoules
from compiler.fused.estimate import Cost
from compiler.fused.strips import Strip
from compiler.fused.temporal import TemporalStage
from compiler.fused.window import Lines, WindowStage
from compiler.tile.convolution_cost import LOAD_OVERHEAD, STORE_OVERHEAD
from compiler.tile.geometry import Range, cuts
from compiler.tile.regions import Region
from hw.arch.config import AcceleratorConfig
from hw.arch.timing import (
    DRAIN_LATENCY,
    DRAIN_START,
    TOKEN_LATENCY,
    array_latency,
    array_start,
)


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
    slots: chunks whose constants are on chip.
    cycles, beats, vectors, energy_pj: estimates, as in `Cost`.
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
    slots: int = 1
    cycles: int = 0
    beats: int = 0
    vectors: int = 0
    energy_pj: float = 0.0

    @property
    def cost(self) -> Cost:
        """Its estimates."""
        return Cost(self.cycles, self.beats, self.vectors, self.energy_pj)

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


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """An ARRAY and its DRAIN.

    Attributes
    ----------
    array, drain: cycles and rows of their streams.
    strip: whose map between they make, or read if they are `temporal`.
    """

    array: int
    drain: int
    strip: int
    temporal: bool


def _parts(plan: PairPlan) -> Iterator[_Part]:
    """In the order of emission: the frames of a strip before the positions of the one before."""
    before: list[_Part] = []
    number = 0
    for chunk in plan.chunks:
        for strip in plan.strips:
            yield from _frames(plan, chunk, strip, number)
            yield from before
            before = list(_positions(plan, chunk, strip, number))
            number += 1
    yield from before


def _frames(plan: PairPlan, chunk: Range, strip: Strip, number: int) -> Iterator[_Part]:
    window = plan.window
    streamed = window.line * strip.stream[1] * window.problem.passes
    made = window.axes[0].out * strip.outputs[1]
    for lines in plan.window_lines(chunk):
        maps = lines.frames[1] * lines.blocks[1]
        yield _Part(streamed * maps, made * maps, number, False)


def _positions(plan: PairPlan, chunk: Range, strip: Strip, number: int) -> Iterator[_Part]:
    temporal = plan.temporal
    streamed = temporal.line * temporal.problem.passes
    for (_, positions), (_, blocks) in plan.parts(strip, chunk):
        lines = positions * blocks
        yield _Part(streamed * lines, temporal.time.out * lines, number, True)


def _paced(plan: PairPlan, config: AcceleratorConfig, loads: Sequence[int], rate: float) -> int:
    """Cycles from the first strip's load to the last one's last drain.

    An ARRAY needs a bank of accumulators that the last DRAIN but one has left; the first stage's
    what LOAD has brought, which takes the place of the last strip but one; the second stage's what
    the first one's drains have written.

    Parameters
    ----------
    loads: beats of each strip; rate: cycles of the port for each.
    """
    array = drain = bank = load = 0
    loaded: dict[int, float] = {}
    read = dict.fromkeys((-2, -1), 0)
    mapped: dict[int, int] = {}
    for part in _parts(plan):
        strip, begin = part.strip, max(array, bank + TOKEN_LATENCY)
        if part.temporal:
            begin = max(begin, mapped[strip] + TOKEN_LATENCY)
        else:
            if strip not in loaded:
                load = int(max(load, read[strip - 2]) + loads[strip] * rate) + LOAD_OVERHEAD
                loaded[strip] = load
            begin = max(begin, load + TOKEN_LATENCY)
        array = begin + array_start(config) + part.array - 1
        done = array + array_latency(config) + TOKEN_LATENCY
        bank = drain
        steps = part.drain * config.requantize_steps
        drain = max(done, drain + 1) + DRAIN_START + steps + DRAIN_LATENCY
        if not part.temporal:
            mapped[strip], read[strip] = drain, done
    return drain


def with_cost(plan: PairPlan, config: AcceleratorConfig) -> PairPlan:
    """The plan with its estimates: of array and drain, or of the port; first and last transfers."""
    layout, time = plan.window.source.layout, plan.temporal.time
    parts = list(_parts(plan))
    items = [(chunk[1], strip) for chunk in plan.chunks for strip in plan.strips]
    loads = [plan.frames * layout.width * strip.inner[1] * n for n, strip in items]
    width = plan.window.axes[0].out
    stores = [time.out * strip.outputs[1] * width * n for n, strip in items]
    weights = sum(plan.beats_of_weights) * layout.blocks
    beats = sum(loads) + sum(stores) + weights
    port = config.port.cycles(beats) + len(items) * (LOAD_OVERHEAD + STORE_OVERHEAD)
    array, drain = sum(part.array for part in parts), sum(part.drain for part in parts)
    # Loads have the port to themselves but for the stores.
    paced = _paced(plan, config, loads, config.port.cycles(beats) / sum(loads))
    first = (sum(loads) + array + drain) // len(items) + LOAD_OVERHEAD
    last = sum(stores) // len(items) + STORE_OVERHEAD
    cycles = max(paced, int(port) + first) + last
    return dataclasses.replace(
        plan,
        cycles=cycles,
        beats=beats,
        vectors=array,
        energy_pj=_array_picojoules(plan) + moved_picojoules(beats, cycles, config),
    )


def _array_picojoules(plan: PairPlan) -> float:
    """Energy of both stages on the array."""
    window, temporal = plan.window, plan.temporal
    first = window.work(plan.strips, (0, plan.frames), plan.window_size)
    lines = sum(strip.outputs[1] for strip in plan.strips)
    second = temporal.work(window.axes[0].out * lines, len(plan.strips))
    return window_picojoules(window.problem, first) + window_picojoules(temporal.problem, second)
