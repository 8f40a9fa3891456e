"""Sums and extrema over lanes and steps, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.sim import Simulator

from hw.compute.vector.fold_sums import FoldSums, tree_stages

pytestmark = pytest.mark.rtl


def simulate(width: int, groups, pauses: int = 0):
    """Per group (terms [steps, width], elements): total, sum, largest, index, and latency."""
    dut = FoldSums(width)
    found = []
    closed: list[int] = []
    cycle = 0

    async def tick(ctx) -> None:
        nonlocal cycle
        if ctx.get(dut.done):
            values = [ctx.get(s) for s in (dut.total, dut.elements_total, dut.largest, dut.index)]
            found.append((*values, cycle - closed[len(found)]))
        await ctx.tick()
        cycle += 1

    async def drive(ctx) -> None:
        random = np.random.default_rng(0)
        for terms, elements in groups:
            for step in range(len(terms)):
                for _ in range(int(random.integers(0, pauses + 1))):
                    ctx.set(dut.present, 0)
                    await tick(ctx)
                ctx.set(dut.present, 1)
                ctx.set(dut.opens, step == 0)
                ctx.set(dut.closes, step == len(terms) - 1)
                for lane in range(width):
                    ctx.set(dut.terms[lane], int(terms[step, lane]))
                    ctx.set(dut.elements[lane], int(elements[step, lane]))
                if step == len(terms) - 1:
                    closed.append(cycle)
                await tick(ctx)
        ctx.set(dut.present, 0)
        for _ in range(dut.latency + 1):
            await tick(ctx)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(drive)
    simulator.run()
    return found, dut.latency


def draw(width: int, seed: int, largest: int = 6):
    random = np.random.default_rng(seed)
    groups = []
    for _ in range(12):
        steps = int(random.integers(1, largest))
        terms = random.integers(-(255**2), 1 << 21, (steps, width))
        groups.append((terms, random.integers(-3, 4, (steps, width))))
    return groups


def expected(groups, latency: int):
    return [
        (terms.sum(), elements.sum(), elements.max(), elements.reshape(-1).argmax(), latency)
        for terms, elements in groups
    ]


@pytest.mark.parametrize("width", [1, 2, 4, 16])
@pytest.mark.parametrize("pauses", [0, 2])
def test_groups_one_after_another(width, pauses):
    groups = draw(width, width)
    found, latency = simulate(width, groups, pauses)
    assert found == expected(groups, latency)
    assert latency == tree_stages(width) + 1


def test_widest_sums():
    """2,047 exponentials of 2^20, and 1,024 elements of either sign, fill their registers."""
    terms = np.full((512, 2), 1 << 20)
    groups = [(terms, np.full((512, 2), 255)), (terms, np.full((512, 2), -128))]
    most = np.full((1024, 2), 1 << 20)
    most[-1, -1] = 0
    groups.append((most, np.zeros_like(most)))
    found, latency = simulate(2, groups)
    assert found == expected(groups, latency)


def test_the_first_of_equal_elements():
    elements = np.array([[3, 9, 9, 1], [9, 9, 0, 0]])
    found, _ = simulate(4, [(np.zeros_like(elements), elements)])
    assert found[0][2:4] == (9, 1)
    found, _ = simulate(4, [(np.zeros_like(elements), elements[::-1])])
    assert found[0][2:4] == (9, 0)


def test_a_changed_term_shows():
    groups = draw(4, 1)
    groups[5][0][0, 3] ^= 1
    found, latency = simulate(4, draw(4, 1))
    assert found != expected(groups, latency)
