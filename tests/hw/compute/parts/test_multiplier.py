# amaranth: UnusedElaboratable=no
"""Wide multiplier against Python integers."""

from __future__ import annotations

import random

import pytest
from amaranth.hdl import Shape, signed, unsigned
from amaranth.sim import Simulator

from hw.compute.parts.multiplier import WideMultiplier

pytestmark = pytest.mark.rtl


def simulate(a_shape: Shape, b_bits: int, pairs: list[tuple[int, int]]) -> list[int]:
    dut = WideMultiplier(a_shape, b_bits)
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    products = []

    async def drive(ctx) -> None:
        ctx.set(dut.stages, 3)
        for a, b in [*pairs, (0, 0), (0, 0)]:
            ctx.set(dut.a, a)
            ctx.set(dut.b, b)
            products.append((await ctx.tick().sample(dut.product))[2])

    sim.add_testbench(drive)
    sim.run()
    return products[2:]


@pytest.mark.parametrize(
    ("shape", "low", "high"),
    [(signed(26), -(1 << 25), (1 << 25) - 1), (unsigned(25), 0, (1 << 25) - 1)],
    ids=["signed", "unsigned"],
)
def test_products(shape, low, high):
    source = random.Random(1)
    top = (1 << 24) - 1
    pairs = [(a, b) for a in (low, high, 1 << 18, (1 << 18) - 1) for b in (0, 1, 1 << 18, top)]
    pairs += [(source.randint(low, high), source.randint(0, top)) for _ in range(300)]
    products = simulate(shape, 24, pairs)
    assert products == [a * b for a, b in pairs]
    assert products != [a * (b ^ 1) for a, b in pairs]


def test_narrow_operands_are_refused():
    with pytest.raises(ValueError, match=r"operand b must have 19\.\.36 bits, not 18"):
        WideMultiplier(unsigned(25), 18)
