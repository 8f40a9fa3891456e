"""LinearMemory: beats in, rows out."""

import random

import pytest
from amaranth.sim import Simulator

from hw.arch.isa import ErrorCode
from hw.arch.timing import PARAMETER_READ_LATENCY, WEIGHT_READ_LATENCY, WRITE_LATENCY
from hw.memory.linear import LinearMemory

pytestmark = pytest.mark.rtl


def simulate(dut, scenario):
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(scenario)
    simulator.run()


@pytest.mark.parametrize("beats", [1, 4])
def test_rows_are_beats_side_by_side_one_cycle_later(beats):
    assert WEIGHT_READ_LATENCY == PARAMETER_READ_LATENCY == 1
    dut = LinearMemory(beat_bits=32, beats_per_row=beats, rows=16)
    content = [random.Random(beats).getrandbits(32) for _ in range(16 * beats)]

    async def scenario(ctx):
        ctx.set(dut.write.enable, 1)
        for address, beat in enumerate(content):
            ctx.set(dut.write.address, address)
            ctx.set(dut.write.data, beat)
            await ctx.tick()
        ctx.set(dut.write.enable, 0)
        for _ in range(WRITE_LATENCY - 1):
            await ctx.tick()
        for row in random.Random(2).sample(range(16), 16):
            ctx.set(dut.read.enable, 1)
            ctx.set(dut.read.address, row)
            await ctx.tick()
            wanted = sum(content[row * beats + k] << 32 * k for k in range(beats))
            assert ctx.get(dut.read.data) == wanted
            ctx.set(dut.read.enable, 0)
            ctx.set(dut.read.address, 0)
            await ctx.tick()
            assert ctx.get(dut.read.data) == wanted, "data hold without a read"
            assert ctx.get(dut.error) == ErrorCode.NONE

    simulate(dut, scenario)


def test_a_write_is_seen_after_exactly_the_declared_latency():
    dut = LinearMemory(beat_bits=32, beats_per_row=1, rows=16)

    async def scenario(ctx):
        ctx.set(dut.write.enable, 1)
        ctx.set(dut.write.data, 0xAB)
        ctx.set(dut.read.enable, 1)
        seen = []
        for _ in range(WRITE_LATENCY + 1):  # a read in the cycle of the write and in later ones
            await ctx.tick()
            ctx.set(dut.write.enable, 0)
            seen.append(ctx.get(dut.read.data))
        assert seen == [0] * WRITE_LATENCY + [0xAB]

    simulate(dut, scenario)


def test_a_row_beyond_the_end_is_an_error():
    dut = LinearMemory(beat_bits=32, beats_per_row=4, rows=16)

    async def scenario(ctx):
        for row, error in (
            (15, ErrorCode.NONE),
            (16, ErrorCode.ADDRESS),
            (1 << 15, ErrorCode.ADDRESS),
        ):
            ctx.set(dut.read.enable, 1)
            ctx.set(dut.read.address, row)
            await ctx.tick()
            ctx.set(dut.read.enable, 0)
            assert ctx.get(dut.error) == error, row

    simulate(dut, scenario)
