"""BurstWalker: bursts of random transfers against a plain expansion of the nest."""

import dataclasses
import itertools
import random

import pytest
from amaranth.sim import Simulator

from hw.arch import timing
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ErrorCode, Load, Unit, deltas
from hw.memory.walker import BurstWalker

pytestmark = pytest.mark.rtl
TINY = AcceleratorConfig.load("tiny")
BYTES, MAX_BURST = TINY.port.bytes, TINY.port.max_burst


def transfer(counts, beats, dram, dram_strides, local, local_strides):
    return Load(
        dram=dram,
        local=local,
        beats=beats,
        counts=counts,
        space=1,
        dram_deltas=deltas(counts, dram_strides),
        local_deltas=deltas(counts, local_strides),
    )


def expand(counts, beats, dram, dram_strides, local, local_strides):
    """(address, beats, local) of every burst, by strides and loops."""
    bursts = []
    for index in itertools.product(*(range(c) for c in reversed(counts))):
        steps = index[::-1]
        address = dram + sum(i * s for i, s in zip(steps, dram_strides, strict=True))
        row = local + sum(i * s for i, s in zip(steps, local_strides, strict=True))
        left = beats
        while left:
            size = min(left, MAX_BURST, (4096 - address % 4096) // BYTES)
            bursts.append((address, size, row))
            address, row, left = address + size * BYTES, row + size, left - size
    return bursts


def random_transfer(generator):
    counts = tuple(generator.choice([1, 1, 2, 3]) for _ in range(3))
    return (
        counts,
        generator.choice([1, 2, 7, 16, 17, 50]),
        generator.randrange(1 << 14) * BYTES,
        tuple(generator.randrange(-500, 500) * BYTES for _ in range(3)),
        generator.randrange(1 << 12, 1 << 13),
        tuple(generator.randrange(-300, 300) for _ in range(3)),
    )


def walk(instructions, stall, seed=0):
    """Bursts that come out, cycles of the handshakes, errors."""
    dut = BurstWalker(Unit.LOAD, TINY.port)
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    bursts, cycles, errors = [], [], []
    generator = random.Random(seed)

    async def testbench(ctx):
        waiting = list(instructions)
        idle = cycle = 0
        while idle < 6:
            ready = generator.random() >= stall
            ctx.set(dut.o.ready, ready)
            offer = bool(waiting) and generator.random() >= stall
            ctx.set(dut.i.valid, offer)
            if waiting:
                values = dataclasses.asdict(waiting[0])
                ctx.set(
                    dut.i.payload,
                    {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()},
                )
            if offer and ctx.get(dut.i.ready):
                waiting.pop(0)
                cycles.append(("issue", cycle))
            if ctx.get(dut.o.valid) and ready:
                burst = ctx.get(dut.o.payload)
                bursts.append((burst.address, burst.length + 1, burst.local, burst.last))
                cycles.append(("burst", cycle))
            if ctx.get(dut.error):
                errors.append(ctx.get(dut.error))
            idle = idle + 1 if not (waiting or ctx.get(dut.active)) else 0
            await ctx.tick()
            cycle += 1

    simulator.add_testbench(testbench)
    simulator.run()
    return bursts, cycles, errors


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_bursts_equal_the_expanded_nest(stall):
    generator = random.Random(int(stall * 10))
    shapes = [random_transfer(generator) for _ in range(8)]
    bursts, _, errors = walk([transfer(*shape) for shape in shapes], stall)
    wanted = []
    for shape in shapes:
        expanded = expand(*shape)
        wanted += [(*b, int(k == len(expanded) - 1)) for k, b in enumerate(expanded)]
    assert [b[:3] for b in bursts] == [w[:3] for w in wanted]
    assert [b[3] for b in bursts] == [w[3] for w in wanted]
    assert not errors
    # The comparison would see a stride that is off by one beat.
    counts, beats, dram, strides, *rest = next(s for s in shapes if s[0][0] > 1)
    spoilt = [expand(*shape) for shape in shapes]
    spoilt[shapes.index((counts, beats, dram, strides, *rest))] = expand(
        counts, beats, dram, (strides[0] + BYTES, *strides[1:]), *rest
    )
    assert [b[:3] for b in bursts] != list(itertools.chain(*spoilt))


def test_one_run_per_two_cycles_from_the_third_cycle_after_the_issue():
    shape = ((3, 2, 1), 1, 0x100, (64, 256, 0), 0, (1, 3, 0))
    _, cycles, _ = walk([transfer(*shape), transfer(*shape)], 0.0)
    first = timing.LOAD_ASK
    # The walker is free one cycle after its last run began to enter the output register.
    runs = [timing.RUN_INTERVAL * k for k in range(6)]
    second = first + runs[-1]
    assert sorted(cycles) == sorted(
        [
            *[("issue", 0), ("issue", second)],
            *[("burst", first + c) for c in runs],
            *[("burst", second + first + c) for c in runs],
        ]
    )


def test_one_burst_per_cycle_and_the_next_instruction_while_the_last_run_is_split():
    shape = ((1, 1, 1), 4 * MAX_BURST, 0x100, (0, 0, 0), 0, (0, 0, 0))
    _, cycles, _ = walk([transfer(*shape), transfer(*shape)], 0.0)
    assert [c for name, c in cycles if name == "issue"] == [0, timing.LOAD_ASK]
    assert [c for name, c in cycles if name == "burst"] == [timing.LOAD_ASK + k for k in range(8)]


def test_an_address_between_beats_is_an_error_and_gives_no_burst():
    shape = ((2, 1, 1), 1, 0x100, (6, 0, 0), 0, (1, 0, 0))
    bursts, _, errors = walk([transfer(*shape)], 0.0)
    assert errors == [ErrorCode.ADDRESS]
    assert bursts == [(0x100, 1, 0, 0)]
