"""The weight loader with a zero point: the same times as without, and nine-bit differences."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hw.arch.timing import WEIGHT_LAG
from hw.compute.weights.loader import WeightLoader
from tests.hw.compute.support import words
from tests.hw.simulation import compiled
from tests.machines import folding

pytestmark = pytest.mark.rtl
CENTRED = folding("tiny_direct", weight_bits=9)
WIDE = dataclasses.replace(
    CENTRED, array=dataclasses.replace(CENTRED.array, cols=8, weight_rows_per_cycle=2)
)


def trace_of(config, codes, unsigned=0, zero_point=0):
    """Cycles of reads, and (cycle, weights) of every valid group; junk where nothing is read."""
    simulation = compiled(WeightLoader, config)
    dut = simulation.dut
    memory = words(codes.view(np.uint8))
    junk = int("a5" * 64, 16) & ((1 << len(dut.weight.data)) - 1)
    reads, groups = [], []

    async def scenario(ctx):
        ctx.set(dut.base, 3)
        if "attention" in config.features:
            ctx.set(dut.unsigned, unsigned)
            ctx.set(dut.zero_point, zero_point)
        for cycle in range(70):
            ctx.set(dut.start, cycle in (1, 40))
            ctx.set(dut.next, cycle in (6, 12, 20, 46))
            if ctx.get(dut.valid):
                groups.append((cycle, [ctx.get(word) for word in dut.data]))
            enable, address = ctx.get(dut.weight.enable), ctx.get(dut.weight.address)
            if enable:
                reads.append(cycle)
            await ctx.tick()
            ctx.set(dut.weight.data, memory[address] if enable else junk)

    simulation.run(scenario)
    return reads, groups


@pytest.mark.parametrize("config", [CENTRED, WIDE], ids=["4x4", "4x8"])
@pytest.mark.parametrize(
    ("unsigned", "zero_point"), [(0, 0), (1, 255), (1, 0), (0, -128), (0, 127)]
)
def test_weights_come_when_they_came_minus_their_zero_point(config, unsigned, zero_point):
    plain = dataclasses.replace(config, features=("depthwise", "vector"))
    lanes = config.array.weight_rows_per_cycle * config.array.cols
    codes = np.random.default_rng(1).integers(-128, 128, (40, lanes)).astype(np.int8)
    codes[3] = np.where(np.arange(lanes) % 2, 127, -128)
    reads, groups = trace_of(plain, codes)
    assert len(groups) == 6 * config.weight_block_groups
    early, centred = trace_of(config, codes, unsigned, zero_point)
    assert [cycle + 1 for cycle in early] == reads
    assert [cycle for cycle, _ in centred] == [cycle for cycle, _ in groups]
    assert reads[0] == 1 + 1 + WeightLoader.FIRST_LAG
    assert reads[config.weight_block_groups] == 6 + WEIGHT_LAG
    before = np.array([group for _, group in groups]).astype(np.int8)
    numbers = before.view(np.uint8) if unsigned else before
    wanted = numbers.astype(int) - zero_point
    found = np.array([group for _, group in centred])
    np.testing.assert_array_equal(found, wanted)
    assert np.abs(found).max() <= 255
    assert (found != wanted + 1).all()
