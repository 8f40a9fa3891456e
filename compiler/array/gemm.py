"""Emission of a tiled convolution in GEMM mode: loads, packing, ARRAY, DRAIN, stores."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Hashable
from typing import ClassVar

from compiler.array.constants import Constants
from compiler.array.fields import Place, array_instruction, drain_instruction
from compiler.array.job import Job, boxes
from compiler.array.tail import Banks, Tail
from compiler.emit.emitter import Emitter
from compiler.emit.schedule import Ring, Slots, Step, run
from compiler.emit.transfers import Box, first_parts, load_box, store_box
from compiler.tile.geometry import Axis, Range, Triple, cuts, product
from compiler.tile.parts import DIRECT, Part, parts_of
from compiler.tile.problem import Tiling
from compiler.tile.regions import Region
from hw.arch.isa import Reduce, Unit, UnitInstruction
from hw.arch.layout import ceil_div

BUSY = 0.9
"""Cycles of the port for each of the array from which on transfers make the array wait."""


class GemmEmission:
    """Emits one job with one tiling.

    Parameters
    ----------
    emitter, job, tiling: to where, what, how.
    guest: the layer before is computed meanwhile (compiler/backend/guests.py): it has half of the
        weight memory, and all but the last rows of the accumulators.
    """

    CONSTANTS: ClassVar[type[Constants]] = Constants

    def __init__(self, emitter: Emitter, job: Job, tiling: Tiling, guest: bool = False):
        rows = product(tiling.accumulator) * tiling.group
        self._accumulator = emitter.config.memory.accumulator_rows - rows if guest else 0
        self.emitter = emitter
        self.config = emitter.config
        self.job = job
        self.tiling = tiling
        self.problem = job.problem
        self.axes = job.problem.axes
        self.tiles = boxes([cuts(a.out, n) for a, n in zip(self.axes, tiling.load, strict=True)])
        self.groups = cuts(job.problem.groups, tiling.group)
        self.constants = self.CONSTANTS(emitter, job, tiling, guest)
        self.pieces = self.constants.pieces
        self.busy = tiling.sums.port > BUSY * tiling.sums.array
        # A busy port has no time to lose behind the operand.
        self.late_parameters = emitter.parameters.meets and not self.busy
        self.operand = self._operand_parts()
        self._output_turn = 0
        self._banks, self._bank = Banks(), 0
        # Numbers of the steps that end with a store, and what that stores.
        self._stores: list[tuple[int, Box]] = []

    def _lies_whole(self, region: Region | None) -> bool:
        """Whether a region holds all results at a time, as they lie in DRAM.

        Groups of blocks of the only tile then have a place each, instead of two that take turns:
        what is on chip need not be loaded again (compiler/emit/onchip.py).
        """
        if region is None or len(self.tiles) > 1 or self.job.phases is not None:
            return False
        blocks = self.problem.groups * self.config.array.blocks_per_row
        return blocks * self._target_box(0, 0).positions <= region.rows

    def _slot(self, region: Region, tile: int, group: int, turn: int) -> int:
        """First row of what a tile makes for a group of blocks, or is joined with there."""
        if not self._lies_whole(region):
            return region.slot(turn, 2)
        box = self._target_box(tile, group)
        return region.row + box.block * box.positions

    @property
    def _just_stored(self) -> bool:
        """Whether the operand's last row is one of those that were stored last."""
        number, _ = self.emitter.stored(self.job.source.last)
        return number > 0 and number + self.config.queue_depth > self.emitter.dispatched(Unit.STORE)

    def _operand_parts(self) -> list[Range]:
        """Blocks of the operand that come together.

        Where the port is busy, or the operand comes once, those of each piece of the weights: the
        array begins with the first ones while the layer before still makes the last.
        """
        pieces = [piece.blocks for piece in self.pieces]
        dense = not any(self.job.first_block) and len(set(pieces)) == len(pieces)
        once = len(self.tiles) == 1
        if (self.busy or once) and dense and self.job.packing is None:
            return pieces
        return [(0, self.problem.blocks)]

    def emit(self) -> None:
        """Emit the whole layer."""
        tiling = self.tiling
        spread = not self.constants.resident
        rings = self.constants.rings(free=self._just_stored)
        if isinstance(self.job.tail, Tail):
            whole = self._lies_whole(tiling.beside)
            rings["beside"] = Ring(len(self.groups) if whole else 2, self._fill_beside)
        if self.job.packing is None:
            for number, blocks in enumerate(self.operand):
                fill = functools.partial(self._fill_input, blocks)
                rings[f"input{number}"] = Ring(
                    tiling.input_slots, fill, spread and len(self.operand) == 1
                )
        else:
            rings["raw"] = Ring(tiling.input_slots, self._fill_raw)
        steps = self._steps()
        if self.job.tail is not None and not isinstance(self.job.tail, Tail):
            behind = self.job.tail.behind(self.emitter, tiling.trailing, self._banks)
            cycles = self._array_cycles() // len(steps)
            steps = behind.woven(steps, self.job.target, self._stores, len(self.groups), cycles)
            rings |= behind.rings
        transformed = self.job.kernel.algorithm != DIRECT
        run(
            self.emitter,
            rings,
            steps,
            late=transformed or self.busy,
            short=not transformed or self.busy,
        )

    def _array_cycles(self) -> int:
        """Of the convolution alone."""
        trailed = self.problem.trailed
        return self.tiling.sums.array - (0 if trailed is None else trailed.array)

    def probe(self) -> None:
        """Emit a few instructions of every kind: the first, the largest and the last tile's."""
        largest = max(range(len(self.tiles)), key=lambda n: self._source_box(n, self.axes, 1).rows)
        groups, pieces = ({0, len(parts) - 1} for parts in (self.groups, self.pieces))
        for tile in {0, largest, len(self.tiles) - 1}:
            whole = functools.partial(self._fill_input, (0, self.problem.blocks))
            fill = whole if self.job.packing is None else self._fill_raw
            for instruction in fill(tile, 0):
                self.emitter.emit(instruction)
            if self.job.packing is not None:
                self._packing_step(tile).body({"raw": 0})
            parts = parts_of(
                self.axes, self.job.kernel.algorithm, self.tiles[tile], self.tiling.accumulator
            )
            slots = {"weight": 0, "parameter": 0, "input0": 0}
            for part, group in itertools.product({parts[0], parts[-1]}, groups):
                for piece in pieces:
                    self._array(tile, part, group, piece, 1, slots)
                self._drain(tile, part, group, 1, 1, 0)
            for group in groups if isinstance(self.job.tail, Tail) else ():
                for instruction in self._fill_beside((tile, group), 1):
                    self.emitter.emit(instruction)
                self._join(tile, group, 1, 1)
            self._apart(tile, 1)
            self._store(tile, 0, 1)

    # Steps

    def _steps(self) -> list[Step]:
        tiles, groups = range(len(self.tiles)), range(len(self.groups))
        if self.tiling.group_outer:
            order = [(tile, group) for group in groups for tile in tiles]
        else:
            order = [(tile, group) for tile in tiles for group in groups]
        steps: list[Step] = []
        self._stores.clear()
        packed = 0
        for tile, group in order:
            if self.job.packing is not None:
                # The next tile is packed while this one is computed.
                while packed < min(tile + self.tiling.input_slots, len(self.tiles)):
                    steps.append(self._packing_step(packed))
                    packed += 1
            steps += self._tile_steps(tile, group)
            self._stores.append((len(steps) - 1, self._target_box(tile, group)))
        return steps

    def _tile_steps(self, tile: int, group: int) -> list[Step]:
        box = self.tiles[tile]
        algorithm = self.job.kernel.algorithm
        parts = parts_of(self.axes, algorithm, box, self.tiling.accumulator)
        steps = []
        out_slot = self._output_turn
        self._output_turn = 1 - out_slot
        for number, part in enumerate(parts):
            for piece in range(len(self.pieces)):
                # Transfers come in this order: the operand may have to wait for the layer before.
                # So may parameters, whose memory is small; then they come last.
                needs: dict[str, Hashable] = {"weight": (group, piece)}
                parameter: dict[str, Hashable] = {"parameter": self.constants.chunk(group)}
                if not self.late_parameters:
                    needs |= parameter
                if self.job.packing is None:
                    needs[f"input{piece % len(self.operand)}"] = tile
                needs |= parameter
                last = piece == len(self.pieces) - 1
                store = last and number == len(parts) - 1
                if store and isinstance(self.job.tail, Tail):
                    needs["beside"] = (tile, group)

                def body(
                    slots: Slots,
                    part: Part = part,
                    piece: int = piece,
                    last: bool = last,
                    store: bool = store,
                ) -> None:
                    if piece == 0:
                        self._bank = self._banks.take()
                    self._array(tile, part, group, piece, self._bank, slots)
                    if last:
                        self._drain(tile, part, group, self._bank, out_slot, slots["parameter"])
                    if "beside" in slots:
                        self._join(tile, group, out_slot, slots["beside"])
                    if store:
                        self._apart(tile, out_slot)
                        self._store(tile, group, out_slot)

                steps.append(Step(needs, body))
        return steps

    # Transfers

    def _source_box(self, tile: int, axes: tuple[Axis, Axis, Axis], blocks: int) -> Box:
        ranges = [axis.source(cut) for axis, cut in zip(axes, self.tiles[tile], strict=True)]
        first = (ranges[0][0], ranges[1][0], ranges[2][0])
        size = (ranges[0][1], ranges[1][1], ranges[2][1])
        return Box(first, size, 0, blocks)

    def _fill_input(self, part: Range, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, int)
        row = self.tiling.input.slot(slot, self.tiling.input_slots)
        whole = self._source_box(key, self.axes, self.problem.blocks)
        # Transfers of some blocks each, long enough to hide their latency.
        begin, size = part
        rows = size * whole.positions
        count = max(1, min(size, rows // 1024), first_parts(size, rows) if key == 0 else 1)
        parts = [(begin + first, n) for first, n in cuts(size, ceil_div(size, count))]
        return [
            load
            for first, blocks in parts
            for load in load_box(
                self.job.source,
                dataclasses.replace(whole, block=first, blocks=blocks),
                row + first * whole.positions,
            )
        ]

    def _output(self, tile: int) -> tuple[Triple, Triple]:
        """First output and size of a tile after the pool."""
        cut = self.tiles[tile]
        first = tuple(c[0] // a.pool for c, a in zip(cut, self.axes, strict=True))
        size = tuple(c[1] // a.pool for c, a in zip(cut, self.axes, strict=True))
        return (first[0], first[1], first[2]), (size[0], size[1], size[2])

    def _target_box(self, tile: int, group: int) -> Box:
        """What a tile makes for a group of output blocks, after the pool."""
        first, size = self._output(tile)
        begin, count = self.groups[group]
        per_group = self.config.array.blocks_per_row
        block = begin * per_group
        blocks = min(count * per_group, self.problem.out_blocks - block)
        return Box(first, size, block, blocks)

    def _store(self, tile: int, group: int, out_slot: int) -> None:
        region, pitches = self.tiling.output, None
        box, phases = self._target_box(tile, group), self.job.phases
        if isinstance(self.job.tail, Tail) or phases is not None:
            assert self.tiling.joined is not None
            region = self.tiling.joined
        if phases is not None:
            pitches, box = phases.pitches(box.size), phases.box(box)
        row = self._slot(region, tile, group, out_slot)
        self.emitter.emit(store_box(self.job.target, box, row, pitches))

    def _apart(self, tile: int, out_slot: int) -> None:
        """Take results that shared a pass apart, if they did."""
        phases, joined, kernel = self.job.phases, self.tiling.joined, self.job.kernel
        if phases is None:
            return
        assert joined is not None
        _, size = self._output(tile)
        row, result = self.tiling.output.slot(out_slot, 2), joined.slot(out_slot, 2)
        for instruction in phases.apart(self.config, size, row, result, kernel.out_zero_point):
            self.emitter.emit(instruction)

    # The tail

    def _fill_beside(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, tuple) and isinstance(self.job.tail, Tail)
        assert self.tiling.beside is not None
        view = self.job.target
        view = dataclasses.replace(view, address=view.address + self.job.tail.offset)
        tile, group = key
        row = self._slot(self.tiling.beside, tile, group, slot)
        return [*load_box(view, self._target_box(tile, group), row)]

    def _join(self, tile: int, group: int, out_slot: int, slot: int) -> None:
        beside, joined = self.tiling.beside, self.tiling.joined
        assert isinstance(self.job.tail, Tail) and beside is not None and joined is not None
        rows = self._target_box(tile, group).rows
        turns = (self.tiling.output, out_slot), (beside, slot), (joined, out_slot)
        places = (self._slot(region, tile, group, turn) for region, turn in turns)
        for instruction in self.job.tail.instructions(rows, *places):
            self.emitter.emit(instruction)

    # Packing

    def _fill_raw(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        assert isinstance(key, int)
        axes = self.problem.raw_axes
        assert axes is not None
        box = self._source_box(key, axes, self.problem.raw_blocks)
        row = self.tiling.input.slot(slot, self.tiling.input_slots)
        return [*load_box(self.job.source, box, row)]

    def _packing_step(self, tile: int) -> Step:
        def body(slots: Slots) -> None:
            for block in range(self.problem.blocks):
                self.emitter.emit(self._pack(tile, block, slots["raw"]))

        return Step({"raw": tile}, body)

    def _pack(self, tile: int, block: int, slot: int) -> Reduce:
        """One packed block of a tile."""
        packing, raw_axes, region = self.job.packing, self.problem.raw_axes, self.tiling.packed
        assert packing is not None and raw_axes is not None and region is not None
        slots = self.tiling.input_slots
        rows = self.tiling.input.slot(slot, slots), region.slot(tile % slots, slots)
        raw, box = (self._source_box(tile, axes, 1) for axes in (raw_axes, self.axes))
        kernel = self.job.kernel
        return packing.instruction(
            block, raw_axes, raw, box, rows, kernel.zero_point, kernel.signed
        )

    # Computation

    def _operand_row(self, tile: int, slots: Slots) -> int:
        if self.tiling.packed is None:
            # All parts of a tile have the same slot.
            slot = next(slot for ring, slot in slots.items() if ring.startswith("input"))
            return self.tiling.input.slot(slot, self.tiling.input_slots)
        return self.tiling.packed.slot(tile % self.tiling.input_slots, self.tiling.input_slots)

    def _array(
        self, tile: int, part: Part, group: int, piece: int, bank: int, slots: Slots
    ) -> None:
        box = self._source_box(tile, self.axes, self.problem.blocks)
        pitches = box.pitches()
        first_group, count = self.groups[group]
        weight = self.constants.weight(slots["weight"])
        parts = self.constants.parts(self.pieces[piece])
        if self.job.packing is not None and (tile, group, piece) == (0, 0, 0):
            # Nothing is computed yet: what is packed first is computed while the rest is packed.
            parts = [*parts[0].block_by_block(), *parts[1:]]
        for number, each in enumerate(parts):
            first_block, blocks = each.blocks
            skipped = self.job.first_block[first_group] + first_block
            row = self._operand_row(tile, slots) + skipped * pitches[3]
            self.emitter.emit(
                array_instruction(
                    self.config,
                    self.job.kernel,
                    part,
                    Place(row, box.first, box.size, pitches),
                    groups=count,
                    blocks=blocks,
                    weight=weight,
                    bank=bank,
                    block_step=self.job.block_step,
                    accumulate=piece > 0 or number > 0,
                    taps=each.taps,
                    accumulator=self._accumulator,
                )
            )
            taps = product([n for _, n in each.taps])
            weight += count * blocks * taps * self.config.weight_block_beats

    def _drain(
        self, tile: int, part: Part, group: int, bank: int, out_slot: int, parameter: int
    ) -> None:
        first, size = self._output(tile)
        row = self._slot(self.tiling.output, tile, group, out_slot)
        self.emitter.emit(
            drain_instruction(
                self.config,
                self.job.kernel,
                part,
                Place(row, first, size, Box(first, size, 0, 1).pitches()),
                groups=self.groups[group][1],
                bank=bank,
                parameter=self.constants.parameter(parameter, group),
                accumulator=self._accumulator,
            )
        )
