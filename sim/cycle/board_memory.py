"""A board's SDRAM behind the memory port: burst converter, LiteDRAM's controller, and the chip.

A prediction. Follows hw/boards/converter.py and LiteDRAM 2024.12 (core/crossbar.py: a port goes on
to another bank when all that it asked of the bank before has been served; core/bankmachine.py:
rows; core/multiplexer.py: changes of direction; core/refresher.py). Three things are left out: what
the host does with the memory meanwhile; that bursts which another one overtakes come later than was
said when they were granted (two at most, later by that burst); and when refreshes come, which
depends on the time of the start: here the first one comes a whole interval after it.
"""

from __future__ import annotations

import dataclasses
from collections import deque

from hw.arch.boards import (
    CONVERTER_ACCEPT,
    CONVERTER_ANSWER,
    CONVERTER_ARRIVE,
    CONVERTER_BEAT,
    CONVERTER_BEATS,
    CONVERTER_COMMAND,
    Board,
    ControllerTiming,
)
from hw.arch.timing import GRANT_LATENCY
from hw.timeline.port import Service

QUEUED = 8
"""Commands that wait at a bank behind the one at its head."""
HEAD = 2
"""Cycles from a command's acceptance to the head of an idle bank's queue."""
SWITCH = 2
"""Cycles from a read that waits at the head to its issue, when writes went before."""


NOTICE = 2
"""Cycles until the banks know that a refresh is wished for."""


@dataclasses.dataclass(slots=True)
class _Channel:
    """The converter's two registers of addresses, of reads or of writes."""

    moved: int = 0
    """When the second register took the last burst."""
    begun: int = 0
    """When the last burst left it."""
    accepted: int = 0
    """When the first register took the last burst: the core's own register is free again."""
    free: int = 0
    """When the first register takes the next one: a cycle after it has passed one on."""

    def accept(self, cycle: int) -> int:
        """A burst is valid from `cycle` on; returns the first cycle in which it can begin."""
        self.accepted = max(cycle, self.free)
        self.moved = max(self.accepted + CONVERTER_ACCEPT, self.begun)
        self.free = self.moved + 1
        return self.moved + 1


@dataclasses.dataclass(slots=True)
class _Chip:
    """The controller and its chip between two bursts.

    Attributes
    ----------
    splitter: when the converter can begin the next burst.
    issued: when the last word was issued; bank: of it.
    rows, activated, written: by bank: its open row, when that was opened, and its last write.
    writing: the direction; last_write: when the last word was written.
    refresh: when the next one is wished for.
    """

    refresh: int
    splitter: int = 0
    issued: int = -1
    bank: int | None = None
    rows: dict[int, int] = dataclasses.field(default_factory=dict)
    activated: dict[int, int] = dataclasses.field(default_factory=dict)
    written: dict[int, int] = dataclasses.field(default_factory=dict)
    writing: bool = False
    last_write: int = -1

    def copy(self) -> _Chip:
        """An independent one."""
        return dataclasses.replace(
            self,
            rows=self.rows.copy(),
            activated=self.activated.copy(),
            written=self.written.copy(),
        )


@dataclasses.dataclass(slots=True)
class _Planned:
    """A burst whose beginning is known: from `earliest` on it waits. `before`: the chip then."""

    write: bool
    earliest: int
    words: int
    first: int
    begin: int
    before: _Chip


Pieces = list[tuple[int, int]]
"""Words of a burst that are issued in consecutive cycles: number of the first, and its cycle."""


