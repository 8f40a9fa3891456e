"""How long the units with closed forms take (hw/arch/timing.py)."""

from __future__ import annotations

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, Drain, Elementwise, Instruction, Reduce
from hw.arch.timing import (
    array_blocks,
    array_duration,
    array_occupancy,
    array_outputs,
    drain_duration,
    vector_duration,
)


def duration(instruction: Instruction, config: AcceleratorConfig) -> int:
    """Cycles from the issue of an instruction to its `done`."""
    match instruction:
        case Array():
            return array_duration(instruction, config)
        case Drain():
            return drain_duration(instruction, config)
        case Elementwise() | Reduce():
            return vector_duration(instruction, config)
        case _:
            raise TypeError(f"{type(instruction).__name__} has no closed form")


def occupancy(instruction: Instruction, config: AcceleratorConfig) -> int:
    """Cycles from the issue of an instruction to the earliest issue of the next one."""
    if isinstance(instruction, Array):
        return array_occupancy(instruction, config)
    return duration(instruction, config) + 1


def array_vectors(instruction: Array) -> int:
    """Vectors that enter the array and produce a sum: the counter `array_vectors`."""
    passes = array_blocks(instruction) // instruction.counts[3]
    return array_outputs(instruction) * passes
