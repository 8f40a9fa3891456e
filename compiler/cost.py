"""Estimated cycles: the timing rules summed over the instructions that were emitted.

Inside a layer all units work at once, so the busiest one counts; layers follow one another. The
cycle simulator knows better; this is what the compiler can say without running anything.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from hw.arch import timing
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    Array,
    Drain,
    Elementwise,
    Fold,
    Instruction,
    Load,
    Permute,
    Reduce,
    Store,
    Unit,
    unit_of,
)
from hw.arch.program import Program

DISPATCH = timing.TAKE_TO_DISPATCH + 1
"""Cycles between dispatches of straight-line code."""


def layer_cycles(instructions: Sequence[Instruction], config: AcceleratorConfig) -> int:
    """Cycles of a layer: its busiest unit, the memory port, or the sequencer."""
    busy: Counter[str] = Counter(sequencer=DISPATCH * len(instructions))
    for instruction in instructions:
        unit = unit_of(instruction)
        if unit is not None:
            port = unit in (Unit.LOAD, Unit.STORE)
            busy["port" if port else unit.name] += occupied(instruction, config)
    return max(busy.values(), default=0)


def occupied(instruction: Instruction, config: AcceleratorConfig) -> int:
    """Cycles for which an instruction keeps its unit (a transfer: the memory port)."""
    match instruction:
        case Array():
            return timing.array_occupancy(instruction, config)
        case Drain():
            return timing.drain_stream_cycles(instruction, config)
        case Elementwise() | Reduce() | Fold() | Permute():
            return timing.vector_stream_cycles(instruction, config)
        case Load() | Store():
            return timing.transfer_beats(instruction)
        case _:
            return 0


def program_cycles(program: Program, config: AcceleratorConfig) -> int:
    """Estimated cycles of a run that passes all layers and makes all trips."""
    return sum(
        layer_cycles(program.instructions[layer.first : layer.last], config)
        * math.prod(loop.trips for loop in program.around(layer))
        for layer in program.layers
    )