class BoardMemory:
    """Serves bursts as reads and writes take turns (`hw.timeline.port.MemoryModel`).

    Parameters
    ----------
    board: whose memory it is.
    beat_bytes: of the core's port.
    base: address on the bus of the program's byte 0.
    """

    def __init__(self, board: Board, beat_bytes: int, base: int = 0):
        self._timing: ControllerTiming = board.controller
        self._word = board.word_bits // 8
        self._ratio = beat_bytes // self._word
        self._row_words = board.row_bytes // self._word
        self._banks = board.banks
        self._base = base
        self._channels = {False: _Channel(), True: _Channel()}
        self._chip = _Chip(self._timing.refresh_interval)
        self._planned: deque[_Planned] = deque()
        self._begun: bool | None = None
        self._sent = -1
        self._popped: deque[int] = deque(maxlen=CONVERTER_BEATS)

    def free(self, write: bool) -> int:
        """See `MemoryModel`."""
        return self._channels[write].accepted

    def serve(self, cycle: int, write: bool, beats: int, address: int) -> Service:
        """See `MemoryModel`."""
        while self._planned and self._planned[0].begin < cycle:
            self._begun = self._planned.popleft().write
        earliest = self._channels[write].accept(cycle + GRANT_LATENCY)
        if write:
            earliest = max(earliest, max(cycle + GRANT_LATENCY, self._sent + 1) + CONVERTER_ARRIVE)
        first = (self._base + address) // self._word
        burst = _Planned(write, earliest, beats * self._ratio, first, 0, self._chip)
        pieces = self._plan(burst)
        if write:
            return self._write(cycle, beats, pieces)
        data = self._timing.read_latency + CONVERTER_BEAT
        start, end = (_at(pieces, n) + data for n in (self._ratio - 1, burst.words - 1))
        return Service(cycle, start, end, end, beats)

    def _plan(self, burst: _Planned) -> Pieces:
        """Give a burst its turn among those that have not begun."""
        planned = list(self._planned)
        place = 1 + max((n for n, p in enumerate(planned) if p.write == burst.write), default=-1)
        last = planned[place - 1].write if place else self._begun
        while place < len(planned):
            if planned[place].begin >= burst.earliest and last != burst.write:
                break
            last = planned[place].write
            place += 1
        overtaken = planned[place:]
        if overtaken:
            self._chip = overtaken[0].before
            self._planned = deque(planned[:place])
        pieces = self._begin(burst)
        for other in overtaken:  # what was said about them is early by this burst
            self._begin(other)
        return pieces

    def _begin(self, burst: _Planned) -> Pieces:
        burst.before = self._chip.copy()
        burst.begin = max(burst.earliest, self._chip.splitter)
        self._channels[burst.write].begun = burst.begin
        self._planned.append(burst)
        return self._issue(burst)

    def _write(self, grant: int, beats: int, pieces: Pieces) -> Service:
        """Beats of a write pass as long as there is room for them."""
        latency, ratio = self._timing.write_latency, self._ratio
        passed = []
        for beat in range(beats):
            cycle = max(grant + GRANT_LATENCY, self._sent + 1)
            if len(self._popped) == CONVERTER_BEATS:
                cycle = max(cycle, self._popped[0] + 1)
            self._sent = cycle
            passed.append(cycle)
            # The word before the beat's last one is taken: the beat leaves its place.
            self._popped.append(_at(pieces, max(0, beat * ratio + ratio - 2)) + latency)
        end = _at(pieces, beats * ratio - 1) + latency + CONVERTER_ANSWER
        return Service(grant, passed[0], passed[-1], end, beats)

    def _issue(self, burst: _Planned) -> Pieces:
        """Issue the words of a burst, whose beginning is known."""
        chip, pieces = self._chip, []
        command, done = burst.begin + CONVERTER_COMMAND, 0
        while done < burst.words:
            number, column = divmod(burst.first + done, self._row_words)
            count = min(burst.words - done, self._row_words - column)
            row, bank = divmod(number, self._banks)
            if bank != chip.bank:
                command = max(command, chip.issued + 1)
            left, ready = count, max(command + HEAD, chip.issued + 1)
            while left:
                ready = self._turn(self._open(ready, bank, row), burst.write)
                fits = min(left, max(1, chip.refresh - ready + 1))
                pieces.append((done + count - left, ready))
                left -= fits
                chip.issued = ready + fits - 1
                ready += fits
            if burst.write:
                chip.written[bank] = chip.last_write = chip.issued
            chip.bank = bank
            done += count
            command = max(command + count - 1, chip.issued - QUEUED) + 1
        chip.splitter = command - 1
        return pieces

    def _open(self, ready: int, bank: int, row: int) -> int:
        """When a command at the head of its bank's queue finds its row open."""
        timing, chip = self._timing, self._chip
        while ready > chip.refresh:
            # All banks are closed, once their writes allow it; the controller then looks for reads.
            closing = max(chip.refresh + NOTICE, chip.last_write + timing.write_recovery) - NOTICE
            ready = max(ready, closing + timing.refresh_cycles)
            chip.refresh += timing.refresh_interval
            chip.rows.clear()
            chip.writing = False
        if chip.rows.get(bank) == row:
            return ready
        activate = ready + 1
        if bank in chip.rows:
            closed = max(
                ready + 1,
                chip.activated[bank] + timing.row_open,
                chip.written.get(bank, -timing.write_recovery) + timing.write_recovery,
            )
            activate = closed + timing.precharge
        if bank in chip.activated:
            activate = max(activate, chip.activated[bank] + timing.row_cycle)
        chip.rows[bank] = row
        chip.activated[bank] = activate
        return activate + timing.activate

    def _turn(self, ready: int, write: bool) -> int:
        """When a command of this direction can be issued."""
        chip = self._chip
        if write == chip.writing:
            return ready
        chip.writing = write
        if write:
            return ready + self._timing.read_to_write
        return max(ready, chip.last_write + self._timing.write_to_read) + SWITCH


def _at(pieces: Pieces, word: int) -> int:
    """Cycle in which a word is issued."""
    for first, cycle in reversed(pieces):
        if first <= word:
            return cycle + word - first
    raise IndexError(word)
