"""What a fused chain is estimated to cost: the timing rules along the order of its strips."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import TypeAlias

from compiler.array.fields import Place
from compiler.fused.plan import FusedPlan
from compiler.fused.stages import GemmStage, Pair
from compiler.fused.strips import Strip
from compiler.tile.convolution_cost import LOAD_OVERHEAD, PORT_EFFICIENCY, STORE_OVERHEAD
from compiler.tile.hfa_cost import INSTRUCTION_OVERHEAD
from hw.arch import timing, transform_timing
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ArrayMode

TOKEN = 3
"""Cycles from `done` of an instruction to the issue of one that waits for it, roughly."""
Cycles: TypeAlias = tuple[int, int, int, int]
"""Of a pair: array, array before its stream where that is not hidden, drain; vectors streamed."""
NOWHERE = Place(0, (0, 0, 0), (1, 1, 1), (1, 1, 1, 1))


@dataclasses.dataclass(slots=True)
class Timeline:
    """Array and drain at work, instruction after instruction, two accumulator banks in turn.

    Attributes
    ----------
    array, drain: first cycles in which the units are free.
    busy: cycles in which the array streams.
    vectors: rows that it streams.
    """

    config: AcceleratorConfig
    array: int = 0
    drain: int = 0
    busy: int = 0
    vectors: int = 0
    _banks: list[int] = dataclasses.field(default_factory=lambda: [0, 0])
    _bank: int = 0

    def run(self, pair: Cycles, after: int) -> int:
        """One ARRAY and its DRAIN, the former not before `after`; returns when the latter is done.

        Parameters
        ----------
        pair: see `Cycles`.
        after: cycle in which the operand is there.
        """
        stream, fill, drained, vectors = pair
        self.vectors += vectors
        start = max(self.array, after + fill, self._banks[self._bank] + fill)
        self.array = start + stream
        self.busy += stream
        begin = max(self.drain, self.array + timing.array_latency(self.config)) + TOKEN
        self.drain = self._banks[self._bank] = begin + drained + TOKEN
        self._bank = 1 - self._bank
        return self.drain


def _cycles(pair: Pair, config: AcceleratorConfig) -> Cycles:
    array, drain = pair
    drained = timing.drain_duration(drain, config)
    outputs = timing.array_outputs(array)
    if array.mode == ArrayMode.HFA:
        sets = timing.array_sets(array)
        stream = sets * transform_timing.array_slot(array, config) + INSTRUCTION_OVERHEAD
        return stream, transform_timing.array_fill(array, config), drained, outputs * sets
    vectors = outputs * (timing.array_blocks(array) // array.counts[3])
    return timing.array_occupancy(array, config) + 2, 0, drained, vectors


def _temporal(plan: FusedPlan, strip: Strip, frames: int) -> Iterator[Pair]:
    stage = plan.temporal
    if stage is None or not strip.inner[1]:
        return
    box = ((0, plan.links.inner.layout.width), strip.inner, (0, frames))
    yield from _gemm(stage, box)


def _gemm(stage: GemmStage, box: tuple[tuple[int, int], ...]) -> Iterator[Pair]:
    banks = iter(lambda: 0, 1)
    for number in range(len(stage.groups)):
        yield from stage.instructions(box, NOWHERE, NOWHERE, number, 0, 0, banks)


def _window(plan: FusedPlan, strip: Strip, frames: int) -> Iterator[Pair]:
    for lines in plan.window.lines(frames, plan.split):
        yield plan.window.instructions(strip, lines, NOWHERE, NOWHERE, 0, 0, 0)


def _pointwise(plan: FusedPlan, strip: Strip, frames: int) -> Iterator[Pair]:
    if strip.pointwise is not None:
        box = ((0, plan.pointwise.kernel.axes[0].out), strip.pointwise, (0, frames))
        yield from _gemm(plan.pointwise, box)


Stage = Callable[[FusedPlan, Strip, int], Iterator[Pair]]


def _group(plan: FusedPlan, config: AcceleratorConfig, frames: int) -> Timeline:
    """One group of frames."""

    @functools.cache
    def shape(stage: Stage, key: tuple[int | bool, ...], number: int) -> list[Cycles]:
        return [_cycles(pair, config) for pair in stage(plan, plan.strips[number], frames)]

    def pairs(stage: Stage, number: int) -> list[Cycles]:
        strip = plan.strips[number]
        lines = 0 if strip.pointwise is None else strip.pointwise[1]
        key = (strip.inner[1], strip.stream[1], strip.outputs[1], strip.resume, lines)
        first = numbers.setdefault(key, number)
        return shape(stage, key, first)

    numbers: dict[tuple[int | bool, ...], int] = {}
    line = Timeline(config)
    inner = result = 0
    count = len(plan.strips)
    for pair in pairs(_temporal, 0):
        inner = line.run(pair, 0)
    for number in range(count):
        if plan.slots["result"] == 1 or number == 0:
            for pair in pairs(_window, number):
                result = line.run(pair, inner)
        following = result
        if number + 1 < count:
            for pair in pairs(_temporal, number + 1):
                inner = line.run(pair, 0)
            if plan.slots["result"] == 2:
                for pair in pairs(_window, number + 1):
                    following = line.run(pair, 0)
        for pair in pairs(_pointwise, number):
            line.run(pair, result)
        result = following
    return line


def with_cost(plan: FusedPlan, config: AcceleratorConfig) -> FusedPlan:
    """The plan with its estimates."""
    sizes: dict[int, int] = {}
    for _, frames in plan.frames:
        sizes[frames] = sizes.get(frames, 0) + 1
    groups = {frames: _group(plan, config, frames) for frames in sizes}
    array = sum(groups[f].array * often for f, often in sizes.items())
    busy = sum(groups[f].busy * often for f, often in sizes.items())
    vectors = sum(groups[f].vectors * often for f, often in sizes.items())
    items = len(plan.frames) * len(plan.strips)
    loads, weights, stores = _beats(plan)
    vector = _vector_cycles(plan, config)
    beats = loads + weights + stores
    port = int(beats / PORT_EFFICIENCY) + items * (LOAD_OVERHEAD + STORE_OVERHEAD) // 2
    first = loads // items + LOAD_OVERHEAD + vector // items
    last = stores // items + STORE_OVERHEAD
    joined = _join_cycles(plan, config)
    last += joined // items
    cycles = max(array, port, vector + joined)
    if plan.slots["input"] == 1:
        # Loads and what reads them take turns; where the vector unit reads, the array does not
        # wait for both.
        cycles = max(array if vector else array + loads, int(loads / PORT_EFFICIENCY) + vector)
    if vector and plan.slots["packed" if "packed" in plan.slots else "difference"] == 1:
        cycles += vector
    cycles += first + last
    parts = {"array": array, "streamed": busy, "vector": vector + joined, "port": port}
    parts["fill"] = first + last
    return dataclasses.replace(plan, cycles=cycles, parts=parts, beats=beats, vectors=vectors)


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
    weights = plan.window.blocks * plan.window.problem.block_beats
    if plan.temporal is not None:
        weights += plan.temporal.item_beats * len(plan.temporal.groups)
    stage = plan.pointwise
    passes = 1
    if plan.pointwise_slots < len(stage.groups):
        passes = len(plan.frames) * sum(s.pointwise is not None for s in plan.strips)
    weights += passes * stage.item_beats * len(stage.groups)
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
