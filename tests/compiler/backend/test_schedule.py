"""Rings and steps: what is loaded when, and where tiles lie."""

import numpy as np
import pytest

from compiler.emit.allocate import ConstantPool, RingPlacer
from compiler.emit.emitter import Emitter
from compiler.emit.schedule import Ring, Step, run
from compiler.emit.transfers import Box, Strided, load_box
from compiler.tile.geometry import Axis, balanced, cuts, merge, tile_sizes
from compiler.tile.problem import Problem
from compiler.tile.regions import split_banks
from compiler.tile.tiling import accumulator_tile, candidates
from hw.arch.isa import Array, Load, Store, strides
from hw.arch.walk import offsets
from tests.compiler.backend.harness import CONFIGS

CONFIG = CONFIGS["base"]


def emitted(slots: int, keys, parts: int = 1, spread: bool = False):
    """Order of loads ("L", key) and steps ("S", number, slot)."""
    emitter = Emitter(CONFIG, {}, ConstantPool(0))

    def fill(key, slot):
        return [Load(dram=64 * key, local=slot) for _ in range(parts)]

    def step(number):
        def body(places):
            emitter.emit(Store(dram=1 << 20, local=number))

        return Step({"ring": keys[number]}, body)

    run(emitter, {"ring": Ring(slots, fill, spread)}, [step(n) for n in range(len(keys))])
    return [
        ("L", i.dram // 64) if isinstance(i, Load) else ("S", i.local) for i in emitter.instructions
    ]


def test_two_slots_load_one_item_ahead():
    assert emitted(2, [0, 1, 2]) == [
        ("L", 0),
        ("L", 1),
        ("S", 0),
        ("L", 2),
        ("S", 1),
        ("S", 2),
    ]


def test_resident_items_are_loaded_once():
    loads = [entry for entry in emitted(2, [0, 1, 0, 1, 0]) if entry[0] == "L"]
    assert loads == [("L", 0), ("L", 1)]


def test_an_evicted_item_is_loaded_again():
    loads = [entry for entry in emitted(1, [0, 1, 0]) if entry[0] == "L"]
    assert loads == [("L", 0), ("L", 1), ("L", 0)]


def test_spread_transfers_come_between_steps():
    log = emitted(2, [0, 0, 0, 1, 1], parts=12, spread=True)
    assert log.count(("L", 1)) == 12
    between = log[log.index(("S", 0)) : log.index(("S", 2))]
    assert ("L", 1) in between
    assert max(n for n, e in enumerate(log) if e == ("L", 1)) < log.index(("S", 3))


@pytest.mark.parametrize(("cycles", "ahead"), [(1200, 2), (300, 1)])
def test_what_has_come_while_the_array_worked_leaves_room(cycles, ahead):
    """Long items run ahead one after the other, as the array takes the time for them."""
    emitter = Emitter(CONFIG, {}, ConstantPool(0))
    vectors = cycles // 4

    def step(number):
        def body(places):
            emitter.emit(Array(counts=(vectors, 1, 1, 1, 1, 1, 1, 4)))

        return Step({"ring": 0 if number < 3 else number}, body)

    def fill(key, slot):
        return [Load(dram=1024 * key, local=slot, beats=700)]

    run(emitter, {"ring": Ring(4, fill)}, [step(n) for n in range(5)], short=True)
    kinds = [type(i) for i in emitter.instructions]
    third = [n for n, found in enumerate(kinds) if found is Array][2]
    assert kinds[:third].count(Load) == 1 + ahead


@pytest.mark.parametrize(("cycles", "ahead"), [(2100, 2), (1900, 1)])
def test_more_runs_ahead_of_a_long_step(cycles, ahead):
    """What comes while the step before computes, where that is more than the fixed bound."""
    emitter = Emitter(CONFIG, {}, ConstantPool(0))

    def step(number):
        def body(places):
            emitter.emit(Array(counts=(cycles // 4, 1, 1, 1, 1, 1, 1, 4)))

        return Step({"ring": number + 2 if number > 1 else 0}, body)

    def fill(key, slot):
        return [Load(dram=16384 * key, local=slot, beats=1000)]

    # Late: what has come does not count.
    run(emitter, {"ring": Ring(6, fill)}, [step(n) for n in range(6)], late=True, short=True)
    kinds = [type(i) for i in emitter.instructions]
    second = [n for n, found in enumerate(kinds) if found is Array][2]
    assert kinds[:second].count(Load) == 1 + ahead


def test_what_depends_on_no_layer_comes_first():
    """In the first step: weights that run ahead, then the operand, which may have to wait."""
    for free in (False, True):
        emitter = Emitter(CONFIG, {}, ConstantPool(0))

        def step(number, emitter=emitter):
            def body(places):
                emitter.emit(Store(dram=1 << 20, local=number))

            return Step({"weight": number, "input": 0}, body)

        def fill(first):
            return lambda key, slot: [Load(dram=first + 64 * key, local=slot)]

        rings = {"weight": Ring(3, fill(0), free=free), "input": Ring(1, fill(4096))}
        run(emitter, rings, [step(n) for n in range(3)])
        loads = [i.dram for i in emitter.instructions if isinstance(i, Load)]
        assert loads == ([0, 64, 128, 4096] if free else [0, 4096, 64, 128])


def test_a_ring_placer_wraps():
    placer = RingPlacer(10)
    assert [placer.take(4), placer.take(4), placer.take(4)] == [0, 4, 0]


def test_a_ring_placer_knows_whether_a_place_meets_the_one_before():
    placer = RingPlacer(10)
    found = [(placer.take(n), placer.meets) for n in (4, 4, 4, 7, 2, 10)]
    assert found == [(0, False), (4, False), (0, False), (0, True), (7, False), (0, True)]


def test_regions_take_whole_banks():
    bank = CONFIG.memory.activation_bank_rows
    regions = split_banks([1, bank + 1], CONFIG)
    assert regions is not None
    assert [(r.row, r.rows) for r in regions] == [(0, bank), (bank, 7 * bank)]
    assert split_banks([4 * bank + 1, 4 * bank], CONFIG) is None


@pytest.mark.parametrize(
    "axis", [Axis(9, 9, 3, 1, 1, 1), Axis(9, 5, 3, 2, 1, 1), Axis(9, 5, 3, 1, 2), Axis(9, 9)]
)
def test_sources_are_exactly_what_windows_read(axis):
    for first, count in cuts(axis.out, 2):
        taps = {
            axis.start(first + i) + k * axis.dilation
            for i in range(count)
            for k in range(axis.kernel)
        }
        inside = sorted(c for c in taps if 0 <= c < axis.size)
        low, extent = axis.source((first, count))
        assert (low, low + extent - 1) == (inside[0], inside[-1])


def test_merging_needs_free_axes():
    free, window = Axis(6, 6), Axis(6, 6, 3, 1, 1, 1)
    assert merge([free, free, free])[1] == 2
    assert merge([free, free, window])[1] == 1
    assert merge([window, free, free])[1] == 0
    assert merge([free, Axis(6, 6, pool=2), free])[1] == 0


def test_parts_are_balanced():
    assert balanced(100, 40) == 34
    assert balanced(100, 41, 2) == 34
    assert tile_sizes(12, 4, 8) == [8, 4]


@pytest.mark.parametrize("pools", [(1, 1, 1), (2, 2, 2)])
def test_accumulator_tiles_hold_whole_windows(pools):
    for load in [(56, 56, 4), (8, 6, 2), (112, 2, 2)]:
        tile = accumulator_tile(load, pools, 256)
        assert tile is not None
        assert np.prod(tile) <= 256
        assert all(t % p == 0 for t, p in zip(tile, pools, strict=True))
    assert accumulator_tile((8, 8, 8), (2, 2, 2), 7) is None


def test_tilings_fit_the_memories():
    window = Axis(14, 14, 3, 1, 1, 1)
    problem = Problem((window, window, Axis(4, 4)), 16, 16, 16, 16)
    found = list(candidates(problem, CONFIG))
    assert found
    blocks = CONFIG.weight_beats // CONFIG.weight_block_beats
    for tiling in found:
        assert np.prod(tiling.accumulator) * tiling.group <= CONFIG.memory.accumulator_rows
        pieces = tiling.pieces
        assert pieces.slots * pieces.blocks * np.prod(pieces.taps) * tiling.group <= blocks
        assert tiling.output.row + tiling.output.rows <= tiling.input.row


def test_a_box_is_loaded_row_by_row():
    lanes = 16
    view = Strided(4096, 3, (7, 5, 4), (lanes, 7 * lanes, 35 * lanes, 140 * lanes), lanes)
    box = Box((2, 1, 1), (3, 4, 2), 1, 2)
    (load,) = load_box(view, box, 100)
    runs = load.dram + offsets(load.counts, strides(load.counts, load.dram_deltas)).reshape(-1)
    rows = load.local + offsets(load.counts, strides(load.counts, load.local_deltas)).reshape(-1)
    got = {
        int(row) + beat: int(address) + beat * lanes
        for row, address in zip(rows, runs, strict=True)
        for beat in range(load.beats)
    }
    wanted = {}
    row = 100
    for block in (1, 2):
        for t in (1, 2):
            for y in range(1, 5):
                for x in range(2, 5):
                    wanted[row] = 4096 + lanes * (((block * 4 + t) * 5 + y) * 7 + x)
                    row += 1
    assert got == wanted
