"""Attention pooling behind the convolution that makes the last of its operand.

Each tile of groups is scored as soon as the convolution has stored what it reads, between two of
the convolution's own tiles, and added up by VECTOR while the array goes on with the next ones. The
port brings the operand while the array is the slower one. Only what the last tile takes is left
when the convolution ends.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

from compiler.array.attention_pool import PoolEmission
from compiler.array.tail import Banks, Stores
from compiler.emit.emitter import Emitter, Probe
from compiler.emit.schedule import Ring, Step
from compiler.emit.transfers import Box, Strided, at
from compiler.ops import AttentionPool
from compiler.tile.attention_pool import PoolTiling
from compiler.tile.geometry import product
from compiler.tile.problem import Trailed
from compiler.tile.regions import Region
from compiler.tile.sums import ARRAY_OVERHEAD, DRAIN_OVERHEAD, FOLD_OVERHEAD, LOAD_OVERHEAD
from hw.arch.config import AcceleratorConfig
from hw.arch.fold_numerics import Dot
from hw.arch.layout import ceil_div
from hw.arch.program import Tensor

SOFTMAX_FOLDS = 3
"""Instructions of VECTOR for a tile beside those of its pieces."""


@dataclasses.dataclass(frozen=True, slots=True)
class TrailingPool:
    """An attention pooling that trails a convolution.

    Attributes
    ----------
    op, tiling: what, how.
    source, target: its operand and its result.
    dot: how sums become codes.
    """

    op: AttentionPool
    tiling: PoolTiling
    source: Tensor
    target: Tensor
    dot: Dot

    def sizes(self, config: AcceleratorConfig) -> Trailed:
        """What the tiling of the convolution has to know."""
        tiling, layout = self.tiling, self.source.layout
        rows, blocks = layout.positions, layout.blocks
        total = rows // self.op.group
        tiles, pieces = ceil_div(total, tiling.groups), ceil_div(blocks, tiling.piece)
        maxima = rows // product(tiling.window)
        array = blocks * rows + tiles * pieces * ARRAY_OVERHEAD
        # Scores are drained twice.
        drain = 2 * (rows * config.requantize_steps + tiles * DRAIN_OVERHEAD)
        vector = (maxima + 2 * rows + blocks * rows) * config.vector_steps
        vector += tiles * (SOFTMAX_FOLDS + pieces) * FOLD_OVERHEAD
        weights = blocks * config.weight_block_beats
        piece = tiling.piece * tiling.groups * self.op.group
        return Trailed(
            tiles=tiles,
            regions=(
                tiling.places[-1] + piece,
                tiling.scores.rows,
                tiling.shares.rows,
            ),
            weights=weights,
            loads=blocks * rows + weights,
            stores=blocks * total,
            instructions=tiles * (3 * pieces + SOFTMAX_FOLDS + 2),
            array=array,
            drain=drain,
            vector=vector,
            last=LOAD_OVERHEAD + piece + (drain + vector) // tiles,
        )

    def key(self, config: AcceleratorConfig) -> Hashable:
        """Tiling and tensors."""
        lie = [(t.layout, t.address, t.places) for t in (self.source, self.target)]
        return repr((self.tiling, self.op.group, lie))

    def shifted(self, moved: int) -> TrailingPool:
        """The same with its tensors so many bytes on."""
        source, target = (at(t, t.address + moved) for t in (self.source, self.target))
        return dataclasses.replace(self, source=source, target=target)

    @property
    def result(self) -> Strided:
        """What it stores."""
        return Strided.of(self.target)

    def behind(self, emitter: Emitter, regions: Sequence[Region], banks: Banks) -> PoolBehind:
        """With the places of operand, scores and shares."""
        operand, scores, shares = regions
        tiling = dataclasses.replace(
            self.tiling,
            places=tuple(operand.row + row for row in self.tiling.places),
            scores=scores,
            shares=shares,
        )
        emission = PoolEmission(emitter, self.op, tiling, self.source, self.target, self.dot, banks)
        return PoolBehind(emission)

    def probe(self, config: AcceleratorConfig, regions: Sequence[Region]) -> None:
        """Encode all kinds of its instructions."""
        emission = self.behind(Probe(config), regions, Banks()).emission
        emission.begin()
        slots = {"scoring": 0, "scored": 0}
        for tile in {0, len(emission.tiles) - 1}:
            for piece in range(len(emission.pieces)):
                for load in emission.loads(tile, piece, 0):
                    emission.emitter.emit(load)
            for step in (*emission.scored(tile), *emission.summed(tile)):
                step.body(slots)
        emission.store()


class PoolBehind:
    """Puts the pooling's steps between those of a convolution."""

    def __init__(self, emission: PoolEmission):
        self.emission = emission
        self._first: dict[Hashable, int] = {}

    @property
    def rings(self) -> Mapping[str, Ring]:
        """Of the scores' weights and of the operand."""
        return self.emission.rings(self._first)

    def woven(
        self,
        steps: Sequence[Step],
        target: Strided,
        stores: Sequence[tuple[int, Box]],
        lag: int,
        cycles: int,
    ) -> list[Step]:
        """The convolution's steps with the pooling's (`compiler.array.tail.Weaver`).

        A tile's scores are one run of steps, which need a bank of accumulators. Its sums come
        where VECTOR will be about as far: what takes their place on chip is loaded behind them,
        and behind that what the convolution reads.
        """
        self.emission.begin()
        ends = [number for number, _ in stores]
        needed = self._needed(target, stores)
        behind: dict[int, list[int]] = defaultdict(list)
        for tile in range(len(self.emission.tiles)):
            last = max(store for (t, _), store in needed.items() if t == tile)
            behind[ends[max(0, min(last + lag, len(ends) - 1))]].append(tile)
        order, places = _Order(self.emission), list[int]()
        for number, step in enumerate(steps):
            places.append(len(order.steps))
            order.add(step, cycles)
            for tile in behind[number]:
                order.pool(tile)
        for key, store in needed.items():
            if store >= 0:
                self._first[key] = places[ends[store]] + 1
        order.finish()
        return order.steps

    def _needed(
        self, target: Strided, stores: Sequence[tuple[int, Box]]
    ) -> dict[tuple[int, int], int]:
        """By tile and piece: the last store that it needs, −1 where it lies there before."""
        made = Stores(target, (box for _, box in stores), self.emission.config.port.bytes)
        tiles, pieces = len(self.emission.tiles), len(self.emission.pieces)
        return {
            (tile, piece): made.last(self.emission.loads(tile, piece, 0))
            for tile in range(tiles)
            for piece in range(pieces)
        }


