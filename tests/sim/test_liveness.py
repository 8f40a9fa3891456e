"""Rows that live, against a count by hand of every row and cycle."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sim.liveness import INTERVALS, _Rows, means


def by_hand(events, rows, cycles):
    """Rows alive in every cycle: each row on its own, straight from the definition."""
    alive = np.zeros((rows, cycles), bool)
    for row in range(rows):
        born = last = None
        for write, low, high, cycle in events:
            if not low <= row <= high:
                continue
            if not write:
                last = cycle if last is None else max(last, cycle)
            elif born is None or last is not None:
                if born is not None:
                    alive[row, born:last] = True
                born, last = cycle, None
        if born is not None and last is not None:
            alive[row, born:last] = True
    return alive.sum(axis=0)


@pytest.mark.parametrize("seed", range(6))
def test_random_events(seed):
    rng = np.random.default_rng(seed)
    rows, cycles = 24, 300
    events = []
    for cycle in np.sort(rng.integers(0, cycles, 60)).tolist():
        low, high = sorted(rng.integers(0, rows, 2).tolist())
        events.append((bool(rng.integers(2)), low, high, cycle))
    found = _Rows(rows)
    for write, low, high, cycle in events:
        (found.write if write else found.read)(low, high, cycle)
    lives = found.lives()
    wanted = by_hand(events, rows, cycles)
    assert wanted.max() > 0
    for interval in (1.0, 7.0, 12.5, 300.0):
        cuts = np.arange(0, cycles + interval, interval)
        fine = np.concatenate([[0], np.cumsum(wanted)]).astype(float)
        sums = np.interp(np.minimum(cuts, cycles), np.arange(cycles + 1), fine)
        widths = np.diff(np.minimum(cuts, cycles))
        expected = np.diff(sums)[widths > 0] / widths[widths > 0]
        assert np.allclose(means(lives, interval, cycles), expected)


def test_what_is_never_read_does_not_live():
    found = _Rows(4)
    found.write(0, 3, 10)
    found.read(1, 1, 30)
    found.write(0, 3, 40)
    assert found.lives().tolist() == [[10], [30], [1]]


def test_a_run_keeps_it(relu_build):
    from sim.command import run

    folder = relu_build()
    ran = run(folder, "cycle")
    live = json.loads(ran.files[0].read_text())["scratchpads"]["live"]
    activation = live["rows"]["activation"]
    assert live["interval"] == max(ran.result.cycles / INTERVALS, 1)
    assert len(activation) == pytest.approx(ran.result.cycles / live["interval"], abs=1)
    # LOAD brings 48 rows, ELEMENTWISE makes 48 of them elsewhere: both live meanwhile.
    assert 48 < max(activation) <= 96 and activation[0] == 0
    assert max(live["rows"]["weight"]) == 0
    assert "live" not in run(folder, "functional").result.scratchpads


@pytest.mark.parametrize("cycles", [17_764, *range(16_001, 16_400, 7)])
def test_intervals_that_divide_a_run_are_so_many(cycles):
    """17,764 / (17,764 / 400) is a little more than 400: no interval without width."""
    lives = np.array([[0, 5], [cycles, 9], [3, 2]])
    found = means(lives, cycles / INTERVALS, cycles)
    assert len(found) == INTERVALS and np.isfinite(found).all()
    assert found[-1] == pytest.approx(3)
