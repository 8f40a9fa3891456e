"""Emission of attention pooling: scores on the array, softmax and weighted sums in VECTOR.

A tile, whole groups of positions, arrives piece by piece, a few blocks each. ARRAY adds up the
scores with the same weights in all its columns, so that every lane of a row has its position's
score, and after the softmax its share: DOT then multiplies rows lane by lane, and no share has to
be spread. DRAIN reads the sums twice, once through its pool, which leaves VECTOR few rows to find
the greatest scores in. While VECTOR adds up one tile, the next one arrives and is scored; each
slot has banks of its own, for ARRAY and VECTOR read at the same time.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np

from compiler.array.forms import gathered_weights
from compiler.array.tail import Banks
from compiler.emit.emitter import Emitter
from compiler.emit.schedule import Ring, Slots, Step, run
from compiler.emit.softmax import Counts, Passes
from compiler.emit.transfers import Box, Strided, load_box, store_box
from compiler.ops import AttentionPool
from compiler.tile.attention_pool import PoolTiling
from compiler.tile.geometry import cuts, product
from hw.arch.fold_numerics import Dot
from hw.arch.isa import (
    Array,
    ArrayMode,
    Drain,
    Fold,
    FoldOp,
    Load,
    Space,
    UnitInstruction,
    deltas,
)
from hw.arch.numerics import pack_parameters
from hw.arch.program import Tensor


class PoolEmission:
    """Emits one operator with one tiling.

    Parameters
    ----------
    emitter, op, tiling: to where, what, how.
    source, target: its operand and its result.
    dot: how sums become codes.
    banks: of accumulators.
    """

    def __init__(
        self,
        emitter: Emitter,
        op: AttentionPool,
        tiling: PoolTiling,
        source: Tensor,
        target: Tensor,
        dot: Dot,
        banks: Banks | None = None,
    ):
        self.emitter, self.config = emitter, emitter.config
        self.op, self.tiling, self.dot = op, tiling, dot
        self.source, self.target = source, target
        self.blocks = source.layout.blocks
        self.count = op.group
        self.total = source.layout.positions // self.count
        self.tiles = cuts(self.total, tiling.groups)
        self.pieces = cuts(self.blocks, tiling.piece)
        # Groups are consecutive positions: the map is one line of them.
        self.line = Strided.of(source).merged(2)
        self.weights = emitter.weights.take(self.blocks * self.config.weight_block_beats)
        beats = self.config.requantize_steps * self.config.parameter_row_beats
        self.parameters = emitter.parameters.take(beats)
        self.score, self.share = op.score_type, op.weight_type
        self.banks, self._bank = banks or Banks(), 0

    def begin(self) -> None:
        """Bring the softmax's table."""
        exponentials = self.op.softmax.constants.exponentials
        table = self.emitter.table(np.asarray(exponentials, "<u4").tobytes())
        self.passes = Passes(
            self.op.softmax, self.score.signed, table, self.count, self.share.zero_point
        )

    def rings(self, not_before: Mapping[Hashable, int]) -> dict[str, Ring]:
        """Of the scores' weights and of the operand; `not_before` as in `Ring`, of its pieces."""
        return {
            "scoring": Ring(1, self._fill_weights),
            "scored": Ring(len(self.tiling.places), self._fill, not_before=not_before),
        }

    def emit(self) -> None:
        """Emit the whole layer."""
        self.begin()
        run(self.emitter, self.rings({}), self._steps())
        self.store()

    def store(self) -> None:
        """Store all means."""
        first = self._sums(0, 0)
        whole = Box((0, 0, 0), (self.total, 1, 1), 0, self.blocks)
        self.emitter.emit(store_box(Strided.of(self.target).merged(2), whole, first))

    def _steps(self) -> list[Step]:
        """Scores of a tile come before the sums of the one before."""
        steps = []
        for tile in range(len(self.tiles)):
            steps += self.scored(tile)
            if tile > 0:
                steps += self.summed(tile - 1)
        return steps + self.summed(len(self.tiles) - 1)

    # Transfers

    def loads(self, tile: int, piece: int, row: int) -> list[Load]:
        """What brings a piece of a tile."""
        (first, groups), (block, blocks) = self.tiles[tile], self.pieces[piece]
        box = Box((first * self.count, 0, 0), (groups * self.count, 1, 1), block, blocks)
        return load_box(self.line, box, row)

    def _fill(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, tuple)
        tile, piece = key
        return [*self.loads(tile, piece, self.tiling.places[slot])]

    def _fill_weights(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        """The scores' weights in every column, and their requantization."""
        scores, cols = self.op.scores, self.config.array.cols
        lanes = gathered_weights(scores, self.source.layout).reshape(-1, 1)
        one = [int(values[0]) for values in (scores.bias, scores.multiplier, scores.shift)]
        parameters = pack_parameters(*([value] * cols for value in one))
        data = np.repeat(lanes, cols, axis=1).astype(np.int8).tobytes()
        return [
            self.emitter.load_constant(parameters, Space.PARAMETER, self.parameters),
            self.emitter.load_constant(data, Space.WEIGHT, self.weights),
        ]

    # Scores

    def scored(self, tile: int) -> list[Step]:
        """Steps that make a tile's scores."""
        steps = []
        for piece in range(len(self.pieces)):

            def body(slots: Slots, piece: int = piece) -> None:
                self._array(tile, piece, slots["scored"])
                if piece == len(self.pieces) - 1:
                    self._drain(tile)

            steps.append(Step({"scoring": 0, "scored": (tile, piece)}, body))
        return steps

    def _array(self, tile: int, piece: int, slot: int) -> None:
        if piece == 0:
            self._bank = self.banks.take()
        first, blocks = self.pieces[piece]
        rows = self.tiles[tile][1] * self.count
        counts = (rows, 1, 1, 1, 1, 1, 1, blocks)
        self.emitter.emit(
            Array(
                mode=ArrayMode.GEMM,
                accumulate=int(piece > 0),
                signed=int(self.source.signed),
                zero_point=self.source.zero_point & 0xFF,
                activation=self.tiling.places[slot],
                weight=self.weights + first * self.config.weight_block_beats,
                accumulator=self._bank * self.config.memory.accumulator_rows,
                counts=counts,
                deltas=deltas(counts, (1, 0, 0, 0, 0, 0, 0, rows)),
                bounds=(rows, 1, 1),
            )
        )

    def _scores(self, tile: int) -> tuple[int, int]:
        """First row of a tile's scores, and of the maxima that DRAIN finds."""
        rows = self.tiling.groups * self.count
        maxima = rows // product(self.tiling.window)
        base = self.tiling.scores.row + tile % 2 * rows
        return base, self.tiling.scores.row + 2 * rows + tile % 2 * maxima

    def _drain(self, tile: int) -> None:
        """All scores, then the maxima of windows of positions."""
        rows = self.tiles[tile][1] * self.count
        x, y, t = self.tiling.window
        scores, maxima = self._scores(tile)
        for window, count, row in (
            ((1, 1, 1), rows, scores),
            ((x, y, t), rows // (x * y * t), maxima),
        ):
            counts = (count, 1, 1, 1)
            walk = (1, window[0], window[0] * window[1], product(window), 0, 0, 0)
            # Where a row of sums has several rows of lanes, all of them are the same.
            self.emitter.emit(
                Drain(
                    accumulator=self._bank * self.config.memory.accumulator_rows,
                    counts=counts,
                    window=window,
                    accumulator_deltas=deltas((*window, *counts), walk),
                    destination=row,
                    destination_deltas=deltas(
                        (self.config.array.blocks_per_row, *counts), (0, 1, 0, 0, 0)
                    ),
                    parameter=self.parameters,
                    zero_point=self.score.zero_point,
                    low=self.op.scores.low,
                    high=self.op.scores.high,
                )
            )

    # Sums

    def summed(self, tile: int) -> list[Step]:
        """Steps that make a tile's shares and means."""

        def weigh(slots: Slots) -> None:
            for instruction in self._softmax(tile):
                self.emitter.emit(instruction)

        steps = [Step({}, weigh)]
        for piece in range(len(self.pieces)):

            def body(slots: Slots, piece: int = piece) -> None:
                self.emitter.emit(self._dot(tile, piece, slots["scored"]))

            steps.append(Step({"scored": (tile, piece)}, body))
        return steps

    def _shares(self) -> int:
        """First row of the weights, behind the greatest scores."""
        return self.tiling.shares.row + self.tiling.groups

    def _sums(self, block: int, group: int) -> int:
        """Row of a mean."""
        first = self._shares() + self.tiling.groups * self.count
        return first + block * self.total + group

    def _softmax(self, tile: int) -> list[Fold]:
        """Lane 0 is what is counted; every lane gets its share."""
        groups, n = self.tiles[tile][1], self.count
        scores, maxima = self._scores(tile)
        few = n // product(self.tiling.window)
        greatest, shares = self.tiling.shares.row, self._shares()
        counts: Counts = (1, n, groups, 1)
        pitches: Counts = (0, 1, n, 0)
        return [
            self.passes.maximum((1, few, groups, 1), maxima, (0, 1, few, 0), 0, greatest),
            self.passes.collect(counts, scores, pitches, 1, greatest),
            self.passes.apply(counts, scores, pitches, 0, greatest, shares),
        ]

    def _dot(self, tile: int, piece: int, slot: int) -> Fold:
        (group, groups), (block, blocks) = self.tiles[tile], self.pieces[piece]
        counts = (self.count, 1, groups, blocks)
        rows = groups * self.count
        return Fold(
            op=FoldOp.DOT,
            signed=(int(self.source.signed), int(self.share.signed)),
            counts=counts,
            source0=self.tiling.places[slot],
            source0_deltas=deltas(counts, (1, 0, self.count, rows)),
            source1=self._shares(),
            source1_deltas=deltas(counts, (1, 0, self.count, 0)),
            destination=self._sums(block, group),
            destination_deltas=deltas((1, 1, groups, blocks), (0, 0, 1, self.total)),
            zero_points=(self.dot.za, self.dot.zb),
            multiplier=self.dot.scale.multiplier,
            shift=self.dot.scale.shift,
            zero_point=self.dot.zero_point,
            low=self.op.product.low,
            high=self.op.product.high,
        )
