"""Places: DRAM addresses of tensors and constants, banks and slots of the on-chip memories."""

from __future__ import annotations

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
    """Hands out places of a small memory, or of a part of it from `first` on, round robin."""

    def __init__(self, capacity: int, first: int = 0):
        self.capacity = capacity
        self._first = first
        self._next = 0

    def take(self, size: int) -> int:
        """First unit of a place of `size` units."""
        assert size <= self.capacity, (size, self.capacity)
        if self._next + size > self.capacity:
            self._next = 0
        place = self._next
        self._next += size
        return self._first + place
