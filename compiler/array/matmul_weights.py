"""Weights of a product of two activations: loaded as they lie, or made by VECTOR.

A tile's weight blocks lie [group of columns][block of k][matrix], so that one ARRAY takes all
matrices as output blocks (`co`) and all blocks of k as input blocks. An operand whose positions are
k is loaded so from DRAM; of one whose lanes are k, PERMUTE TRANSPOSE makes the blocks from rows in
the scratchpad. What lies beyond k or the columns is written as the weights' zero point: it then
adds nothing, whatever the lanes of the vectors hold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from compiler.array.matrices import Form, runs
from compiler.array.whole import Place
from compiler.emit.emitter import Emitter
from compiler.emit.transfers import nest
from compiler.tile.geometry import Range, cuts
from compiler.tile.matmul import Product, ProductTiling
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Load, Permute, PermuteOp, Space, UnitInstruction, deltas
from hw.arch.layout import ceil_div
from hw.arch.program import Tensor


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """The parts that a tiling cuts a product into, by dimension.

    Attributes
    ----------
    batch, rows, blocks, groups: first and count of every part: of matrices, of vectors, of blocks
        of k, of groups of columns.
    depth, width: k and columns of the whole product.
    lanes, cols: of a block of k, of a group of columns.
    """

    batch: Sequence[Range]
    rows: Sequence[Range]
    blocks: Sequence[Range]
    groups: Sequence[Range]
    depth: int
    width: int
    lanes: int
    cols: int

    @classmethod
    def of(
        cls, form: Form, problem: Product, tiling: ProductTiling, config: AcceleratorConfig
    ) -> Parts:
        """The parts of a tiling."""
        return cls(
            cuts(problem.batch, tiling.batch),
            cuts(problem.rows, tiling.rows),
            cuts(problem.inner, tiling.inner),
            cuts(problem.columns, tiling.columns),
            form.inner,
            form.columns,
            config.lane_block,
            config.array.cols,
        )

    def inner(self, number: int) -> Range:
        """Elements of k in a part."""
        return _clipped(self.blocks[number], self.lanes, self.depth)

    def columns(self, number: int) -> Range:
        """Columns of a part."""
        return _clipped(self.groups[number], self.cols, self.width)


def _clipped(part: Range, unit: int, whole: int) -> Range:
    """What units hold of a dimension that need not fill the last one."""
    first, count = part
    begin = first * unit
    return begin, min(count * unit, whole - begin)


def filled_blocks(count: int, lanes: int) -> list[Range]:
    """Elements of k cut into what fills blocks and the rest."""
    full = count // lanes * lanes
    return [(first, some) for first, some in ((0, full), (full, count - full)) if some]


class ProductWeights:
    """Instructions that bring one tile's weights into the weight scratchpad.

    Parameters
    ----------
    emitter: holds the constants that are loaded.
    form, tiling, parts: of the product.
    tensor: the operand that becomes weights.

    Attributes
    ----------
    width: columns of a whole tile, and so rows of each block of k that weights are made from.
    """

    def __init__(
        self, emitter: Emitter, form: Form, tiling: ProductTiling, parts: Parts, tensor: Tensor
    ):
        self.emitter, self.form, self.tiling, self.parts = emitter, form, tiling, parts
        self.tensor = tensor
        config = emitter.config
        self.lanes, self.per_row = config.lane_block, config.array.blocks_per_row
        self.block_beats = config.weight_block_beats
        self.width = tiling.columns * config.array.cols
        self.zero = tensor.zero_point & 0xFF

    def pitches(self, b: int) -> tuple[int, int, int]:
        """Beats between blocks of neighbouring matrices, blocks of k, groups of columns.

        ARRAY takes blocks one after another: only those of the matrices that the part `b` has.
        """
        batch = self.parts.batch[b][1] * self.block_beats
        return self.block_beats, batch, self.tiling.inner * batch

    def load(self, b: int, k: int, n: int, base: int) -> Iterator[UnitInstruction]:
        """LOADs of an operand whose positions are k.

        Parameters
        ----------
        b, k, n: parts of matrices, blocks of k, groups of columns.
        base: first beat in the weight scratchpad.
        """
        group = self.pitches(b)[2]
        inner, (start, columns) = self.parts.inner(k), self.parts.columns(n)
        blocks = ceil_div(columns, self.lanes)
        for number in range(blocks):
            place = base + number // self.per_row * group + number % self.per_row
            taken = start // self.lanes + number, 1
            for first, count in filled_blocks(inner[1], self.lanes):
                # [row of a block][block of k][matrix]
                yield from self._load_blocks(b, (inner[0] + first, count), taken, place, first)
        constant = bytes([self.zero]) * (self.lanes * self.lanes)
        for first_beat, rows, levels in self._gaps(b, inner[1], blocks):
            outer = [(count, 0, pitch) for count, pitch in levels]
            beats, counts, dram, local = nest(
                [(rows, self.lanes, self.per_row), *outer], self.lanes
            )
            yield Load(
                dram=self.emitter.constant(constant),
                space=Space.WEIGHT,
                local=base + first_beat,
                beats=beats,
                counts=counts,
                dram_deltas=dram,
                local_deltas=local,
            )

    def _load_blocks(
        self, b: int, positions: Range, blocks: Range, place: int, first: int
    ) -> Iterator[Load]:
        """Some of k that fills whole blocks, or less than one."""
        matrix, block, _ = self.pitches(b)
        grid, lanes, per_row = self.form.w, self.lanes, self.per_row
        base = grid.base[self.parts.batch[b][0] : sum(self.parts.batch[b])]
        along = grid.along[positions[0] : sum(positions)]
        even = len(list(runs(along))) == 1
        depth = min(positions[1], lanes)
        pieces = [(0, positions[1])] if even else cuts(positions[1], depth)
        for start, length in pieces:
            rows = along[start : start + length]
            for number, count, step in grid.runs(base, self.tensor):
                for at, some, pace in runs(rows) if not even else [(0, length, 0)]:
                    pace = int(rows[1] - rows[0]) if even and length > 1 else pace
                    row = int(base[number] + rows[at]) + blocks[0] * grid.pitch
                    tall = min(some, depth)
                    levels = [
                        (tall, pace * lanes, per_row),
                        (some // tall, tall * pace * lanes, block),
                        (count, step * lanes, matrix),
                    ]
                    beats, counts, dram, local = nest(levels, lanes)
                    inside = (first + start) // lanes * block + at % lanes * per_row
                    yield Load(
                        dram=self.tensor.row_address(row),
                        space=Space.WEIGHT,
                        local=place + inside + number * matrix,
                        beats=beats,
                        counts=counts,
                        dram_deltas=dram,
                        local_deltas=local,
                    )

    def _gaps(
        self, b: int, inner: int, blocks: int
    ) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
        """Weight rows of no k or of no column: first beat, rows, and (count, pitch) around them."""
        matrix, block, group = self.pitches(b)
        matrices = self.parts.batch[b][1]
        depth, groups = ceil_div(inner, self.lanes), ceil_div(blocks, self.per_row)
        rest = inner % self.lanes
        if rest:
            for lane in range(self.per_row):
                first = (depth - 1) * block + rest * self.per_row + lane
                yield first, self.lanes - rest, [(matrices, matrix), (groups, group)]
        for number in range(blocks, groups * self.per_row):
            first = (groups - 1) * group + number % self.per_row
            yield first, self.lanes, [(matrices, matrix), (depth, block)]

    def make(self, b: int, k: int, n: int, raw: Place, base: int) -> Iterator[Permute]:
        """PERMUTEs of an operand whose lanes are k.

        Parameters
        ----------
        b, k, n: parts of matrices, blocks of k, groups of columns.
        raw: where these rows lie in the scratchpad.
        base: first beat in the weight scratchpad.
        """
        matrix, block, group = self.pitches(b)
        row, position, raw_block, raw_matrix = raw
        matrices, depth = self.parts.batch[b][1], self.parts.blocks[k][1]
        columns = self.parts.columns(n)[1]
        full, rest = divmod(columns, self.lanes)
        blocks = full + bool(rest)
        for lane in range(min(self.per_row, blocks)):
            count = len(range(lane, full, self.per_row))
            tiles = [(lane, self.lanes, count)] if count else []
            if rest and full % self.per_row == lane:
                tiles.append((full, rest, 1))
            for number, rows, groups in tiles:
                counts = (rows, matrices, depth, groups)
                between = self.per_row * self.lanes * position
                source = (position, raw_matrix, raw_block, between)
                place = (self.per_row, matrix, block, group)
                yield Permute(
                    op=PermuteOp.TRANSPOSE,
                    counts=counts,
                    source0=row + number * self.lanes * position,
                    source0_deltas=deltas(counts, source),
                    destination=base + number // self.per_row * group + lane,
                    destination_deltas=deltas((self.lanes, *counts[1:]), place),
                    space=1,
                    pad=self.zero,
                )
        for first, rows, levels in self._gaps(b, self.parts.inner(k)[1], blocks):
            yield self._filled(row, base + first, rows, levels)

    def _filled(
        self, row: int, place: int, rows: int, levels: Sequence[tuple[int, int]]
    ) -> Permute:
        """Weight rows that hold the zero point."""
        outer = [*levels, (1, 0), (1, 0)][:3]
        counts = (rows, *(count for count, _ in outer))
        return Permute(
            op=PermuteOp.SELECT,
            counts=counts,
            source0=row,
            destination=place,
            destination_deltas=deltas(counts, (self.per_row, *(pitch for _, pitch in outer))),
            space=1,
            valid=0,
            pad=self.zero,
        )
