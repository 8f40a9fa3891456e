"""Instruction prefetch, after hw/control/fetch.py: requests, grants, and what can be taken when."""

from __future__ import annotations

from collections import deque

from hw.arch.config import PortConfig
from hw.arch.isa import INSTRUCTION_BYTES
from hw.arch.timing import BEAT_LATENCY, FETCH_ASK, FETCH_FIFO, FETCH_GROUP, FETCH_VISIBLE
from hw.timeline.port import Service


class FetchModel:
    """The prefetch FIFO.

    Parameters
    ----------
    port: the memory port.
    base: DRAM address of instruction 0.
    length: instructions in the program.
    """

    def __init__(self, port: PortConfig, base: int, length: int):
        self._beats = INSTRUCTION_BYTES // port.bytes
        self._group = min(FETCH_GROUP, port.max_burst // self._beats)
        self._first = base // INSTRUCTION_BYTES
        self._length = length
        self.beats = 0
        self._restart(0, 0)

    def _restart(self, cycle: int, target: int) -> None:
        self._next = target
        self._granted = 0
        self._takes: deque[int] = deque()
        self._takes_before = 0  # takes that have left `_takes`
        self._earliest = cycle
        self._count = 0
        self.request: int | None = None
        """Cycle from which a burst is asked for; None if none is, or if that is not yet known."""
        self.available: deque[int] = deque()
        """Cycles in which the fetched instructions that are not yet taken can be."""
        self._ask()

    @property
    def request_burst(self) -> tuple[int, int]:
        """Beats and address of the burst that is asked for."""
        return self._count * self._beats, (self._first + self._next) * INSTRUCTION_BYTES

    def urgent(self, cycle: int) -> bool:
        """Whether in `cycle` nothing that was granted is left to take.

        Parameters
        ----------
        cycle: no earlier than any that was asked about; all takes before it are known.
        """
        return not self.available and (not self._takes or self._takes[-1] < cycle)

    def _ask(self) -> None:
        """Put up a request when the FIFO has room for all of it."""
        if self.request is not None or self._next >= self._length:
            return
        in_group = self._group - (self._first + self._next) % self._group
        self._count = min(in_group, self._length - self._next)
        needed = self._granted + self._count - FETCH_FIFO
        cycle = self._earliest
        if needed > 0:
            index = needed - 1 - self._takes_before
            if index >= len(self._takes):
                return
            cycle = max(cycle, self._takes[index] + 1)
            while index > 0:
                self._takes.popleft()
                self._takes_before += 1
                index -= 1
        self.request = cycle + FETCH_ASK

    def granted(self, service: Service) -> None:
        """The request was granted."""
        self.beats += service.beats
        self.available.extend(
            service.passes((i + 1) * self._beats - 1) + BEAT_LATENCY + FETCH_VISIBLE
            for i in range(self._count)
        )
        self._granted += self._count
        self._next += self._count
        self._earliest = service.grant + 1
        self.request = None
        self._ask()

    def take(self, earliest: int) -> int | None:
        """Take the next instruction: the cycle, or None if it is not known yet."""
        if not self.available:
            return None
        cycle = max(earliest, self.available.popleft())
        self._takes.append(cycle)
        self._ask()
        return cycle

    def jump(self, cycle: int, target: int) -> None:
        """Flush in `cycle`, after that cycle's grant, and go on at `target`."""
        self._restart(cycle + 1, target)
