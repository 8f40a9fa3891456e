"""Rows in, columns out, one tile behind the other."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.sim import Simulator

from hw.compute.vector.transposer import Transposer

pytestmark = pytest.mark.rtl


def simulate(lanes: int, tiles, spoil: bool = False):
    """Columns of tiles [n, rows, lanes]; a tile is read while the next one is written."""
    dut = Transposer(lanes)
    result = np.zeros((len(tiles), lanes, lanes), np.uint8)

    async def drive(ctx) -> None:
        ctx.set(dut.column, 0)
        await ctx.tick()
        for number in range(len(tiles) + 1):
            for k in range(lanes):
                writes = number < len(tiles) and k < len(tiles[number])
                ctx.set(dut.write, writes)
                ctx.set(dut.half, (number + spoil) & 1 if k == 1 else number & 1)
                ctx.set(dut.index, k)
                if writes:
                    row = np.roll(tiles[number][k], k)
                    ctx.set(dut.row, int.from_bytes(row.tobytes(), "little"))
                ctx.set(dut.read_half, (number - 1) & 1)
                ctx.set(dut.column, (k + 1) % lanes)
                await ctx.delay(1e-9)
                if number:
                    read = ctx.get(dut.read).to_bytes(lanes, "little")
                    result[number - 1, k] = np.roll(np.frombuffer(read, np.uint8), -k)
                await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(drive)
    simulator.run()
    return result


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_tiles(lanes):
    tiles = np.random.default_rng(lanes).integers(0, 256, (4, lanes, lanes), np.uint8)
    np.testing.assert_array_equal(simulate(lanes, tiles), tiles.swapaxes(1, 2))


def test_tiles_of_few_rows_leave_the_rest_alone():
    tiles = np.random.default_rng(1).integers(0, 256, (3, 3, 4), np.uint8)
    found = simulate(4, tiles)
    np.testing.assert_array_equal(found[:, :, :3], tiles.swapaxes(1, 2))


def test_twin_a_row_in_the_other_half_is_missed():
    tiles = np.random.default_rng(2).integers(0, 256, (4, 4, 4), np.uint8)
    assert not np.array_equal(simulate(4, tiles, spoil=True), tiles.swapaxes(1, 2))
