"""Any byte of two rows in any lane, over the steps of a row."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.hdl import Value
from amaranth.sim import Simulator

from hw.compute.vector.select_network import SelectNetwork

pytestmark = pytest.mark.rtl
PAD = 0xA5


def simulate(lanes, width, rows, select, valid, shifts=None):
    """Picked rows [n, lanes] of pairs of rows [n, 2, lanes]; with `shifts` turned ones."""
    dut = SelectNetwork(lanes, width)
    bits = (2 * lanes - 1).bit_length()
    result = np.zeros((len(rows), lanes), np.uint8)

    async def drive(ctx) -> None:
        ctx.set(Value.cast(dut.select), sum(int(s) << bits * i for i, s in enumerate(select)))
        ctx.set(dut.valid, valid)
        ctx.set(dut.load, 1)
        await ctx.tick()
        ctx.set(dut.load, 0)
        ctx.set(dut.pad, PAD)
        ctx.set(dut.step, 1)
        ctx.set(dut.turns, shifts is not None)
        for n, (first, second) in enumerate(rows):
            ctx.set(dut.first, int.from_bytes(first.tobytes(), "little"))
            ctx.set(dut.second, int.from_bytes(second.tobytes(), "little"))
            for step in range(lanes // width):
                if shifts is not None:
                    ctx.set(dut.shift, (shifts[n] + step * width) % lanes)
                await ctx.delay(1e-9)
                picked = ctx.get(dut.picked)
                taken = np.frombuffer(picked.to_bytes(width, "little"), np.uint8)
                result[n, step * width : (step + 1) * width] = taken
                await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(drive)
    simulator.run()
    return result


SHAPES = pytest.mark.parametrize(("lanes", "width"), [(4, 4), (4, 2), (8, 2), (16, 16), (8, 1)])


@SHAPES
def test_any_byte_in_any_lane(lanes, width):
    random = np.random.default_rng(lanes + width)
    rows = random.integers(0, 256, (3, 2, lanes), np.uint8)
    for _ in range(4):
        select = random.integers(0, 2 * lanes, lanes)
        valid = int(random.integers(0, 1 << lanes))
        expected = rows.reshape(3, -1)[:, select]
        expected[:, [lane for lane in range(lanes) if not valid >> lane & 1]] = PAD
        found = simulate(lanes, width, rows, select, valid)
        np.testing.assert_array_equal(found, expected)


@SHAPES
def test_turned_rows(lanes, width):
    random = np.random.default_rng(lanes)
    rows = random.integers(0, 256, (lanes, 2, lanes), np.uint8)
    shifts = list(range(lanes))
    found = simulate(lanes, width, rows, [0] * lanes, (1 << lanes) - 1, shifts)
    expected = [np.roll(first, -shift) for (first, _), shift in zip(rows, shifts, strict=True)]
    np.testing.assert_array_equal(found, expected)


def test_a_changed_choice_shows():
    rows = np.arange(16, dtype=np.uint8).reshape(1, 2, 8)
    select = [5, 9, 0, 15, 1, 1, 2, 3]
    found = simulate(8, 2, rows, select, 0xFF)
    assert found[0].tolist() == select
    assert simulate(8, 2, rows, [4, *select[1:]], 0xFF)[0].tolist() != select
