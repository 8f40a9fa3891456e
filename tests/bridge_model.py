"""The far end of the host link (hw/arch/link.py) and a bus behind it, in Python."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from hw.arch.link import CRC, HEADER, SYNC_REQUEST, Command, LinkStatus, Reply

Access = Callable[[int, int | None], int | None]
"""(byte address, value to write or None to read) -> what is read, 0; None for an error."""


class BridgeModel:
    """Takes bytes, gives bytes; `silence()` is what a pause on the line does."""

    def __init__(self, access: Access):
        self.access = access
        self.fresh, self.last, self.status = True, 0, LinkStatus(0)
        self.received = bytearray()

    def reset(self) -> None:
        """What a reset of the board does."""
        self.__init__(self.access)  # type: ignore[misc]

    def silence(self) -> None:
        """A request that has begun is forgotten."""
        self.received.clear()

    def take(self, data: bytes) -> bytes:
        """Bytes arrive, one behind the other; returns what is replied.

        What arrives before the end of a reply is dropped, so everything behind a request is.
        """
        for byte in data:
            if not self.received and byte != SYNC_REQUEST:
                continue
            self.received.append(byte)
            request = self._whole()
            if request is not None:
                self.received.clear()
                body, check = request[1:-4], request[-4:]
                if check == CRC.pack(zlib.crc32(body)):
                    return self._judge(body)
        return b""

    def _whole(self) -> bytes | None:
        begun = bytes(self.received)
        if len(begun) < 1 + HEADER.size:
            return None
        command, _, words, _ = HEADER.unpack_from(begun, 1)
        length = 5 + HEADER.size + (4 * words if command == Command.WRITE else 0)
        return begun if len(begun) == length else None

    def _judge(self, body: bytes) -> bytes:
        command, sequence, words, address = HEADER.unpack_from(body)
        access = command in (Command.READ, Command.WRITE)
        known = command == Command.HELLO or (access and words > 0)
        data = b""
        if not known or command == Command.HELLO or self.fresh:
            self.status = LinkStatus.FRESH if self.fresh else LinkStatus(0)
            self.status |= LinkStatus(0) if known else LinkStatus.UNKNOWN
            self.fresh &= command != Command.HELLO
        elif command == Command.READ or sequence != self.last:
            self.status = LinkStatus(0)
            values = struct.unpack_from(f"<{words}I", body, HEADER.size) if command == 3 else None
            for k in range(words):
                found = self.access(address + 4 * k, None if values is None else values[k])
                if found is None:
                    self.status |= LinkStatus.BUS_ERROR
                if self.fresh:
                    return b""  # a reset meanwhile
                data += struct.pack("<I", found or 0) if command == Command.READ else b""
        self.last = sequence
        return Reply(sequence, self.status, data).frame()
