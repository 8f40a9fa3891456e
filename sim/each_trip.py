"""What every trip of a program's longest loop took: its arms, cycles, traffic, energy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from hw.arch.config import AcceleratorConfig
from hw.arch.program import Program
from hw.timeline.step import Step
from sim import path
from sim.backend import BackendResult
from sim.energy import Action, EnergyTable, count_actions
from sim.result import StepResult


def trips(
    program: Program,
    config: AcceleratorConfig,
    table: EnergyTable,
    result: BackendResult,
    trace: Sequence[Step],
) -> tuple[StepResult, ...]:
    """Trips of the loop with the most of those that stand in no other one, in order.

    Cycles are those by which a trip's last instruction ends later than all before it; what the
    program does before and behind the loop belongs to none.
    """
    outer = [loop for loop in program.loops if not _around(program, loop.first, loop.last)]
    if not outer:
        return ()
    loop = max(outer, key=lambda each: each.trips)
    inside = [loop.first <= step.pc < loop.last for step in trace]
    starts = [n for n, step in enumerate(trace) if step.pc == loop.first]
    ends = [*starts[1:], *([starts[-1] + inside[starts[-1] :].index(False)] if starts else [])]
    reached = None if result.timeline is None else np.maximum.accumulate(result.timeline.end)
    dispatched = np.cumsum([step.unit is not None for step in trace])
    found = []
    for first, last in zip(starts, ends, strict=True):
        steps, actions = trace[first:last], Counter[Action]()
        for step in steps:
            actions.update(count_actions(step.instruction, config))
        cycles = begin = None
        if reached is not None:
            before = int(dispatched[first]) - (trace[first].unit is not None)
            begin = int(reached[before - 1]) if before else 0
            after = int(dispatched[last - 1])
            cycles = int(reached[after - 1]) - begin if after > before else 0
            actions[Action.CYCLE] = cycles
        moved = actions[Action.DRAM_READ] + actions[Action.DRAM_WRITE]
        energy = math.fsum(table.joules(actions, config).values())
        found.append(
            StepResult(
                equal=None,
                tensors_compared=0,
                cycles=cycles,
                dram_bytes=moved * config.port.bytes,
                energy_j=None if cycles is None else energy,
                halt_code=0,
                path=tuple(n for n in path.names(program, steps) if not _own(n, loop.name)),
                began=begin,
            )
        )
    return tuple(found)


def _own(block: str, loop: str) -> bool:
    """Whether a block is of the trips themselves: all have them, but for how the last one ends."""
    return block == loop or block.startswith(f"{loop}: ")


def _around(program: Program, first: int, last: int) -> bool:
    """Whether instructions stand in a loop that is longer than they are."""
    return any(
        loop.first <= first and last <= loop.last and (loop.first, loop.last) != (first, last)
        for loop in program.loops
    )
