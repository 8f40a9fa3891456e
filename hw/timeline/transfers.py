"""LOAD and STORE: from an instruction's issue to its bursts' requests, and from grants to `done`.

Follows hw/memory/walker.py, load.py and store.py. Times become known as soon as what they depend
on is known, which may be ahead of the cycle that the model has reached; only the arbiter's grants
have to be taken in the order of time.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hw.arch.config import PortConfig
from hw.arch.isa import Load, Store
from hw.arch.timing import (
    BEAT_LATENCY,
    LOAD_ASK,
    LOAD_DONE,
    RUN_INTERVAL,
    STORE_ASK,
    STORE_BURSTS,
    STORE_DONE,
    STORE_READ,
)
from hw.timeline.port import Service

PAGE_BYTES = 4096
ENTER = LOAD_ASK - 1
"""From the issue to the first burst's entry into the walker's output register."""
TAKE = STORE_READ - LOAD_ASK
"""From the reader's taking of a burst to its first scratchpad read."""


class Burst(NamedTuple):
    """One burst.

    Attributes
    ----------
    beats: its length.
    address: of its first byte.
    last: it is the last one of its instruction.
    starts: it is the first one of its run.
    frees: it is the first one of the instruction's last run: the walker is free behind it.
    """

    beats: int
    address: int = 0
    last: bool = False
    starts: bool = False
    frees: bool = False


def bursts(instruction: Load | Store, port: PortConfig) -> list[Burst]:
    """Split an instruction's runs at the longest burst and at 4 KiB."""
    addresses = [*_run_addresses(instruction)]
    found: list[Burst] = []
    for run, address in enumerate(addresses, 1):
        left, starts, final = instruction.beats, True, run == len(addresses)
        while left:
            page = (PAGE_BYTES - address % PAGE_BYTES) // port.bytes
            beats = min(left, port.max_burst, page)
            left -= beats
            found.append(Burst(beats, address, final and not left, starts, final and starts))
            address += beats * port.bytes
            starts = False
    return found


def _run_addresses(instruction: Load | Store) -> Iterator[int]:
    address = instruction.dram
    c0, c1, c2 = instruction.counts
    d0, d1, d2 = instruction.dram_deltas
    for k in range(c2):
        for j in range(c1):
            for _ in range(c0 - 1):
                yield address & 0xFFFFFFFF
                address += d0
            yield address & 0xFFFFFFFF
            if j < c1 - 1:
                address += d1
        if k < c2 - 1:
            address += d2


class Walker:
    """The burst walker: holds one instruction and, in its output register, one burst."""

    def __init__(self) -> None:
        self._bursts: deque[Burst] = deque()
        # Cycles in which the first bursts of instructions may enter.
        self._begins: deque[int] = deque()
        self._taken = -1
        self._next_run = 0
        self.valid: int | None = None
        """Cycle from which the output register holds a burst; None while it does not."""
        self.burst = Burst(0, last=True)
        self.ready: int | None = 0
        """First cycle in which the next instruction is accepted; None while unknown."""

    def hold(self, issue: int, lengths: Sequence[Burst]) -> None:
        """Take an instruction in cycle `issue` (not before `ready`)."""
        self._bursts.extend(lengths)
        self._begins.append(issue + ENTER)
        self.ready = None
        if self.valid is None:
            self._enter(self._taken)

    def take(self, cycle: int) -> None:
        """The burst in the output register is taken in `cycle`."""
        self.valid = None
        self._taken = cycle
        if self._bursts:
            self._enter(cycle)

    def _enter(self, entry: int) -> None:
        begins = self.burst.last
        self.burst = burst = self._bursts.popleft()
        if begins:
            entry = max(entry, self._begins.popleft())
        if burst.starts:
            entry = max(entry, self._next_run)
            self._next_run = entry + RUN_INTERVAL
        self.valid = entry + 1
        if burst.frees:
            self.ready = entry + 1


class LoadModel(Walker):
    """The load unit asks for what its walker holds: `burst`, from cycle `valid` on."""

    def __init__(self, port: PortConfig):
        super().__init__()
        self._port = port
        self.beats = 0

    def accept(self, issue: int, instruction: Load) -> None:
        """Take an instruction."""
        self.hold(issue, bursts(instruction, self._port))

    def granted(self, service: Service) -> int | None:
        """The request was granted; return the instruction's `done`, if the burst ends it."""
        burst = self.burst
        self.beats += burst.beats
        self.take(service.grant)
        return service.last + LOAD_DONE if burst.last else None