class _Order:
    """Steps of array and VECTOR in about the order in which they will begin."""

    def __init__(self, emission: PoolEmission):
        self.emission = emission
        self.steps: list[Step] = []
        self._clock = self._vector = 0
        self._waiting: list[tuple[int, Step]] = []
        self._summed = 0

    def add(self, step: Step, cycles: int) -> None:
        """Let the array go on; the steps of VECTOR that begin meanwhile follow."""
        self.steps.append(step)
        self._clock += cycles
        while self._waiting and self._waiting[0][0] <= self._clock:
            self._sum()

    def pool(self, tile: int) -> None:
        """Score a tile, and plan its sums."""
        emission = self.emission
        pieces, places = len(emission.pieces), len(emission.tiling.places)
        rows = emission.tiles[tile][1] * emission.count
        for number, step in enumerate(emission.scored(tile)):
            # What lay in its place has to have been added up.
            while self._summed <= tile * pieces + number - places:
                self._sum()
            self.add(step, rows * emission.pieces[number][1])
        # Shares take the place of those of the tile before.
        while self._waiting:
            self._sum()
        weigh, *sums = emission.summed(tile)
        drained = 2 * rows * emission.config.requantize_steps
        self._vector = max(self._vector, self._clock + drained)
        self.steps.append(weigh)
        self._vector += 2 * rows * emission.config.vector_steps
        for (_, blocks), step in zip(emission.pieces, sums, strict=True):
            self._waiting.append((self._vector, step))
            self._vector += rows * blocks * emission.config.vector_steps

    def finish(self) -> None:
        """Add up what is left, and store."""
        while self._waiting:
            self._sum()
        self.steps.append(Step({}, lambda slots: self.emission.store()))

    def _sum(self) -> None:
        _, step = self._waiting.pop(0)
        self.steps.append(step)
        self._summed += 1
