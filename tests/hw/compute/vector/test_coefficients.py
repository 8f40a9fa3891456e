"""Rows of G and B, given out step by step."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.sim import Simulator

from hw.arch.fold_numerics import coefficient_rows
from hw.compute.vector.coefficients import BIAS_LAG, GAIN_LATENCY, Coefficients

pytestmark = pytest.mark.rtl


def simulate(lanes, width, rows, passes=2, late=0):
    """Take six rows, then steps of `passes` rows; [passes · lanes] gains and biases."""
    dut = Coefficients(lanes, width)
    steps = passes * lanes // width
    gains, biases = [], []

    async def drive(ctx) -> None:
        ctx.set(dut.begin, 1)
        await ctx.tick()
        ctx.set(dut.begin, 0)
        for row in rows:
            ctx.set(dut.take, 1)
            ctx.set(dut.row, int.from_bytes(row.tobytes(), "little"))
            await ctx.tick()
        ctx.set(dut.take, 0)
        for cycle in range(steps + GAIN_LATENCY + BIAS_LAG + late):
            ctx.set(dut.step, cycle < steps)
            ctx.set(dut.first, cycle % (lanes // width) == 0)
            if GAIN_LATENCY + late <= cycle < steps + GAIN_LATENCY + late:
                gains.extend(ctx.get(dut.gains[lane]) for lane in range(width))
            if cycle >= GAIN_LATENCY + BIAS_LAG + late:
                biases.extend(ctx.get(dut.biases[lane]) for lane in range(width))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(drive)
    simulator.run()
    return gains, biases


def drawn(lanes):
    random = np.random.default_rng(lanes)
    gain = random.integers(-(1 << 17), 1 << 17, lanes)
    bias = random.integers(-(1 << 23), 1 << 23, lanes)
    gain[:2], bias[:2] = (-(1 << 17), (1 << 17) - 1), (-(1 << 23), (1 << 23) - 1)
    return gain, bias


@pytest.mark.parametrize(("lanes", "width"), [(4, 4), (4, 2), (8, 2), (8, 1), (16, 16)])
def test_lanes_of_every_step(lanes, width):
    gain, bias = drawn(lanes)
    found = simulate(lanes, width, coefficient_rows(gain, bias))
    assert found == (2 * gain.tolist(), 2 * bias.tolist())


def test_a_seventh_row_is_the_first_of_the_next_six():
    (gain, bias), (others, _) = drawn(8), drawn(4)
    rows = coefficient_rows(gain, bias)
    again = np.concatenate([coefficient_rows(np.tile(others, 2), bias + 1), rows])
    assert simulate(8, 2, again) == simulate(8, 2, rows)


def test_twin_a_cycle_late_shows():
    gain, bias = drawn(8)
    rows = coefficient_rows(gain, bias)
    assert simulate(8, 2, rows, late=1) != simulate(8, 2, rows)
