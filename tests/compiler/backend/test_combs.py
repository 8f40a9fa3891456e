"""Combs: transfers that touch no common byte are found apart, and never others."""

import dataclasses
import itertools
import random

import pytest

from compiler.emit.combs import Comb
from compiler.emit.dependencies import DependencyTracker
from compiler.emit.transfers import Box, Strided, load_box, store_box
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Load, Store, Unit, deltas, strides
from hw.arch.nest import offsets

CONFIG = AcceleratorConfig.load("base")
BEAT = CONFIG.port.bytes


def touched(transfer):
    """Every beat, by brute force."""
    step = strides(transfer.counts, transfer.dram_deltas)
    starts = transfer.dram + offsets(transfer.counts, step).ravel()
    return {int(s) + n * BEAT for s in starts for n in range(transfer.beats)}


def boxes(rng):
    """A view of a map, and two of its boxes."""
    sizes = rng.randint(1, 6), rng.randint(1, 6), rng.randint(1, 4)
    x, y, t = sizes
    blocks = rng.randint(1, 4)
    pitch = BEAT * x * y * t * rng.choice([1, 1, 2, 3])
    view = Strided(4096, blocks, sizes, (BEAT, BEAT * x, BEAT * x * y, pitch), BEAT)

    def box():
        cut = [sorted(rng.sample(range(n + 1), 2)) for n in (*sizes, blocks)]
        first, size = [a for a, _ in cut], [b - a for a, b in cut]
        return Box(tuple(first[:3]), tuple(size[:3]), first[3], size[3])

    return view, box(), box()


def transfers(rng):
    """Pairs of boxes of a map, and of any nests."""
    while True:
        view, one, other = boxes(rng)
        yield load_box(view, one, 0)[0], store_box(view, other, 0)
        pair = []
        for kind in (Load, Store):
            counts = tuple(rng.randint(1, 4) for _ in range(3))
            step = [BEAT * rng.randint(-6, 12) for _ in range(3)]
            along = deltas(counts, step)
            transfer = kind(
                dram=BEAT * rng.randint(200, 240), beats=rng.randint(1, 5), counts=counts,
                dram_deltas=along, local_deltas=deltas(counts, (8, 32, 128)),
            )  # fmt: skip
            pair.append(transfer)
        yield tuple(pair)


def wrong(cases, change=lambda comb: comb):
    """Pairs that are called apart and are not; pairs that are apart as intervals overlap."""
    missed, found = 0, 0
    for one, other in cases:
        mine, others = Comb.of(one, BEAT), Comb.of(other, BEAT)
        common = touched(one) & touched(other)
        met = change(mine).meets(others)
        assert met == others.meets(change(mine)), "the same from both sides"
        missed += bool(common) and not met
        found += not met and mine.low <= others.high and others.low <= mine.high
    return missed, found


def test_never_apart_where_a_byte_is_common():
    cases = list(itertools.islice(transfers(random.Random(0)), 4000))
    missed, found = wrong(cases)
    assert missed == 0
    assert found > 400

    def narrower(comb):
        spans = {distance: max(1, span - BEAT) for distance, span in comb.spans.items()}
        return dataclasses.replace(comb, spans=spans)

    assert wrong(cases, narrower)[0] > 0


@pytest.mark.parametrize(("line", "distance"), [(0, 7), (6, 1)])
def test_first_lines_do_not_wait_for_the_last(line, distance):
    """Two lines of all blocks are read, of a map whose last line is stored last."""
    view = Strided(4096, 3, (5, 8, 1), (BEAT, 5 * BEAT, 40 * BEAT, 40 * BEAT), BEAT)
    bank = CONFIG.memory.activation_bank_rows
    tracker = DependencyTracker(CONFIG)
    for y in range(8):
        tracker.add(store_box(view, Box((0, y, 0), (5, 1, 1), 0, 3), y % 2 * bank))
    load = load_box(view, Box((0, line, 0), (5, 2, 1), 0, 3), 2 * bank)[0]
    assert tracker.add(load).waits[Unit.STORE] == distance
