"""Weights and requantization parameters of a region on chip.

Each stage's come by groups of its blocks into slots of its own. Where blocks pass in chunks, those
of all stages come with their chunk, weights in a transfer and parameters in another.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable

from compiler.emit.emitter import Emitter
from compiler.emit.schedule import Ring, Slots
from compiler.regions.order import Turn
from compiler.regions.plan import Plan
from compiler.regions.stage import ArrayStage, Part
from compiler.tile.geometry import Range
from hw.arch.isa import Space, UnitInstruction

PIECE_BEATS = 768
"""Of constants in a transfer: one that runs ahead holds up what the array waits for."""
SPACES = (Space.WEIGHT, Space.PARAMETER)
CHUNK = "constants"


class Constants:
    """Takes room for a plan's constants, and brings them there.

    Parameters
    ----------
    emitter, plan: to where, of what.
    """

    def __init__(self, emitter: Emitter, plan: Plan):
        self.emitter, self.plan = emitter, plan
        chunk, stages = plan.chunks[0], plan.array
        units = [stage.group if chunk is None else chunk[1] for stage in stages]
        held = plan.held if chunk is None else plan.held * len(stages)
        # Beats of a slot, weights and parameters, by stage.
        self._slots = [
            tuple(n * beats for beats in stage.unit_beats)
            for n, stage in zip(units, stages, strict=True)
        ]
        totals = [
            sum(h * slot[n] for h, slot in zip(held, self._slots, strict=True)) for n in range(2)
        ]
        bases = emitter.weights.take(totals[0]), emitter.parameters.take(totals[1])
        self._bases = []
        for h, slot in zip(held, self._slots, strict=True):
            self._bases.append(bases)
            if chunk is None:
                bases = bases[0] + h * slot[0], bases[1] + h * slot[1]

    def rings(self) -> dict[str, Ring]:
        """Of every stage, or of chunks."""
        if self.plan.by_block:
            return {CHUNK: Ring(self.plan.held[0], self._fill_chunk)}
        return {
            self._name(n): Ring(held, functools.partial(self._fill, n))
            for n, held in enumerate(self.plan.held)
        }

    @staticmethod
    def _name(stage: int) -> str:
        return f"{CHUNK} {stage}"

    def needs(self, turn: Turn, blocks: Range | None) -> dict[str, Hashable]:
        """What the parts of a turn need."""
        if blocks is not None:
            return {CHUNK: self.plan.chunks.index(blocks)}
        return {self._name(turn.stage): turn.parts[0].number}

    def place(self, stage: int, blocks: Range | None, part: Part, slots: Slots) -> tuple[int, int]:
        """First beats of a part's weights and parameters."""
        base = self._bases[stage]
        if blocks is None:
            slot, beats = slots[self._name(stage)], self._slots[stage]
            return base[0] + slot * beats[0], base[1] + slot * beats[1]
        slot = slots[CHUNK]
        found = []
        for n in range(2):
            before = sum(each.unit_beats[n] for each in self.plan.array[:stage])
            whole = sum(each[n] for each in self._slots)
            skipped = (part.units[0] - blocks[0]) * self.plan.array[stage].unit_beats[n]
            found.append(base[n] + slot * whole + blocks[1] * before + skipped)
        return found[0], found[1]

    def _data(self, owner: ArrayStage, units: Range) -> tuple[bytes, bytes]:
        """Weights and parameters of some units of a stage."""
        return owner.weights(units), owner.parameters(units)

    def _fill(self, stage: int, key: Hashable, slot: int) -> list[UnitInstruction]:
        """Weights, then parameters, whose memory is small: they wait for the layer before.

        In transfers that are short enough to let others in between.
        """
        assert isinstance(key, int)
        owner = self.plan.array[stage]
        units = owner.groups(None)[key]
        size = PIECE_BEATS * self.emitter.config.port.bytes
        loads: list[UnitInstruction] = []
        for n, data in enumerate(self._data(owner, units)):
            local = self._bases[stage][n] + slot * self._slots[stage][n]
            for first in range(0, len(data), size):
                place = local + first // self.emitter.config.port.bytes
                piece = data[first : first + size]
                loads.append(self.emitter.load_constant(piece, SPACES[n], place))
        return loads

    def _fill_chunk(self, key: Hashable, slot: int) -> list[UnitInstruction]:
        """Weights of all stages in a transfer, and their parameters in one."""
        assert isinstance(key, int)
        chunk = self.plan.chunks[key]
        some = [
            self._data(stage, units) for stage in self.plan.array for units in stage.groups(chunk)
        ]
        loads: list[UnitInstruction] = []
        for n, space in enumerate(SPACES):
            data = b"".join(each[n] for each in some)
            whole = sum(each[n] for each in self._slots)
            local = self._bases[0][n] + slot * whole
            loads.append(self.emitter.load_constant(data, space, local))
        return loads
