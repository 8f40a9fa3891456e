"""Emission of a product of two activations in mode GEMM.

A tile is some matrices, rows, blocks of k and groups of columns. Here is the order of its
instructions, its vectors, its computation and its results; `matmul_weights.py` brings its weights.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from compiler.array.matmul_weights import Parts, ProductWeights, filled_blocks
from compiler.array.matrices import Form, Grid, runs
from compiler.array.whole import Place, Whole
from compiler.emit.emitter import Emitter
from compiler.emit.schedule import Ring, Slots, Step, run
from compiler.emit.transfers import block_runs, nest
from compiler.ops import BatchedMatMul
from compiler.tile.geometry import Range
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
        self.parts = Parts.of(form, self.problem, tiling, self.config)
        self.weights = ProductWeights(emitter, form, tiling, self.parts, w)
        self.weight_beats = (
            tiling.batch * tiling.inner * tiling.columns * self.config.weight_block_beats
        )
        placer = emitter.vector_weights if form.transposed else emitter.weights
        self.weight_base = placer.take(self.weight_beats * tiling.weight_slots)
        self.parameter_beats = self.config.requantize_steps * self.config.parameter_row_beats
        self.parameter_base = emitter.parameters.take(tiling.batch * self.parameter_beats)
        self.whole_x, self.whole_w, self.whole_y = self._whole()
        self._made: dict[str, Hashable] = {}
        self._slot = {"vectors": -1, "weights": -1}
        self._bank = self._output = 0

    def emit(self) -> None:
        """Emit the whole layer."""
        rings = {
            "x": Ring(self._slots(self.whole_x, len(self.parts.rows)), self._fill_x),
            "w": Ring(self._weight_slots(), self._fill_w),
            "parameter": Ring(1, self._fill_parameters),
        }
        run(self.emitter, rings, list(self._steps()))

    def _whole(self) -> tuple[Whole | None, Whole | None, Whole | None]:
        """Vectors, rows that become weights, and results, as far as all of them fit at a time.

        They lie as in DRAM: what is on chip need not be loaded again (compiler/emit/onchip.py).
        """
        form, parts, tiling = self.form, self.parts, self.tiling
        columns = [parts.columns(n) for n in range(len(parts.groups))]
        x = w = None
        if not form.turned:
            x = Whole.of(self.x, form.x, parts.batch, parts.rows, tiling.vectors)
            if form.transposed and tiling.raw is not None:
                w = Whole.of(self.w, form.w, parts.batch, columns, tiling.raw)
        y = Whole.of(self.target, form.y, parts.batch, parts.rows, tiling.output)
        # Of a group of columns all blocks are written.
        full = not any(ceil_div(count, self.lanes) % self.per_row for _, count in columns)
        return x, w, y if full else None

    def _slots(self, whole: Whole | None, along: int) -> int:
        """Tiles of an operand on chip; `along`: into how many parts its positions are cut."""
        every = len(self.parts.batch) * along * len(self.parts.blocks)
        return self.tiling.slots if whole is None else every

    def _weight_slots(self) -> int:
        """Tiles of the operand that becomes weights: as it is loaded."""
        if not self.form.transposed:
            return self.tiling.weight_slots
        return self._slots(self.whole_w, len(self.parts.groups))

    def _steps(self) -> Iterator[Step]:
        """Tiles in order, and in which order each one's items are loaded.

        Parameters wait for nothing. Of the operands, what was stored first is loaded first: the
        other one may still be on its way.
        """
        parts = self.parts
        x, w = (self.emitter.stored(tensor.address) for tensor in (self.x, self.w))
        order = ["parameter", *(("x", "w") if x <= w else ("w", "x"))]
        for b in range(len(parts.batch)):
            for n in range(len(parts.groups)):
                for m in range(len(parts.rows)):
                    for k in range(len(parts.blocks)):
                        key = (b, m, k, n)

                        def body(slots: Slots, key: Key = key) -> None:
                            self._compute(key, slots)

                        items = {"x": (b, m, k), "w": (b, k, n), "parameter": 0}
                        yield Step({name: items[name] for name in order}, body)

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
        for first, count, step in grid.runs(base, tensor):
            for place, length, pace in runs(along):
                row = int(base[first] + along[place]) + blocks[0] * grid.pitch
                for before, some, address, apart in block_runs(tensor, row, blocks[1]):
                    levels = [
                        (length, pace * self.lanes, pitches[0]),
                        (some, apart, pitches[1]),
                        (count, step * self.lanes, pitches[2]),
                    ]
                    offset = place * pitches[0] + before * pitches[1] + first * pitches[2]
                    yield address, (offset, levels)

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

    def _x_place(self, key: Hashable, slot: int) -> Place:
        """Where a tile of vectors lies as it is loaded."""
        assert isinstance(key, tuple)
        b, m, k = key
        if self.whole_x is not None:
            rows, blocks = self.parts.rows[m], self.parts.blocks[k]
            return self.whole_x.place(self.parts.batch[b], rows, blocks)
        return self._vectors(slot), 1, self.height, self.tiling.inner * self.height

    def _w_place(self, key: Hashable, slot: int) -> Place:
        """Where rows that become weights lie as they are loaded."""
        assert isinstance(key, tuple)
        b, k, n = key
        if self.whole_w is not None:
            columns, blocks = self.parts.columns(n), self.parts.blocks[k]
            return self.whole_w.place(self.parts.batch[b], columns, blocks)
        width = self.weights.width
        return self._raw(1, slot), 1, width, self.tiling.inner * width

    @property
    def height(self) -> int:
        """Rows between blocks of k in a tile of vectors."""
        return padded(self.tiling.rows, self.lanes) if self.form.turned else self.tiling.rows

    def _fill_x(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, tuple)
        b, m, k = key
        inner = self.tiling.inner
        if not self.form.turned:
            matrices, rows, some = self.parts.batch[b], self.parts.rows[m], self.parts.blocks[k]
            place = self._x_place(key, slot)
            return [*self._load(self.x, self.form.x, matrices, rows, some, place)]
        first, count = self.parts.rows[m]
        blocks = first // self.lanes, ceil_div(count, self.lanes)
        depth = inner * self.lanes
        local = self._raw(0, slot), 1, depth, ceil_div(self.tiling.rows, self.lanes) * depth
        return [
            *self._load(
                self.x, self.form.x, self.parts.batch[b], self.parts.inner(k), blocks, local
            )
        ]

    def _fill_w(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, tuple)
        b, k, n = key
        if not self.form.transposed:
            return [*self.weights.load(b, k, n, self.weight_base + slot * self.weight_beats)]
        matrices, blocks, columns = self.parts.batch[b], self.parts.blocks[k], self.parts.columns(n)
        place = self._w_place(key, slot)
        return [*self._load(self.w, self.form.w, matrices, columns, blocks, place)]

    def _fill_parameters(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        cols, scale = self.config.array.cols, self.op.scale
        one = pack_parameters([0] * cols, [scale.multiplier] * cols, [scale.shift] * cols)
        data = one * self.tiling.batch
        return [self.emitter.load_constant(data, Space.PARAMETER, self.parameter_base)]

    # Vectors

    def _turn(self, key: Key, raw: int, row: int) -> Iterator[Permute]:
        """Vectors from rows whose lanes are m."""
        b, m, k, _ = key
        matrices, count = self.parts.batch[b][1], self.parts.rows[m][1]
        depth, height = self.tiling.inner * self.lanes, self.height
        wide = ceil_div(self.tiling.rows, self.lanes)
        blocks = ceil_div(count, self.lanes)
        for first, some in filled_blocks(self.parts.inner(k)[1], self.lanes):
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
        slot = slots["x"]
        if self.form.turned:
            new, slot = self._renewed("vectors", (b, m, k), self.tiling.slots)
            raw, row = self._raw(0, slots["x"]), self._vectors(slot)
            for instruction in self._turn(key, raw, row) if new else ():
                self.emitter.emit(instruction)
        vectors = self._x_place((b, m, k), slot)
        weight = self.weight_base + slots["w"] * self.weight_beats
        if self.form.transposed:
            new, slot = self._renewed("weights", (b, k, n), self.tiling.weight_slots)
            weight = self.weight_base + slot * self.weight_beats
            place = self._w_place((b, k, n), slots["w"])
            for instruction in self.weights.make(b, k, n, place, weight) if new else ():
                self.emitter.emit(instruction)
        last = k == len(self.parts.blocks) - 1
        whole = len(self.parts.blocks) == 1
        out = self._y_place(key)
        for group in range(self.parts.groups[n][1]):
            size = self.parts.batch[b][1] * self.parts.rows[m][1]
            accumulator = self._bank * self.config.memory.accumulator_rows
            accumulator += 0 if whole else group * size
            self._array(key, vectors, weight + group * self.weights.pitches(b)[2], accumulator)
            if last:
                self._drain(key, group, accumulator, out)
            if whole:
                self._bank = 1 - self._bank
        if last:
            self._store(key, out)
            self._output = (self._output + 1) % self.tiling.results
            if not whole:
                self._bank = 1 - self._bank

    def _array(self, key: Key, vectors: Place, weight: int, accumulator: int) -> None:
        b, m, k, _ = key
        row, position, block, matrix = vectors
        rows = self.parts.rows[m][1]
        counts = (rows, 1, 1, self.parts.batch[b][1], 1, 1, 1, self.parts.blocks[k][1])
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
                deltas=deltas(counts, (position, 0, 0, matrix, 0, 0, 0, block)),
                bounds=(rows, 1, 1),
            )
        )

    def _y_place(self, key: Key) -> Place:
        """Where the results of a tile lie."""
        b, m, _, n = key
        first, count = self.parts.columns(n)
        if self.whole_y is not None:
            blocks = first // self.lanes, ceil_div(count, self.lanes)
            return self.whole_y.place(self.parts.batch[b], self.parts.rows[m], blocks)
        height = self.tiling.rows
        row = self.tiling.output.slot(self._output, self.tiling.results)
        return row, 1, height, self.tiling.columns * self.per_row * height

    def _drain(self, key: Key, group: int, accumulator: int, out: Place) -> None:
        rows, matrices = self.parts.rows[key[1]][1], self.parts.batch[key[0]][1]
        counts = (rows, 1, 1, matrices)
        row, position, block, matrix = out
        self.emitter.emit(
            Drain(
                accumulator=accumulator,
                counts=counts,
                accumulator_deltas=deltas((1, 1, 1, *counts), (0, 0, 0, 1, 0, 0, rows)),
                destination=row + group * self.per_row * block,
                destination_deltas=deltas((self.per_row, *counts), (block, position, 0, 0, matrix)),
                parameter=self.parameter_base,
                zero_point=self.op.scale.zero_point,
                low=self.op.low,
                high=self.op.high,
            )
        )

    def _store(self, key: Key, out: Place) -> None:
        b, m, _, n = key
        first, count = self.parts.columns(n)
        blocks = first // self.lanes, ceil_div(count, self.lanes)
        pieces = self._levels(
            self.target, self.form.y, self.parts.batch[b], self.parts.rows[m], blocks, out[1:]
        )
        for address, (place, levels) in pieces:
            beats, counts, dram, local = nest(levels, self.lanes)
            self.emitter.emit(
                Store(
                    dram=address,
                    local=out[0] + place,
                    beats=beats,
                    counts=counts,
                    dram_deltas=dram,
                    local_deltas=local,
                )
            )
