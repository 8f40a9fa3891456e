"""The weight scratchpad in banks: against a list, two writers at once, errors."""

from __future__ import annotations

import random

import pytest

from hw.arch.isa import ErrorCode
from hw.arch.timing import WEIGHT_READ_LATENCY, WRITE_LATENCY
from hw.memory.banked import BankedWeights
from tests.hw.simulation import Simulation
from tests.machines import folding

pytestmark = pytest.mark.rtl


@pytest.mark.parametrize("preset", ["tiny", "base"])
def test_both_writers_fill_the_banks_and_groups_are_read(preset):
    """In every cycle two random beats, in different banks, then random groups."""
    assert WEIGHT_READ_LATENCY == 1
    config = folding(preset)
    dut = BankedWeights(config)
    dice = random.Random(1)
    size, beats = config.weight_bank_beats, config.weight_group_beats
    content = [None] * config.weight_beats

    async def write(ctx, port, address):
        value = dice.getrandbits(8 * config.port.bytes)
        ctx.set(port.enable, 1)
        ctx.set(port.address, address)
        ctx.set(port.data, value)
        content[address] = value

    async def scenario(ctx):
        near = range(2 * beats)
        for _ in range(60 * beats):
            first, second = dice.sample(range(config.weight_banks), 2)
            ends = [dice.choice([n, size - 1 - n]) for n in dice.sample(near, 2)]
            await write(ctx, dut.load, first * size + ends[0])
            await write(ctx, dut.vector, second * size + ends[1])
            await ctx.tick()
            assert ctx.get(dut.vector_error) == ErrorCode.NONE
        ctx.set(dut.load.enable, 0)
        ctx.set(dut.vector.enable, 0)
        for _ in range(WRITE_LATENCY - 1):
            await ctx.tick()
        whole = [
            g for g in range(config.weight_beats // beats)
            if None not in content[g * beats : (g + 1) * beats]
        ]  # fmt: skip
        assert {g * beats // size for g in whole} == set(range(config.weight_banks))
        for group in dice.choices(whole, k=60):
            ctx.set(dut.read.enable, 1)
            ctx.set(dut.read.address, group)
            await ctx.tick()
            wanted = 0
            for k in range(beats):
                wanted |= content[group * beats + k] << 8 * config.port.bytes * k
            assert ctx.get(dut.read.data) == wanted
            ctx.set(dut.read.enable, 0)
            ctx.set(dut.read.address, dice.choice(whole))
            await ctx.tick()
            assert ctx.get(dut.read.data) == wanted, "data hold without a read"
            assert ctx.get(dut.error) == ErrorCode.NONE

    Simulation(dut).run(scenario)


def test_a_write_of_vector_is_seen_after_exactly_the_declared_latency():
    dut = BankedWeights(folding("tiny"))

    async def scenario(ctx):
        ctx.set(dut.vector.enable, 1)
        ctx.set(dut.vector.data, 0xAB)
        ctx.set(dut.read.enable, 1)
        seen = []
        for _ in range(WRITE_LATENCY + 1):
            await ctx.tick()
            ctx.set(dut.vector.enable, 0)
            seen.append(ctx.get(dut.read.data))
        assert seen == [0] * WRITE_LATENCY + [0xAB]

    Simulation(dut).run(scenario)


def test_errors():
    config = folding("tiny")
    dut = BankedWeights(config)
    size, last = config.weight_bank_beats, config.weight_beats
    none, address, conflict = ErrorCode.NONE, ErrorCode.ADDRESS, ErrorCode.BANK_CONFLICT
    # LOAD's beat, VECTOR's beat (None: no write), what VECTOR is told
    rows = [
        (0, size, none),
        (0, size - 1, conflict),
        (3 * size, 4 * size - 1, conflict),
        (None, 0, none),
        (0, None, none),
        (None, last, address),
        (0, last, address),
        (None, last - 1, none),
    ]

    async def scenario(ctx):
        for load, vector, code in rows:
            for port, beat in ((dut.load, load), (dut.vector, vector)):
                ctx.set(port.enable, beat is not None)
                ctx.set(port.address, beat or 0)
            await ctx.tick()
            assert ctx.get(dut.vector_error) == code, (load, vector)
            assert ctx.get(dut.error) == none
        ctx.set(dut.vector.enable, 0)
        for group, code in ((last - 1, none), (last, address), (1 << 17, address)):
            ctx.set(dut.read.enable, 1)
            ctx.set(dut.read.address, group)
            await ctx.tick()
            assert ctx.get(dut.error) == code, group
        ctx.set(dut.read.enable, 0)
        await ctx.tick()
        assert ctx.get(dut.error) == ctx.get(dut.vector_error) == none

    Simulation(dut).run(scenario)


def test_what_a_beat_beyond_the_end_would_have_hit_stays():
    dut = BankedWeights(folding("tiny"))
    last = folding("tiny").weight_beats

    async def scenario(ctx):
        for beat, value in ((0, 0x11), (last, 0x22)):
            ctx.set(dut.vector.enable, 1)
            ctx.set(dut.vector.address, beat)
            ctx.set(dut.vector.data, value)
            await ctx.tick()
        ctx.set(dut.vector.enable, 0)
        await ctx.tick().repeat(WRITE_LATENCY)
        ctx.set(dut.read.enable, 1)
        await ctx.tick()
        assert ctx.get(dut.read.data) == 0x11

    Simulation(dut).run(scenario)


def test_a_beat_of_load_is_written_beside_one_of_vector_beyond_the_end():
    """Which would be the same bank's first beat, were the address cut."""
    dut = BankedWeights(folding("tiny"))

    async def scenario(ctx):
        end = folding("tiny").weight_beats
        for port, beat, value in ((dut.load, 0, 0x11), (dut.vector, end, 0x22)):
            ctx.set(port.enable, 1)
            ctx.set(port.address, beat)
            ctx.set(port.data, value)
        await ctx.tick()
        for port in (dut.load, dut.vector):
            ctx.set(port.enable, 0)
        await ctx.tick().repeat(WRITE_LATENCY)
        ctx.set(dut.read.enable, 1)
        await ctx.tick()
        assert ctx.get(dut.read.data) == 0x11

    Simulation(dut).run(scenario)
