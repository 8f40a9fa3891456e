"""Proof that a program's waits suffice: a happens-before check over the dynamic trace.

Every instruction gets a *clock*: per unit, how many instructions have certainly completed when it
issues. It follows from the waits (each brings the clock of the instruction waited for) and from
the order inside a unit. Two instructions of different units whose accesses conflict must be
ordered: the earlier one must be inside the later one's clock. Accesses conflict if

* they overlap in a memory and one of them writes,
* they use the same port (read or write) of one activation or weight bank: each port has one
  owner, or
* they touch the same accumulator bank.

A `late` ARRAY has two clocks: at its issue, when it reads rows and weights, DRAIN may not yet have
ended; when it touches accumulators, and when the next ARRAY issues, it has.

Inside a unit there is nothing to prove: units work in order, and only ARRAY takes an instruction
before its predecessor is done, which touches the accumulators in stream order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ALL_UNITS, Fence, Halt, Load, Scalar, Store, Unit, UnitInstruction, strides
from hw.arch.walk import Access, Memory, accesses, bank_rows, offsets
from hw.timeline.step import Step, split_awaits

SEQUENCER = len(Unit)
"""Column of the sequencer's own reads (SCALAR)."""
UNITS = len(Unit) + 1

_Clock = tuple[int, ...]


