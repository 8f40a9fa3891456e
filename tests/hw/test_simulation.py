"""A compiled circuit that is run again starts from reset: registers, memories, processes."""

from __future__ import annotations

from typing import Any

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from tests.hw.simulation import Simulation


class Tally(wiring.Component):
    """Counts cycles, in a register with reset, one without, and a row of a memory."""

    def __init__(self) -> None:
        super().__init__({"count": Out(8), "kept": Out(8), "stored": Out(8), "pause": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.rows = rows = memory.Memory(shape=8, depth=2, init=[5, 0])
        read, write = rows.read_port(domain="comb"), rows.write_port()
        kept = Signal(8, init=3, reset_less=True)
        m.d.comb += [
            self.kept.eq(kept),
            self.stored.eq(read.data),
            write.en.eq(~self.pause),
            write.data.eq(read.data + 1),
        ]
        with m.If(~self.pause):
            m.d.sync += [self.count.eq(self.count + 1), kept.eq(kept + 1)]
        return m


@pytest.fixture
def simulation() -> Simulation:
    return Simulation(Tally())


def after(simulation: Simulation, cycles: int, *, pause: int = 0) -> tuple[int, int, int]:
    """State after so many cycles from reset."""
    dut = simulation.dut
    state = []

    async def testbench(ctx: Any) -> None:
        if pause:
            ctx.set(dut.pause, 1)
        await ctx.tick().repeat(cycles)
        state.extend(ctx.get(port) for port in (dut.count, dut.kept, dut.stored))

    simulation.run(testbench)
    return tuple(state)


def test_every_run_starts_from_reset(simulation: Simulation) -> None:
    assert after(simulation, 4) == (4, 7, 9)
    assert after(simulation, 4) == (4, 7, 9)
    assert after(simulation, 2) == (2, 5, 7)


def test_inputs_start_from_reset(simulation: Simulation) -> None:
    assert after(simulation, 4, pause=1) == (0, 3, 5)
    assert after(simulation, 4) == (4, 7, 9)


def test_without_a_reset_the_next_run_differs(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin of the first test: simulator and testbench stand where they ended."""
    first = after(simulation, 4)
    monkeypatch.setattr(simulation._simulator, "reset", lambda: None)
    assert after(simulation, 4) != first


def test_processes_are_those_of_the_present_run(simulation: Simulation) -> None:
    seen: list[str] = []

    def process(name: str) -> Any:
        async def watch(ctx: Any) -> None:
            while True:
                await ctx.tick()
                seen.append(name)

        return watch

    async def testbench(ctx: Any) -> None:
        await ctx.tick().repeat(3)

    simulation.run(testbench, [process("a"), process("b")])
    simulation.run(testbench, [process("c")])
    assert set(seen[-3:]) == {"c"}
    assert {"a", "b"} <= set(seen[:-3])
    with pytest.raises(ValueError, match="at most"):
        simulation.run(testbench, [process("d")] * (Simulation.PROCESSES + 1))
