"""The host link: frames that read and write words of a board's bus over a serial line.

Little endian throughout; CRC-32 is that of zlib, over everything between the first byte and itself.

    request  SYNC_REQUEST  command  sequence  words  address (4)  data (4 × words, WRITE)  CRC (4)
    reply    SYNC_REPLY    sequence  words  data (4 × words, READ)  status  CRC (4)

Addresses are byte addresses, multiples of four. `words` counts 1 to MAX_WORDS words of consecutive
addresses (0 with HELLO; of a reply: the words that follow). A request with another CRC, or with a
silence inside it, is dropped without a reply, and so is whatever arrives before a reply has ended.
The host then repeats it. A request whose sequence number is that of the one before is such a
repetition: a WRITE does not act again, and answers as it did. Hosts count `sequence` up by one,
modulo 256, for every new request.

After a reset the bridge is *fresh*: it answers READ and WRITE with FRESH and does nothing, until a
HELLO, whose reply says FRESH for the last time. A host that sees FRESH later knows that the board
has lost everything.
"""

from __future__ import annotations

import dataclasses
import enum
import struct
import zlib
from collections.abc import Sequence

SYNC_REQUEST = 0xA5
SYNC_REPLY = 0x5A
MAX_WORDS = 255
HEADER = struct.Struct("<BBBI")
"""Command, sequence, words, address."""
CRC = struct.Struct("<I")
REPLY_BYTES = 8
"""Of a reply without data."""


class Command(enum.IntEnum):
    """What a request asks for."""

    HELLO = 1
    READ = 2
    WRITE = 3


class LinkStatus(enum.IntFlag):
    """Bits of a reply's status."""

    BUS_ERROR = 1
    """A word at least was refused on the bus; the others were read or written."""
    FRESH = 2
    UNKNOWN = 4
    """No such command, or no words: nothing was done."""


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A request; `data` of a WRITE only, `words` as above."""

    command: int
    sequence: int
    words: int = 0
    address: int = 0
    data: bytes = b""

    def frame(self) -> bytes:
        """Bytes on the line."""
        head = HEADER.pack(self.command, self.sequence, self.words, self.address)
        body = head + self.data
        return bytes([SYNC_REQUEST]) + body + CRC.pack(zlib.crc32(body))

    def reply_bytes(self) -> int:
        """Length of the reply."""
        return REPLY_BYTES + (4 * self.words if self.command == Command.READ else 0)


def read_of(sequence: int, address: int, words: int) -> Request:
    """A request that reads."""
    return Request(Command.READ, sequence, words, address)


def write_of(sequence: int, address: int, values: Sequence[int]) -> Request:
    """A request that writes."""
    data = struct.pack(f"<{len(values)}I", *values)
    return Request(Command.WRITE, sequence, len(values), address, data)


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """A reply."""

    sequence: int
    status: LinkStatus
    data: bytes = b""

    def frame(self) -> bytes:
        """Bytes on the line."""
        body = bytes([self.sequence, len(self.data) // 4]) + self.data + bytes([self.status])
        return bytes([SYNC_REPLY]) + body + CRC.pack(zlib.crc32(body))


def find_reply(received: bytes, sequence: int) -> Reply | None:
    """The first whole and right reply to a request in what was received; None if there is none."""
    start = received.find(SYNC_REPLY)
    while start >= 0 and start + REPLY_BYTES <= len(received):
        words = received[start + 2]
        end = start + REPLY_BYTES + 4 * words
        body, check = received[start + 1 : end - 4], received[end - 4 : end]
        whole = end <= len(received) and check == CRC.pack(zlib.crc32(body))
        if whole and body[0] == sequence:
            return Reply(sequence, LinkStatus(body[-1] & 7), body[2:-1])
        start = received.find(SYNC_REPLY, start + 1)
    return None
