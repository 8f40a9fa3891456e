"""Emission of a product of two activations in mode GEMM.

A tile is some matrices, rows, blocks of k and groups of columns. Its weights lie [group of
columns][block of k][matrix] in the weight scratchpad, so that one ARRAY takes all matrices as
output blocks (`co`) and all blocks of k as input blocks. What lies beyond k or the columns is
written as the weights' zero point: it then adds nothing, whatever the lanes of the vectors hold.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from compiler.array.matrices import Form, Grid, Index
from compiler.emit.emitter import Emitter
from compiler.emit.schedule import Ring, Slots, Step, run
from compiler.emit.transfers import nest
from compiler.ops import BatchedMatMul
from compiler.tile.geometry import Range, cuts
from compiler.tile.matmul import Product, ProductTiling, padded, raw_rows
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    Array,
    ArrayMode,
    Drain,
    Load,
    Permute,
    PermuteOp,
    Space,
    Store,
    UnitInstruction,
    deltas,
)
from hw.arch.layout import ceil_div
from hw.arch.numerics import pack_parameters
from hw.arch.program import Tensor

Key = tuple[int, int, int, int]
"""Numbers of a tile's parts: matrices, rows, inner, columns."""


def product_of(form: Form, config: AcceleratorConfig) -> Product:
    """What the tiling of a product depends on."""
    lanes = config.lane_block
    return Product(
        batch=form.batch,
        rows=form.rows,
        inner=ceil_div(form.inner, lanes),
        columns=ceil_div(form.columns, config.array.cols),
        turned=form.turned,
        transposed=form.transposed,
    )


def runs(values: Index) -> Iterator[tuple[int, int, int]]:
    """First index, count and step of evenly spaced pieces."""
    first = 0
    while first < values.size:
        rest = np.diff(values[first:])
        same = int(np.argmax(rest != rest[0])) if (rest != rest[:1]).any() else rest.size
        count = same + 1
        yield first, count, int(rest[0]) if count > 1 else 0
        first += count


