"""Functional simulation: the right values, instruction by instruction, on NumPy arrays."""

from hw.timeline.step import Step
from sim.functional.errors import MachineError, UnwrittenReadError
from sim.functional.machine import FunctionalMachine, Outcome
from sim.functional.sequencer import Sequencer

__all__ = [
    "FunctionalMachine",
    "MachineError",
    "Outcome",
    "Sequencer",
    "Step",
    "UnwrittenReadError",
]
