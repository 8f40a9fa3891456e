"""`--on rtl`: the core's Verilog at native speed under Verilator."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ErrorCode, Unit
from hw.arch.program import Program
from hw.arch.registers import SEQUENCER_UNIT
from sim.backend import BackendResult, Bytes, Options, timeline
from sim.cosim import job, verilate
from sim.functional import MachineError
from sim.functional.backend import dynamic_trace
from sim.image import Complete, image, overwritten

PROGRESS_CYCLES = 1_000_000
QUICK = "-O0"
"""Of another circuit, which runs for seconds only."""
TRAINING_CYCLES = 30_000
"""Of a network, that its model is optimised for (verilate.build)."""


class RtlBackend:
    """The circuit itself, its DRAM and its host compiled into one program.

    Parameters
    ----------
    max_cycles: give up after so many.
    verilog: another circuit with the core's ports, as of `verilate.build`.
    """

    name = "rtl"

    def __init__(self, max_cycles: int = 1 << 34, verilog: Path | None = None):
        self._max_cycles, self._verilog = max_cycles, verilog

    def run(
        self, program: Program, config: AcceleratorConfig, memory: Bytes, options: Options
    ) -> BackendResult:
        """Run a program; see `sim.backend.Backend`.

        Raises
        ------
        MachineError
            If the core stopped with an error.
        job.RtlError, verilate.BuildError
            If the circuit could not be built or run, or never finished.
        """

        def train(model: Path) -> None:
            beginning = job.Settings(max_cycles=TRAINING_CYCLES)
            with contextlib.suppress(job.CycleLimitError):
                job.run(model, job_of(program), memory, beginning)

        waveform = None
        if self._verilog is not None:
            model = verilate.build(config, verilog=self._verilog, optimise=QUICK, say=options.say)
        elif options.trace_file is None:
            model = verilate.build(config, training=train, say=options.say)
        else:
            kind = verilate.waveform_kind()
            waveform = options.trace_file.with_suffix(f".{kind}")
            model = verilate.build(config, waves=kind, say=options.say)
        first, last = options.trace_window or (0, None)
        settings = job.Settings(
            max_cycles=self._max_cycles,
            progress=PROGRESS_CYCLES if options.progress else 0,
            waves=waveform,
            waves_first=first,
            waves_last=last,
        )
        steps = dynamic_trace(program, config, memory)
        lost, keeper = overwritten(program, steps, config.port.bytes)
        lost.sort(key=lambda complete: complete.beats)
        keep = [job.Keep(each.beats, *span) for each in lost for span in each.spans]
        result = job.run(model, job_of(program), memory, settings, keep=keep)
        check(result)
        return BackendResult(
            image=image(result.memory, zip(lost, pieced(lost, result.kept), strict=True), keeper),
            cycles=result.counters["cycles"],
            timeline=timeline(steps, result.issue, result.done),
            counters=result.counters,
            wall_s=result.seconds,
            halt_code=result.registers["halt_code"],
            trace=steps,
            waveform=waveform,
        )


def pieced(lost: Sequence[Complete], kept: Sequence[Bytes]) -> Iterator[Bytes]:
    """The bytes of tensors whose pieces were copied one by one."""
    pieces = iter(kept)
    for each in lost:
        yield np.concatenate([next(pieces) for _ in each.spans])


def job_of(program: Program) -> job.Job:
    """What the host writes to run a program."""
    return job.Job(
        program.code_address,
        len(program.instructions),
        program.store_window,
        dram_base=program.dram_base,
    )


def check(result: job.JobResult) -> None:
    """Raise what the error registers say.

    Raises
    ------
    MachineError
        If the error code is not zero.
    """
    registers = result.registers
    code = registers["error_code"]
    if code == ErrorCode.NONE:
        return
    unit = None if registers["error_unit"] == SEQUENCER_UNIT else Unit(registers["error_unit"])
    raise MachineError(
        ErrorCode(code),
        unit,
        registers["error_pc"],
        f"the core stopped after {result.counters['cycles']} cycles",
    )