class HazardError(RuntimeError):
    """Two accesses that nothing orders; names both instructions and the memory."""


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What was proven.

    Attributes
    ----------
    instructions: unit instructions checked.
    accesses: intervals checked.
    """

    instructions: int
    accesses: int


class _Memory:
    """Last accessors of one memory, at its own grain.

    `last[write][unit][row]` is the ordinal of the unit's last instruction that read or wrote it.
    """

    def __init__(self, rows: int):
        self._last = np.zeros((2, UNITS, rows), np.int32)

    def latest(self, low: int, high: int, write: bool) -> npt.NDArray[np.int32]:
        """Per unit, the latest ordinal that conflicts with an access to rows low..high."""
        last = self._last[:, :, low : high + 1]
        chosen = last if write else last[1:]
        return np.asarray(chosen.max(axis=(0, 2)), np.int32)

    def note(self, low: int, high: int, write: bool, unit: int, ordinal: int) -> None:
        """Remember an access."""
        self._last[int(write), unit, low : high + 1] = ordinal


class HazardChecker:
    """Checks steps one after another, in dispatch order.

    Parameters
    ----------
    config: of the accelerator.
    memory_bytes: DRAM that the program uses.
    """

    def __init__(self, config: AcceleratorConfig, memory_bytes: int):
        self._config = config
        memory = config.memory
        beat = config.port.bytes
        self._beat = beat
        rows = {
            Memory.ACTIVATION: memory.activation_rows,
            Memory.WEIGHT: config.weight_beats,
            Memory.PARAMETER: config.parameter_rows * config.parameter_row_beats,
            Memory.TABLE: memory.tables * config.table_beats,
            Memory.ACCUMULATOR: 2 * memory.accumulator_rows,
        }
        self._memories = {kind: _Memory(size) for kind, size in rows.items()}
        # DRAM: only LOAD reads and only STORE writes; exact runs, for tensors interleave.
        self._dram = np.zeros((2, -(-memory_bytes // beat)), np.int32)
        # (bank, write) and accumulator bank: last ordinal per unit.
        self._ports = {
            Memory.ACTIVATION: np.zeros((2, memory.activation_banks, UNITS), np.int32),
            Memory.WEIGHT: np.zeros((2, config.weight_banks, UNITS), np.int32),
        }
        self._accumulator_banks = np.zeros((2, UNITS), np.int32)
        self._clocks: list[list[_Clock]] = [[] for _ in range(UNITS)]
        # Of the latest unit instruction, at its issue: `late` waits are not yet over.
        self._issued: _Clock = ()
        self._pcs: list[list[int]] = [[] for _ in range(UNITS)]
        self._sequencer: list[int] = [0] * UNITS
        self._accesses = 0

    def check(self, steps: Iterable[Step]) -> Report:
        """Check a whole trace.

        Raises
        ------
        HazardError
            At the first pair that nothing orders.
        """
        for step in steps:
            self.add(step)
        return Report(sum(len(c) for c in self._clocks[:SEQUENCER]), self._accesses)

    def add(self, step: Step) -> None:
        """Check one step and remember what it touches."""
        instruction = step.instruction
        if isinstance(instruction, Fence | Halt):
            self._fence(instruction.units if isinstance(instruction, Fence) else ALL_UNITS)
            return
        if isinstance(instruction, Scalar):
            self._clock_of(step, SEQUENCER)
            # The sequencer goes on only when the byte is there: later dispatches know it all.
            self._sequencer = list(self._clocks[SEQUENCER][-1])
            self._sequencer[SEQUENCER] = len(self._clocks[SEQUENCER])
            self._touch(step, instruction, SEQUENCER)
        elif step.unit is not None:
            self._clock_of(step, step.unit)
            self._touch(step, instruction, step.unit)  # type: ignore[arg-type]

    def known(self) -> tuple[int, ...]:
        """Of each unit, instructions that whatever is dispatched next may know to be over.

        Without a wait for what stands before it: from its own unit, or from one it waits for.
        """
        known = list(self._sequencer)
        for clocks in self._clocks:
            if clocks:
                _raise(known, clocks[-1])
        return tuple(known[:SEQUENCER])

    def _fence(self, named: int) -> None:
        """Later dispatches know all that the named units have done, and what that implies."""
        for unit in Unit:
            clocks = self._clocks[unit]
            if named >> unit & 1 and clocks:
                _raise(self._sequencer, clocks[-1])
                self._sequencer[unit] = len(clocks)

    def _clock_of(self, step: Step, unit: int) -> None:
        clock = list(self._sequencer)
        if self._clocks[unit]:
            _raise(clock, self._clocks[unit][-1])
        held, late = split_awaits(step.instruction, step.awaits)
        for other, count in enumerate(held):
            self._await(clock, other, count)
        self._issued = tuple(clock)
        self._await(clock, Unit.DRAIN, late)
        self._clocks[unit].append(tuple(clock))
        self._pcs[unit].append(step.pc)

    def _await(self, clock: list[int], unit: int, count: int) -> None:
        """Raise a clock to what is over when a unit has completed so many instructions."""
        if count:
            _raise(clock, self._clocks[unit][count - 1])
            clock[unit] = max(clock[unit], count)

    def _touch(self, step: Step, instruction: UnitInstruction | Scalar, unit: int) -> None:
        touched = accesses(instruction, self._config)
        for access in touched:
            self._accesses += 1
            for what, latest in self._conflicts(instruction, access):
                self._require(step, unit, access, what, latest)
        for access in touched:
            self._note(instruction, access, unit)

    def _conflicts(
        self, instruction: UnitInstruction | Scalar, access: Access
    ) -> Iterator[tuple[str, npt.NDArray[np.int32]]]:
        """Latest conflicting ordinals per unit, with the kind of conflict."""
        if access.memory is Memory.DRAM:
            assert isinstance(instruction, Load | Store)
            latest = np.zeros(UNITS, np.int32)
            other = Unit.LOAD if access.write else Unit.STORE
            row = self._dram[int(not access.write), self._beats(instruction)]
            latest[other] = row.max(initial=0)
            yield "data", latest
            return
        memory = self._memories[access.memory]
        yield "data", memory.latest(access.low, access.high, access.write)
        if access.memory in self._ports:
            port = "write port" if access.write else "read port"
            banks = self._banks(access)
            yield port, self._ports[access.memory][int(access.write), banks].max(axis=0)
        elif access.memory is Memory.ACCUMULATOR:
            yield "bank", self._accumulator_banks[self._banks(access)].max(axis=0)

    def _note(self, instruction: UnitInstruction | Scalar, access: Access, unit: int) -> None:
        ordinal = len(self._clocks[unit])
        if access.memory is Memory.DRAM:
            assert isinstance(instruction, Load | Store)
            self._dram[int(access.write), self._beats(instruction)] = ordinal
            return
        self._memories[access.memory].note(access.low, access.high, access.write, unit, ordinal)
        if access.memory in self._ports:
            self._ports[access.memory][int(access.write), self._banks(access), unit] = ordinal
        elif access.memory is Memory.ACCUMULATOR:
            self._accumulator_banks[self._banks(access), unit] = ordinal

    def _beats(self, instruction: Load | Store) -> npt.NDArray[np.int64]:
        step = strides(instruction.counts, instruction.dram_deltas)
        starts = instruction.dram + offsets(instruction.counts, step).reshape(-1, 1)
        return np.asarray(starts // self._beat + np.arange(instruction.beats), np.int64)

    def _banks(self, access: Access) -> slice:
        rows = bank_rows(access.memory, self._config)
        assert rows is not None
        return slice(access.low // rows, access.high // rows + 1)

    def _require(
        self,
        step: Step,
        unit: int,
        access: Access,
        what: str,
        latest: npt.NDArray[np.int32],
    ) -> None:
        late = access.memory is Memory.ACCUMULATOR
        clock = self._clocks[unit][-1] if late else self._issued
        for other in range(UNITS):
            ordinal = int(latest[other])
            if other != unit and ordinal > clock[other]:
                raise HazardError(
                    f"instruction {step.pc} ({_name(unit)}) does not wait for instruction "
                    f"{self._pcs[other][ordinal - 1]} ({_name(other)}): {what} conflict on "
                    f"{access.memory.value} {access.low}..{access.high}"
                )


def _name(unit: int) -> str:
    return "sequencer" if unit == SEQUENCER else Unit(unit).name


def _raise(clock: list[int], other: _Clock) -> None:
    for unit, count in enumerate(other):
        if count > clock[unit]:
            clock[unit] = count


def check_hazards(steps: Iterable[Step], config: AcceleratorConfig, memory_bytes: int) -> Report:
    """Prove that the waits of a trace order everything that conflicts.

    Raises
    ------
    HazardError
        At the first pair that nothing orders.
    """
    return HazardChecker(config, memory_bytes).check(steps)
