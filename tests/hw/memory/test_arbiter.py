"""MemoryPort: whose burst is granted when."""

import itertools
import random
from collections import Counter

import pytest

from hw.arch.config import AcceleratorConfig
from hw.memory.arbiter import MemoryPort
from tests.hw.simulation import Simulation

pytestmark = pytest.mark.rtl
PORT = AcceleratorConfig.load("tiny").port
NAMES = ("load", "store", "fetch")


def grants(asks, cycles=400, seed=0, urgent=0.0):
    """(cycle, who) of every grant, and how often who asked in vain while whom was granted.

    Parameters
    ----------
    asks: probability by which each of `NAMES` asks in a cycle in which it does not yet ask.
    urgent: probability by which FETCH becomes urgent in a cycle in which it asks.
    """
    dut = MemoryPort(PORT)
    generator = random.Random(seed)
    granted, refused = [], Counter()

    async def testbench(ctx):
        ctx.set(dut.enable, 1)
        up = dict.fromkeys(NAMES, False)
        ends = []  # one a cycle at most: whether it was a write
        hurries = False
        for cycle in range(cycles):
            for name, chance in zip(NAMES, asks, strict=True):
                up[name] = up[name] or generator.random() < chance
                ctx.set(getattr(dut, name).valid, up[name])
            hurries = up["fetch"] and (hurries or generator.random() < urgent)
            ctx.set(dut.urgent, hurries)
            ctx.set(dut.ar.ready, generator.random() < 0.8)
            ctx.set(dut.aw.ready, generator.random() < 0.8)
            write = ends.pop(0) if ends and generator.random() < 0.5 else None
            ctx.set(dut.r_valid, write is False)
            ctx.set(dut.r_last, write is False)
            ctx.set(dut.b_valid, write is True)
            ready = [name for name in NAMES if up[name] and ctx.get(getattr(dut, name).ready)]
            assert len(ready) <= 1
            for name in NAMES:
                if name in ready:
                    granted.append((cycle, name))
                    up[name] = False
                    ends.append(name == "store")
                elif up[name] and ready:
                    refused[name, ready[0]] += 1
            await ctx.tick()

    Simulation(dut).run(testbench)
    return granted, refused


def test_fetch_comes_last():
    granted, refused = grants((0.2, 0.2, 1))
    # It is granted before LOAD never, and before STORE only where that waits for its own channel.
    assert refused["load", "fetch"] == 0
    assert refused["store", "fetch"] < 10
    assert refused["fetch", "load"] > 20 and refused["fetch", "store"] > 20
    assert [name for _, name in granted].count("fetch") > 20


def test_an_urgent_fetch_comes_first():
    granted, refused = grants((1, 1, 0.3), urgent=1)
    # STORE goes first only where FETCH waits for the channel of addresses of reads.
    assert refused["fetch", "load"] == 0 and refused["fetch", "store"] < 20
    assert refused["load", "fetch"] > 20 and refused["store", "fetch"] > 20
    assert [name for _, name in granted].count("fetch") > 40


@pytest.mark.parametrize("urgent", [0, 0.2])
def test_load_and_store_alternate_whatever_is_fetched(urgent):
    granted, _ = grants((1, 1, 0.1), seed=1, urgent=urgent)
    order = [name for _, name in granted if name != "fetch"]
    assert order[0] == "load"
    # One of them may be granted twice while the other one's address still waits.
    pairs = list(itertools.pairwise(order))
    assert len(pairs) > 80 and sum(a == b for a, b in pairs) < len(pairs) // 4


@pytest.mark.parametrize("alone", NAMES)
def test_who_asks_alone_is_granted(alone):
    granted, refused = grants(tuple(float(name == alone) for name in NAMES), seed=2)
    assert {name for _, name in granted} == {alone} and len(granted) > 80
    assert not refused
