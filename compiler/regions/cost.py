"""What a region's plan is estimated to cost: the timing rules along the order of its strips."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

from compiler.array.energy import moved_picojoules
from compiler.array.fields import Place
from compiler.cost import Cost
from compiler.regions.order import Turn, turns
from compiler.regions.plan import Item, Plan
from compiler.regions.stage import Pair, Part, Where
from compiler.tile.sums import LOAD_OVERHEAD, STORE_OVERHEAD, TRANSFORMED_OVERHEAD
from hw.arch import timing, transform_timing
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode

TOKEN = timing.TOKEN_LATENCY
FOLLOWED, UNFOLLOWED = (0, TOKEN, 1), (2, 3, 5)
"""Cycles beside those of instructions: of an ARRAY, between an ARRAY and its DRAIN, between DRAINs.
Where loads are not followed, they are more: for what else is waited for."""
Stream: TypeAlias = tuple[int, int, int]
"""Of an ARRAY: cycles, cycles before its stream where those are not hidden, vectors streamed."""
Cycles: TypeAlias = tuple[tuple[Stream, ...], int]
"""Of what is summed up in the same accumulators, and of its DRAIN."""
ORIGIN = Place(0, (0, 0, 0), (1, 1, 1), (1, 1, 1, 1))
NOWHERE = Where(ORIGIN, ORIGIN)


@dataclasses.dataclass(frozen=True, slots=True)
class Traffic:
    """Beats of activations loaded, of constants, and of what is stored."""

    loads: int
    constants: int
    stores: int

    @property
    def beats(self) -> int:
        """All of them."""
        return self.loads + self.constants + self.stores


@dataclasses.dataclass(slots=True)
class Timeline:
    """Array and drain at work, instruction after instruction, two accumulator banks in turn.

    Attributes
    ----------
    waits: `FOLLOWED` or `UNFOLLOWED`.
    array, drain: first cycles in which the units are free.
    streamed: cycles in which the array streams, by stage.
    vectors: rows that it multiplies by blocks of weights, by stage.
    pairs: ARRAYs that add to the same accumulators, and their DRAIN, by stage.
    """

    config: AcceleratorConfig
    waits: tuple[int, int, int]
    array: int = 0
    drain: int = 0
    streamed: Counter[int] = dataclasses.field(default_factory=Counter)
    vectors: Counter[int] = dataclasses.field(default_factory=Counter)
    pairs: Counter[int] = dataclasses.field(default_factory=Counter)
    _banks: list[int] = dataclasses.field(default_factory=lambda: [0, 0])
    _bank: int = 0
    _drained: int = 0

    @property
    def work(self) -> int:
        """Cycles in which both stream, without what each pair waits for its first result."""
        fixed = timing.array_start(self.config) + timing.DRAIN_START + timing.DRAIN_LATENCY - 2
        return self.streamed.total() + self._drained - fixed * self.pairs.total()

    def run(self, stage: int, pair: Cycles, after: Sequence[int]) -> int:
        """ARRAYs of a stage and their DRAIN; returns when what it made can be read.

        Parameters
        ----------
        stage: its number.
        pair: see `Cycles`.
        after: cycles in which the operands of the ARRAYs are there.
        """
        streams, drained = pair
        for (stream, fill, vectors), there in zip(streams, after, strict=True):
            start = max(self.array, max(there, self._banks[self._bank]) + fill)
            self.vectors[stage] += vectors
            self.array = start + stream + self.waits[0]
            self.streamed[stage] += stream + self.waits[0]
        self.pairs[stage] += 1
        self._drained += drained
        _, made, drain = self.waits
        latency = timing.array_latency(self.config)
        begin = max(self.drain + drain, self.array + latency + made)
        self.drain = begin + drained + 1
        self._banks[self._bank] = self.drain + TOKEN
        self._bank = 1 - self._bank
        return self.drain + TOKEN


def _cycles(pair: Pair, config: AcceleratorConfig) -> Cycles:
    arrays, drain = pair
    return tuple(_stream(a, config) for a in arrays), timing.drain_duration(drain, config)


def _stream(array: Array, config: AcceleratorConfig) -> Stream:
    outputs = timing.array_outputs(array)
    if array.mode == ArrayMode.HFA:
        sets = timing.array_sets(array)
        stream = sets * transform_timing.array_slot(array, config) + TRANSFORMED_OVERHEAD
        return stream, transform_timing.array_fill(array, config), outputs * sets
    # Of tiles, what counts as products is told by the stage (`ArrayStage.work`).
    vectors = outputs * (timing.array_blocks(array) // array.counts[3])
    return timing.array_occupancy(array, config), 0, vectors


class _Follower:
    """Follows the order of some items.

    Parameters
    ----------
    plan: of the region.
    items: of one group of frames.
    rate: cycles of the port for a beat of an operand that the array reads as it is loaded; None
        where loads are not followed.
    """

    def __init__(
        self, plan: Plan, config: AcceleratorConfig, items: Sequence[Item], rate: float | None
    ):
        self.plan, self.config, self.items, self.rate = plan, config, items, rate
        self.line = Timeline(config, UNFOLLOWED if rate is None else FOLLOWED)
        self._shapes: dict[tuple[object, ...], list[Cycles]] = {}
        # When the blocks of what each stage reads are there, by item.
        self._there: dict[tuple[int, int], list[int]] = {}
        self._loaded: dict[int, int] = {}
        self._read: dict[int, int] = {}

    def follow(self) -> Timeline:
        """All of it."""
        for _, works in turns(self.plan, self.items):
            for turn in works:
                for part in turn.parts:
                    self._part(turn, part)
                if turn.stage == 0:
                    self._read[turn.item] = (
                        self.line.array + timing.array_latency(self.config) + TOKEN
                    )
        return self.line

    def _part(self, turn: Turn, part: Part) -> None:
        stage, place = self.plan.array[turn.stage], turn.stage + len(self.plan.prepared)
        if turn.stage:
            # Where a strip only pads, nothing has been made for it.
            nothing = [0] * stage.source.layout.blocks
            there = self._there.get((turn.stage, turn.item), nothing)
            pieces = stage.pieces or (part.reads,)
            after = [max(there[first : first + count]) for first, count in pieces]
        else:
            after = [self._arrival(turn.item)] * max(len(stage.pieces), 1)
        for pair in self._cycles(turn, part, place):
            done = self.line.run(turn.stage, pair, after)
        if turn.stage < len(self.plan.array) - 1:
            reader = turn.item
            while self.items[reader].strips[place + 1] is None:
                reader += 1
            made = self._there.setdefault((turn.stage + 1, reader), [0] * stage.blocks)
            first, count = part.makes
            made[first : first + count] = [done] * count

    def _arrival(self, number: int) -> int:
        """When the operand of an item is there, which takes the place of an older one's."""
        if self.rate is None:
            return 0
        if number not in self._loaded:
            item, layout = self.items[number], self.plan.links.source.layout
            strip = item.strips[0]
            assert strip is not None
            blocks = layout.blocks if item.blocks is None else item.blocks[1]
            beats = layout.width * strip.operand[1] * item.frames[0][1] * blocks
            begin = max(
                self._loaded.get(number - 1, 0), self._read.get(number - self.plan.slots[0], 0)
            )
            self._loaded[number] = int(begin + beats * self.rate) + LOAD_OVERHEAD
        return self._loaded[number] + TOKEN

    def _cycles(self, turn: Turn, part: Part, place: int) -> list[Cycles]:
        item = self.items[turn.item]
        strip = item.strips[place]
        assert strip is not None
        lines = strip.operand[1], strip.result[1], strip.stream[1], strip.resume
        key = (turn.stage, part.units[1], part.span[1], *lines)
        if key not in self._shapes:
            banks, stage = itertools.repeat(0), self.plan.array[turn.stage]
            pairs = stage.instructions(item.task(place), part, NOWHERE, banks)
            self._shapes[key] = [_cycles(pair, self.config) for pair in pairs]
        return self._shapes[key]


