"""Entries: collected in passes, handed to the engine, applied in turn."""

from __future__ import annotations

import pytest
from amaranth.sim import Simulator

from hw.compute.vector.statistics import Statistics

pytestmark = pytest.mark.rtl
FIXED = (0x123456, 19)


def run(drive):
    """Run `drive(dut, ctx, tick)`; tick(**values) sets members for one cycle."""
    dut = Statistics()

    async def testbench(ctx) -> None:
        async def tick(**values) -> None:
            for name, value in values.items():
                ctx.set(getattr(dut, name), value)
            await ctx.tick()
            for name in values:
                if name in ("begin", "add", "found", "following", "again"):
                    ctx.set(getattr(dut, name), 0)

        ctx.set(dut.fixed, FIXED[0])
        ctx.set(dut.fixed_shift, FIXED[1])
        await drive(dut, ctx, tick)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(testbench)
    simulator.run()


SUMS = [(5, -7), ((1 << 31) - 9, (1 << 18) - 1), (0, 1 - (1 << 18)), (123456, 4)]


def test_passes_add_up_and_the_last_goes_to_the_engine():
    more = [(11, 8), (2, 0), (1 << 20, 5), (0, -9)]
    started = []

    async def drive(dut, ctx, tick) -> None:
        await tick(begin=1, entry=60, first=1, last=0)
        for total, elements in SUMS:  # an entry in every cycle
            await tick(add=1, total=total, elements_total=elements)
        await tick()
        await tick(begin=1, first=0, last=1)
        for total, elements in more:
            await tick(add=1, total=total, elements_total=elements)
            if ctx.get(dut.start):
                started.append((ctx.get(dut.group_total), ctx.get(dut.group_sum)))
            await tick()

    run(drive)
    assert started == [(a + c, b + d) for (a, b), (c, d) in zip(SUMS, more, strict=True)]


def test_what_the_engine_found_is_applied_in_turn():
    """minus_sum a cycle after its turn, the reciprocal a cycle later, the shift two more."""
    results = [(0xFFFFFF - k, 31 - k, sums[1]) for k, sums in enumerate(SUMS)]
    seen = []

    async def drive(dut, ctx, tick) -> None:
        await tick(begin=1, entry=3, first=1, last=1)
        for reciprocal, shift, total in results:
            await tick(found=1, reciprocal_found=reciprocal, shift_found=shift, sum_found=total)
        await tick()
        await tick(begin=1, applies=1)
        for cycle in range(12):
            outputs = (dut.minus_sum, dut.reciprocal, dut.shift)
            seen.append([ctx.get(output) for output in outputs])
            turn = cycle % 5
            await tick(following=turn < 3, again=turn == 3)

    run(drive)
    # The turn is 0, 1, 2, 3, then `again` 0, then 0 again as `following` was low.
    turns = [0, 1, 2, 3, 0, 0, 1, 2, 3, 0, 0, 1]
    for cycle in range(4, 12):
        assert seen[cycle][0] == -results[turns[cycle - 1]][2]
        assert seen[cycle][1] == results[turns[cycle - 2]][0]
        assert seen[cycle][2] == results[turns[cycle - 4]][1]


def test_where_nothing_is_applied_the_fixed_scale_stands():
    async def drive(dut, ctx, tick) -> None:
        await tick(begin=1, entry=0, applies=0)
        await tick()
        await tick()
        assert (ctx.get(dut.reciprocal), ctx.get(dut.shift)) == FIXED

    run(drive)


def test_twin_a_pass_that_clears_forgets():
    started = []

    async def drive(dut, ctx, tick) -> None:
        await tick(begin=1, entry=0, first=1, last=0)
        await tick(add=1, total=40, elements_total=2)
        await tick()
        await tick(begin=1, first=1, last=1)
        await tick(add=1, total=2, elements_total=1)
        started.append((ctx.get(dut.start), ctx.get(dut.group_total)))

    run(drive)
    assert started == [(1, 2)]
