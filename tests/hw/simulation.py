"""Circuits in Amaranth's simulator that are compiled once and run often, each time from reset.

Elaborating and compiling a unit takes longer than most of its scenarios.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from amaranth.lib import wiring
from amaranth.sim import Simulator

PERIOD = 1e-8

Routine = Callable[[Any], Coroutine[Any, Any, None]]


class Simulation:
    """A circuit with one clock.

    The simulator takes processes before its first run only; these here hand over to the ones of
    the present run.

    Parameters
    ----------
    dut: the circuit.
    """

    PROCESSES = 8

    def __init__(self, dut: wiring.Component):
        self.dut: Any = dut
        self._testbench: Routine
        self._processes: Sequence[Routine] = ()
        self._used = False
        self._simulator = Simulator(dut)
        self._simulator.add_clock(PERIOD)
        for number in range(self.PROCESSES):
            self._simulator.add_process(self._process(number))
        self._simulator.add_testbench(self._run_testbench)

    def run(self, testbench: Routine, processes: Sequence[Routine] = ()) -> None:
        """Run from reset until the testbench ends; `processes` see every cycle."""
        if len(processes) > self.PROCESSES:
            raise ValueError(f"at most {self.PROCESSES} processes, not {len(processes)}")
        self._testbench, self._processes = testbench, processes
        if self._used:
            self._simulator.reset()
        self._used = True
        self._simulator.run()

    async def _run_testbench(self, ctx: Any) -> None:
        await self._testbench(ctx)

    def _process(self, number: int) -> Routine:
        async def process(ctx: Any) -> None:
            if number < len(self._processes):
                await self._processes[number](ctx)

        return process


@functools.lru_cache(maxsize=6)
def compiled(unit: Callable[..., wiring.Component], *arguments: Any) -> Simulation:
    """The simulation of unit(*arguments), compiled when it is first asked for."""
    return Simulation(unit(*arguments))
