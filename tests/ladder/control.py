"""Programs with control flow: loops, branches that depend on data, scalars, address registers."""

from __future__ import annotations

import random

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    ALL_UNITS,
    Add,
    Branch,
    Condition,
    Elementwise,
    Fence,
    Instruction,
    Load,
    Loop,
    Next,
    Scalar,
    Set,
    Store,
    Unit,
    UnitInstruction,
)
from hw.arch.program import Program
from tests.ladder.frame import Frame
from tests.ladder.linking import DATA, OUTPUT, begin, halt, link, place_waits


def looped(config: AcceleratorConfig, trips: int = 3) -> Program:
    """Loops and address registers: the same rows moved, drained and stored trip by trip."""
    size = config.port.bytes
    body: list[UnitInstruction] = [
        Load(dram=DATA, dram_register=1, local=0, beats=24),
        Elementwise(
            counts=(24, 1, 1, 1),
            source0=0,
            source0_deltas=(1, 0, 0, 0),
            destination=config.memory.activation_bank_rows,
            destination_deltas=(1, 0, 0, 0),
        ),
        Store(dram=OUTPUT, dram_register=2, local=config.memory.activation_bank_rows, beats=24),
    ]
    code: list[Instruction] = [
        begin(config),
        Set(rd=1, immediate=0),
        Set(rd=2, immediate=0),
        Loop(level=0, count=trips),
        Fence(),
        *place_waits(body, config),
        *(_add(register, 32 * size) for register in (1, 2)),
        Next(level=0),
        halt(),
    ]
    return link(config, code, Frame(config, 1).data())


def _add(register: int, amount: int, other: int = 0) -> Add:
    return Add(rd=register, rs=register, rt=other, immediate=amount)


ROWS = 64
"""Rows of each bank that `branching` uses."""
BYTE, OTHER, TRIPS = 1, 2, 3
"""Registers of `branching`: a scalar that was read, what it is compared with, trips left."""


def branching(config: AcceleratorConfig, seed: int, blocks: int = 6, trips: int = 3) -> Program:
    """Blocks that read a byte and branch on it over some work, all of them inside a branch loop.

    The byte also moves the block's load, so that every trip finds others. Branches go forward by
    1 (to the next instruction, taken or not) up to the end of their block. A block begins with a
    fence, others stand for some units; inside it, work waits for the latest instruction of every
    unit it could meet.
    """
    draw = random.Random(seed)
    work = _Work(config, draw)
    code: list[Instruction] = [
        begin(config),
        work.load(register=0),
        work.copy(waits=(1, 0, 0, 0, 0), rows=ROWS),
        work.store(waits=(0, 0, 0, 1, 0)),
        Set(rd=TRIPS, immediate=trips),
    ]
    first = len(code)
    for _ in range(blocks):
        code += [Fence(), work.load(register=BYTE), work.scalar()]
        code += [_add(BYTE, 0, BYTE)] * (config.port.bytes.bit_length() - 1)  # ·port width
        body = [
            work.draw() if draw.random() < 0.75 else Fence(units=draw.randint(1, ALL_UNITS))
            for _ in range(draw.randint(0, 5))
        ]
        code.append(
            Branch(
                condition=draw.choice(tuple(Condition)),
                rs=BYTE,
                rt=OTHER,
                target=len(code) + 1 + draw.randint(0, len(body)),
            )
        )
        code += body
    code += [
        _add(TRIPS, -1),
        Branch(condition=Condition.NOT_EQUAL, rs=TRIPS, rt=0, target=first),
        halt(),
    ]
    return link(config, code, Frame(config, seed).data())


class _Work:
    """Instructions of `branching`: LOAD fills bank 0, VECTOR copies to bank 1, STORE reads it."""

    def __init__(self, config: AcceleratorConfig, draw: random.Random):
        self._draw = draw
        self._bank = config.memory.activation_bank_rows
        self._lanes = config.lane_block
        self._beat = config.port.bytes

    def draw(self) -> Instruction:
        """Something that a branch may skip."""
        after = [0] * len(Unit)
        for unit in (Unit.LOAD, Unit.VECTOR, Unit.STORE):
            after[unit] = 1
        match self._draw.randrange(4):
            case 0:
                return self.copy(tuple(after), self._draw.randint(1, ROWS))
            case 1:
                return self.store(tuple(after))
            case 2:
                return _add(OTHER, self._draw.randint(-300, 300))
            case _:
                return Set(rd=OTHER, immediate=self._draw.randint(-500, 900))

    def load(self, register: int) -> Load:
        """All rows of bank 0."""
        place = DATA + 0x1000 + self._beat * self._draw.randint(0, 99)
        return Load(dram=place, dram_register=register, local=0, beats=ROWS)

    def scalar(self) -> Scalar:
        """A byte of bank 0, after its load."""
        return Scalar(
            waits=(1, 0, 0, 0, 0),
            rd=BYTE,
            row=self._draw.randrange(ROWS),
            lane=self._draw.randrange(self._lanes),
            signed=self._draw.randint(0, 1),
        )

    def copy(self, waits: tuple[int, ...], rows: int) -> Elementwise:
        """Rows of bank 0 to bank 1."""
        return Elementwise(
            waits=waits,
            counts=(rows, 1, 1, 1),
            source0_deltas=(1, 0, 0, 0),
            destination=self._bank,
            destination_deltas=(1, 0, 0, 0),
        )

    def store(self, waits: tuple[int, ...]) -> Store:
        """Rows of bank 1."""
        place = OUTPUT + self._beat * self._draw.randint(0, 999)
        return Store(waits=waits, dram=place, local=self._bank, beats=self._draw.randint(1, ROWS))
