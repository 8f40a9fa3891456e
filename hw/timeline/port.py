"""The memory port: who is granted when, and when the memory serves it.

Follows hw/memory/arbiter.py and `timing.MemoryTiming`. With an always-ready memory everything
after a grant is known at once: the address is accepted one cycle later, bursts are served in the
order of their grants, one beat per cycle.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple, Protocol

from hw.arch.config import PortConfig
from hw.arch.timing import GRANT_LATENCY, MemoryTiming


class Service(NamedTuple):
    """When a granted burst is served.

    Attributes
    ----------
    grant: cycle of the grant.
    first, last: cycles in which its first and last beat pass.
    end: cycle in which it stops being open: the last read beat, or the write response.
    beats: its length.
    """

    grant: int
    first: int
    last: int
    end: int
    beats: int

    def passes(self, beat: int) -> int:
        """Cycle in which a beat passes; beats are taken to be equally far apart."""
        if self.beats == 1:
            return self.last
        return self.first + beat * (self.last - self.first) // (self.beats - 1)


class MemoryModel(Protocol):
    """A memory behind the port: serves bursts in the order of their grants."""

    def free(self, write: bool) -> int:
        """First cycle in which the register of a burst's address takes another one."""
        ...

    def serve(self, cycle: int, write: bool, beats: int, address: int) -> Service:
        """Say when a burst that is granted in `cycle` is served."""
        ...


class UniformMemory:
    """Serves a beat in every cycle after a fixed latency (`timing.MemoryTiming`)."""

    def __init__(self, timing: MemoryTiming):
        self._timing = timing
        self._free = 0
        self._direction: bool | None = None

    def free(self, write: bool) -> int:
        """See `MemoryModel`: always."""
        return 0

    def serve(self, cycle: int, write: bool, beats: int, address: int) -> Service:
        """See `MemoryModel`."""
        timing = self._timing
        latency = timing.write_latency if write else timing.read_latency
        free = self._free
        if self._direction is not None and self._direction != write:
            free += timing.turnaround
        first = max(free, cycle + GRANT_LATENCY + latency)
        last = first + beats - 1
        end = last + (timing.write_response if write else 0)
        self._free = last + 1
        self._direction = write
        return Service(cycle, first, last, end, beats)


class MemoryPort:
    """Counts open bursts; the memory behind it says when they are served.

    Parameters
    ----------
    port: the port's configuration.
    memory: what is behind it.
    """

    def __init__(self, port: PortConfig, memory: MemoryModel):
        self._outstanding = port.outstanding
        self._memory = memory
        self.free = memory.free
        """First cycle in which a burst of this direction can be granted, were there room."""
        self._ends: list[int] = []
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

    def serve(self, cycle: int, write: bool, beats: int, address: int) -> Service:
        """Grant a burst in `cycle` and say when the memory serves it."""
        service = self._memory.serve(cycle, write, beats, address)
        heapq.heappush(self._ends, service.end)
        self.last_end = max(self.last_end, service.end)
        return service
