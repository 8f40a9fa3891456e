"""LOADs of constants run ahead, into time in which the memory port would be idle.

A layer's first weights come, as it is emitted, when the layer before has no more LOADs; where that
one waits for something (a softmax, a norm, its own operand), the port waits with it. Here a piece
of program is followed with a coarse clock: before each LOAD that has to wait, the next constants
are brought, as far as their places in the memories are free by then. Then every constant stands in
front of the first instruction that is issued later.

Waits are filled in behind this. docs/decisions/0044-constants-run-ahead.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from compiler.emit.touches import registered
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, Drain, Instruction, Load, Space, Store, Unit, UnitInstruction
from hw.arch.program import Block, Layer
from hw.arch.timing import (
    array_duration,
    array_occupancy,
    drain_duration,
    transfer_beats,
    vector_duration,
)
from hw.arch.walk import Memory, accesses

RATE = 0.96
"""Beats a cycle of a busy port."""
LATENCY = 45
"""Cycles from the last beat that is asked for to the LOAD's `done`."""
LEAST_GAP = 512
"""Cycles of an idle port that are worth a LOAD: shorter ones are latencies of LOADs in line."""
MARGIN = 100
"""Cycles that a place is free before a LOAD to it runs ahead: the next one in line waits behind."""
LATE = 8
"""Cycles by which a LOAD that waits may begin later because of those that run ahead."""
KEPT = (Memory.WEIGHT, Memory.PARAMETER, Memory.TABLE)
"""Memories that constants are brought to."""


def run_ahead(
    code: Sequence[Instruction], blocks: Sequence[Block], first: int, config: AcceleratorConfig
) -> list[int]:
    """The order of instructions in which constants come earlier: their numbers as they are.

    Parameters
    ----------
    code: with waits. blocks: of the program, none where it has no control flow; nothing leaves its
        block, nor passes an instruction of the sequencer.
    first: DRAM address of the first constant.
    config: the accelerator.
    """
    order: list[int] = []
    edges = {edge for block in blocks for edge in (block.first, block.last)}
    piece: list[int] = []
    for number, instruction in enumerate(code):
        if number in edges or not isinstance(instruction, UnitInstruction):
            order += _Piece(code, piece, first, config).order()
            piece = []
        if isinstance(instruction, UnitInstruction):
            piece.append(number)
        else:
            order.append(number)
    return [*order, *_Piece(code, piece, first, config).order()]


def constant(instruction: Instruction, first: int) -> bool:
    """Whether it brings constants, which lie in DRAM from an address on; not to the scratchpad."""
    return (
        isinstance(instruction, Load)
        and instruction.dram >= first
        and instruction.space != Space.ACTIVATION
    )


def moved_layers(
    layers: Sequence[Layer], code: Sequence[Instruction], order: Sequence[int], first: int
) -> list[Layer]:
    """Layers of reordered instructions: constants that come earlier are of the layer there.

    Parameters
    ----------
    code: in the old order. order: old numbers in the new one. first: as in `run_ahead`.
    """
    ends = np.zeros(len(code) + 1, np.int64)
    for place, number in enumerate(order):
        if not constant(code[number], first):
            ends[number + 1] = place + 1
    ends = np.maximum.accumulate(ends)
    ends[len(code)] = len(code)
    return [
        dataclasses.replace(layer, first=int(ends[layer.first]), last=int(ends[layer.last]))
        for layer in layers
    ]


