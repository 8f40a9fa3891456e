"""DRAM_BASE: everything that the core asks for lies a base further on, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from hw.arch.isa import ErrorCode, Fence, Load, Store
from hw.arch.registers import Register
from tests.hw.bench import HALT, Bench, waits

PROGRAM = [
    Load(dram=0x1F0, beats=300),
    Store(waits=waits(load=1), dram=0x1FF0, local=4, beats=200),
    Fence(),
    HALT,
]
BASE = 0x9ABC_D000


def ran(base, program=PROGRAM, memory_base=None, **options):
    """The result of a run whose memory answers from `memory_base` on, and nowhere else."""
    bench = Bench()
    bench.data[:] = np.random.default_rng(0).integers(0, 256, bench.data.size)
    bench.memory.base = base if memory_base is None else memory_base
    results = []

    async def scenario(ctx):
        results.append(await bench.run(ctx, program, base=base, **options))

    bench.simulate(scenario)
    return results[0]


def test_a_moved_program_does_the_same_in_the_same_cycles():
    here, there = ran(0), ran(BASE)
    assert here.error == there.error == 0
    assert np.array_equal(here.memory, there.memory)
    assert (here.end, here.counters, here.issue, here.done) == (
        there.end,
        there.counters,
        there.issue,
        there.done,
    )
    assert not np.array_equal(here.memory[0x1FF0:0x2000], ran(0, [HALT]).memory[0x1FF0:0x2000])


def test_the_store_window_moves_with_it():
    beyond = (0, 0x2000)
    for base in (0, BASE):
        result = ran(base, window=beyond)
        assert result.error == ErrorCode.STORE_WINDOW
        assert np.array_equal(result.memory[0x2000:0x3000], ran(0, [HALT]).memory[0x2000:0x3000])
        assert ran(base, window=(0x1FF0, 0x1FF0 + 200 * 4)).error == 0


def test_memory_at_another_place_is_not_met():
    with pytest.raises(AssertionError, match="is another's"):
        ran(BASE, memory_base=BASE + 0x100000)
    with pytest.raises(AssertionError, match="is another's"):
        ran(BASE, memory_base=0)


def test_the_low_bits_of_the_base_are_zero():
    bench = Bench()

    async def scenario(ctx):
        assert await bench.write(ctx, Register.DRAM_BASE, 0xFFFF_FFFF) == 0
        assert await bench.read(ctx, Register.DRAM_BASE) == 0xFFFF_F000

    bench.simulate(scenario)
