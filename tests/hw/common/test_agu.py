"""Nest, addresses and clip coordinates against hw/arch/walk's expansion."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.sim import Simulator

from hw.arch.isa import deltas
from hw.arch.walk import inside, offsets
from hw.common.agu import Coordinate, Nest, Walker

pytestmark = pytest.mark.rtl
CASES = [
    ((3, 2, 4), (1, -7, 30), 5, (-2, 2, 3, 4)),
    ((1, 1, 1), (9, 9, 9), 0, (0, 1, 1, 1)),
    ((4, 1, 3), (65_000, 3, -2), 65_530, (1, 1, 2, 3)),
    ((4095, 1, 2), (1, 0, 1), 0, (-2041, 15, 15, 4095)),
]


def simulate(counts, steps, base, clip):
    """Addresses and inside flags, one per cycle; clip is (start, inner step, outer step, bound)
    of the coordinate that follows levels 0 and 2."""
    m = Module()
    m.submodules.nest = nest = Nest((12,) * len(counts))
    m.submodules.walker = walker = Walker(len(counts))
    m.submodules.coordinate = coordinate = Coordinate()
    load, run = Signal(), Signal()
    moves = Signal(len(counts))
    start, inner, outer, bound = clip
    m.d.sync += moves.eq(Mux(run, nest.advance, 0))
    m.d.comb += [
        nest.load.eq(load),
        nest.step.eq(run),
        walker.load.eq(load),
        walker.step.eq(run),
        walker.advance.eq(nest.advance),
        walker.base.eq(base),
        coordinate.load.eq(load),
        coordinate.inner_advance.eq(moves[0]),
        coordinate.inner_restart.eq(moves[1:].any()),
        coordinate.outer_advance.eq(moves[2]),
        coordinate.outer_restart.eq(moves[3:].any()),
        coordinate.start.eq(start),
        coordinate.inner_step.eq(inner),
        coordinate.outer_step.eq(outer),
        coordinate.bound.eq(bound),
    ]
    m.d.comb += [p.eq(v) for p, v in zip(nest.counts, counts, strict=True)]
    m.d.comb += [p.eq(v) for p, v in zip(walker.deltas, deltas(counts, steps), strict=True)]
    sim = Simulator(m)
    sim.add_clock(1e-8)
    seen = []

    async def drive(ctx) -> None:
        ctx.set(load, 1)
        await ctx.tick()
        ctx.set(load, 0)
        ctx.set(run, 1)
        await ctx.tick()  # the nest stands at point i, the address follows in the next cycle
        for _ in range(int(np.prod(counts))):
            _, _, address, flag = await ctx.tick().sample(walker.address, coordinate.inside)
            seen.append((address, flag))
        last = ctx.get(nest.last)
        assert not last or np.prod(counts) == 1  # it has started over

    sim.add_testbench(drive)
    sim.run()
    return zip(*seen, strict=True)


@pytest.mark.parametrize(("counts", "steps", "base", "clip"), CASES)
def test_addresses_and_flags(counts, steps, base, clip):
    addresses, flags = simulate(counts, steps, base, clip)
    expected = (base + offsets(counts, steps).reshape(-1)) & 0xFFFF
    assert list(addresses) == list(expected)
    start, inner, outer, bound = clip
    mask = inside(start, inner, counts[0], outer, counts[2], bound)
    assert list(flags) == list(np.repeat(mask, counts[1], axis=0).reshape(-1))
    shifted = inside(start + 1, inner, counts[0], outer, counts[2], bound)
    if counts[0] > 1:
        assert list(flags) != list(np.repeat(shifted, counts[1], axis=0).reshape(-1))


def flags(counts, hold):
    """(advance, wrap, final, last) at every point of a nest that is run through twice, stepping
    only in cycles in which `hold` is low."""
    nest = Nest((12,) * len(counts))
    sim = Simulator(nest)
    sim.add_clock(1e-8)
    seen = []

    async def drive(ctx) -> None:
        for port, count in zip(nest.counts, counts, strict=True):
            ctx.set(port, count)
        ctx.set(nest.load, 1)
        await ctx.tick()
        ctx.set(nest.load, 0)
        while len(seen) < 2 * int(np.prod(counts)):
            wait = next(hold)
            ctx.set(nest.step, not wait)
            if not wait:
                outputs = (nest.advance, nest.wrap, nest.final, nest.last)
                seen.append(tuple(ctx.get(output) for output in outputs))
            await ctx.tick()

    sim.add_testbench(drive)
    sim.run()
    return seen


@pytest.mark.parametrize(
    "counts", [(1,), (2, 1, 3), (1, 1, 2, 1), (4, 2, 1, 2), (1, 5, 1), (1, 1, 1)]
)
def test_flags_of_a_nest(counts):
    points = np.stack(np.unravel_index(np.arange(np.prod(counts)), counts, order="F"), axis=1)
    ends = points == np.array(counts) - 1
    wraps = np.logical_and.accumulate(ends, axis=1)
    within = np.hstack([np.ones((len(points), 1), bool), wraps[:, :-1]])
    weights = 1 << np.arange(len(counts))
    columns = [within & ~ends, wraps, ends]
    expected = [
        (*(int(c[i] @ weights) for c in columns), int(wraps[i, -1])) for i in range(len(points))
    ]
    holds = np.random.default_rng(len(counts)).random(10_000) < 0.3
    assert flags(counts, iter(holds)) == expected * 2
    assert flags(counts, itertools.repeat(False)) == expected * 2
    if len(expected) > 1:
        assert expected != expected[::-1], "the comparison sees the order"
