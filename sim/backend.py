"""What a simulator takes and gives: one protocol for functional, cycle and RTL simulation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Unit
from hw.arch.program import Program
from hw.timeline.step import Step
from sim.image import Image

Bytes = npt.NDArray[np.uint8]
Cycles = npt.NDArray[np.int64]


def silent(line: str) -> None:
    """Say nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """How to run.

    Attributes
    ----------
    progress: show a progress bar on standard error.
    check_reads: functional: raise when something is read that nothing has written.
    trace_window: RTL: (first, last) cycle of a waveform; None for none.
    trace_file: RTL: where the waveform goes; the suffix is that of the kind that it is written in.
    say: told what takes long before the simulation itself: the first compilation of the circuit.
    """

    progress: bool = False
    check_reads: bool = False
    trace_window: tuple[int, int] | None = None
    trace_file: Path | None = None
    say: Callable[[str], None] = silent


@dataclasses.dataclass(frozen=True, slots=True)
class Timeline:
    """When every unit instruction ran; equal-length arrays in dispatch order.

    Attributes
    ----------
    unit: `Unit` numbers. pc: instruction indices in the program.
    issue: cycle (from the start of the run) in which the unit accepted the instruction.
    start: cycle in which its work began, no earlier than `issue`.
    end: cycle of its done strobe.
    """

    unit: Cycles
    pc: Cycles
    issue: Cycles
    start: Cycles
    end: Cycles


@dataclasses.dataclass(frozen=True, slots=True)
class BackendResult:
    """What a run gave.

    Attributes
    ----------
    image: DRAM after the run, a new array; and copies of what the run wrote over.
    cycles: from the start until the interrupt; None where time is not simulated.
    timeline: None where time is not simulated.
    counters: performance counters by name (registers.COUNTERS); functional: {}.
    wall_s: seconds that the simulation itself took, preparation left out.
    halt_code: of the HALT instruction.
    trace: executed instructions in order, if the backend made them on its way; None otherwise.
    saturation: by instruction index, (values at a clamp limit, values requantized); functional
        only, {} elsewhere.
    waveform: the file that was written, if one was asked for.
    """

    image: Image
    cycles: int | None
    timeline: Timeline | None
    counters: Mapping[str, int]
    wall_s: float
    halt_code: int
    trace: Sequence[Step] | None = None
    saturation: Mapping[int, tuple[int, int]] = dataclasses.field(default_factory=dict)
    waveform: Path | None = None

    @property
    def memory(self) -> Bytes:
        """DRAM after the run."""
        return self.image.memory


class Backend(Protocol):
    """A simulator."""

    name: str

    def run(
        self, program: Program, config: AcceleratorConfig, memory: Bytes, options: Options
    ) -> BackendResult:
        """Run a program to its HALT.

        Parameters
        ----------
        program, config: must belong together (fingerprint).
        memory: DRAM before the start, code, image and inputs placed; not changed.
        options: how to run.

        Raises
        ------
        MachineError
            The core stopped with an error code.
        """
        ...


def timeline(
    trace: Sequence[Step],
    issue: Mapping[Unit, Cycles],
    end: Mapping[Unit, Cycles],
    start: Mapping[Unit, Cycles] | None = None,
) -> Timeline:
    """Join per-unit times (in each unit's order) with the dispatched instructions of a trace.

    Raises
    ------
    ValueError
        If a unit has another number of times than of instructions.
    """
    dispatched = [s for s in trace if s.unit is not None]
    units = np.array([s.unit for s in dispatched], np.int64)
    columns = {"issue": issue, "start": issue if start is None else start, "end": end}
    times = {name: np.zeros(len(dispatched), np.int64) for name in columns}
    for unit in Unit:
        chosen = units == unit
        for name, column in columns.items():
            values = column.get(unit, np.zeros(0, np.int64))
            if len(values) != int(chosen.sum()):
                raise ValueError(
                    f"{unit.name} has {len(values)} {name} times for {int(chosen.sum())} "
                    f"instructions"
                )
            times[name][chosen] = values
    pc = np.array([s.pc for s in dispatched], np.int64)
    return Timeline(units, pc, times["issue"], times["start"], times["end"])
