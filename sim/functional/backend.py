"""Functional simulation behind the backend protocol."""

from __future__ import annotations

import time
from collections import defaultdict

from tqdm import tqdm

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Scalar
from hw.arch.program import Program
from hw.timeline.step import Step
from sim.backend import BackendResult, Bytes, Options
from sim.functional.machine import FunctionalMachine
from sim.functional.sequencer import Sequencer
from sim.image import Complete, Keeper, image


class FunctionalBackend:
    """Right values, no times."""

    name = "functional"

    def run(
        self, program: Program, config: AcceleratorConfig, memory: Bytes, options: Options
    ) -> BackendResult:
        """Run; see `sim.backend.Backend.run`."""
        began = time.perf_counter()
        machine = FunctionalMachine(
            config, memory.copy(), program.store_window, options.check_reads
        )
        state = machine.state
        trace: list[Step] = []
        saturation: dict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))
        before = (0, 0)
        keeper = Keeper(program, config.port.bytes)
        copies: list[tuple[Complete, Bytes]] = []
        with tqdm(
            total=len(program.instructions), unit="instr", disable=not options.progress
        ) as bar:

            def observe(step: Step) -> None:
                nonlocal before
                now = (state.saturated, state.requantized)
                if now != before:
                    pc, (low, count) = trace[-1].pc, saturation[trace[-1].pc]
                    saturation[pc] = (low + now[0] - before[0], count + now[1] - before[1])
                    before = now
                lost = keeper.before(step)
                copies.extend((each, each.data(machine.memory)) for each in lost)
                trace.append(step)
                bar.update()

            outcome = machine.run(program.instructions, observe)
        return BackendResult(
            image=image(machine.memory, copies, keeper),
            cycles=None,
            timeline=None,
            counters={},
            wall_s=time.perf_counter() - began,
            halt_code=outcome.halt_code,
            trace=trace,
            saturation=dict(saturation),
        )


def dynamic_trace(program: Program, config: AcceleratorConfig, memory: Bytes) -> list[Step]:
    """Executed instructions of a run in order, registers applied.

    Needs no data unless the program reads scalars; then it is executed.
    """
    if any(isinstance(i, Scalar) for i in program.instructions):
        trace: list[Step] = []
        machine = FunctionalMachine(config, memory.copy(), program.store_window)
        machine.run(program.instructions, trace.append)
        return trace
    return list(Sequencer.of(program.instructions, config).steps())
