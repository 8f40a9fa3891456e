"""What a fused chain is estimated to cost: the timing rules along the order of its strips."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from compiler.array.energy import dense_picojoules, moved_picojoules, window_picojoules
from compiler.array.fields import Place
from compiler.fused.order import Work, turns
from compiler.fused.plan import FusedPlan
from compiler.fused.stages import Pair
from compiler.fused.strips import Strip
from compiler.tile.convolution_cost import LOAD_OVERHEAD, STORE_OVERHEAD
from compiler.tile.hfa_cost import INSTRUCTION_OVERHEAD
from hw.arch import timing, transform_timing
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode

TOKEN = 3
"""Cycles from `done` of an instruction to the issue of one that waits for it, roughly."""
Stream: TypeAlias = tuple[int, int, int]
"""Of an ARRAY: cycles, cycles before its stream where those are not hidden, vectors streamed."""
Cycles: TypeAlias = tuple[tuple[Stream, ...], int]
"""Of what is summed up in the same accumulators, and of its DRAIN."""
NOWHERE = Place(0, (0, 0, 0), (1, 1, 1), (1, 1, 1, 1))


@dataclasses.dataclass(slots=True)
class Timeline:
    """Array and drain at work, instruction after instruction, two accumulator banks in turn.

    Attributes
    ----------
    array, drain: first cycles in which the units are free.
    busy: cycles in which the array streams.
    vectors: rows that it multiplies by blocks of weights, by stage.
    pairs: ARRAYs that add to the same accumulators, and their DRAIN, by stage.
    """

    config: AcceleratorConfig
    array: int = 0
    drain: int = 0
    busy: int = 0
    vectors: Counter[str] = dataclasses.field(default_factory=Counter)
    pairs: Counter[str] = dataclasses.field(default_factory=Counter)
    _banks: list[int] = dataclasses.field(default_factory=lambda: [0, 0])
    _bank: int = 0

    def run(self, stage: str, pair: Cycles, after: Sequence[int]) -> int:
        """ARRAYs of a stage and their DRAIN; returns when the latter is done.

        Parameters
        ----------
        stage: its name.
        pair: see `Cycles`.
        after: cycles in which the operands of the ARRAYs are there.
        """
        streams, drained = pair
        for (stream, fill, vectors), there in zip(streams, after, strict=True):
            start = max(self.array, there + fill, self._banks[self._bank] + fill)
            self.vectors[stage] += vectors
            self.array = start + stream
            self.busy += stream
        self.pairs[stage] += 1
        begin = max(self.drain, self.array + timing.array_latency(self.config)) + TOKEN
        self.drain = self._banks[self._bank] = begin + drained + TOKEN
        self._bank = 1 - self._bank
        return self.drain


def _cycles(pair: Pair, config: AcceleratorConfig) -> Cycles:
    arrays, drain = pair
    return tuple(_stream(a, config) for a in arrays), timing.drain_duration(drain, config)


def _stream(array: Array, config: AcceleratorConfig) -> Stream:
    outputs = timing.array_outputs(array)
    if array.mode == ArrayMode.HFA:
        sets = timing.array_sets(array)
        stream = sets * transform_timing.array_slot(array, config) + INSTRUCTION_OVERHEAD
        return stream, transform_timing.array_fill(array, config), outputs * sets
    # Of tiles, what counts as products is told by the stage (`WindowStage.work`).
    vectors = outputs * (timing.array_blocks(array) // array.counts[3])
    return timing.array_occupancy(array, config) + 2, 0, vectors


def _instructions(plan: FusedPlan, work: Work, strip: Strip, frames: int) -> Iterator[Pair]:
    """What the array does for some work, wherever operands and results lie."""
    banks = itertools.repeat(0)
    match work.stage:
        case "temporal":
            assert plan.temporal is not None
            box = ((0, plan.links.inner.layout.width), strip.inner, (0, frames))
            yield from plan.temporal.instructions(box, NOWHERE, NOWHERE, work.part, 0, 0, banks)
        case "window":
            lines = plan.window.lines(frames, plan.split)[work.part]
            yield plan.window.instructions(strip, lines, NOWHERE, NOWHERE, 0, 0, 0)
        case _:
            assert strip.pointwise is not None
            box = ((0, plan.pointwise.kernel.axes[0].out), strip.pointwise, (0, frames))
            yield from plan.pointwise.instructions(
                box, NOWHERE, NOWHERE, work.part, 0, 0, banks, plan.pieces
            )


def _group(plan: FusedPlan, config: AcceleratorConfig, frames: int) -> Timeline:
    """One group of frames."""
    shapes: dict[tuple[str, int, int, int, bool], list[Cycles]] = {}
    strips = plan.strips
    lines = plan.window.lines(frames, plan.split)

    def cycles(work: Work) -> list[Cycles]:
        strip = strips[work.item]
        taken = 0 if strip.pointwise is None else strip.pointwise[1]
        sizes = {"temporal": strip.inner[1], "window": strip.stream[1], "pointwise": taken}
        key = work.stage, work.part, sizes[work.stage], strip.outputs[1], strip.resume
        if key not in shapes:
            pairs = _instructions(plan, work, strip, frames)
            shapes[key] = [_cycles(pair, config) for pair in pairs]
        return shapes[key]

    line = Timeline(config)
    # When the blocks of the two inner maps are there.
    inner = [0] * plan.links.inner.layout.blocks
    result = [[0] * plan.window.blocks for _ in strips]
    for _, works in turns(plan, [((0, frames), strip) for strip in strips]):
        for work in works:
            match work.stage:
                case "temporal":
                    assert plan.temporal is not None
                    for pair in cycles(work):
                        done = line.run(work.stage, pair, [0])
                    begin = plan.temporal.made(work.part - 1) if work.part else 0
                    made = plan.temporal.made(work.part)
                    inner[begin:made] = [done] * len(inner[begin:made])
                case "window":
                    first, count = lines[work.part].blocks
                    operand = max(inner[first : first + count])
                    for pair in cycles(work):
                        done = line.run(work.stage, pair, [operand])
                    result[work.item][first : first + count] = [done] * count
                case _:
                    there = [max(result[work.item][b : b + n]) for b, n in plan.pieces]
                    for pair in cycles(work):
                        line.run(work.stage, pair, there)
    return line


def with_cost(plan: FusedPlan, config: AcceleratorConfig) -> FusedPlan:
    """The plan with its estimates."""
    sizes: dict[int, int] = {}
    for _, frames in plan.frames:
        sizes[frames] = sizes.get(frames, 0) + 1
    groups = {frames: _group(plan, config, frames) for frames in sizes}
    array = sum(groups[f].array * often for f, often in sizes.items())
    busy = sum(groups[f].busy * often for f, often in sizes.items())
    items = len(plan.frames) * len(plan.strips)
    loads, weights, stores = _beats(plan)
    vector = _vector_cycles(plan, config)
    beats = loads + weights + stores
    port = int(config.port.cycles(beats)) + items * (LOAD_OVERHEAD + STORE_OVERHEAD) // 2
    first = loads // items + LOAD_OVERHEAD + vector // items
    last = stores // items + STORE_OVERHEAD
    joined = _join_cycles(plan, config)
    last += joined // items
    cycles = max(array, port, vector + joined)
    if plan.slots["input"] == 1:
        # Loads and what reads them take turns; where the vector unit reads, the array does not
        # wait for both.
        cycles = max(array if vector else array + loads, int(config.port.cycles(loads)) + vector)
    if vector and plan.slots["packed" if "packed" in plan.slots else "difference"] == 1:
        cycles += vector
    cycles += first + last
    parts = {"array": array, "streamed": busy, "vector": vector + joined, "port": port}
    parts["fill"] = first + last
    made = [(groups[frames], often) for frames, often in sizes.items()]
    vectors, energy = _array_work(plan, made, config)
    energy += moved_picojoules(beats, cycles, config)
    return dataclasses.replace(
        plan, cycles=cycles, parts=parts, beats=beats, vectors=vectors, energy_pj=energy
    )


def _array_work(
    plan: FusedPlan, groups: Sequence[tuple[Timeline, int]], config: AcceleratorConfig
) -> tuple[int, float]:
    """Products of all stages in units of rows × cols, and the energy of the array.

    Parameters
    ----------
    groups: timeline of a group of frames, and how many there are of its like.
    """
    total, energy = 0, 0.0
    for frames in plan.frames:
        work = plan.window.work(plan.strips, frames, plan.split)
        total += work.multiplications // config.array.multipliers
        energy += window_picojoules(plan.window.problem, work)
    for name, stage in (("temporal", plan.temporal), ("pointwise", plan.pointwise)):
        if stage is None:
            continue
        vectors = sum(line.vectors[name] * often for line, often in groups)
        passes = sum(line.pairs[name] * often for line, often in groups) / len(stage.groups)
        total += vectors
        energy += dense_picojoules(stage.job, config, vectors, stage.group, passes)
    return total, energy


def _beats(plan: FusedPlan) -> tuple[int, int, int]:
    """Beats of activations loaded, of weights, and of what is stored."""
    layout = plan.links.source.layout
    frames = 0
    for cut in plan.frames:
        (_, count), mean = plan.source_frames(cut)
        frames += count + mean
    lines = sum(strip.inner[1] for strip in plan.strips)
    loads = layout.blocks * layout.width * lines * frames
    stores = plan.links.target.layout.rows
    if plan.links.tail is not None:
        loads += stores
    for box in plan.mean_tiles:
        loads += box.rows
        stores += box.rows // layout.frames
    strips = len(plan.frames) * sum(strip.pointwise is not None for strip in plan.strips)
    weights = 0
    for name, (beats, parameters) in plan.items.items():
        parts = plan.groups[name]
        again = 1 if plan.held[name] == parts else strips
        weights += again * parts * (beats + parameters)
    return loads, weights, stores


def _join_cycles(plan: FusedPlan, config: AcceleratorConfig) -> int:
    """Cycles of the vector unit in the tail."""
    if plan.links.tail is None:
        return 0
    strips = len(plan.frames) * sum(strip.pointwise is not None for strip in plan.strips)
    rows = plan.links.target.layout.rows
    return rows * config.vector_steps + strips * (timing.VECTOR_START + timing.VECTOR_LATENCY)


def _vector_cycles(plan: FusedPlan, config: AcceleratorConfig) -> int:
    """Cycles of the vector unit: mean frames, differences, packing."""
    layout, stage = plan.links.inner.layout, plan.temporal
    pixels = layout.width * sum(strip.inner[1] for strip in plan.strips)
    rows = instructions = 0
    for box in plan.mean_tiles:
        rows += box.rows
        instructions += 1
    for cut in plan.frames:
        if plan.links.residual is not None:
            (_, count), mean = plan.source_frames(cut)
            rows += plan.links.source.layout.blocks * pixels * (count + mean)
            instructions += (1 + mean) * len(plan.strips)
        if stage is not None and stage.job.packing is not None:
            blocks = stage.job.problem.blocks
            rows += blocks * pixels * cut[1] * stage.job.packing.taps
            instructions += blocks * len(plan.strips)
    return rows * config.vector_steps + instructions * (timing.VECTOR_START + timing.VECTOR_LATENCY)
