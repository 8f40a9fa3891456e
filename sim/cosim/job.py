"""Run one job on a native model: memory in, memory, counters, registers and trace out."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.arch.isa import Unit
from hw.arch.registers import DEFAULT_WATCHDOG
from hw.arch.timing import START_LATENCY
from sim.errors import SimulatorError


class RtlError(SimulatorError):
    """The model could not be run, or broke the AXI protocol."""


class CycleLimitError(RtlError):
    """The cycle limit was reached."""


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """What the host writes before a start.

    Attributes
    ----------
    program_base: DRAM byte address of the first instruction.
    program_length: instructions.
    store_window: first and past-the-end byte address that stores may touch.
    dram_base: where the memory lies on the bus; all other addresses are relative to it.
    watchdog: cycles without progress before the core gives up.
    """

    program_base: int
    program_length: int
    store_window: tuple[int, int]
    watchdog: int = DEFAULT_WATCHDOG
    dram_base: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Keep:
    """DRAM bytes to copy in the middle of a run.

    Attributes
    ----------
    beats: as soon as so many beats have been written; 0: before the start.
    address, size: which bytes, relative to dram_base.
    """

    beats: int
    address: int
    size: int


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """How to run.

    Attributes
    ----------
    max_cycles: give up after so many.
    progress: cycles between progress lines on standard error; 0 for none.
    stall_percent, stall_seed: random pauses on every AXI4 channel (values, not times).
    abort_at: cycle after the start in which the host aborts.
    waves, waves_first, waves_last: waveform file and the window of cycles it shows.
    """

    max_cycles: int = 1 << 34
    progress: int = 0
    stall_percent: int = 0
    stall_seed: int = 0
    abort_at: int | None = None
    waves: Path | None = None
    waves_first: int = 0
    waves_last: int | None = None

    def arguments(self) -> list[str]:
        """Command-line words of the harness."""
        words = [
            *("--max-cycles", str(self.max_cycles)),
            *("--progress", str(self.progress)),
            *("--stall-percent", str(self.stall_percent)),
            *("--stall-seed", str(self.stall_seed)),
        ]
        if self.abort_at is not None:
            words += ["--abort-at", str(self.abort_at)]
        if self.waves is not None:
            words += ["--waves", str(self.waves), "--waves-first", str(self.waves_first)]
            if self.waves_last is not None:
                words += ["--waves-last", str(self.waves_last)]
        return words


@dataclasses.dataclass(frozen=True, slots=True)
class JobResult:
    """What a run gave.

    Attributes
    ----------
    memory: DRAM after the run, u8 [size].
    kept: the copies that were asked for, as far as the run came.
    registers, counters: by lower-case name, as the contract names them.
    issue, done: per unit, the cycle of the run of every instruction, in order.
    bursts_ended: no burst was open when the core raised its interrupt.
    bursts: read and write bursts served.
    seconds: wall time of the simulated run.
    cycles_simulated: cycles that the wall time covers.
    """

    memory: npt.NDArray[np.uint8]
    registers: Mapping[str, int]
    counters: Mapping[str, int]
    issue: Mapping[Unit, npt.NDArray[np.int64]]
    done: Mapping[Unit, npt.NDArray[np.int64]]
    bursts_ended: bool
    bursts: tuple[int, int]
    seconds: float
    cycles_simulated: int
    kept: Sequence[npt.NDArray[np.uint8]] = ()

    @property
    def khz(self) -> float:
        """Simulated clock rate."""
        return self.cycles_simulated / max(self.seconds, 1e-9) / 1e3


def run(
    program: Path,
    job: Job,
    memory: npt.NDArray[np.uint8],
    settings: Settings | None = None,
    memory_base: int | None = None,
    keep: Sequence[Keep] = (),
) -> JobResult:
    """Run a job on a model built by `verilate.build`.

    Parameters
    ----------
    program: the model.
    job: what the host writes before the start.
    memory: DRAM before the run, u8 [size]; not changed.
    settings: limits, stalls, waveforms.
    memory_base: where the memory answers on the bus; default: at the job's dram_base.
    keep: copies to make, in ascending order of `beats`.

    Raises
    ------
    CycleLimitError
        If the cycle limit is reached.
    RtlError
        If the core breaks the AXI protocol, or the model cannot run.
    """
    settings = settings or Settings()
    with tempfile.TemporaryDirectory(prefix="rtl-") as name:
        folder = Path(name)
        memory.tofile(folder / "memory.bin")
        base = job.dram_base if memory_base is None else memory_base
        wanted = [(k.beats, k.address + job.dram_base - base, k.size) for k in keep]
        np.array(wanted, np.uint64).tofile(folder / "keep.bin")
        command = [
            str(program),
            *("--memory", str(folder / "memory.bin")),
            *("--trace", str(folder / "trace.bin")),
            *("--report", str(folder / "report.json")),
            *("--program-base", str(job.program_base)),
            *("--program-length", str(job.program_length)),
            *("--store-base", str(job.store_window[0])),
            *("--store-limit", str(job.store_window[1])),
            *("--dram-base", str(job.dram_base)),
            *("--memory-base", str(base)),
            *("--keep", str(folder / "keep.bin")),
            *("--kept", str(folder / "kept.bin")),
            *("--watchdog", str(job.watchdog)),
            *settings.arguments(),
        ]
        stream = None if settings.progress else subprocess.PIPE
        finished = subprocess.run(command, stderr=stream, text=True)
        if finished.returncode:
            raise RtlError(f"the RTL model stopped: {(finished.stderr or '').strip()}")
        report = json.loads((folder / "report.json").read_text())
        trace = np.fromfile(folder / "trace.bin", np.uint64)
        after = np.fromfile(folder / "memory.bin", np.uint8)
        kept = np.fromfile(folder / "kept.bin", np.uint8)
    if report["status"] == "cycle_limit":
        raise CycleLimitError(
            f"no interrupt after {report['last_cycle']} cycles (limit {settings.max_cycles}); "
            f"{_last_events(trace)}"
        )
    if report["status"] == "protocol":
        raise RtlError(f"cycle {report['last_cycle']}: {report['message']}")
    ends = np.cumsum([k.size for k in keep], dtype=np.int64)
    pieces = np.split(kept, ends[:-1]) if keep and len(kept) == ends[-1] else []
    return dataclasses.replace(_result(after, report, trace), kept=pieces)


def _result(
    memory: npt.NDArray[np.uint8], report: Mapping[str, Any], trace: npt.NDArray[np.uint64]
) -> JobResult:
    cycles = (trace >> np.uint64(16)).astype(np.int64) - report["start_cycle"] - START_LATENCY

    def events(shift: int) -> dict[Unit, npt.NDArray[np.int64]]:
        return {u: cycles[(trace >> np.uint64(shift + u)) & np.uint64(1) == 1] for u in Unit}

    return JobResult(
        memory=memory,
        registers=report["registers"],
        counters=report["counters"],
        issue=events(8),
        done=events(0),
        bursts_ended=report["bursts_ended"],
        bursts=(report["read_bursts"], report["write_bursts"]),
        seconds=report["seconds"],
        cycles_simulated=report["interrupt_cycle"] - report["start_cycle"],
    )


def _last_events(trace: npt.NDArray[np.uint64]) -> str:
    if trace.size == 0:
        return "no instruction was issued"
    return f"the last instruction was issued or done in cycle {int(trace[-1]) >> 16}"
