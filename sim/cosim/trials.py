"""Disturbed runs on a native model, each followed by an undisturbed one on the same circuit."""

from __future__ import annotations

import dataclasses
import enum
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hw.arch.isa import ErrorCode
from sim.cosim.job import Job, RtlError

TRIAL = np.dtype([("kind", "<u4"), ("code", "<u4"), ("at", "<u8")])
OUTCOME = np.dtype(
    [("error", "<u4"), ("idle", "<u4"), ("again", "<u4"), ("equal", "<u4"), ("cycles", "<u8")]
)
LIMIT = 1 << 28
"""Cycles of all runs together."""


class Kind(enum.IntEnum):
    """What happens to a run, numbered as in native/trials.hpp."""

    ABORT = 0
    READ = 1
    WRITE = 2
    RESET = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """A disturbance.

    Attributes
    ----------
    kind: ABORT and RESET act in cycle `at` after the start; READ gives `code` as response to beat
        number `at` of the run's reads, WRITE to its burst number `at` of writes.
    code: AXI response; 0 of others.
    """

    kind: Kind
    at: int
    code: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a disturbance.

    Attributes
    ----------
    error: of the disturbed run.
    idle: no burst was open, and the core not busy, when it ended.
    again: error of the undisturbed run behind it.
    equal: that one left the memory as the first of all runs did, and no burst open.
    cycles: from the start of the disturbed run until the interrupt.
    """

    error: ErrorCode
    idle: bool
    again: ErrorCode
    equal: bool
    cycles: int


def run(
    program: Path, job: Job, memory: npt.NDArray[np.uint8], trials: Sequence[Trial]
) -> list[Outcome]:
    """Run a job undisturbed, then once per trial and after each undisturbed again, without a reset.

    Parameters
    ----------
    program: the model (`verilate.build`).
    job, memory: as of `job.run`.

    Returns
    -------
    The outcome of the undisturbed run, then those of the trials.

    Raises
    ------
    RtlError
        If the model cannot run, or a run never ends.
    """
    rows = np.array([(t.kind, t.code, t.at) for t in trials], TRIAL)
    with tempfile.TemporaryDirectory(prefix="rtl-") as name:
        folder = Path(name)
        memory.tofile(folder / "memory.bin")
        rows.tofile(folder / "trials.bin")
        words = [
            str(program),
            *("--memory", str(folder / "memory.bin")),
            *("--memory-base", str(job.dram_base)),
            *("--trials", str(folder / "trials.bin")),
            *("--outcomes", str(folder / "outcomes.bin")),
            *("--max-cycles", str(LIMIT)),
            *job.arguments(),
        ]
        done = subprocess.run(words, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise RtlError(f"the RTL model stopped: {done.stderr.strip()}")
        found = np.fromfile(folder / "outcomes.bin", OUTCOME)
    if len(found) != len(trials) + 1:
        raise RtlError(f"{len(found) - 1} of {len(trials)} trials came to an end")
    return [
        Outcome(
            ErrorCode(int(row["error"])),
            bool(row["idle"]),
            ErrorCode(int(row["again"])),
            bool(row["equal"]),
            int(row["cycles"]),
        )
        for row in found
    ]
