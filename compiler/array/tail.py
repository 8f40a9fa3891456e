"""What the vector unit does with a convolution's results while the array goes on.

A `Tail` takes each tile before it is stored. What is `Trailing` is a layer of its own, whose
operand is what the convolution stores: its tiles are computed between the convolution's, each as
soon as all that it reads is stored, so that neither has to be cut as the other one is. A `Trailer`
is such a layer of VECTOR alone; attention pooling (compiler/array/trailing_pool.py) is another.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Protocol

from compiler.emit.combs import Comb
from compiler.emit.emitter import Emitter
from compiler.emit.schedule import Ring, Slots, Step
from compiler.emit.streams import Stream, Tile, stream_key
from compiler.emit.transfers import Box, Strided, load_box, store_box
from compiler.tile.problem import Trailed
from compiler.tile.regions import Region
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Elementwise, Fold, Load, Permute, Reduce, UnitInstruction
from hw.arch.layout import ceil_div
from hw.arch.timing import vector_duration

SLOTS = 2
"""Tiles of a trailer's operand, and of its result."""
LAST_TRAILED = 4
"""Tiles of a trailer that are left when the convolution's last tile is stored."""
TRANSFERS = 3
"""Instructions of a trailer's tile."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tail:
    """What the vector unit does with results before they are stored.

    Attributes
    ----------
    offset: DRAM bytes from the result to a tensor of equal layout, which it is joined with.
    instructions: for so many rows, told the first row of the results, of the other tensor's and of
        what comes of them.
    """

    offset: int
    instructions: Callable[[int, int, int, int], Sequence[UnitInstruction]]


class Banks:
    """The two banks of accumulators, in turns, whoever takes the next one."""

    def __init__(self) -> None:
        self._next = 0

    def take(self) -> int:
        """The next bank."""
        bank, self._next = self._next, 1 - self._next
        return bank


class Stores:
    """What a convolution stores, in order; asked which of it a load has to wait for.

    Parameters
    ----------
    target: where it stores. boxes: what each store takes. beat: bytes of a beat.
    """

    def __init__(self, target: Strided, boxes: Iterable[Box], beat: int):
        self._combs = [Comb.of(store_box(target, box, 0), beat) for box in boxes]
        self._beat = beat

    def last(self, loads: Iterable[Load]) -> int:
        """Number of the last store that loads need; -1 where they need none."""
        reads = [Comb.of(load, self._beat) for load in loads]
        found = (n for n, comb in enumerate(self._combs) if any(map(comb.meets, reads)))
        return max(found, default=-1)


class Weaver(Protocol):
    """Puts the steps of what trails between those of a convolution."""

    def woven(
        self,
        steps: Sequence[Step],
        target: Strided,
        stores: Sequence[tuple[int, Box]],
        lag: int,
        cycles: int,
    ) -> list[Step]:
        """The convolution's steps with the others.

        Parameters
        ----------
        steps: of the convolution.
        target: where it stores.
        stores: numbers of the steps that end with a store, and what that stores; in order.
        lag: stores that a tile is computed behind the last one that it needs, so that the units
            have other work meanwhile.
        cycles: that a step of the convolution takes the array, about.
        """

    @property
    def rings(self) -> Mapping[str, Ring]:
        """Of what the woven steps need beside the convolution's."""


