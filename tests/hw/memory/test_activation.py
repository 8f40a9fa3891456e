"""ActivationScratchpad: random traffic against a model, latency, conflicts, addresses."""

import random

import pytest
from amaranth.sim import Simulator

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ErrorCode
from hw.arch.timing import ACTIVATION_READ_LATENCY
from hw.memory.activation import ActivationScratchpad

pytestmark = pytest.mark.rtl
TINY = AcceleratorConfig.load("tiny")
READERS = [("array", 1), ("store", 5), ("scalar", 7)]
WRITERS = [("load", 0), ("drain", 2)]
BANK_ROWS = TINY.memory.activation_bank_rows


def simulate(scenario):
    dut = ActivationScratchpad(TINY, READERS, WRITERS)
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)

    async def testbench(ctx):
        await scenario(ctx, dut)

    simulator.add_testbench(testbench)
    simulator.run()


def put(ctx, port, address=None, data=None):
    """Drive one access, or none."""
    ctx.set(port.enable, address is not None)
    if address is not None:
        ctx.set(port.address, address)
    if data is not None:
        ctx.set(port.data, data)


def test_random_traffic_equals_a_model():
    generator = random.Random(1)

    async def scenario(ctx, dut):
        rows = {}
        expected = {name: [] for name, _ in READERS}
        compared = 0
        for cycle in range(400):
            banks = generator.sample(range(8), 5)  # one owner each: no conflicts
            for (name, _), bank in zip(READERS, banks, strict=False):
                address = bank * BANK_ROWS + generator.randrange(4)
                active = generator.random() < 0.7
                put(ctx, getattr(dut, name), address if active else None)
                value = rows.get(address) if active else None
                expected[name].append((cycle + ACTIVATION_READ_LATENCY, value))
            fresh = {}
            for (name, _), bank in zip(WRITERS, banks[3:], strict=True):
                address, value = (
                    bank * BANK_ROWS + generator.randrange(4),
                    generator.getrandbits(32),
                )
                put(ctx, getattr(dut, name), address, value)
                fresh[address] = value
            for name, _ in READERS:
                for due, value in expected[name]:
                    if due == cycle and value is not None:
                        assert ctx.get(getattr(dut, name).data) == value, (name, cycle)
                        compared += 1
            assert ctx.get(dut.error) == ErrorCode.NONE
            rows |= fresh
            await ctx.tick()
        assert compared > 100

    simulate(scenario)


def test_data_arrive_after_exactly_the_declared_latency():
    async def scenario(ctx, dut):
        put(ctx, dut.load, 3, 0xAB)
        await ctx.tick()
        put(ctx, dut.load)
        put(ctx, dut.store, 3)
        seen = []
        for _ in range(ACTIVATION_READ_LATENCY + 1):
            seen.append(ctx.get(dut.store.data))
            await ctx.tick()
            put(ctx, dut.store)
        assert seen == [0] * ACTIVATION_READ_LATENCY + [0xAB]

    simulate(scenario)


@pytest.mark.parametrize(
    "accesses, error, unit",
    [
        ({"array": 0, "store": 1}, ErrorCode.BANK_CONFLICT, 5),
        ({"array": 0, "scalar": BANK_ROWS - 1}, ErrorCode.BANK_CONFLICT, 7),
        ({"load": 5, "drain": 6}, ErrorCode.BANK_CONFLICT, 2),
        ({"array": 0, "store": BANK_ROWS}, ErrorCode.NONE, None),
        ({"array": 0, "load": 0}, ErrorCode.NONE, None),
        ({"array": 8 * BANK_ROWS - 1}, ErrorCode.NONE, None),
        ({"array": 8 * BANK_ROWS}, ErrorCode.ADDRESS, 1),
        ({"drain": 0xFFFF}, ErrorCode.ADDRESS, 2),
    ],
)
def test_errors(accesses, error, unit):
    async def scenario(ctx, dut):
        for name, address in accesses.items():
            put(ctx, getattr(dut, name), address)
        await ctx.tick()
        for name in accesses:
            put(ctx, getattr(dut, name))
        assert ctx.get(dut.error) == ErrorCode.NONE
        await ctx.tick()
        assert ctx.get(dut.error) == error
        if unit is not None:
            assert ctx.get(dut.error_unit) == unit
        await ctx.tick()
        assert ctx.get(dut.error) == ErrorCode.NONE

    simulate(scenario)


def test_a_row_beyond_the_end_is_not_written():
    async def scenario(ctx, dut):
        put(ctx, dut.load, 0, 0x11)
        await ctx.tick()
        put(ctx, dut.load, 8 * BANK_ROWS, 0x22)  # would fall on row 0
        await ctx.tick()
        put(ctx, dut.load)
        put(ctx, dut.array, 0)
        for _ in range(ACTIVATION_READ_LATENCY):
            await ctx.tick()
        assert ctx.get(dut.array.data) == 0x11

    simulate(scenario)