assert BEAT_LATENCY == LOAD_DONE


@dataclasses.dataclass(slots=True)
class _Read:
    """A burst whose rows have been read, or are known to be read."""

    row: int
    beats: int
    address: int
    ends: bool
    asked: int


class StoreModel:
    """The store unit: walker, reader with its row FIFO, requests."""

    def __init__(self, port: PortConfig):
        self._port = port
        self._walker = Walker()
        self._row = 0
        self._reader_free = 0
        self._partly: tuple[int, Burst] | None = None
        self._reads: deque[_Read] = deque()
        self._grants: deque[int] = deque()
        self._sent: deque[tuple[int, Service]] = deque()
        self._last_grant = -1
        self._taken = 0
        self._granted = 0
        self._stalled_until = -1
        self.beats = 0
        self.stalled = 0
        self.request: int | None = None
        """Cycle from which a burst is asked for."""

    @property
    def ready(self) -> int | None:
        """First cycle in which an instruction is accepted; None while unknown."""
        return self._walker.ready

    @property
    def request_burst(self) -> tuple[int, int]:
        """Beats and address of the burst that is asked for."""
        return self._reads[0].beats, self._reads[0].address

    def accept(self, issue: int, instruction: Store) -> None:
        """Take an instruction."""
        self._walker.hold(issue, bursts(instruction, self._port))
        self._read()

    def granted(self, service: Service) -> int | None:
        """The request was granted; return the instruction's `done`, if the burst ends it."""
        request = self.request
        assert request is not None
        read = self._reads.popleft()
        self.beats += read.beats
        self._last_grant = service.grant
        self._granted += 1
        self._grants.append(service.grant)
        self._sent.append((read.row, service))
        # Stalled: asked for or without a response, and no beat passes.
        self.stalled += service.end - max(request - 1, self._stalled_until) - read.beats
        self._stalled_until = service.end
        self._read()
        return service.end + STORE_DONE if read.ends else None

    def _read(self) -> None:
        """Read ahead, and ask for what was read first."""
        self._pump()
        self.request = None
        if self._reads:
            self.request = max(self._reads[0].asked, self._last_grant + 1)

    def _pump(self) -> None:
        """Read ahead as far as times are known."""
        while True:
            if self._partly is None and not self._take():
                return
            assert self._partly is not None
            taken, burst = self._partly
            last = self._last_read(taken, burst.beats)
            if last is None:
                return
            self._reads.append(
                _Read(self._row, burst.beats, burst.address, burst.last, last + STORE_ASK)
            )
            self._row += burst.beats
            self._reader_free = last
            self._partly = None

    def _take(self) -> bool:
        """The reader takes the walker's burst; False if that is not known yet."""
        valid = self._walker.valid
        if valid is None:
            return False
        cycle = max(valid, self._reader_free)
        if self._taken >= STORE_BURSTS:
            older = self._taken - STORE_BURSTS  # must have been granted in an earlier cycle
            if older >= self._granted:
                return False
            index = older - (self._granted - len(self._grants))
            cycle = max(cycle, self._grants[index] + 1)
            while index > 0:
                self._grants.popleft()
                index -= 1
        burst = self._walker.burst
        self._walker.take(cycle)
        self._taken += 1
        self._partly = (cycle, burst)
        return True

    def _last_read(self, taken: int, beats: int) -> int | None:
        """Cycle in which a burst's last row is read; None if it waits for an unknown grant.

        Row i is read after row i − store_fifo was sent: rows follow one another every cycle, and
        beats no faster, hence only the first and the last row that wait for a sent burst matter.
        """
        depth = self._port.store_fifo
        final = self._row + beats - 1
        sent_rows = self._sent[-1][0] + self._sent[-1][1].beats if self._sent else 0
        if final - depth >= sent_rows:
            return None
        while self._sent and self._sent[0][0] + self._sent[0][1].beats + depth <= self._row:
            self._sent.popleft()
        result = taken + TAKE + beats - 1
        for row, service in self._sent:
            first = max(self._row, row + depth)
            if first > final:
                break
            for waiting in (first, min(final, row + depth + service.beats - 1)):
                read = service.passes(waiting - depth - row) + 1
                result = max(result, read + final - waiting)
        return result