class MatMulEmission:
    """Emits one product with one tiling."""

    def __init__(
        self,
        emitter: Emitter,
        op: BatchedMatMul,
        form: Form,
        tiling: ProductTiling,
        tensors: tuple[Tensor, Tensor, Tensor],
    ):
        self.emitter, self.config = emitter, emitter.config
        self.op, self.form, self.tiling = op, form, tiling
        x, w, self.target = tensors[form.streamed], tensors[form.weighted], tensors[2]
        self.x, self.w = x, w
        self.lanes, self.per_row = self.config.lane_block, self.config.array.blocks_per_row
        self.problem = product_of(form, self.config)
        self.parts = [
            cuts(whole, size)
            for whole, size in zip(
                (self.problem.batch, self.problem.rows, self.problem.inner, self.problem.columns),
                tiling.sizes,
                strict=True,
            )
        ]
        self.block_beats = self.config.weight_block_beats
        self.weight_beats = tiling.batch * tiling.inner * tiling.columns * self.block_beats
        placer = emitter.vector_weights if form.transposed else emitter.weights
        self.weight_base = placer.take(self.weight_beats * tiling.weight_slots)
        self.parameter_beats = self.config.requantize_steps * self.config.parameter_row_beats
        self.parameter_base = emitter.parameters.take(tiling.batch * self.parameter_beats)
        self.zero = w.zero_point & 0xFF
        self._made: dict[str, Hashable] = {}
        self._slot = {"vectors": -1, "weights": -1}
        self._bank = self._output = 0

    def emit(self) -> None:
        """Emit the whole layer."""
        slots = self.tiling.slots
        weight_slots = slots if self.form.transposed else self.tiling.weight_slots
        rings = {
            "x": Ring(slots, self._fill_x),
            "w": Ring(weight_slots, self._fill_w),
            "parameter": Ring(1, self._fill_parameters),
        }
        run(self.emitter, rings, list(self._steps()))

    def _steps(self) -> Iterator[Step]:
        batches, rows, inner, columns = (range(len(parts)) for parts in self.parts)
        for b in batches:
            for n in columns:
                for m in rows:
                    for k in inner:
                        key = (b, m, k, n)

                        def body(slots: Slots, key: Key = key) -> None:
                            self._compute(key, slots)

                        yield Step({"x": (b, m, k), "w": (b, k, n), "parameter": 0}, body)

    # Transfers

    def _load(
        self,
        tensor: Tensor,
        grid: Grid,
        matrices: Range,
        positions: Range,
        blocks: Range,
        local: tuple[int, int, int, int],
        space: Space = Space.ACTIVATION,
    ) -> Iterator[Load]:
        """A part of an operand.

        Parameters
        ----------
        tensor, grid: the operand.
        matrices, positions, blocks: first and count.
        local: first local row or beat, and pitches of positions, blocks and matrices.
        """
        for address, dims in self._levels(tensor, grid, matrices, positions, blocks, local[1:]):
            place, levels = dims
            beats, counts, dram, on_chip = nest(levels, self.lanes)
            yield Load(
                dram=address,
                space=space,
                local=local[0] + place,
                beats=beats,
                counts=counts,
                dram_deltas=dram,
                local_deltas=on_chip,
            )

    def _levels(
        self,
        tensor: Tensor,
        grid: Grid,
        matrices: Range,
        positions: Range,
        blocks: Range,
        pitches: Sequence[int],
    ) -> Iterator[tuple[int, tuple[int, list[tuple[int, int, int]]]]]:
        """DRAM address, local offset and levels of every evenly spaced piece."""
        base = grid.base[matrices[0] : sum(matrices)]
        along = grid.along[positions[0] : sum(positions)]
        for first, count, step in runs(base):
            for place, length, pace in runs(along):
                row = int(base[first] + along[place]) + blocks[0] * grid.pitch
                levels = [
                    (length, pace * self.lanes, pitches[0]),
                    (blocks[1], grid.pitch * self.lanes, pitches[1]),
                    (count, step * self.lanes, pitches[2]),
                ]
                offset = place * pitches[0] + first * pitches[2]
                yield tensor.address + row * self.lanes, (offset, levels)

    def _inner(self, number: int) -> Range:
        """Elements of k in a part."""
        first, count = self.parts[2][number]
        begin = first * self.lanes
        return begin, min(count * self.lanes, self.form.inner - begin)

    def _raw(self, which: int, slot: int) -> int:
        """Row of a tile of vectors (0) before they are turned, or of rows of weights (1)."""
        assert self.tiling.raw is not None
        sizes = raw_rows(self.problem, self.tiling.sizes, self.config)
        return (
            self.tiling.raw.row
            + (self.tiling.slots * sizes[0] if which else 0)
            + slot * sizes[which]
        )

    def _vectors(self, slot: int) -> int:
        return self.tiling.vectors.slot(slot, self.tiling.slots)

    @property
    def height(self) -> int:
        """Rows between blocks of k in a tile of vectors."""
        return padded(self.tiling.rows, self.lanes) if self.form.turned else self.tiling.rows

    def _fill_x(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, tuple)
        b, m, k = key
        inner, height = self.tiling.inner, self.height
        if not self.form.turned:
            local = self._vectors(slot), 1, height, inner * height
            return [
                *self._load(
                    self.x, self.form.x, self.parts[0][b], self.parts[1][m], self.parts[2][k], local
                )
            ]
        first, count = self.parts[1][m]
        blocks = first // self.lanes, ceil_div(count, self.lanes)
        depth = inner * self.lanes
        local = self._raw(0, slot), 1, depth, ceil_div(self.tiling.rows, self.lanes) * depth
        return [*self._load(self.x, self.form.x, self.parts[0][b], self._inner(k), blocks, local)]

    def _fill_w(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, tuple)
        b, k, n = key
        if not self.form.transposed:
            return [*self._load_weights(b, k, n, self.weight_base + slot * self.weight_beats)]
        width = self.tiling.columns * self.config.array.cols
        local = self._raw(1, slot), 1, width, self.tiling.inner * width
        first, count = self._columns(n)
        return [
            *self._load(
                self.w, self.form.w, self.parts[0][b], (first, count), self.parts[2][k], local
            )
        ]

    def _columns(self, number: int) -> Range:
        """Columns of a part."""
        first, count = self.parts[3][number]
        begin = first * self.config.array.cols
        return begin, min(count * self.config.array.cols, self.form.columns - begin)

    def _fill_parameters(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        cols, scale = self.config.array.cols, self.op.scale
        one = pack_parameters([0] * cols, [scale.multiplier] * cols, [scale.shift] * cols)
        data = one * self.tiling.batch
        return [self.emitter.load_constant(data, Space.PARAMETER, self.parameter_base)]

    # Weights

    def _pitches(self, b: int) -> tuple[int, int, int]:
        """Beats between blocks of neighbouring matrices, blocks of k, groups of columns.

        ARRAY takes blocks one after another: only those of the matrices that the part `b` has.
        """
        batch = self.parts[0][b][1] * self.block_beats
        return self.block_beats, batch, self.tiling.inner * batch

    def _load_weights(self, b: int, k: int, n: int, base: int) -> Iterator[UnitInstruction]:
        """Rows of an operand whose positions are k, as weights."""
        group = self._pitches(b)[2]
        inner, (start, columns) = self._inner(k), self._columns(n)
        blocks = ceil_div(columns, self.lanes)
        for number in range(blocks):
            place = base + number // self.per_row * group + number % self.per_row
            taken = start // self.lanes + number, 1
            for first, count in self._whole(inner):
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

    def _whole(self, inner: Range) -> list[Range]:
        """k cut into what fills blocks and the rest."""
        full = inner[1] // self.lanes * self.lanes
        return [(first, count) for first, count in ((0, full), (full, inner[1] - full)) if count]

    def _load_blocks(
        self, b: int, positions: Range, blocks: Range, place: int, first: int
    ) -> Iterator[Load]:
        """Some of k that fills whole blocks, or less than one."""
        matrix, block, _ = self._pitches(b)
        grid, lanes, per_row = self.form.w, self.lanes, self.per_row
        base = grid.base[self.parts[0][b][0] : sum(self.parts[0][b])]
        along = grid.along[positions[0] : sum(positions)]
        even = len(list(runs(along))) == 1
        depth = min(positions[1], lanes)
        pieces = [(0, positions[1])] if even else cuts(positions[1], depth)
        for start, length in pieces:
            rows = along[start : start + length]
            for number, count, step in runs(base):
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
                        dram=self.w.address + row * lanes,
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
        matrix, block, group = self._pitches(b)
        matrices = self.parts[0][b][1]
        depth, groups = ceil_div(inner, self.lanes), ceil_div(blocks, self.per_row)
        rest = inner % self.lanes
        if rest:
            for lane in range(self.per_row):
                first = (depth - 1) * block + rest * self.per_row + lane
                yield first, self.lanes - rest, [(matrices, matrix), (groups, group)]
        for number in range(blocks, groups * self.per_row):
            first = (groups - 1) * group + number % self.per_row
            yield first, self.lanes, [(matrices, matrix), (depth, block)]

    def _make_weights(self, key: Key, raw: int, base: int) -> Iterator[Permute]:
        """Weights from rows whose lanes are k."""
        b, _, k, n = key
        matrix, block, group = self._pitches(b)
        matrices, depth = self.parts[0][b][1], self.parts[2][k][1]
        columns = self._columns(n)[1]
        width = self.tiling.columns * self.config.array.cols
        full, rest = divmod(columns, self.lanes)
        blocks = full + bool(rest)
        for lane in range(min(self.per_row, blocks)):
            count = len(range(lane, full, self.per_row))
            tiles = [(lane, self.lanes, count)] if count else []
            if rest and full % self.per_row == lane:
                tiles.append((full, rest, 1))
            for number, rows, groups in tiles:
                counts = (rows, matrices, depth, groups)
                source = (1, self.tiling.inner * width, width, self.per_row * self.lanes)
                place = (self.per_row, matrix, block, group)
                yield Permute(
                    op=PermuteOp.TRANSPOSE,
                    counts=counts,
                    source0=raw + number * self.lanes,
                    source0_deltas=deltas(counts, source),
                    destination=base + number // self.per_row * group + lane,
                    destination_deltas=deltas((self.lanes, *counts[1:]), place),
                    space=1,
                    pad=self.zero,
                )
        for first, rows, levels in self._gaps(b, self._inner(k)[1], blocks):
            yield self._filled(raw, base + first, rows, levels)

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

    def _turn(self, key: Key, raw: int, row: int) -> Iterator[Permute]:
        """Vectors from rows whose lanes are m."""
        b, m, k, _ = key
        matrices, count = self.parts[0][b][1], self.parts[1][m][1]
        depth, height = self.tiling.inner * self.lanes, self.height
        wide = ceil_div(self.tiling.rows, self.lanes)
        blocks = ceil_div(count, self.lanes)
        for first, some in self._whole(self._inner(k)):
            rows = min(some, self.lanes)
            counts = (rows, some // rows, matrices, blocks)
            source = (1, self.lanes, wide * depth, depth)
            place = (1, height, self.tiling.inner * height, self.lanes)
            yield Permute(
                op=PermuteOp.TRANSPOSE,
                counts=counts,
                source0=raw + first,
                source0_deltas=deltas(counts, source),
                destination=row + first // self.lanes * height,
                destination_deltas=deltas((self.lanes, *counts[1:]), place),
                pad=self.x.zero_point & 0xFF,
            )

    # Computation

    def _renewed(self, what: str, key: Hashable, slots: int) -> tuple[bool, int]:
        """Whether something has to be made, and its slot."""
        new = self._made.get(what) != key
        if new:
            self._made[what] = key
            self._slot[what] = (self._slot[what] + 1) % slots
        return new, self._slot[what]

    def _compute(self, key: Key, slots: Slots) -> None:
        b, m, k, n = key
        row = self._vectors(slots["x"])
        if self.form.turned:
            new, slot = self._renewed("vectors", (b, m, k), self.tiling.slots)
            row = self._vectors(slot)
            for instruction in self._turn(key, self._raw(0, slots["x"]), row) if new else ():
                self.emitter.emit(instruction)
        weight = self.weight_base + slots["w"] * self.weight_beats
        if self.form.transposed:
            new, slot = self._renewed("weights", (b, k, n), self.tiling.weight_slots)
            weight = self.weight_base + slot * self.weight_beats
            raw = self._raw(1, slots["w"])
            for instruction in self._make_weights(key, raw, weight) if new else ():
                self.emitter.emit(instruction)
        last = k == len(self.parts[2]) - 1
        whole = len(self.parts[2]) == 1
        out = self.tiling.output.slot(self._output, 2)
        for group in range(self.parts[3][n][1]):
            size = self.parts[0][b][1] * self.parts[1][m][1]
            accumulator = self._bank * self.config.memory.accumulator_rows
            accumulator += 0 if whole else group * size
            self._array(key, row, weight + group * self._pitches(b)[2], accumulator)
            if last:
                self._drain(key, group, accumulator, out)
            if whole:
                self._bank = 1 - self._bank
        if last:
            self._store(key, out)
            self._output = 1 - self._output
            if not whole:
                self._bank = 1 - self._bank

    def _array(self, key: Key, row: int, weight: int, accumulator: int) -> None:
        b, m, k, _ = key
        rows = self.parts[1][m][1]
        counts = (rows, 1, 1, self.parts[0][b][1], 1, 1, 1, self.parts[2][k][1])
        height = self.height
        self.emitter.emit(
            Array(
                mode=ArrayMode.GEMM,
                accumulate=int(k > 0),
                signed=int(self.x.signed),
                zero_point=self.x.zero_point & 0xFF,
                weight_unsigned=int(not self.w.signed),
                weight_zero_point=self.w.zero_point,
                activation=row,
                weight=weight,
                accumulator=accumulator,
                counts=counts,
                deltas=deltas(counts, (1, 0, 0, self.tiling.inner * height, 0, 0, 0, height)),
                bounds=(rows, 1, 1),
            )
        )

    def _drain(self, key: Key, group: int, accumulator: int, out: int) -> None:
        rows, matrices = self.parts[1][key[1]][1], self.parts[0][key[0]][1]
        counts = (rows, 1, 1, matrices)
        whole = self.tiling.columns * self.per_row * self.tiling.rows
        place = (self.tiling.rows, 1, 0, 0, whole)
        self.emitter.emit(
            Drain(
                accumulator=accumulator,
                counts=counts,
                accumulator_deltas=deltas((1, 1, 1, *counts), (0, 0, 0, 1, 0, 0, rows)),
                destination=out + group * self.per_row * self.tiling.rows,
                destination_deltas=deltas((self.per_row, *counts), place),
                parameter=self.parameter_base,
                zero_point=self.op.scale.zero_point,
                low=self.op.low,
                high=self.op.high,
            )
        )

    def _store(self, key: Key, out: int) -> None:
        b, m, _, n = key
        first, count = self._columns(n)
        blocks = first // self.lanes, ceil_div(count, self.lanes)
        pitches = (1, self.tiling.rows, self.tiling.columns * self.per_row * self.tiling.rows)
        pieces = self._levels(
            self.target, self.form.y, self.parts[0][b], self.parts[1][m], blocks, pitches
        )
        for address, (place, levels) in pieces:
            beats, counts, dram, local = nest(levels, self.lanes)
            self.emitter.emit(
                Store(
                    dram=address,
                    local=out + place,
                    beats=beats,
                    counts=counts,
                    dram_deltas=dram,
                    local_deltas=local,
                )
            )
