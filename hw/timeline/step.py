"""What was executed, instruction by instruction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hw.arch.isa import Array, Instruction, Unit


class Step(NamedTuple):
    """One executed instruction.

    Attributes
    ----------
    pc: index in the program.
    instruction: with registers applied (register fields are zero).
    unit: where it was dispatched; None if the sequencer executed it.
    awaits: per unit, completions it must see before it starts; 0 for none.
    ordinal: 1 for the first instruction dispatched to its unit, and so on; 0 for the sequencer's.
    taken: whether it jumps (BRANCH, NEXT), be it to the instruction after it.
    """

    pc: int
    instruction: Instruction
    unit: Unit | None
    awaits: tuple[int, ...]
    ordinal: int
    taken: bool = False


def split_awaits(instruction: Instruction, awaits: Sequence[int]) -> tuple[Sequence[int], int]:
    """What holds an instruction's issue, and which DRAIN holds a `late` ARRAY's stream (0: none).

    Parameters
    ----------
    instruction, awaits: of a `Step`.
    """
    if not (isinstance(instruction, Array) and instruction.late):
        return awaits, 0
    held = [0 if unit == Unit.DRAIN else count for unit, count in enumerate(awaits)]
    return held, awaits[Unit.DRAIN]