def with_cost(plan: Plan, config: AcceleratorConfig) -> Plan:
    """The plan with its estimates."""
    traffic = _traffic(plan)
    followed = _followed(plan, config, traffic)
    total, parts = cycles(plan, config, traffic, followed)
    vectors, energy = 0, moved_picojoules(traffic.beats, total, config)
    for items, often, line in followed:
        for number, stage in enumerate(plan.array):
            place = number + len(plan.prepared)
            tasks = [item.task(place) for item in items if item.strips[place] is not None]
            products, picojoules = stage.work(tasks, line.vectors[number], line.pairs[number])
            vectors += products * often
            energy += picojoules * often
    streamed = tuple(
        sum(line.streamed[number] * often for _, often, line in followed)
        for number in range(len(plan.array))
    )
    cost = Cost(total, traffic.beats, vectors, energy)
    return dataclasses.replace(plan, cost=cost, parts=parts, streamed=streamed)


def _followed(
    plan: Plan, config: AcceleratorConfig, traffic: Traffic
) -> list[tuple[list[Item], int, Timeline]]:
    """Groups of frames: one of each kind, how many there are of it, and array and drain."""
    rate = config.port.cycles(traffic.beats) / traffic.loads if plan.by_block else None
    found = []
    for frames, often in Counter(each[-1][1] for each in plan.frames).items():
        items = list(plan.steps([next(e for e in plan.frames if e[-1][1] == frames)]))
        found.append((items, often, _Follower(plan, config, items, rate).follow()))
    return found


