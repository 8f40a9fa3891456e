# amaranth: UnusedElaboratable=no
"""The example SoC: a program in its own memory runs, started by a host over AXI4-Lite."""

from __future__ import annotations

import random

import pytest
from amaranth.sim import Simulator

from examples.soc import OnChipSystem
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Begin, Fence, Halt, Load, Store, encode
from hw.arch.registers import Control, Register, Status

pytestmark = [pytest.mark.rtl, pytest.mark.large]

CONFIG = AcceleratorConfig.load("tiny_direct")
SIZE, DATA, OUTPUT, BEATS = 1 << 12, 0x400, 0x800, 20


async def write(ctx, dut, register, value):
    ctx.set(dut.s_axi_awaddr, int(register))
    ctx.set(dut.s_axi_wdata, int(value))
    ctx.set(dut.s_axi_wstrb, 0b1111)
    for name in ("awvalid", "wvalid", "bready"):
        ctx.set(getattr(dut, f"s_axi_{name}"), 1)
    await ctx.tick().until(dut.s_axi_awready)
    ctx.set(dut.s_axi_awvalid, 0)
    ctx.set(dut.s_axi_wvalid, 0)
    await ctx.tick().until(dut.s_axi_bvalid)


async def read(ctx, dut, register):
    ctx.set(dut.s_axi_araddr, int(register))
    ctx.set(dut.s_axi_arvalid, 1)
    ctx.set(dut.s_axi_rready, 1)
    await ctx.tick().until(dut.s_axi_arready)
    ctx.set(dut.s_axi_arvalid, 0)
    (value,) = await ctx.tick().sample(dut.s_axi_rdata).until(dut.s_axi_rvalid)
    return value


def test_a_program_runs():
    dut = OnChipSystem(CONFIG, SIZE)
    width = CONFIG.port.bytes
    dice = random.Random(1)
    contents = bytearray(dice.randbytes(SIZE))
    program = [
        Begin(CONFIG.fingerprint, CONFIG.feature_mask),
        Load(dram=DATA, beats=BEATS),
        Fence(),
        Store(dram=OUTPUT, beats=BEATS),
        Halt(),
    ]
    code = b"".join(map(encode, program))
    contents[: len(code)] = code
    expected = bytearray(contents)
    size = BEATS * width
    expected[OUTPUT : OUTPUT + size] = contents[DATA : DATA + size]
    found = bytearray()

    async def bench(ctx):
        rows = range(SIZE // width)
        for row in rows:
            word = contents[row * width : (row + 1) * width]
            ctx.set(dut.rows.data[row], int.from_bytes(word, "little"))
        settings = {
            Register.PROGRAM_LENGTH: len(program),
            Register.STORE_LIMIT: SIZE,
            Register.IRQ_ENABLE: 1,
            Register.CONTROL: Control.START,
        }
        for register, value in settings.items():
            await write(ctx, dut, register, value)
        await ctx.tick().until(dut.irq)
        assert await read(ctx, dut, Register.STATUS) & Status.DONE
        assert await read(ctx, dut, Register.ERROR_CODE) == 0
        for row in rows:
            found.extend(ctx.get(dut.rows.data[row]).to_bytes(width, "little"))

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run_until(1e-8 * 20_000)
    assert found == expected != contents