class Trailing(Protocol):
    """A layer that reads what a convolution stores."""

    def sizes(self, config: AcceleratorConfig) -> Trailed:
        """What the tiling of the convolution has to know."""

    def key(self, config: AcceleratorConfig) -> Hashable:
        """All that its times depend on, what lies where included."""

    def shifted(self, moved: int) -> Trailing:
        """The same with its tensors so many bytes on."""

    @property
    def result(self) -> Strided:
        """What it stores."""

    def behind(self, emitter: Emitter, regions: Sequence[Region], banks: Banks) -> Weaver:
        """What puts it behind a convolution, in its regions (`Trailed.regions`)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Trailer:
    """A layer that reads what a convolution stores.

    Attributes
    ----------
    stream: its tiles, of one operand, without scratch and constants.
    """

    stream: Stream

    def sizes(self, config: AcceleratorConfig) -> Trailed:
        """What the tiling of the convolution has to know."""
        cycles = 0
        for tile in self.stream.tiles:
            for each in self.instructions(tile, 0, 0):
                assert isinstance(each, Elementwise | Reduce | Fold | Permute)
                cycles += vector_duration(each, config)
        operands = [tile.sources[0].rows for tile in self.stream.tiles]
        results = [tile.target.rows for tile in self.stream.tiles]
        tiles = len(operands)
        return Trailed(
            tiles=tiles,
            regions=(SLOTS * max(operands), SLOTS * max(results)),
            loads=sum(operands),
            stores=sum(results),
            instructions=TRANSFERS * tiles,
            vector=cycles,
            last=LAST_TRAILED * cycles // tiles,
        )

    def key(self, config: AcceleratorConfig) -> Hashable:
        """As of a stream, and where it reads and stores."""
        layer = self.stream
        return repr((layer.sources, layer.target, stream_key(layer, config)))

    def shifted(self, moved: int) -> Trailer:
        """The same with its tensors so many bytes on."""
        sources = [view.shifted(moved) for view in self.stream.sources]
        target = self.stream.target.shifted(moved)
        return Trailer(dataclasses.replace(self.stream, sources=sources, target=target))

    @property
    def result(self) -> Strided:
        """What it stores."""
        return self.stream.target

    def behind(self, emitter: Emitter, regions: Sequence[Region], banks: Banks) -> Behind:
        """With the places of its operand and its result."""
        operand, result = regions
        return Behind(emitter, self, operand, result)

    def instructions(self, tile: Tile, operand: int, result: int) -> list[UnitInstruction]:
        """What is done with a tile, told the first rows of its operand and result."""
        assert self.stream.compute is not None
        return [*self.stream.compute(tile, [operand], result)]


class Behind:
    """Puts a trailer's steps between those of a convolution.

    Parameters
    ----------
    emitter: takes its instructions.
    trailer: what is computed.
    operand, result: regions of `SLOTS` tiles.
    """

    def __init__(self, emitter: Emitter, trailer: Trailer, operand: Region, result: Region):
        self.emitter, self.trailer = emitter, trailer
        self.operand, self.result = operand, result
        self.tiles: list[Tile] = []
        self._first: dict[Hashable, int] = {}

    @property
    def rings(self) -> Mapping[str, Ring]:
        """Tiles of the operand; of what `woven` has put in order."""
        return {"trailed": Ring(SLOTS, self._fill, not_before=self._first)}

    def woven(
        self,
        steps: Sequence[Step],
        target: Strided,
        stores: Sequence[tuple[int, Box]],
        lag: int,
        cycles: int,
    ) -> list[Step]:
        """The convolution's steps with the trailer's (`Weaver.woven`)."""
        ends = [number for number, _ in stores]
        made = Stores(target, (box for _, box in stores), self.emitter.config.port.bytes)
        ready = [(made.last(self._loads(tile, 0)), tile) for tile in self.trailer.stream.tiles]
        ready.sort(key=lambda each: each[0])
        assert ready[0][0] >= 0, "it reads what the convolution stores"
        behind: dict[int, list[int]] = defaultdict(list)
        # Evenly: many tiles at once would keep the vector unit from what the array waits for.
        most, place = ceil_div(len(ready), len(ends)), 0
        for number, (needed_store, _) in enumerate(ready):
            place = max(place, needed_store + lag, number * len(ends) // len(ready))
            if place < len(ends) and len(behind[ends[place]]) == most:
                place += 1
            behind[ends[min(place, len(ends) - 1)]].append(number)
        self.tiles = [tile for _, tile in ready]
        result, places = list[Step](), list[int]()
        for number, step in enumerate(steps):
            places.append(len(result))
            result.append(step)
            result += [self._step(tile) for tile in behind[number]]
        for number, (needed_store, _) in enumerate(ready):
            self._first[number] = places[ends[needed_store]] + 1
        return result

    def _loads(self, tile: Tile, row: int) -> list[Load]:
        return load_box(self.trailer.stream.sources[0], tile.sources[0], row)

    def _fill(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, int)
        return [*self._loads(self.tiles[key], self.operand.slot(slot, SLOTS))]

    def _step(self, number: int) -> Step:
        def body(slots: Slots) -> None:
            tile, result = self.tiles[number], self.result.slot(number % SLOTS, SLOTS)
            operand = self.operand.slot(slots["trailed"], SLOTS)
            for instruction in self.trailer.instructions(tile, operand, result):
                self.emitter.emit(instruction)
            self.emitter.emit(store_box(self.trailer.stream.target, tile.target, result))

        return Step({"trailed": number}, body)