class _Piece:
    """Instructions of units that follow one another.

    Parameters
    ----------
    code: of the program, with waits.
    numbers: of the piece's instructions.
    first, config: see `run_ahead`.
    """

    def __init__(
        self,
        code: Sequence[Instruction],
        numbers: Sequence[int],
        first: int,
        config: AcceleratorConfig,
    ):
        self._numbers, self._config = numbers, config
        self._code = [i for n in numbers if isinstance(i := code[n], UnitInstruction)]
        self._constant = [constant(each, first) for each in self._code]
        size = len(self._code)
        self._start, self._done = [0.0] * size, [0.0] * size
        self._port = 0.0
        self._brought: list[int] = []  # LOADs in the order in which they begin

    def order(self) -> list[int]:
        """Numbers in the new order."""
        # A register may move what an instruction uses: nothing then is known to be free.
        if sum(self._constant) > 1 and not any(map(registered, self._code)):
            self._before = self._users()
            self._follow()
            return [self._numbers[place] for place in self._placed()]
        return [*self._numbers]

    def _users(self) -> list[int]:
        """By constant: the last instruction before it that uses its place; -1 if there is none."""
        last: dict[Memory, np.ndarray[tuple[int], np.dtype[np.int64]]] = {
            memory: np.full(0, -1, np.int64) for memory in KEPT
        }
        before = [-1] * len(self._code)
        for number, instruction in enumerate(self._code):
            for access in accesses(instruction, self._config):
                if access.memory not in last:
                    continue
                held = last[access.memory]
                if access.high >= len(held):
                    held = np.pad(held, (0, access.high + 1 - len(held)), constant_values=-1)
                    last[access.memory] = held
                place = slice(access.low, access.high + 1)
                if self._constant[number]:
                    before[number] = max(before[number], int(held[place].max()))
                held[place] = number
        return before

    # The clock

    def _follow(self) -> None:
        """Times of all instructions, with constants as early as the port has time for them."""
        free = dict.fromkeys(Unit, 0.0)
        given: dict[Unit, list[float]] = {unit: [] for unit in Unit}  # `done` of each, or of LOADs
        taken: set[int] = set()
        constants = [n for n, is_constant in enumerate(self._constant) if is_constant]
        for number, instruction in enumerate(self._code):
            unit = instruction.UNIT
            ready = 0.0
            for other, distance in enumerate(instruction.waits):
                done = given[Unit(other)]
                if 0 < distance <= len(done):
                    ready = max(ready, done[-distance])
            if unit is Unit.LOAD:
                if number not in taken:
                    self._fill_gap(number, ready, constants, taken)
                    self._bring(number, self._may(number, ready))
                # A wait for a LOAD is one for those before it, too.
                given[unit].append(max(self._done[number], given[unit][-1] if given[unit] else 0))
                continue
            begin = max(ready, free[unit])
            long, occupied = self._duration(instruction)
            if unit is Unit.STORE:
                self._port += long if self._port > begin else 0
            self._start[number], self._done[number] = begin, begin + long
            free[unit] = begin + occupied
            given[unit].append(self._done[number])

    def _may(self, number: int, ready: float) -> float:
        """When a LOAD may begin whose waits are over at some time."""
        if not self._constant[number]:
            return ready
        before = self._before[number]
        return max(ready, self._done[before]) if before >= 0 else ready

    def _fill_gap(self, number: int, ready: float, constants: list[int], taken: set[int]) -> None:
        """Bring constants while the port would wait for a LOAD."""
        wanted = self._may(number, ready)
        while wanted - self._port >= LEAST_GAP:
            while constants and (constants[0] <= number or constants[0] in taken):
                constants.pop(0)
            if not constants or self._before[constants[0]] >= number:
                return
            before = self._before[constants[0]]
            begin = max(self._port, self._done[before] + MARGIN if before >= 0 else 0)
            if begin + self._beats(constants[0]) / RATE > wanted + LATE:
                return
            self._bring(constants[0], begin)
            taken.add(constants[0])

    def _bring(self, number: int, earliest: float) -> None:
        begin = max(earliest, self._port)
        self._port = begin + self._beats(number) / RATE
        self._start[number], self._done[number] = begin, self._port + LATENCY
        self._brought.append(number)

    def _beats(self, number: int) -> int:
        instruction = self._code[number]
        assert isinstance(instruction, Load)
        return transfer_beats(instruction)

    def _duration(self, instruction: UnitInstruction) -> tuple[float, float]:
        """Cycles to `done`, and until the unit takes the next instruction."""
        config = self._config
        match instruction:
            case Array():
                return array_duration(instruction, config), array_occupancy(instruction, config)
            case Drain():
                long = drain_duration(instruction, config)
            case Store():
                long = transfer_beats(instruction)
            case Load():
                raise TypeError("LOADs are brought")
            case _:
                long = vector_duration(instruction, config)
        return long, long + 1

    # Places

    def _placed(self) -> list[int]:
        """The new order: a constant in front of what is issued later, behind its place's user."""
        front: Mapping[int, list[int]] = {number: [] for number in range(len(self._code))}
        latest = -1
        for number in self._brought:
            if not self._constant[number]:
                latest = max(latest, number)
                continue
            place = max(self._before[number], latest) + 1
            while place < number and self._issued(place) < self._start[number]:
                place += 1
            front[place].append(number)
            latest = max(latest, place - 1)
        return [
            each
            for number in range(len(self._code))
            for each in (*front[number], *(() if self._constant[number] else (number,)))
        ]

    def _issued(self, number: int) -> float:
        """When an instruction is issued; LOADs never keep one from being placed behind them."""
        return -1 if self._code[number].UNIT is Unit.LOAD else self._start[number]
