"""Counters in steps of tiles, addresses by strides."""

from __future__ import annotations

import itertools

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from hw.compute.drain.tile_nest import StrideWalker, TileNest

pytestmark = pytest.mark.rtl


def walk(counts, scale, strides, linear=False):
    """[(rest of the scaled level, address)] of a nest of (2 bits, scaled 12 bits)."""
    m = Module()
    m.submodules.nest = nest = TileNest([3, 12], scaled=(1,))
    m.submodules.walker = walker = StrideWalker(2, 16)
    load, step = Signal(), Signal()
    m.d.comb += [part.load.eq(load) for part in (nest, walker)]
    m.d.comb += [part.step.eq(step) for part in (nest, walker)]
    m.d.comb += [walker.advance.eq(nest.advance), nest.scales[0].eq(scale)]
    m.d.comb += [walker.linear.eq(linear), walker.base.eq(100)]
    m.d.comb += [port.eq(count) for port, count in zip(nest.counts, counts, strict=True)]
    m.d.comb += [
        port.eq(stride & 0xFFFF) for port, stride in zip(walker.strides, strides, strict=True)
    ]
    rests, addresses = [], []

    async def bench(ctx):
        ctx.set(load, 1)
        await ctx.tick()
        ctx.set(load, 0)
        ctx.set(step, 1)
        for _ in range(100):
            rests.append(ctx.get(nest.rest[1]))
            last = ctx.get(nest.last)
            await ctx.tick()
            # The address follows one cycle behind the nest.
            addresses.append(ctx.get(walker.address))
            if last:
                return
        raise AssertionError("the nest does not end")

    simulator = Simulator(m)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return rests, addresses


@pytest.mark.parametrize("scale", [0, 1, 2])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9, 12, 13])
def test_tiles_until_the_count(count, scale):
    rests, addresses = walk((2, count), scale, (7, 1000))
    tiles = list(range(count, 0, -(1 << scale)))
    assert rests == [rest for rest in tiles for _ in range(2)]
    assert addresses == [
        100 + 7 * inner + 1000 * tile
        for tile, inner in itertools.product(range(len(tiles)), (0, 1))
    ]


def test_deltas_and_strides_differ():
    """Delta form rewinds by its deltas: 7 forward, then 993 more make the stride of 1000."""
    strided = walk((2, 5), 1, (7, 1000))
    assert walk((2, 5), 1, (7, 993), linear=True) == strided
    assert walk((2, 5), 1, (7, 1000), linear=True) != strided
