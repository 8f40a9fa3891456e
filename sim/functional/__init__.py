"""Functional simulation: the right values, instruction by instruction, on NumPy arrays."""

from sim.functional.errors import MachineError, UnwrittenReadError
from sim.functional.machine import FunctionalMachine, Outcome
from sim.functional.sequencer import Sequencer, Step

__all__ = [
    "FunctionalMachine",
    "MachineError",
    "Outcome",
    "Sequencer",
    "Step",
    "UnwrittenReadError",
]