def cycles(
    plan: Plan,
    config: AcceleratorConfig,
    traffic: Traffic,
    followed: Sequence[tuple[Sequence[Item], int, Timeline]],
) -> tuple[int, dict[str, int]]:
    """Estimate of a plan, and what it is made of."""
    items = len(plan.frames) * len(plan.chunks) * len(plan.strips)
    vector, joined = _vector_cycles(plan, config), _join_cycles(plan, config)
    transfers = items * (LOAD_OVERHEAD + STORE_OVERHEAD)
    port = int(config.port.cycles(traffic.beats)) + transfers // 2
    first = traffic.loads // items + LOAD_OVERHEAD + vector // items
    last = traffic.stores // items + STORE_OVERHEAD + joined // items
    array = sum(line.array * often for _, often, line in followed)
    if plan.by_block:
        # Array and drain from the first load on; the port, then what is left of the last strip.
        port += transfers // 2
        work = sum(line.work * often for _, often, line in followed)
        first = (traffic.loads + work) // items + LOAD_OVERHEAD
        array = sum(line.drain * often for _, often, line in followed) - first
    total = max(array, port, vector + joined)
    if plan.slots[0] == 1:
        # Loads and what reads them take turns; where the vector unit reads, the array does not
        # wait for both.
        loads = traffic.loads
        total = max(array if vector else array + loads, int(config.port.cycles(loads)) + vector)
    if vector and plan.slots[len(plan.prepared)] == 1:
        total += vector
    parts = {"array": array, "vector": vector + joined, "port": port}
    parts["fill"] = first + last
    return total + first + last, parts


def _traffic(plan: Plan) -> Traffic:
    """What crosses the port."""
    layout, target = plan.links.source.layout, plan.links.target.layout
    frames = sum(each[0][1] for each in plan.frames)
    lines = sum(step[0].operand[1] for step in plan.strips if step[0] is not None)
    loads = layout.blocks * layout.width * lines * frames
    stores = target.rows
    if plan.links.tail is not None:
        loads += stores
    for box in plan.mean_tiles:
        loads += box.rows
        stores += box.rows // layout.frames
    strips = len(plan.frames) * sum(step[-1] is not None for step in plan.strips)
    constants = 0
    for number, stage in enumerate(plan.array):
        units = [n for chunk in plan.chunks for _, n in stage.groups(chunk)]
        again = 1 if plan.by_block or plan.held[number] == len(units) else strips
        # A slot of what comes by groups is as large as the largest one.
        whole = sum(units) if plan.by_block else len(units) * stage.group
        constants += again * whole * sum(stage.unit_beats)
    return Traffic(loads, constants, stores)


def _join_cycles(plan: Plan, config: AcceleratorConfig) -> int:
    """Cycles of the vector unit in the tail."""
    if plan.links.tail is None:
        return 0
    strips = len(plan.frames) * sum(step[-1] is not None for step in plan.strips)
    rows = plan.links.target.layout.rows
    return rows * config.vector_steps + strips * (timing.VECTOR_START + timing.VECTOR_LATENCY)


def _vector_cycles(plan: Plan, config: AcceleratorConfig) -> int:
    """Cycles of the vector unit: mean frames, and what its stages read."""
    rows, instructions = sum(box.rows for box in plan.mean_tiles), len(plan.mean_tiles)
    for number, stage in enumerate(plan.prepared):
        for item in plan.steps(plan.frames):
            read, count = stage.reads(item.task(number))
            rows += read
            instructions += count
    return rows * config.vector_steps + instructions * (timing.VECTOR_START + timing.VECTOR_LATENCY)
