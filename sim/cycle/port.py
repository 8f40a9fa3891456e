"""The memory port: who is granted when, and when the memory serves it.

Follows hw/memory/arbiter.py and `timing.MemoryTiming`. With an always-ready memory everything
after a grant is known at once: the address is accepted one cycle later, bursts are served in the
order of their grants, one beat per cycle.
"""

from __future__ import annotations

import dataclasses
import heapq

from hw.arch.config import PortConfig
from hw.arch.timing import GRANT_LATENCY, MemoryTiming


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """When a granted burst is served.

    Attributes
    ----------
    grant: cycle of the grant.
    first, last: cycles in which its first and last beat pass.
    end: cycle in which it stops being open: the last read beat, or the write response.
    """

    grant: int
    first: int
    last: int
    end: int


class MemoryPort:
    """Counts open bursts and serves granted ones strictly in order.

    Parameters
    ----------
    port: the port's configuration.
    memory: timing of the memory behind it.
    """

    def __init__(self, port: PortConfig, memory: MemoryTiming):
        self._outstanding = port.outstanding
        self._memory = memory
        self._ends: list[int] = []
        self._free = 0
        self._direction: bool | None = None
        self.last_end = -1
        """Cycle in which the last of all granted bursts ends."""

    def room_at(self, cycle: int) -> int:
        """First cycle, `cycle` or later, in which a burst can be granted.

        A slot that is freed in cycle t can be granted in cycle t + 1.
        """
        while self._ends and self._ends[0] < cycle:
            heapq.heappop(self._ends)
        if len(self._ends) < self._outstanding:
            return cycle
        return self._ends[0] + 1

    def serve(self, cycle: int, write: bool, beats: int) -> Service:
        """Grant a burst in `cycle` and say when the memory serves it."""
        memory = self._memory
        latency = memory.write_latency if write else memory.read_latency
        free = self._free
        if self._direction is not None and self._direction != write:
            free += memory.turnaround
        first = max(free, cycle + GRANT_LATENCY + latency)
        last = first + beats - 1
        end = last + (memory.write_response if write else 0)
        self._free = last + 1
        self._direction = write
        heapq.heappush(self._ends, end)
        self.last_end = max(self.last_end, end)
        return Service(cycle, first, last, end)
