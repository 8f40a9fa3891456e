"""Places: DRAM addresses of tensors and constants, banks and slots of the on-chip memories."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from hw.arch.layout import ceil_div

PAGE = 4096
"""Tensors and constants start on a page, so that bursts of whole runs are not cut."""


def align(address: int, size: int = PAGE) -> int:
    """Next multiple of `size`."""
    return ceil_div(address, size) * size


class ConstantPool:
    """Constants of a program in DRAM: weights, parameters, tables; equal bytes are kept once."""

    def __init__(self, base: int):
        self._end = base
        self._addresses: dict[bytes, int] = {}
        self._placed: list[tuple[int, bytes]] = []

    def put(self, address: int, data: bytes) -> None:
        """Bytes at a place of their own, outside the pool."""
        self._placed.append((address, data))

    def add(self, data: bytes) -> int:
        """DRAM address of the bytes."""
        address = self._addresses.get(data)
        if address is None:
            address = self._end
            self._addresses[data] = address
            self._end = align(address + len(data), 64)
        return address

    @property
    def end(self) -> int:
        """First free address."""
        return self._end

    def image(self) -> tuple[tuple[int, bytes], ...]:
        """(address, bytes) of every constant."""
        pooled = ((address, data) for data, address in self._addresses.items())
        return (*pooled, *self._placed)


class RingPlacer:
    """Hands out places of a small memory, or of a part of it from `first` on, round robin.

    Members
    -------
    meets: whether the latest place meets the one before it.
    """

    def __init__(self, capacity: int, first: int = 0):
        self.capacity = capacity
        self.meets = False
        self._first = first
        self._next = 0
        self._begin = 0

    def take(self, size: int) -> int:
        """First unit of a place of `size` units."""
        assert size <= self.capacity, (size, self.capacity)
        place, end = self._next, self._next
        if place + size > self.capacity:
            place = 0
        self.meets = place < end and self._begin < place + size
        self._begin = place
        self._next = place + size
        return self._first + place


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """Memory that something needs for a while.

    Attributes
    ----------
    key: what it is for.
    size: in units of the memory.
    first, last: steps in which it is needed, both included.
    """

    key: tuple[str, ...]
    size: int
    first: int
    last: int

    def meets(self, other: Piece) -> bool:
        """Whether both are needed in some step."""
        return self.first <= other.last and other.first <= self.last


def best_fit(pieces: Iterable[Piece], unit: int = 1) -> tuple[dict[tuple[str, ...], int], int]:
    """Places so that pieces which are needed at once do not overlap; and the end of the last one.

    The largest piece first, each into the smallest gap, between those that it meets, in which it
    fits; else behind them.

    Parameters
    ----------
    unit: places are multiples of it.
    """
    placed: list[tuple[int, int, Piece]] = []
    for piece in sorted(pieces, key=lambda p: (-p.size, p.first, p.key)):
        size = align(piece.size, unit)
        chosen, room, free = None, 0, 0
        for start, end, other in sorted(placed, key=lambda entry: entry[:2]):
            if not other.meets(piece):
                continue
            gap = start - free
            if gap >= size and (chosen is None or gap < room):
                chosen, room = free, gap
            free = max(free, end)
        start = free if chosen is None else chosen
        placed.append((start, start + size, piece))
    return {p.key: start for start, _, p in placed}, max((end for _, end, _ in placed), default=0)
