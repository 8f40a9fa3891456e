"""Errors of a run: the hardware's codes, with the instruction at fault."""

from __future__ import annotations

from hw.arch.isa import ErrorCode, Unit


class UnitError(Exception):
    """What a unit finds wrong; the machine adds unit and instruction (`MachineError`)."""

    def __init__(self, code: ErrorCode, message: str):
        super().__init__(message)
        self.code = code


class MachineError(RuntimeError):
    """The core stopped.

    Attributes
    ----------
    code: as in the status register.
    unit: at fault; None for the sequencer.
    pc: instruction index in the program.
    """

    def __init__(self, code: ErrorCode, unit: Unit | None, pc: int, message: str):
        where = "sequencer" if unit is None else unit.name
        super().__init__(f"{code.name} in {where} at instruction {pc}: {message}")
        self.code = code
        self.unit = unit
        self.pc = pc


class UnwrittenReadError(UnitError):
    """A row was read that nothing wrote. The hardware cannot see it; every program is wrong."""

    def __init__(self, message: str):
        super().__init__(ErrorCode.ADDRESS, message)


class OrderError(UnitError):
    """An instruction reads what it has written itself. The hardware cannot see it.

    What it reads depends on the depth of the unit's pipeline; every program is wrong.
    """

    def __init__(self, message: str):
        super().__init__(ErrorCode.ADDRESS, message)


class WidthError(UnitError):
    """A value left the width that the circuit has for it, which cannot see it.

    Every program that does this is wrong: its compiler had to prove a bound.
    """

    def __init__(self, message: str):
        super().__init__(ErrorCode.FIELD, message)
