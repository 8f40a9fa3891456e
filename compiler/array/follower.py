"""A pointwise convolution of what VECTOR makes, computed before that has left the chip.

The tiles of a stream have all blocks of some positions. Behind each one's last instruction of
VECTOR the array multiplies it by weights that stay on chip, and both results are stored: nothing
of the stream's is loaded again, and VECTOR and array work at the same time. A result of the stream
is read by the array and by STORE; each of its slots has banks of its own, so that they wait for
one another and not for the next tile.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable, Iterator, Sequence

from compiler.array.fields import Place, array_instruction, drain_instruction, weight_bytes
from compiler.array.job import Job
from compiler.emit.emitter import Emitter
from compiler.emit.schedule import Ring, Slots, Step, run
from compiler.emit.streams import Stream, Tile, largest_boxes, operand_ring, stream_key
from compiler.emit.transfers import Box, Strided, load_box, store_box
from compiler.emit.trial import (
    AGAIN,
    BESIDE,
    SOURCE,
    TARGET,
    Asked,
    Trial,
    Whole,
    alone_cycles,
    placed,
)
from compiler.tile.geometry import Range, Triple, cuts
from compiler.tile.parts import DIRECT, Part
from compiler.tile.regions import Region, last_banks
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Space, UnitInstruction

DEPTH = 2
"""Tiles of each operand on chip."""
SLOTS = (3, 2)
"""Tiles of the stream's result on chip: one is made, one is multiplied, one is stored."""


@dataclasses.dataclass(frozen=True, slots=True)
class Follower:
    """What is computed of a stream's result.

    Attributes
    ----------
    job: the convolution; its axes are merged to one.
    blocks: of the stream's result that it reads, in its order.
    kept: blocks of the stream's result that are stored, ascending.
    view: its result, axes as they are.
    """

    job: Job
    blocks: tuple[int, ...]
    kept: tuple[int, ...]
    view: Strided

    @property
    def runs(self) -> list[tuple[Range, int]]:
        """Consecutive blocks: first and count in its order, and the first one's number."""
        return _runs(self.blocks)

    @property
    def stores(self) -> list[Range]:
        """Consecutive blocks that are stored: number of the first, and how many."""
        return [(block, count) for (_, count), block in _runs(self.kept)]


def _runs(blocks: Sequence[int]) -> list[tuple[Range, int]]:
    """Consecutive numbers: place and count of each run, and its first number."""
    found: list[tuple[Range, int]] = []
    for number, block in enumerate(blocks):
        if found and block == found[-1][1] + found[-1][0][1]:
            (first, count), place = found[-1]
            found[-1] = (first, count + 1), place
        else:
            found.append(((number, 1), block))
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class Places:
    """Where everything lies.

    Attributes
    ----------
    results: of the stream, a slot each.
    made: of the convolution, two slots.
    beside: of the stream's scratch.
    operands: of the stream.
    group: output blocks that the array computes together.
    """

    results: tuple[Region, ...]
    made: Region
    beside: Sequence[Region]
    operands: Sequence[Region]
    group: int


