"""Cycles of a program, foreseen without running it: the core's timeline of what is executed.

What a program without control flow executes is what it holds, so that its cycles are those of the
cycle model, and of RTL. Of others every trip is made and every arm passed, one after the other, as
if no decision jumped: what an arm does is foreseen whether or not a run takes it. The memory is
that of the RTL harness.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from compiler.emit.trial import awaited
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Halt, Scalar, Unit, UnitInstruction
from hw.arch.program import Layer, Program, Trips
from hw.timeline.attribution import attributed, layer_of
from hw.timeline.model import CoreModel
from hw.timeline.step import Step

FORESEEN = "foreseen"
"""In a layer's tiling: cycles of it, in all trips."""


@dataclasses.dataclass(frozen=True, slots=True)
class Foreseen:
    """Cycles of a program.

    Attributes
    ----------
    cycles: of the run. layers: of each layer.
    """

    cycles: int
    layers: tuple[int, ...]


def foreseen(program: Program, config: AcceleratorConfig) -> Foreseen:
    """How long a program takes; see above."""
    steps = [*_steps(program)]
    model = CoreModel(config, steps, program.code_address, len(program.instructions))
    model.run()
    owner = layer_of(program)
    dispatched = [(step.pc, step.unit, step.ordinal) for step in steps if step.unit is not None]
    done = [model.units[unit].done[ordinal - 1] for _, unit, ordinal in dispatched]
    layers = owner[[pc for pc, _, _ in dispatched]] if dispatched else np.zeros(0, np.int64)
    cycles = attributed(layers, np.array(done, np.int64), len(program.layers))
    return Foreseen(model.cycles, tuple(cycles.tolist()))


def with_foreseen(program: Program, config: AcceleratorConfig) -> tuple[Program, int]:
    """The program whose layers say their cycles, and those of all."""
    found = foreseen(program, config)

    def told(layer: Layer, cycles: int) -> Layer:
        return dataclasses.replace(layer, tiling={**layer.tiling, FORESEEN: cycles})

    layers = map(told, program.layers, found.layers)
    return dataclasses.replace(program, layers=tuple(layers)), found.cycles


def _steps(program: Program) -> Iterator[Step]:
    """All instructions in program order, those of Loops in every trip."""
    code, dispatched = program.instructions, [0] * len(Unit)
    for pc, jumps in _passed(program.loops, 0, len(code)):
        instruction = code[pc]
        awaits = tuple(0 for _ in Unit)
        if isinstance(instruction, UnitInstruction | Scalar):
            awaits = awaited(dispatched, instruction.waits)
        if isinstance(instruction, UnitInstruction):
            dispatched[instruction.UNIT] += 1
            ordinal = dispatched[instruction.UNIT]
            yield Step(pc, instruction, instruction.UNIT, awaits, ordinal)
        else:
            yield Step(pc, instruction, None, awaits, 0, jumps)
        if isinstance(instruction, Halt):
            return


def _passed(loops: tuple[Trips, ...], first: int, end: int) -> Iterator[tuple[int, bool]]:
    """Indices of instructions from one on, in order, and whether a trip follows that one."""
    inside = [loop for loop in loops if first <= loop.first and loop.last <= end]
    outer = [
        loop
        for loop in inside
        if not any(o.first <= loop.first and loop.last <= o.last for o in inside if o is not loop)
    ]
    here = first
    for loop in sorted(outer, key=lambda loop: loop.first):
        yield from _between(here, loop.first)
        others = tuple(each for each in inside if each is not loop)
        for trip in range(loop.trips):
            yield from _passed(others, loop.first, loop.last - 1)
            yield loop.last - 1, trip < loop.trips - 1
        here = loop.last
    yield from _between(here, end)


def _between(first: int, end: int) -> Iterator[tuple[int, bool]]:
    return ((pc, False) for pc in range(first, end))
