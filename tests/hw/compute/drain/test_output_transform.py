"""Output transform: results and latencies of every algorithm against the contract's matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest
from amaranth.sim import Simulator

from hw.arch.timing import output_transform_latency
from hw.arch.winograd import ALGORITHMS, Algorithm, Division
from hw.compute.drain.exact_division import ExactDivision, supported
from hw.compute.drain.output_transform import OutputTransform

pytestmark = pytest.mark.rtl
BITS = 36
LANES = 2
NESTED = [a for a in ALGORITHMS if supported(a, nested=True)]
FLAT = [a for a in ALGORITHMS if supported(a, nested=False)]


def products(algorithm: Algorithm, tiles: int, random: np.random.Generator) -> np.ndarray:
    """[tiles, LANES, kt, ky, kx]: sums over 512 channels of transformed pixels times weights."""
    pixels = random.integers(-128, 128, (tiles, 1, 8, *algorithm.points))
    taps = random.choice([-128, 127, -1, 0, 64], (tiles, LANES, 8, *algorithm.kernel))
    terms = algorithm.transform_input(pixels) * algorithm.transform_weights(taps)
    return terms.sum(axis=2) * 64


def run(dut, values, algorithm):
    """Feed [cycles, LANES] without gaps; [(cycle, lanes)] of the results."""
    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    found = []

    async def watch(ctx):
        cycle = 0
        async for _, _, valid, *lanes in ctx.tick().sample(dut.o_valid, *dut.o):
            if valid:
                found.append((cycle, lanes))
            cycle += 1

    async def drive(ctx):
        ctx.set(dut.transform_t, algorithm.temporal)
        ctx.set(dut.transform_s, algorithm.spatial)
        await ctx.tick().repeat(5)
        for row in values:
            ctx.set(dut.i_valid, 1)
            for port, value in zip(dut.i, row, strict=True):
                ctx.set(port, int(value))
            await ctx.tick()
        ctx.set(dut.i_valid, 0)
        await ctx.tick().repeat(200)

    simulator.add_process(watch)
    simulator.add_testbench(drive)
    simulator.run()
    return found


def wrapped(values: np.ndarray) -> np.ndarray:
    return (values + (1 << BITS - 1)) % (1 << BITS) - (1 << BITS - 1)


@pytest.mark.parametrize(
    ("algorithm", "nested"),
    [(a, True) for a in NESTED] + [(a, False) for a in FLAT],
    ids=lambda value: value.name if isinstance(value, Algorithm) else f"nested-{value}",
)
def test_results_and_latency(algorithm, nested):
    tiles = 3
    summed = products(algorithm, tiles, np.random.default_rng(1))
    # Points x fastest, lanes side by side.
    stream = wrapped(summed).transpose(0, 2, 3, 4, 1).reshape(-1, LANES)
    found = run(OutputTransform(LANES, BITS, nested), stream, algorithm)
    # Results t fastest, then y, then x.
    expected = algorithm.transform_output(summed, BITS).transpose(0, 4, 3, 2, 1).reshape(-1, LANES)
    assert np.abs(expected).max() > 1 << 20
    np.testing.assert_array_equal([lanes for _, lanes in found], expected)
    last = 5 + tiles * math.prod(algorithm.points) - 1
    assert found[-1][0] - last == output_transform_latency(
        algorithm.temporal, algorithm.spatial, nested
    )


def test_a_changed_point_shows():
    algorithm = Algorithm(0, 2)
    summed = products(algorithm, 1, np.random.default_rng(2))
    stream = wrapped(summed).transpose(0, 2, 3, 4, 1).reshape(-1, LANES)
    before = run(OutputTransform(LANES, BITS, False), stream, algorithm)
    stream[20, 1] += 576
    after = run(OutputTransform(LANES, BITS, False), stream, algorithm)
    assert before != after


@pytest.mark.parametrize("algorithm", NESTED, ids=lambda a: a.name)
def test_division_at_its_ends(algorithm):
    """Every quotient of a random set, and the largest that its bits hold, modulo 2^36."""
    bits = Division.by(algorithm.scale, BITS).bits
    random = np.random.default_rng(3)
    ends = [0, 1, -1, (1 << bits - 1) - 1, -(1 << bits - 1)]
    quotients = np.concatenate([ends, random.integers(ends[-1], ends[-2], 59)])
    quotients = quotients.reshape(-1, LANES) if len(quotients) % LANES == 0 else quotients
    dividends = wrapped(quotients * algorithm.scale)
    found = run(ExactDivision(LANES, BITS, nested=True), dividends, algorithm)
    np.testing.assert_array_equal([lanes for _, lanes in found], quotients)
    assert [cycle for cycle, _ in found] == list(
        range(5 + ExactDivision.LATENCY, 5 + ExactDivision.LATENCY + len(quotients))
    )