def places_of(layer: Stream, follower: Follower, config: AcceleratorConfig) -> Places | None:
    """Where a stream and its follower fit, or None where they do not."""
    problem = follower.job.problem
    operands, result = largest_boxes(layer)
    positions = max(tile.target.positions for tile in layer.tiles)
    blocks = problem.groups * problem.reduced
    if blocks * config.weight_block_beats > config.weight_beats:
        return None
    if problem.groups * config.array.cols > config.memory.parameter_columns:
        return None
    group = min(problem.groups, config.memory.accumulator_rows // positions)
    if group < 1 or layer.constant or layer.pieces > 1:
        return None
    made = 2 * problem.groups * config.array.blocks_per_row * positions
    sizes = [DEPTH * rows for rows in operands]
    # A few rows go behind the scratch, where no other unit writes but to bring them.
    least = min(range(len(sizes)), key=sizes.__getitem__)
    guests = (None, least) if sizes[least] <= _room(layer, config) else (None,)
    own = layer.beside
    for slots, guest in itertools.product(SLOTS, guests):
        hosts = [rows for n, rows in enumerate(sizes) if n != guest]
        regions = last_banks([made, *[result] * slots, *own, *hosts], config)
        if regions is None:
            continue
        results = tuple(regions[1 : slots + 1])
        beside = regions[slots + 1 : slots + 1 + len(own)]
        others = iter(regions[slots + 1 + len(own) :])
        sources = [
            Region(beside[0].row + layer.scratch, rows) if n == guest else next(others)
            for n, rows in enumerate(sizes)
        ]
        return Places(results, regions[0], beside, sources, group)
    return None


def _room(layer: Stream, config: AcceleratorConfig) -> int:
    """Rows behind the stream's scratch in its last bank."""
    return -layer.scratch % config.memory.activation_bank_rows if layer.scratch else 0


def trial_cycles(
    layer: Stream, follower: Follower, places: Places, config: AcceleratorConfig
) -> int:
    """Cycles of both alone; neither values nor the place of tensors in DRAM change them."""
    sources = [placed(view, SOURCE + n * BESIDE) for n, view in enumerate(layer.sources)]
    layer = dataclasses.replace(layer, sources=sources, target=placed(layer.target, TARGET))
    follower = dataclasses.replace(follower, view=placed(follower.view, AGAIN))
    lies = sources, layer.target, follower.view, places
    reads = follower.job.problem, follower.blocks, follower.kept
    key = "followed", stream_key(layer, config), repr((lies, reads))

    def emission(emitter: Trial, again: bool) -> Whole:
        return Whole(FollowedEmission(emitter, layer, follower, places).emit)

    return alone_cycles(Asked(key, emission), config)


def moved_beats(layer: Stream, follower: Follower, config: AcceleratorConfig) -> float:
    """What crosses the port: operands, blocks that are stored, both results and the weights."""
    problem, width = follower.job.problem, config.port.bytes
    positions = sum(tile.target.positions for tile in layer.tiles)
    left_out = layer.tiles[0].target.blocks - len(follower.kept)
    moved = layer.moved_bytes + (problem.out_blocks - left_out) * positions * layer.target.lanes
    return moved / width + problem.groups * problem.reduced * config.weight_block_beats


class FollowedEmission:
    """Emits a stream and its follower.

    Parameters
    ----------
    emitter, layer, follower, places: to where, what, what of it, how.
    """

    def __init__(self, emitter: Emitter, layer: Stream, follower: Follower, places: Places):
        self.emitter, self.config = emitter, emitter.config
        self.layer, self.follower, self.places = layer, follower, places
        self.problem, self.kernel = follower.job.problem, follower.job.kernel
        self.chunks = cuts(self.problem.groups, places.group)
        beats = self.problem.groups * self.problem.reduced * self.config.weight_block_beats
        self.weights = emitter.weights.take(beats)
        self.parameter_beats = self.config.requantize_steps * self.config.parameter_row_beats
        self.parameters = emitter.parameters.take(self.problem.groups * self.parameter_beats)
        self._bank = 0

    def emit(self) -> None:
        """Emit both."""
        order = sorted(
            range(len(self.layer.sources)),
            key=lambda i: self.emitter.stored(self.layer.sources[i].address),
        )
        rings = {str(i): operand_ring(self.layer, i, self.places.operands[i], DEPTH) for i in order}
        rings["weights"] = Ring(len(self.chunks), self._fill_weights)
        steps = [
            step
            for number, tile in enumerate(self.layer.tiles)
            for step in self._tile(number, tile, order)
        ]
        run(self.emitter, rings, steps)

    def probe(self) -> None:
        """Emit what the first, the last and the largest tile need."""
        tiles = self.layer.tiles
        largest = max(range(len(tiles)), key=lambda n: tiles[n].target.rows)
        slots = {str(i): 0 for i in range(len(self.layer.sources))}
        for chunk in range(len(self.chunks)):
            for instruction in self._fill_weights(chunk, chunk):
                self.emitter.emit(instruction)
        for number in sorted({0, largest, len(tiles) - 1}):
            for view, box in zip(self.layer.sources, tiles[number].sources, strict=True):
                for load in load_box(view, box, 0):
                    self.emitter.emit(load)
            for step in self._tile(number, tiles[number], list(range(len(slots)))):
                step.body(slots)

    def _tile(self, number: int, tile: Tile, order: Sequence[int]) -> Iterator[Step]:
        result = self.places.results[number % len(self.places.results)].row

        def made(slots: Slots) -> None:
            assert self.layer.compute is not None
            rows = [
                self.layer.operand_row(i, region, slots[str(i)], DEPTH)
                for i, region in enumerate(self.places.operands)
            ]
            beside = [region.row for region in self.places.beside]
            for instruction in self.layer.compute(tile, [*rows, *beside], result):
                self.emitter.emit(instruction)

        yield Step({str(i): tile.sources[i] for i in order}, made)
        for chunk in range(len(self.chunks)):

            def followed(slots: Slots, chunk: int = chunk) -> None:
                self._follow(number, tile.target, result, chunk)

            yield Step({"weights": chunk}, followed)

    def _weights(self, chunk: int) -> int:
        """First beat of the weights of some output blocks."""
        return self.weights + (
            self.chunks[chunk][0] * self.problem.reduced * self.config.weight_block_beats
        )

    def _fill_weights(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, int)
        job, (first, count) = self.follower.job, self.chunks[key]
        data = b"".join(
            weight_bytes(
                job.weights[first : first + count, begin : begin + blocks], DIRECT, self.config
            )
            for (begin, blocks), _ in self.follower.runs
        )
        loads = [self.emitter.load_constant(data, Space.WEIGHT, self._weights(key))]
        if key == 0:
            parameters = b"".join(job.parameters)
            loads.append(self.emitter.load_constant(parameters, Space.PARAMETER, self.parameters))
        return [*loads]

    def _follow(self, number: int, box: Box, result: int, chunk: int) -> None:
        """Some output blocks of a tile.

        The operand's STORE comes behind the array, which reads it.
        """
        n = box.positions
        size: Triple = (n, 1, 1)
        part, pitches = Part((0, 0, 0), size), (1, n, n, n)
        made = self.places.made.slot(number % 2, 2)
        weight, (first, count) = self._weights(chunk), self.chunks[chunk]
        for (begin, blocks), place in self.follower.runs:
            self.emitter.emit(
                array_instruction(
                    self.config,
                    self.kernel,
                    part,
                    Place(result + place * n, (0, 0, 0), size, pitches),
                    groups=count,
                    blocks=blocks,
                    weight=weight,
                    bank=self._bank,
                    accumulate=begin > 0,
                )
            )
            weight += count * blocks * self.config.weight_block_beats
        self.emitter.emit(
            drain_instruction(
                self.config,
                self.kernel,
                part,
                Place(
                    made + first * self.config.array.blocks_per_row * n, (0, 0, 0), size, pitches
                ),
                groups=count,
                bank=self._bank,
                parameter=self.parameters + first * self.parameter_beats,
            )
        )
        self._bank = 1 - self._bank
        if chunk == len(self.chunks) - 1:
            for block, blocks in self.follower.stores:
                some = dataclasses.replace(box, block=block, blocks=blocks)
                self.emitter.emit(store_box(self.layer.target, some, result + block * n))
            whole = dataclasses.replace(box, block=0, blocks=self.problem.out_blocks)
            self.emitter.emit(store_box(self.follower.view, whole, made))
