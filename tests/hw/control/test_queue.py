"""UnitQueue: order, waits, sticky offers, what is stored."""

import random

import pytest
from amaranth.sim import Simulator

from hw.arch.isa import Array, Drain, Elementwise, Load, Reduce, Store, Unit
from hw.arch.timing import QUEUE_INTERVAL, QUEUE_LATENCY
from hw.common.layouts import kept_bits, unit_layout
from hw.common.queue import UnitQueue

pytestmark = pytest.mark.rtl
DEPTH = 4


def simulate(scenario, unit=Unit.STORE, deferred=None):
    dut = UnitQueue(unit_layout(unit), kept_bits(unit), DEPTH, deferred)
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)

    async def testbench(ctx):
        await scenario(ctx, dut)

    simulator.add_testbench(testbench)
    simulator.run()


def offer(ctx, dut, dram=None, **targets):
    """Push a STORE told apart by its address; targets are unit=count."""
    ctx.set(dut.i.valid, dram is not None)
    if dram is None:
        return
    ctx.set(dut.i.payload.instruction.dram, dram)
    aim(ctx, dut, **targets)


def aim(ctx, dut, **targets):
    """Targets of what is pushed."""
    for unit in Unit:
        count = targets.get(unit.name.lower())
        ctx.set(dut.i.payload.targets[unit].enable, count is not None)
        ctx.set(dut.i.payload.targets[unit].count, (count or 0) & 0xFFFF)


def test_latency_and_interval():
    async def scenario(ctx, dut):
        ctx.set(dut.o.ready, 1)
        offered = []
        for cycle in range(20):
            offer(ctx, dut, 7 + cycle // 2 if cycle < 6 and cycle % 2 == 0 else None)
            if ctx.get(dut.o.valid):
                offered.append((cycle, ctx.get(dut.o.payload.dram)))
            await ctx.tick()
        assert offered == [(QUEUE_LATENCY + QUEUE_INTERVAL * k, 7 + k) for k in range(3)]

    simulate(scenario)


@pytest.mark.parametrize("start", [0, 0xFFFE])
def test_the_head_is_held_until_every_count_is_reached(start):
    async def scenario(ctx, dut):
        for unit in Unit:
            ctx.set(dut.completed[unit], start)
        offer(ctx, dut, 1, load=start + 2, array=start + 1)
        await ctx.tick()
        offer(ctx, dut)
        await ctx.tick().repeat(QUEUE_LATENCY - 2)
        for load, array, over in ((0, 0, 0), (2, 0, 0), (1, 1, 0), (2, 1, 1), (5, 9, 1)):
            ctx.set(dut.completed[Unit.LOAD], (start + load) & 0xFFFF)
            ctx.set(dut.completed[Unit.ARRAY], (start + array) & 0xFFFF)
            await ctx.tick()
            assert ctx.get(dut.o.valid) == over, (load, array)
            assert ctx.get(dut.waiting) == (not over)

    simulate(scenario)


def test_a_full_queue_refuses_and_order_is_kept_under_stalls():
    generator = random.Random(3)

    async def scenario(ctx, dut):
        offer(ctx, dut, 100)
        for _ in range(DEPTH):
            assert ctx.get(dut.i.ready)
            await ctx.tick()
            assert not ctx.get(dut.i.ready), "the payload is being written"
            await ctx.tick()
        assert not ctx.get(dut.i.ready)
        ctx.set(dut.o.ready, 1)
        offer(ctx, dut)
        for _ in range(QUEUE_INTERVAL * DEPTH):
            await ctx.tick()
        assert not ctx.get(dut.o.valid)

        sent, taken, most = [], [], 0
        while len(taken) < 60:
            free = ctx.get(dut.i.ready)
            offer(ctx, dut, len(sent) if free and generator.random() < 0.8 else None)
            ctx.set(dut.o.ready, generator.random() < 0.5)
            if ctx.get(dut.i.valid) and ctx.get(dut.i.ready):
                sent.append(len(sent))
            if ctx.get(dut.o.valid) and ctx.get(dut.o.ready):
                taken.append(ctx.get(dut.o.payload.dram))
            most = max(most, len(sent) - len(taken))
            await ctx.tick()
        assert taken == sent[: len(taken)] and most == DEPTH

    simulate(scenario)


@pytest.mark.parametrize("late", [0, 1])
@pytest.mark.parametrize("start", [0, 0xFFFD])
def test_a_deferred_wait_holds_what_was_taken(start, late):
    """Not its issue, which the others hold; the next one's wait replaces it when that is taken."""

    async def scenario(ctx, dut):
        for unit in Unit:
            ctx.set(dut.completed[unit], start)
        ctx.set(dut.i.payload.instruction.late, late)
        ctx.set(dut.i.valid, 1)
        aim(ctx, dut, drain=start + 3, load=start + 1)
        await ctx.tick().repeat(2)
        aim(ctx, dut, drain=start + 9)
        await ctx.tick().repeat(2)
        ctx.set(dut.i.valid, 0)
        await ctx.tick().repeat(4)
        assert ctx.get(dut.waiting) and not ctx.get(dut.o.valid), "LOAD holds it"
        ctx.set(dut.completed[Unit.LOAD], (start + 1) & 0xFFFF)
        await ctx.tick()
        assert ctx.get(dut.o.valid) == late and ctx.get(dut.waiting) != late
        if not late:
            ctx.set(dut.completed[Unit.DRAIN], (start + 3) & 0xFFFF)
            await ctx.tick()
            assert ctx.get(dut.o.valid)
        ctx.set(dut.o.ready, 1)
        await ctx.tick()
        ctx.set(dut.o.ready, 0)
        await ctx.tick()
        assert ctx.get(dut.arrived) == (not late)
        await ctx.tick().repeat(3)
        assert ctx.get(dut.o.valid) == late, "the next one is offered, but not taken"
        for done, over in ((2, 0), (3, 1), (4, 1)) if late else ((3, 1), (4, 1)):
            ctx.set(dut.completed[Unit.DRAIN], (start + done) & 0xFFFF)
            await ctx.tick()
            assert ctx.get(dut.arrived) == over, done

    simulate(scenario, Unit.ARRAY, Unit.DRAIN)


@pytest.mark.parametrize(
    "unit, kind", [(Unit.LOAD, Load), (Unit.ARRAY, Array), (Unit.DRAIN, Drain)]
)
def test_every_field_but_waits_and_registers_passes(unit, kind):
    async def scenario(ctx, dut):
        word = (1 << kind.width()) - 1
        ctx.set(dut.i.payload.instruction.as_value(), word)
        ctx.set(dut.i.valid, 1)
        await ctx.tick().repeat(QUEUE_LATENCY)
        for field in kind.layout():
            value = getattr(ctx.get(dut.o.payload), field.name)
            elements = [value] if field.length == 1 else list(value)
            dropped = field.name == "waits" or field.name.endswith("_register")
            full = -1 if field.signed else field.high
            assert elements == [0 if dropped else full] * field.length, field.name

    simulate(scenario, unit)


def test_the_vector_unit_keeps_what_either_class_needs():
    kept = {bit for part in kept_bits(Unit.VECTOR) for bit in part}
    assert set(range(6)) <= kept, "the opcode"
    assert not kept & set(range(6, 36)), "the waits, which both classes have first"
    for kind in (Elementwise, Reduce):
        low = 6
        for field in kind.layout():
            if field.name != "waits" and not field.name.endswith("_register"):
                assert set(range(low, low + field.width)) <= kept, field.name
            low += field.width
    assert len(kept) < 506
    assert Store.width() > sum(len(part) for part in kept_bits(Unit.STORE))
