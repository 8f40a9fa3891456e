"""Emission of a tiled convolution in GEMM mode: loads, packing, ARRAY, DRAIN, stores."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from compiler.codegen.emitter import Emitter
from compiler.codegen.geometry import Axis, Range, Triple, cuts, product
from compiler.codegen.schedule import Ring, Slots, Step, run
from compiler.codegen.tiling import Problem, Tiling
from compiler.codegen.transfers import Box, View, load_box, row_field, store_box
from hw.arch.isa import (
    Array,
    ArrayMode,
    Drain,
    Reduce,
    ReduceOp,
    Space,
    UnitInstruction,
    deltas,
)
from hw.arch.layout import ceil_div

Ranges: TypeAlias = tuple[Range, Range, Range]
"""First and count along x, y, t."""


@dataclasses.dataclass(frozen=True, slots=True)
class Packing:
    """Neighbours along an axis are packed into the lanes of one row before the array reads them.

    Attributes
    ----------
    axis: 0, 1 or 2 (x, y, t).
    lanes: channels of the source.
    taps: neighbours in a packed row; packed block b holds taps b·taps onwards.
    """

    axis: int
    lanes: int
    taps: int


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """A convolution as the array sees it.

    Attributes
    ----------
    problem: sizes.
    source, target: tensors in DRAM, axes merged as in `problem.axes`.
    weights: int8 [groups, reduced, kt, ky, kx, rows, cols].
    parameters: packed requantization parameters of each output group.
    first_block: input block at which each output group's sum begins.
    signed, zero_point: of the source.
    out_zero_point, low, high: of the result.
    packing: how the operand is packed first, if it is.
    """

    problem: Problem
    source: View
    target: View
    weights: npt.NDArray[np.int8]
    parameters: Sequence[bytes]
    first_block: Sequence[int]
    signed: bool
    zero_point: int
    out_zero_point: int
    low: int
    high: int
    packing: Packing | None = None

    @property
    def block_step(self) -> int:
        """Input blocks from one output group's first to the next one's."""
        return self.first_block[1] - self.first_block[0] if len(self.first_block) > 1 else 0


def _boxes(ranges: Sequence[Sequence[Range]]) -> list[Ranges]:
    """All combinations of ranges along x, y, t; x varies fastest."""
    return [(x, y, t) for t, y, x in itertools.product(ranges[2], ranges[1], ranges[0])]


class GemmEmission:
    """Emits one job with one tiling."""

    def __init__(self, emitter: Emitter, job: Job, tiling: Tiling):
        self.emitter = emitter
        self.config = emitter.config
        self.job = job
        self.tiling = tiling
        self.problem = job.problem
        self.axes = job.problem.axes
        self.tiles = _boxes([cuts(a.out, n) for a, n in zip(self.axes, tiling.load, strict=True)])
        self.groups = cuts(job.problem.groups, tiling.group)
        self.pieces = cuts(job.problem.reduced, tiling.piece)
        config = emitter.config
        self.piece_beats = (
            tiling.piece * self.problem.taps * tiling.group * config.weight_block_beats
        )
        self.weight_base = emitter.weights.take(self.piece_beats * tiling.weight_slots)
        self.group_parameter_beats = config.requantize_steps * config.parameter_row_beats
        parameter_slot = tiling.group * self.group_parameter_beats
        self.parameter_slots = min(len(self.groups), emitter.parameters.capacity // parameter_slot)
        self.parameter_base = emitter.parameters.take(self.parameter_slots * parameter_slot)
        self.parameter_slot = parameter_slot
        self._output_turn = 0
        self._accumulator_turn = 0

    def emit(self) -> None:
        """Emit the whole layer."""
        tiling = self.tiling
        spread = tiling.weight_slots < len(self.groups) * len(self.pieces)
        rings = {
            "weight": Ring(tiling.weight_slots, self._fill_weights),
            "parameter": Ring(self.parameter_slots, self._fill_parameters),
        }
        if self.job.packing is None:
            rings["input"] = Ring(tiling.input_slots, self._fill_input, spread)
        else:
            rings["raw"] = Ring(tiling.input_slots, self._fill_raw)
        run(self.emitter, rings, self._steps())

    # Steps

    def _steps(self) -> list[Step]:
        if self.tiling.group_outer:
            order = [(tile, group) for group in range(len(self.groups)) for tile in self._numbers()]
        else:
            order = [(tile, group) for tile in self._numbers() for group in range(len(self.groups))]
        steps = []
        packed = 0
        for tile, group in order:
            if self.job.packing is not None:
                # The next tile is packed while this one is computed.
                while packed < min(tile + self.tiling.input_slots, len(self.tiles)):
                    steps.append(self._packing_step(packed))
                    packed += 1
            steps += self._tile_steps(tile, group)
        return steps

    def _numbers(self) -> range:
        return range(len(self.tiles))

    def _tile_steps(self, tile: int, group: int) -> list[Step]:
        box = self.tiles[tile]
        parts = _boxes(
            [
                [(box[d][0] + first, count) for first, count in cuts(box[d][1], size)]
                for d, size in enumerate(self.tiling.accumulator)
            ]
        )
        steps = []
        out_slot = self._output_turn
        self._output_turn = 1 - out_slot
        for number, part in enumerate(parts):
            bank = self._accumulator_turn
            self._accumulator_turn = 1 - bank
            for piece in range(len(self.pieces)):
                needs: dict[str, Hashable] = {"weight": (group, piece), "parameter": group}
                if self.job.packing is None:
                    needs["input"] = tile
                last = piece == len(self.pieces) - 1
                store = last and number == len(parts) - 1

                def body(
                    slots: Slots,
                    part: Ranges = part,
                    piece: int = piece,
                    bank: int = bank,
                    last: bool = last,
                    store: bool = store,
                ) -> None:
                    self._array(tile, part, group, piece, bank, slots)
                    if last:
                        self._drain(tile, part, group, bank, out_slot, slots["parameter"])
                    if store:
                        self._store(tile, group, out_slot)

                steps.append(Step(needs, body))
        return steps

    # Transfers

    def _source_box(self, tile: int, axes: tuple[Axis, Axis, Axis], blocks: int) -> Box:
        ranges = [axis.source(cut) for axis, cut in zip(axes, self.tiles[tile], strict=True)]
        first = (ranges[0][0], ranges[1][0], ranges[2][0])
        size = (ranges[0][1], ranges[1][1], ranges[2][1])
        return Box(first, size, 0, blocks)

    def _fill_input(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, int)
        row = self.tiling.input.slot(slot, self.tiling.input_slots)
        whole = self._source_box(key, self.axes, self.problem.blocks)
        # Transfers of some blocks each, long enough to hide their latency.
        count = max(1, min(whole.blocks, whole.rows // 1024))
        parts = cuts(whole.blocks, ceil_div(whole.blocks, count))
        return [
            load_box(
                self.job.source,
                dataclasses.replace(whole, block=first, blocks=blocks),
                row + first * whole.positions,
            )
            for first, blocks in parts
        ]

    def _fill_weights(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, tuple)
        (first, count), (block, blocks) = self.groups[key[0]], self.pieces[key[1]]
        part = self.job.weights[first : first + count, block : block + blocks]
        # [co, ci, kt, ky, kx, row, col] to the order of the array's nest
        data = np.ascontiguousarray(part.transpose(1, 2, 3, 4, 0, 5, 6)).tobytes()
        local = self.weight_base + slot * self.piece_beats
        return [self.emitter.load_constant(data, Space.WEIGHT, local)]

    def _fill_parameters(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, int)
        first, count = self.groups[key]
        data = b"".join(self.job.parameters[first : first + count])
        local = self.parameter_base + slot * self.parameter_slot
        return [self.emitter.load_constant(data, Space.PARAMETER, local)]

    def _output(self, tile: int, out_slot: int) -> tuple[int, Triple, Triple]:
        """Row of the output slot, first output and size of the tile after the pool."""
        cut = self.tiles[tile]
        first = tuple(c[0] // a.pool for c, a in zip(cut, self.axes, strict=True))
        size = tuple(c[1] // a.pool for c, a in zip(cut, self.axes, strict=True))
        row = self.tiling.output.slot(out_slot, 2)
        return row, (first[0], first[1], first[2]), (size[0], size[1], size[2])

    def _store(self, tile: int, group: int, out_slot: int) -> None:
        row, first, size = self._output(tile, out_slot)
        begin, count = self.groups[group]
        per_group = self.config.array.blocks_per_row
        block = begin * per_group
        blocks = min(count * per_group, self.problem.out_blocks - block)
        self.emitter.emit(store_box(self.job.target, Box(first, size, block, blocks), row))

    # Packing

    def _fill_raw(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, int)
        axes = self.problem.raw_axes
        assert axes is not None
        box = self._source_box(key, axes, self.problem.raw_blocks)
        row = self.tiling.input.slot(slot, self.tiling.input_slots)
        return [load_box(self.job.source, box, row)]

    def _packing_step(self, tile: int) -> Step:
        def body(slots: Slots) -> None:
            for block in range(self.problem.blocks):
                self.emitter.emit(self._pack(tile, block, slots["raw"]))

        return Step({"raw": tile}, body)

    def _pack(self, tile: int, block: int, slot: int) -> Reduce:
        """One packed block of a tile."""
        packing, raw_axes, region = self.job.packing, self.problem.raw_axes, self.tiling.packed
        assert packing is not None and raw_axes is not None and region is not None
        raw = self._source_box(tile, raw_axes, 1)
        box = self._source_box(tile, self.axes, 1)
        raw_pitch = raw.pitches()
        axis = packing.axis
        original = raw_axes[axis]
        starts = list(box.first)
        steps = [1, 1, 1]
        starts[axis] = original.start(box.first[axis]) + block * packing.taps
        steps[axis] = original.stride
        # Only the packed axis can leave the tensor; the others count from their first row.
        base = self.tiling.input.slot(slot, self.tiling.input_slots)
        source = base + sum((starts[d] - raw.first[d]) * raw_pitch[d] for d in range(3))
        bounds = [starts[d] + box.size[d] for d in range(3)]
        bounds[axis] = original.size
        for d in range(3):
            if d != axis:
                starts[d], bounds[d] = 0, box.size[d]
        taps = min(packing.taps, original.kernel - block * packing.taps)
        window = [1, 1, 1]
        window[axis] = taps
        nest = (*window, *box.size, 1)
        strides = (*raw_pitch[:3], *(raw_pitch[d] * steps[d] for d in range(3)), 0)
        slot_row = region.slot(tile % self.tiling.input_slots, self.tiling.input_slots)
        counts = (*box.size, 1)
        return Reduce(
            op=ReduceOp.PACK,
            signed=int(self.job.signed),
            counts=counts,
            window=(window[0], window[1], window[2]),
            source=row_field(source),
            source_deltas=deltas(nest, strides),
            destination=slot_row + block * box.positions,
            destination_deltas=deltas(counts, box.pitches()),
            starts=tuple(starts),
            steps=tuple(steps),
            bounds=tuple(bounds),
            pad=self.job.zero_point & 0xFF,
            pack_lanes=packing.lanes,
            low=-128 if self.job.signed else 0,
            high=127 if self.job.signed else 255,
        )

    # Computation

    def _operand_row(self, tile: int, slots: Slots) -> int:
        if self.tiling.packed is None:
            return self.tiling.input.slot(slots["input"], self.tiling.input_slots)
        return self.tiling.packed.slot(tile % self.tiling.input_slots, self.tiling.input_slots)

    def _array(
        self, tile: int, part: Ranges, group: int, piece: int, bank: int, slots: Slots
    ) -> None:
        config, job = self.config, self.job
        box = self._source_box(tile, self.axes, self.problem.blocks)
        pitches = box.pitches()
        first_group, count = self.groups[group]
        first_block, blocks = self.pieces[piece]
        row = self._operand_row(tile, slots)
        row += (job.first_block[first_group] + first_block) * pitches[3]
        starts, bounds = [], []
        for d, axis in enumerate(self.axes):
            start = axis.start(part[d][0])
            row += (start - box.first[d]) * pitches[d]
            # Where nothing is clipped, coordinates count from the tile, to stay in their field.
            starts.append(0 if axis.free else start)
            bounds.append(part[d][1] if axis.free else axis.size)
        counts = (
            *(p[1] for p in part),
            count,
            *(axis.kernel for axis in self.axes),
            blocks,
        )
        strides = (
            *(p * a.stride for p, a in zip(pitches[:3], self.axes, strict=True)),
            job.block_step * pitches[3],
            *(p * a.dilation for p, a in zip(pitches[:3], self.axes, strict=True)),
            pitches[3],
        )
        self.emitter.emit(
            Array(
                mode=ArrayMode.GEMM,
                accumulate=int(piece > 0),
                signed=int(job.signed),
                zero_point=job.zero_point & 0xFF,
                activation=row_field(row),
                weight=self.weight_base + slots["weight"] * self.piece_beats,
                accumulator=bank * config.memory.accumulator_rows,
                counts=counts,
                deltas=deltas(counts, strides),
                starts=tuple(starts),
                steps=tuple(axis.stride for axis in self.axes),
                dilations=tuple(axis.dilation for axis in self.axes),
                bounds=tuple(bounds),
            )
        )

    def _drain(
        self, tile: int, part: Ranges, group: int, bank: int, out_slot: int, parameter: int
    ) -> None:
        config, job = self.config, self.job
        row, first, size = self._output(tile, out_slot)
        box = Box(first, size, 0, 1)
        pitches = box.pitches()
        pools = tuple(axis.pool for axis in self.axes)
        counts = tuple(p[1] // pool for p, pool in zip(part, pools, strict=True))
        ax, ay = part[0][1], part[1][1]
        along = (1, ax, ax * ay)
        positions = product([p[1] for p in part])
        group_count = self.groups[group][1]
        nest = (*pools, *counts, group_count)
        accumulator = (*along, *(a * p for a, p in zip(along, pools, strict=True)), positions)
        per_row = config.array.blocks_per_row
        out_nest = (per_row, *counts, group_count)
        out = (pitches[3], *pitches[:3], per_row * pitches[3])
        for d in range(3):
            row += (part[d][0] // pools[d] - first[d]) * pitches[d]
        self.emitter.emit(
            Drain(
                accumulator=bank * config.memory.accumulator_rows,
                counts=(*counts, group_count),
                window=pools,
                accumulator_deltas=deltas(nest, accumulator),
                destination=row,
                destination_deltas=deltas(out_nest, out),
                parameter=self.parameter_base + parameter * self.parameter_slot,
                zero_point=job.out_zero_point,
                low=job.low,
                high=job.high,
            )
        )
