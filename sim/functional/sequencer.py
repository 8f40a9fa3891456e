"""The sequencer: registers, loops, branches, dependency distances. Yields what is dispatched.

Shared by every model that needs the *dynamic* instruction trace (functional, cycle, energy,
hazards). Data are needed only for SCALAR, through a callback.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias, assert_never

from hw.arch.config import AcceleratorConfig
from hw.arch.encoding import EncodingError
from hw.arch.isa import (
    CLASSES,
    INSTRUCTION_BYTES,
    LOOP_LEVELS,
    REGISTERS,
    Add,
    Array,
    Begin,
    Branch,
    Condition,
    ControlInstruction,
    Drain,
    Elementwise,
    ErrorCode,
    Fence,
    Fold,
    Halt,
    Instruction,
    Load,
    Loop,
    Next,
    Permute,
    Reduce,
    Scalar,
    Set,
    Store,
    Unit,
    UnitInstruction,
    decode,
)
from hw.timeline.step import Step
from sim.functional.errors import MachineError, UnitError
from sim.functional.legality import Legality

ScalarReader = Callable[[Scalar], int]
"""Returns the byte that a SCALAR instruction names, sign-extended if it says so."""

NOTHING = (0,) * len(Unit)
"""Awaited of the units."""
IDLE_LIMIT = 1 << 20
"""Control instructions in a row without a dispatch before the watchdog ends the run."""


Waiting: TypeAlias = UnitInstruction | Scalar
WAITING = (Load, Store, Array, Drain, Elementwise, Reduce, Fold, Permute, Scalar)
"""Classes that dependencies hold back."""


def _register_fields(kind: type[Instruction]) -> tuple[tuple[str, str, int, bool], ...]:
    """(register field, address field, bits, signed) of a class."""
    known = {f.name: f for f in kind.layout()}
    pairs = []
    for name in known:
        if name.endswith("_register"):
            target = known[name.removesuffix("_register")]
            pairs.append((name, target.name, target.bits, target.signed))
    return tuple(pairs)


REGISTER_FIELDS = {kind: _register_fields(kind) for kind in CLASSES.values()}


def _to_signed32(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


class Sequencer:
    """Executes control flow.

    Parameters
    ----------
    fetch: instruction at an index; may raise EncodingError.
    length: instructions in the program.
    config: of the accelerator.
    read_scalar: needed if the program has SCALAR instructions; called when one executes.

    Attributes
    ----------
    halt_code: of the executed HALT; None before.
    dispatched: instructions dispatched per unit.
    """

    def __init__(
        self,
        fetch: Callable[[int], Instruction],
        length: int,
        config: AcceleratorConfig,
        read_scalar: ScalarReader | None = None,
    ):
        self._fetch = fetch
        self._length = length
        self._config = config
        self._read_scalar = read_scalar
        self._legality = Legality(config)
        self._legal: set[int] = set()
        self._registers = [0] * REGISTERS
        self._loops: list[tuple[int, int] | None] = [None] * LOOP_LEVELS
        self.dispatched = [0] * len(Unit)
        self.halt_code: int | None = None

    @classmethod
    def of(
        cls,
        instructions: Sequence[Instruction],
        config: AcceleratorConfig,
        read_scalar: ScalarReader | None = None,
    ) -> Sequencer:
        """Sequencer over decoded instructions."""
        return cls(instructions.__getitem__, len(instructions), config, read_scalar)

    @classmethod
    def from_code(
        cls,
        code: bytes,
        config: AcceleratorConfig,
        read_scalar: ScalarReader | None = None,
    ) -> Sequencer:
        """Sequencer over encoded instructions, decoded when fetched, as the hardware does."""
        decoded: dict[int, Instruction] = {}

        def fetch(pc: int) -> Instruction:
            if pc not in decoded:
                start = pc * INSTRUCTION_BYTES
                decoded[pc] = decode(code[start : start + INSTRUCTION_BYTES])
            return decoded[pc]

        return cls(fetch, len(code) // INSTRUCTION_BYTES, config, read_scalar)

    def steps(self) -> Iterator[Step]:
        """Run from the first instruction to HALT.

        Raises
        ------
        MachineError
            FETCH_RANGE, OPCODE, LOOP, WATCHDOG, BAD_WAIT, or the code of a broken rule.
        """
        pc = idle = 0
        while self.halt_code is None:
            step = self._step(pc)
            yield step
            idle = idle + 1 if step.unit is None else 0
            if idle > IDLE_LIMIT:
                raise MachineError(
                    ErrorCode.WATCHDOG, None, pc, f"{IDLE_LIMIT} steps without a dispatch"
                )
            try:
                pc = self._advance(pc, step)
            except UnitError as fault:
                raise MachineError(fault.code, None, pc, str(fault)) from fault

    def _step(self, pc: int) -> Step:
        try:
            if not 0 <= pc < self._length:
                raise UnitError(
                    ErrorCode.FETCH_RANGE, f"the program has {self._length} instructions only"
                )
            try:
                instruction = self._fetch(pc)
            except EncodingError as error:
                raise UnitError(ErrorCode.OPCODE, str(error)) from error
            if pc == 0 and not isinstance(instruction, Begin):
                raise UnitError(ErrorCode.FINGERPRINT, "the program does not start with BEGIN")
            return self._checked(pc, instruction)
        except UnitError as fault:
            raise MachineError(fault.code, None, pc, str(fault)) from fault

    def _checked(self, pc: int, instruction: Instruction) -> Step:
        """The step of an instruction without faults; the gravest one is raised."""
        check, known = self._legality.check, pc in self._legal
        if not known:
            check(instruction, ErrorCode.FINGERPRINT, ErrorCode.UNSUPPORTED)
        awaits = NOTHING
        if isinstance(instruction, WAITING):
            awaits = self._awaits(instruction)
        if not known:
            check(instruction, ErrorCode.FIELD, ErrorCode.ADDRESS)
            self._legal.add(pc)  # a program does not change: trips of a loop ask once
        if isinstance(instruction, UnitInstruction):
            unit = instruction.UNIT
            self.dispatched[unit] += 1
            applied = self._apply_registers(instruction)
            return Step(pc, applied, unit, awaits, self.dispatched[unit])
        match instruction:
            case Scalar():
                return Step(pc, self._apply_registers(instruction), None, awaits, 0)
            case Branch():
                return self._control(pc, instruction, self._takes(instruction))
            case Next():
                return self._control(pc, instruction, self._loop(instruction)[1] > 1)
            case _:
                return self._control(pc, instruction)

    def _control(self, pc: int, instruction: ControlInstruction, taken: bool = False) -> Step:
        return Step(pc, instruction, None, NOTHING, 0, taken)

    def _awaits(self, instruction: Waiting) -> tuple[int, ...]:
        counts = []
        for unit, distance in zip(Unit, instruction.waits, strict=True):
            if distance > self.dispatched[unit]:
                raise UnitError(
                    ErrorCode.BAD_WAIT,
                    f"waits for the {distance}th latest instruction of {unit.name}, which got "
                    f"{self.dispatched[unit]} so far",
                )
            counts.append(self.dispatched[unit] - distance + 1 if distance else 0)
        return tuple(counts)

    def _apply_registers(self, instruction: Any) -> Any:
        changes = {}
        for register, target, width, signed in REGISTER_FIELDS[type(instruction)]:
            number = getattr(instruction, register)
            if number:
                assert not signed
                total = getattr(instruction, target) + self._registers[number]
                changes[target] = total & ((1 << width) - 1)
                changes[register] = 0
        return dataclasses.replace(instruction, **changes) if changes else instruction

    def _set(self, number: int, value: int) -> None:
        if number:
            self._registers[number] = _to_signed32(value)

    def _advance(self, pc: int, step: Step) -> int:
        """Execute a control instruction; return the next index."""
        registers, instruction = self._registers, step.instruction
        match instruction:
            case Load() | Store() | Array() | Drain():
                pass
            case Elementwise() | Reduce() | Fold() | Permute():
                pass
            case Begin() | Fence():
                pass
            case Set():
                self._set(instruction.rd, instruction.immediate)
            case Add():
                total = registers[instruction.rs] + registers[instruction.rt]
                self._set(instruction.rd, total + instruction.immediate)
            case Loop():
                trips = _to_signed32(instruction.count + registers[instruction.count_register])
                self._loops[instruction.level] = (pc + 1, max(trips, 1))
            case Next():
                return self._next(pc, instruction)
            case Branch():
                if step.taken:
                    return instruction.target
            case Scalar():
                if self._read_scalar is None:
                    raise UnitError(
                        ErrorCode.UNSUPPORTED, "SCALAR needs data; this trace is made without any"
                    )
                self._set(instruction.rd, self._read_scalar(instruction))
            case Halt():
                self.halt_code = instruction.code
            case _:
                assert_never(instruction)
        return pc + 1

    def _loop(self, instruction: Next) -> tuple[int, int]:
        """First instruction of the body, and trips left with the present one."""
        loop = self._loops[instruction.level]
        if loop is None:
            raise UnitError(
                ErrorCode.LOOP, f"NEXT closes loop {instruction.level}, which is not open"
            )
        return loop

    def _next(self, pc: int, instruction: Next) -> int:
        start, trips = self._loop(instruction)
        if trips > 1:
            self._loops[instruction.level] = (start, trips - 1)
            return start
        self._loops[instruction.level] = None
        return pc + 1

    def _takes(self, instruction: Branch) -> bool:
        """Whether a branch is taken; it is itself at fault if it leaves the program."""
        taken = self._holds(instruction)
        if taken and instruction.target >= self._length:
            raise UnitError(
                ErrorCode.FETCH_RANGE,
                f"branches to {instruction.target}; the program has {self._length} instructions "
                f"only",
            )
        return taken

    def _holds(self, instruction: Branch) -> bool:
        a, b = self._registers[instruction.rs], self._registers[instruction.rt]
        match instruction.condition:
            case Condition.ALWAYS:
                return True
            case Condition.EQUAL:
                return a == b
            case Condition.NOT_EQUAL:
                return a != b
            case Condition.LESS:
                return a < b
            case Condition.GREATER_EQUAL:
                return a >= b
            case _:
                raise AssertionError(f"no rule refuses branch condition {instruction.condition}")
