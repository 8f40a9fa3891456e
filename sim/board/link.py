"""Words of a board's bus over a line that may lose bytes (hw/arch/link.py)."""

from __future__ import annotations

import dataclasses
import random
import struct
from collections.abc import Sequence

from hw.arch.link import (
    MAX_WORDS,
    Command,
    LinkStatus,
    Reply,
    Request,
    find_reply,
    read_of,
    write_of,
)
from sim.board.transport import Transport
from sim.errors import SimulatorError

TRIES = 20
"""Of a request, before the line is given up."""
LONG_TRIES = 2
"""Of a request that could be cut into shorter ones."""
LEAST = 4
"""Words of a request that is not cut."""
GROW = 24
"""Requests that must be answered before they get longer."""
BITS = 10
"""On the line, of a byte."""
ACCESS = 100
"""Clock cycles that a word may take on the bus while the core uses the memory, on the average."""


class LinkError(SimulatorError):
    """The board does not answer, or refuses."""


class BoardResetError(SimulatorError):
    """The board was reset: whatever was written to it is lost."""


@dataclasses.dataclass(slots=True)
class LinkCounts:
    """What went over the line: requests, of these repeated; bytes of data either way."""

    requests: int = 0
    repeated: int = 0
    data_bytes: int = 0


class Link:
    """Reads and writes of words, each found right or repeated.

    Requests become shorter on a line that loses bytes, and longer again on a good one.

    Parameters
    ----------
    transport: the line.
    bit_cycles: clock cycles of a bit. silence: after which the bridge forgets what has begun.
    tries: of a request.
    """

    def __init__(self, transport: Transport, bit_cycles: float, silence: int, tries: int = TRIES):
        self._transport = transport
        self._byte_cycles = BITS * bit_cycles
        self._silence, self._tries = silence, tries
        self._most, self._good = MAX_WORDS, 0  # words of a request, answers since that changed
        # Another host may have ended with any number: the first one is HELLO, which acts always.
        self._sequence = random.randrange(256)
        self.counts = LinkCounts()

    def hello(self) -> bool:
        """Begin; whether the board was reset since the last one.

        Raises
        ------
        LinkError
            If nothing answers.
        """
        reply = self._request(Request(Command.HELLO, self._next()), self._tries)
        assert reply is not None
        return bool(reply.status & LinkStatus.FRESH)

    def read(self, address: int, words: int) -> list[int]:
        """Read words of consecutive addresses.

        Raises
        ------
        LinkError, BoardResetError
            See the classes.
        """
        values: list[int] = []
        while len(values) < words:
            count = min(self._most, words - len(values))
            reply = self._access(read_of(self._next(), address + 4 * len(values), count))
            if reply is not None:
                values += struct.unpack(f"<{count}I", reply.data)
        return values

    def write(self, address: int, values: Sequence[int]) -> None:
        """Write words to consecutive addresses.

        Several words may be written more than once, a single one is not.

        Raises
        ------
        LinkError, BoardResetError
            See the classes.
        """
        done = 0
        while done < len(values):
            part = values[done : done + self._most]
            if self._access(write_of(self._next(), address + 4 * done, part)) is not None:
                done += len(part)

    def wait(self, cycles: int) -> None:
        """Let at least so much time pass on the board."""
        while self._transport.receive(cycles):
            pass  # an answer that came too late

    def _next(self) -> int:
        self._sequence = (self._sequence + 1) % 256
        return self._sequence

    def _access(self, request: Request) -> Reply | None:
        """A request, or None if it is too long for this line: the caller asks for less at once."""
        short = request.words <= LEAST
        reply = self._request(request, self._tries if short else LONG_TRIES, must=short)
        if reply is None:
            self._most, self._good = max(request.words // 2, LEAST), 0
            return None
        self._grow(request)
        if reply.status & LinkStatus.FRESH:
            raise BoardResetError("the board was reset")
        if reply.status:
            names = " and ".join(flag.name or "" for flag in LinkStatus if flag & reply.status)
            kind = Command(request.command).name
            raise LinkError(f"{kind} of {request.words} words at {request.address:#x}: {names}")
        self.counts.data_bytes += 4 * request.words
        return reply

    def _grow(self, request: Request) -> None:
        """Ask for more at once when the line has been good for a while."""
        self._good += request.words == self._most
        if self._good >= GROW and self._most < MAX_WORDS:
            self._good, self._most = 0, min(2 * self._most, MAX_WORDS)

    def _request(self, request: Request, tries: int, must: bool = True) -> Reply | None:
        frame = request.frame()
        length = len(frame) + request.reply_bytes()
        limit = round(length * self._byte_cycles * 1.5) + ACCESS * (request.words + 8)
        limit += self._transport.latency
        for number in range(tries):
            self.counts.requests += 1
            self.counts.repeated += number > 0
            self._transport.send(frame)
            reply = self._listen(request, limit)
            if reply is not None:
                return reply
            # The bridge has forgotten what it had of the request before the next try begins.
            self._hush()
        if must:
            raise LinkError(f"the board does not answer ({tries} tries)")
        return None

    def _listen(self, request: Request, limit: int) -> Reply | None:
        """The reply, or None when the line has been quiet for the time that it takes."""
        received = b""
        while True:
            came = self._transport.receive(limit)
            if not came:
                return None
            received += came
            reply = find_reply(received, request.sequence)
            if reply is not None:
                words = request.words if request.command == Command.READ else 0
                fresh = reply.status & (LinkStatus.FRESH | LinkStatus.UNKNOWN)
                if len(reply.data) == (0 if fresh else 4 * words):
                    return reply

    def _hush(self) -> None:
        while self._transport.receive(2 * self._silence + self._transport.latency):
            pass
