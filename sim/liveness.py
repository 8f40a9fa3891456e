"""How full the scratchpads are over time: rows whose contents something still reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.arch.config import AcceleratorConfig
from hw.arch.walk import accesses
from hw.timeline.step import Step
from sim.backend import Timeline
from sim.functional.sequencer import WAITING
from sim.memory import SCRATCHPADS, capacity

INTERVALS = 400
"""Into which a run is cut."""

_Times = npt.NDArray[np.int64]


class _Rows:
    """Lives of the rows of one scratchpad: from the write that fills it to the last read.

    A row that is written again before anything has read it (sums that grow, rows put together of
    parts) lives on.
    """

    def __init__(self, rows: int):
        self._born = np.full(rows, -1, np.int64)
        self._read = np.full(rows, -1, np.int64)
        self._lives: list[_Times] = []

    def read(self, low: int, high: int, cycle: int) -> None:
        """Something reads rows low..high until `cycle`."""
        part = self._read[low : high + 1]
        np.maximum(part, cycle, out=part)

    def write(self, low: int, high: int, cycle: int) -> None:
        """Something writes rows low..high from `cycle` on."""
        born, read = self._born[low : high + 1], self._read[low : high + 1]
        over = read >= 0
        self._end(born, read, over & (born >= 0))
        fresh = over | (born < 0)
        born[fresh] = cycle
        read[fresh] = -1

    def _end(self, born: _Times, read: _Times, over: npt.NDArray[np.bool_]) -> None:
        """Note lives that are over, neighbours that agree together: begin, end, rows."""
        pairs = np.stack([born[over], read[over]])
        if not pairs.size:
            return
        first = np.flatnonzero(np.any(np.diff(pairs, axis=1, prepend=-2), axis=0))
        counts = np.diff(first, append=pairs.shape[1])
        self._lives.append(np.stack([*pairs[:, first], counts]))

    def lives(self) -> _Times:
        """Begin, end and number of rows of all lives, [3, n]; nothing may follow."""
        self._end(self._born, self._read, (self._read >= 0) & (self._born >= 0))
        return np.concatenate([np.zeros((3, 0), np.int64), *self._lives], axis=1)


def live_rows(
    trace: Sequence[Step], timeline: Timeline, config: AcceleratorConfig, cycles: int
) -> Mapping[str, Any]:
    """Rows of every scratchpad that hold what is still read, over the run.

    Of an instruction that skips rows all between its first and its last count.

    Parameters
    ----------
    trace: executed instructions; `timeline` is of those with a unit, in the same order.

    Returns
    -------
    ``interval``, cycles; and ``rows`` by name: the mean over each interval.
    """
    found = {memory: _Rows(capacity(config)[memory.value]) for memory in SCRATCHPADS}
    steps = (step for step in trace if step.unit is not None)
    for step, start, end in zip(steps, timeline.start.tolist(), timeline.end.tolist(), strict=True):
        assert isinstance(step.instruction, WAITING)
        touched = [a for a in accesses(step.instruction, config) if a.memory in found]
        for access in touched:
            if not access.write:
                found[access.memory].read(access.low, access.high, end)
        for access in touched:
            if access.write:
                found[access.memory].write(access.low, access.high, start)
    interval = max(cycles / INTERVALS, 1.0)
    return {
        "interval": interval,
        "rows": {
            memory.value: [round(x, 2) for x in means(rows.lives(), interval, cycles).tolist()]
            for memory, rows in found.items()
        },
    }


def means(lives: _Times, interval: float, cycles: int) -> npt.NDArray[np.float64]:
    """Mean number of rows alive in each interval of a run, exactly.

    Parameters
    ----------
    lives: begin, end and number of rows, [3, n].
    """
    # Of whole intervals the quotient may be a little more than their number.
    count = max(1, int(np.ceil(cycles / interval - 1e-6)))
    total = np.zeros(count + 1)
    level = np.zeros(count + 2)
    for times, sign in ((lives[0], 1), (lives[1], -1)):
        at = np.minimum((times / interval).astype(np.int64), count)
        rest = (at + 1) * interval - times
        total += np.bincount(at, sign * lives[2] * rest, minlength=count + 1)[: count + 1]
        level += np.bincount(at + 1, sign * lives[2], minlength=count + 2)[: count + 2]
    total += np.cumsum(level)[:-1] * interval
    width = np.minimum(interval, cycles - interval * np.arange(count))
    return np.asarray(total[:count] / width)
