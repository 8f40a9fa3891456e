"""Requantization lane against float32 arithmetic and against hw/arch/numerics."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from hw.arch.numerics import requantize, split_scale
from hw.arch.timing import REQUANTIZE_LATENCY
from hw.compute.drain.requantize import RequantizeLane

pytestmark = pytest.mark.rtl
BITS = 36


def simulate(accumulator, bias, multiplier, shift, zero_point=0, low=-128, high=255):
    """One value per cycle through a lane; codes in order."""
    m = Module()
    m.submodules.lane = lane = RequantizeLane(BITS)
    sim = Simulator(m)
    sim.add_clock(1e-8)
    codes = []

    async def drive(ctx) -> None:
        ctx.set(lane.stages, (1 << REQUANTIZE_LATENCY) - 1)
        ctx.set(lane.zero_point, zero_point)
        ctx.set(lane.low, low)
        ctx.set(lane.high, high)
        cases = list(zip(accumulator, bias, multiplier, shift, strict=True))
        for a, b, mult, n in cases:
            ctx.set(lane.accumulator, int(a))
            ctx.set(lane.bias, int(b))
            ctx.set(lane.multiplier, int(mult))
            ctx.set(lane.shift, int(n))
            _, _, code = await ctx.tick().sample(lane.code)
            codes.append(code)
        for _ in range(REQUANTIZE_LATENCY):
            _, _, code = await ctx.tick().sample(lane.code)
            codes.append(code)

    sim.add_testbench(drive)
    sim.run()
    return np.array(codes[REQUANTIZE_LATENCY:], np.int64)


def float32_rule(total, scale, zero_point, low, high):
    """What ONNX Runtime's kernels compute: two float32 roundings, then rint."""
    product = total.astype(np.float32) * scale.astype(np.float32)
    rounded = np.rint(product).astype(np.float64)
    return np.clip(rounded + zero_point, low, high).astype(np.int64)


def cases(seed: int, count: int):
    """Accumulators of all magnitudes with scales that bring most of them near the code range."""
    random = np.random.default_rng(seed)
    bits = random.integers(1, 34, count)
    total = random.integers(0, 1 << 62, count) >> (62 - bits)
    total *= random.choice([-1, 1], count)
    target = random.uniform(0.01, 400, count)
    scale = (target / np.maximum(np.abs(total), 1)).astype(np.float32)
    scale = np.minimum(scale, np.float32(64))
    # A third are scales that make exact halves likely.
    power = random.random(count) < 0.33
    scale[power] = np.float32(2.0) ** np.rint(np.log2(scale[power]))
    return total, scale


def ties(seed: int, count: int):
    """Products within a few units in the last place of a half."""
    random = np.random.default_rng(seed)
    total = random.integers(1, 1 << 26, count)
    half = random.integers(0, 256, count) + 0.5
    scale = (half / total).astype(np.float32)
    nudge = random.integers(-2, 3, count)
    scale = (scale.view(np.int32) + nudge.astype(np.int32)).view(np.float32)
    return total * random.choice([-1, 1], count), scale


def split(scale):
    pairs = [split_scale(s) for s in scale]
    return np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])


@pytest.mark.parametrize("make", [cases, ties])
def test_lane_equals_float32(make):
    total, scale = make(1, 1500)
    multiplier, shift = split(scale)
    bias = np.random.default_rng(2).integers(-(1 << 31), 1 << 31, total.size)
    codes = simulate(total - bias, bias, multiplier, shift, zero_point=3, low=-128, high=127)
    np.testing.assert_array_equal(codes, float32_rule(total, scale, 3, -128, 127))


def test_an_off_by_one_accumulator_shows():
    total, scale = ties(1, 300)
    multiplier, shift = split(scale)
    zero = np.zeros_like(total)
    codes = simulate(total + np.sign(total) * 3, zero, multiplier, shift)
    assert (codes != float32_rule(total, scale, 0, -128, 255)).any()


def test_lane_equals_numerics_over_all_shifts():
    """Every shift, multipliers that are no float32 significand, extreme accumulators."""
    random = np.random.default_rng(3)
    count = 2500
    shift = np.arange(count) % 256
    multiplier = random.integers(0, 1 << 24, count) >> random.integers(0, 24, count)
    multiplier[::7] = 0
    bits = random.integers(1, 36, count)
    total = (random.integers(0, 1 << 62, count) >> (62 - bits)) * random.choice([-1, 1], count)
    total[:4] = [(1 << 35) - 1, -(1 << 35), 1 << 24, -(1 << 24) - 1]
    codes = simulate(total, np.zeros_like(total), multiplier, shift, 17, 0, 255)
    np.testing.assert_array_equal(codes, requantize(total, multiplier, shift, 17, 0, 255))
