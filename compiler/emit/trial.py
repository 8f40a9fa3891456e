"""Cycles of instructions that are emitted to be timed, not to be kept.

A candidate is emitted alone, on a core that does nothing else, and the event model of the core
(hw/timeline) says when it is done: what the compiler foresees of a finished program and what it
plans with are the same model. Only addresses are of no matter: constants are zeros somewhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from compiler.emit.ahead import run_ahead
from compiler.emit.allocate import ConstantPool
from compiler.emit.dependencies import DependencyTracker
from compiler.emit.emitter import Emitter
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Halt, Instruction, Unit, UnitInstruction
from hw.timeline.model import CoreModel
from hw.timeline.step import Step

CODE, CONSTANTS = 0x7000_0000, 0x5000_0000
"""DRAM addresses of a trial's program and of its constants: behind all that it reads and stores."""
PAGE = 4096
"""Bytes that constants are aligned to: no burst crosses such a line."""
PARTS = 3
"""Parts of a long layer that are emitted (`rest`)."""


class Trial(Emitter):
    """An emitter of what is only timed."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__(config, {}, ConstantPool(0))
        self._end = CONSTANTS

    def constant(self, data: bytes) -> int:
        """A place of its own for any constant; its bytes are not kept."""
        address = self._end
        self._end += -(-len(data) // PAGE) * PAGE
        return address


@dataclasses.dataclass(frozen=True, slots=True)
class Timed:
    """When a trial is done; `issue` and `done` in the order in which constants have run ahead.

    Attributes
    ----------
    cycles: of all of it.
    stored: cycle in which each STORE is done, in order.
    issue, done: of each instruction.
    """

    cycles: int
    stored: Sequence[int]
    issue: Sequence[int]
    done: Sequence[int]


def timed(
    instructions: Sequence[Instruction], config: AcceleratorConfig, ahead: bool = False
) -> Timed:
    """The timeline of unit instructions without waits, which are found here.

    Parameters
    ----------
    instructions, config: what is timed, where.
    ahead: constants run ahead first, as they do in a program.

    Raises
    ------
    TypeError
        If there is anything but unit instructions: nobody knows what a decision skips.
    """
    waiting = _waiting(instructions, config)
    if ahead:
        order = run_ahead(waiting, (), CONSTANTS, config)
        waiting = _waiting([instructions[n] for n in order], config)
    dispatched, steps = [0] * len(Unit), list[Step]()
    for pc, made in enumerate(waiting):
        awaits = awaited(dispatched, made.waits)
        dispatched[made.UNIT] += 1
        steps.append(Step(pc, made, made.UNIT, awaits, dispatched[made.UNIT]))
    steps.append(Step(len(steps), Halt(), None, tuple(0 for _ in Unit), 0))
    model = CoreModel(config, steps, CODE, len(steps))
    model.run()
    units = [(model.units[step.unit], step.ordinal - 1) for step in steps if step.unit is not None]
    issue = [unit.issue[number] for unit, number in units]
    done = [unit.done[number] for unit, number in units]
    return Timed(model.cycles, model.units[Unit.STORE].done, issue, done)


def rest(stored: Sequence[int], sizes: Sequence[int], ends: Sequence[int]) -> int:
    """Cycles of the pieces of a long layer that were not emitted.

    They take as long, for as much, as those between the ends of the first and the second part.

    Parameters
    ----------
    stored: when each piece that was emitted is stored.
    sizes: results of each piece, of those that were not emitted too.
    ends: pieces up to the end of each of the PARTS that were emitted; none if all pieces were.
    """
    if not ends:
        return 0
    first, second, last = ends
    rate = (stored[second - 1] - stored[first - 1]) / sum(sizes[first:second])
    return round(rate * sum(sizes[last:]))


def _waiting(
    instructions: Sequence[Instruction], config: AcceleratorConfig
) -> list[UnitInstruction]:
    tracker, found = DependencyTracker(config), list[UnitInstruction]()
    for instruction in instructions:
        if not isinstance(instruction, UnitInstruction):
            raise TypeError(f"{instruction} has no place in a trial")
        found.append(tracker.add(instruction))
    return found


def awaited(dispatched: Sequence[int], waits: Sequence[int]) -> tuple[int, ...]:
    """Completions of each unit that an instruction awaits.

    Parameters
    ----------
    dispatched: instructions of each unit before it.
    waits: how far the one it waits for lies behind it, 1 for the last one; 0 for none. An arm
        that is passed may put more between the two than any path does.
    """
    return tuple(
        max(0, count - distance + 1) if distance else 0
        for count, distance in zip(dispatched, waits, strict=True)
    )
