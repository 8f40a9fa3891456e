"""The functional machine: DRAM, on-chip memories and units, executed in program order.

Program order is always a legal execution (a wait can only name an earlier instruction). That the
waits also forbid every *illegal* one is proven by sim/functional/hazards.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import assert_never

import numpy as np

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    Array,
    Drain,
    Elementwise,
    ErrorCode,
    Fold,
    Instruction,
    Load,
    Permute,
    Reduce,
    Scalar,
    Store,
    Unit,
    UnitInstruction,
)
from hw.timeline.step import Step
from sim.functional.array import execute_array
from sim.functional.drain import execute_drain
from sim.functional.errors import MachineError, UnitError
from sim.functional.fold import execute_fold
from sim.functional.order import check_order
from sim.functional.permute import execute_permute
from sim.functional.sequencer import Sequencer
from sim.functional.state import Bytes, State
from sim.functional.transfer import execute_load, execute_store
from sim.functional.vector import execute_elementwise, execute_reduce

Observer = Callable[[Step], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    halt_code: of the HALT instruction.
    dispatched: instructions per unit.
    steps: executed instructions, the sequencer's included.
    saturated, requantized: drained values at a clamp limit, and all of them.
    """

    halt_code: int
    dispatched: tuple[int, ...]
    steps: int
    saturated: int
    requantized: int


class FunctionalMachine:
    """A core with its DRAM.

    Parameters
    ----------
    config: of the accelerator.
    memory: u8 DRAM image, address 0 first; stores change it.
    store_window: (first, past-the-end) byte addresses that stores may touch.
    check_reads: also raise when something is read that nothing has written.

    Attributes
    ----------
    state: the on-chip memories.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        memory: Bytes,
        store_window: tuple[int, int],
        check_reads: bool = False,
    ):
        self.config = config
        self.memory = memory
        self.store_window = store_window
        self.state = State(config, check_reads)

    def run(
        self, program: Sequence[Instruction] | bytes, observe: Observer | None = None
    ) -> Outcome:
        """Execute from the first instruction to HALT.

        Parameters
        ----------
        program: decoded instructions, or the code as bytes (then decoded when reached).
        observe: called with every step before it executes.

        Raises
        ------
        MachineError
            With the code that the hardware would report.
        """
        if isinstance(program, bytes):
            sequencer = Sequencer.from_code(program, self.config, self._scalar)
        else:
            sequencer = Sequencer.of(program, self.config, self._scalar)
        count = 0
        for step in sequencer.steps():
            count += 1
            if observe is not None:
                observe(step)
            if step.unit is not None:
                self._execute(step, step.unit)
        assert sequencer.halt_code is not None
        return Outcome(
            sequencer.halt_code,
            tuple(sequencer.dispatched),
            count,
            self.state.saturated,
            self.state.requantized,
        )

    def _execute(self, step: Step, unit: Unit) -> None:
        try:
            self.execute(step.instruction)  # type: ignore[arg-type]
        except UnitError as fault:
            raise MachineError(fault.code, unit, step.pc, str(fault)) from fault

    def execute(self, instruction: UnitInstruction) -> None:
        """Execute one unit instruction, register fields taken as zero.

        Raises
        ------
        UnitError
            If it reads or writes where it must not, or the machine does not have it.
        """
        if isinstance(instruction, Elementwise | Reduce | Fold | Permute):
            check_order(instruction, self.config)
        match instruction:
            case Load():
                execute_load(instruction, self.state, self.memory)
            case Store():
                execute_store(instruction, self.state, self.memory, self.store_window)
            case Array():
                execute_array(instruction, self.state)
            case Drain():
                execute_drain(instruction, self.state)
            case Elementwise():
                execute_elementwise(instruction, self.state)
            case Reduce():
                execute_reduce(instruction, self.state)
            case Fold():
                execute_fold(instruction, self.state)
            case Permute():
                execute_permute(instruction, self.state)
            case _:
                assert_never(instruction)

    def _scalar(self, instruction: Scalar) -> int:
        bank = self.state.activation
        if instruction.row >= bank.rows or instruction.lane >= self.config.lane_block:
            raise UnitError(
                ErrorCode.ADDRESS,
                f"reads lane {instruction.lane} of activation row {instruction.row}; there are "
                f"{bank.rows} rows of {self.config.lane_block} lanes",
            )
        byte = int(bank.read(np.array([instruction.row]))[0, instruction.lane])
        return (byte ^ 0x80) - 0x80 if instruction.signed else byte
