"""Drive the core from cocotb: AXI4 memory, AXI4-Lite host, random stalls.

Only imported inside the simulator. The same class serves job-level regressions and the unit-level
tests of tests/cosim.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam

from hw.arch.registers import (
    COUNTERS,
    Control,
    Register,
    Status,
    counter_offset,
)
from sim.cosim.job import Job

PERIOD_NS = 10


def pauses(seed: int, percent: int) -> Iterator[bool]:
    """Endless random pause flags, `percent` of them true."""
    generator = random.Random(seed)
    return (generator.randrange(100) < percent for _ in itertools.count())


class Bench:
    """The core, its memory and its host.

    Parameters
    ----------
    dut: the wrapper made by `sim.cosim.runner`.
    memory_bytes: size of the DRAM.
    """

    def __init__(self, dut: Any, memory_bytes: int):
        self.dut = dut
        self.ram = AxiRam(
            AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=max(memory_bytes, 4096)
        )
        self.host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)
        for owner in (self.ram.read_if, self.ram.write_if, self.host.read_if, self.host.write_if):
            owner.log.setLevel("WARNING")

    def stall(self, seed: int, percent: int) -> None:
        """Pause every AXI channel at random."""
        channels = [
            self.ram.read_if.ar_channel,
            self.ram.read_if.r_channel,
            self.ram.write_if.aw_channel,
            self.ram.write_if.w_channel,
            self.ram.write_if.b_channel,
            self.host.write_if.aw_channel,
            self.host.write_if.w_channel,
            self.host.write_if.b_channel,
            self.host.read_if.ar_channel,
            self.host.read_if.r_channel,
        ]
        for index, channel in enumerate(channels):
            channel.set_pause_generator(pauses(seed * 64 + index, percent))

    async def reset(self) -> None:
        """Start the clock and reset the core."""
        cocotb.start_soon(Clock(self.dut.clk, PERIOD_NS, unit="ns").start())
        self.dut.rst.value = 1
        await ClockCycles(self.dut.clk, 4)
        self.dut.rst.value = 0
        await ClockCycles(self.dut.clk, 2)

    async def write(self, register: Register, value: int) -> None:
        """Write a register."""
        await self.host.write_dword(register, value)

    async def read(self, register: int) -> int:
        """Read a register."""
        return int(await self.host.read_dword(register))

    async def start(self, job: Job) -> None:
        """Set up a job and start it."""
        await self.write(Register.IRQ_ENABLE, 1)
        await self.write(Register.PROGRAM_BASE, job.program_base)
        await self.write(Register.PROGRAM_LENGTH, job.program_length)
        await self.write(Register.STORE_BASE, job.store_window[0])
        await self.write(Register.STORE_LIMIT, job.store_window[1])
        await self.write(Register.DRAM_BASE, job.dram_base)
        await self.write(Register.WATCHDOG, job.watchdog)
        await self.write(Register.CONTROL, Control.START)

    async def finish(self, limit: int = 200_000) -> None:
        """Wait for the interrupt and clear it; fails after `limit` cycles."""
        for _ in range(limit):
            if int(self.dut.irq.value):
                break
            await RisingEdge(self.dut.clk)
        else:
            raise AssertionError(f"no interrupt after {limit} cycles")
        status = await self.read(Register.STATUS)
        assert status & Status.DONE and status & Status.IRQ and not status & Status.BUSY, status
        await self.write(Register.CONTROL, Control.CLEAR_IRQ)
        await ClockCycles(self.dut.clk, 4)
        assert not int(self.dut.irq.value), "CLEAR_IRQ left the interrupt high"

    async def run(self, job: Job, limit: int = 200_000) -> tuple[int, int, int, int]:
        """Run a job; returns (error code, unit, instruction index, halt code)."""
        await self.start(job)
        await self.finish(limit)
        return await self.outcome()

    async def outcome(self) -> tuple[int, int, int, int]:
        """Error code, unit, instruction index and halt code of the last run."""
        return (
            await self.read(Register.ERROR_CODE),
            await self.read(Register.ERROR_UNIT),
            await self.read(Register.ERROR_PC),
            await self.read(Register.HALT_CODE),
        )

    async def counters(self) -> dict[str, int]:
        """All performance counters."""
        values = {}
        for name in COUNTERS:
            low = await self.read(counter_offset(name))
            values[name] = low | (await self.read(counter_offset(name) + 4)) << 32
        return values
