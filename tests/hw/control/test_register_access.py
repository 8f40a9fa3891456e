"""Access types and reset values of the register map, as the circuit has them."""

from __future__ import annotations

import pytest
from amaranth.sim import Simulator

from hw.arch.config import AcceleratorConfig
from hw.arch.register_map import ALWAYS, COMMAND, MAP, READ, SETTING
from hw.arch.registers import COUNTERS, DRAM_ALIGNMENT, Register, counter_offset
from hw.control.registers import SLAVE_ERROR, Registers

pytestmark = pytest.mark.rtl

KEPT = {
    Register.DRAM_BASE: -DRAM_ALIGNMENT & 0xFFFF_FFFF,
    Register.IRQ_ENABLE: 1,
    Register.PROGRAM_LENGTH: 0xFF_FFFF,
}
"""Bits of a register, where not all are kept."""


async def write(ctx, bus, offset, value):
    for name, data in {"awaddr": offset, "wdata": value, "wstrb": 15, "bready": 1}.items():
        ctx.set(getattr(bus, name), data)
    for name in ("awvalid", "wvalid"):
        ctx.set(getattr(bus, name), 1)
    await ctx.tick()
    for name in ("awvalid", "wvalid"):
        ctx.set(getattr(bus, name), 0)
    while not ctx.get(bus.bvalid):
        await ctx.tick()
    response = ctx.get(bus.bresp)
    await ctx.tick()
    return response


async def read(ctx, bus, offset):
    ctx.set(bus.araddr, offset)
    ctx.set(bus.arvalid, 1)
    ctx.set(bus.rready, 1)
    await ctx.tick()
    ctx.set(bus.arvalid, 0)
    while not ctx.get(bus.rvalid):
        await ctx.tick()
    result = ctx.get(bus.rdata), ctx.get(bus.rresp)
    await ctx.tick()
    return result


@pytest.mark.parametrize("busy", [0, 1])
def test_every_register_is_as_the_map_says(busy):
    dut = Registers(AcceleratorConfig.load("tiny"))

    async def scenario(ctx):
        ctx.set(dut.status.busy, busy)
        for register, entry in MAP.items():
            before, response = await read(ctx, dut.bus, register)
            assert response == 0
            if entry.reset is not None:
                assert before == (busy if register is Register.STATUS else entry.reset)
            writable = entry.access in (COMMAND, ALWAYS) or (entry.access == SETTING and not busy)
            value = 0 if entry.access == COMMAND else 0xFFFF_F001
            expected = 0 if writable else SLAVE_ERROR
            assert await write(ctx, dut.bus, register, value) == expected
            after, _ = await read(ctx, dut.bus, register)
            kept = value & KEPT.get(register, 0xFFFF_FFFF)
            assert after == (kept if writable and entry.access != COMMAND else before)
        for name in COUNTERS:
            assert await write(ctx, dut.bus, counter_offset(name), 1) == SLAVE_ERROR
            assert await read(ctx, dut.bus, counter_offset(name)) == (0, 0)
        assert (await read(ctx, dut.bus, 0x48))[1] == SLAVE_ERROR

    assert {entry.access for entry in MAP.values()} == {READ, SETTING, COMMAND, ALWAYS}
    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(scenario)
    simulator.run()
