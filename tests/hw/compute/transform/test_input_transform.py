"""The composed input transform against the contract's matrices; its latency."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from amaranth.hdl import Value

from hw.arch.config import AcceleratorConfig
from hw.arch.transform_timing import input_transform_latency
from hw.arch.winograd import ALGORITHMS, Pixels
from hw.compute.transform.input import InputTransform, transformed_bits
from tests.hw.simulation import compiled

pytestmark = pytest.mark.rtl
NESTED = AcceleratorConfig.load("tiny")
FLAT = dataclasses.replace(NESTED, features=("hfa",))
BUILT = [a for a in ALGORITHMS if (a.temporal, a.spatial) != (2, 2)]
CASES = [(NESTED, a) for a in BUILT] + [(FLAT, a) for a in BUILT if not (a.temporal and a.spatial)]


def run(config, algorithm, tiles, gap):
    """Transformed tiles [n, points, lanes] in order of leaving, and the cycle of each row."""
    simulation = compiled(InputTransform, config)
    dut = simulation.dut
    rows = tiles.reshape(len(tiles), -1, dut.lanes)
    period = rows.shape[1] + gap
    due = {5 + n * period + k: row for n, tile in enumerate(rows) for k, row in enumerate(tile)}
    out, cycles = [], []

    async def bench(ctx):
        ctx.set(dut.temporal, algorithm.temporal)
        ctx.set(dut.spatial, algorithm.spatial)
        for cycle in range(max(due) + 2 * rows.shape[1] + 60):
            ctx.set(dut.i_valid, cycle in due)
            for lane in range(dut.lanes):
                ctx.set(Value.cast(dut.i[lane]), int(due[cycle][lane]) if cycle in due else -1)
            if ctx.get(dut.o_valid):
                cycles.append(cycle)
                out.append([ctx.get(lane) for lane in dut.o])
            await ctx.tick()

    simulation.run(bench)
    latency = input_transform_latency(algorithm.temporal, algorithm.spatial, config)
    assert cycles == [cycle + latency for cycle in sorted(due)]
    return np.array(out).reshape(rows.shape)


@pytest.mark.parametrize(("config", "algorithm"), CASES, ids=lambda v: getattr(v, "name", ""))
def test_tiles_are_transformed_along_every_axis(config, algorithm):
    random = np.random.default_rng(3)
    tiles = random.integers(-128, 128, (4, *algorithm.points, 4))
    tiles[0], tiles[1] = -128, np.where(tiles[1] < 0, -128, 127)
    expected = algorithm.transform_input(np.moveaxis(tiles, -1, 1))  # n, lane, t, y, x
    order = expected.transpose(0, 4, 3, 2, 1)  # t leaves fastest, then y, then x
    for gap in (0, 3):
        got = run(config, algorithm, tiles, gap)
        np.testing.assert_array_equal(got, order.reshape(got.shape))


def test_widths_are_reached():
    """The extreme tile of the widest algorithm needs every bit."""
    algorithm = max(BUILT, key=lambda a: a.input_bits(Pixels.RAW))
    assert transformed_bits(NESTED) == algorithm.input_bits(Pixels.RAW)
    rows = [np.array(axis.input_rows) for axis in algorithm.axes]
    low = 0
    for t, y, x in itertools.product(*(range(len(r)) for r in rows)):
        kernel = np.einsum("a,b,c->abc", rows[0][t], rows[1][y], rows[2][x])
        tile = np.where(kernel > 0, -128, 127)[None, ..., None].repeat(4, -1)
        value = int(algorithm.transform_input(np.moveaxis(tile, -1, 1)).min())
        if value < low:
            low, worst = value, tile
    assert low == algorithm.input_range(Pixels.RAW)[0]
    got = run(NESTED, algorithm, worst, 0)
    assert got.min() == low
