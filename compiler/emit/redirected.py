"""Reads that find what a layer would load where it lies on chip already."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from compiler.emit.touches import Rows, Transfer, fields
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ADDRESS_BITS, UnitInstruction
from hw.arch.walk import Access

NOBODY, OTHER = -1, -2
"""Who wrote a row: nobody in this layer; somebody who is no LOAD."""
Read = tuple[int, int]
"""Number of an instruction, and of one of its accesses."""


def redirected(
    new: Sequence[UnitInstruction],
    own: Sequence[Sequence[Access]],
    loads: Mapping[int, Transfer],
    contents: Rows,
    config: AcceleratorConfig,
) -> tuple[list[UnitInstruction | None], list[list[Access]]]:
    """A layer whose instructions read where things lie; LOADs that nobody needs then are None.

    Parameters
    ----------
    new, own: its instructions, and the rows that they touch.
    loads: LOADs into the scratchpad, by number.
    contents: DRAM address of what every row holds before the layer.
    """
    finder = _Finder(own, loads, contents, config)
    finder.settle()
    made: list[UnitInstruction | None] = [*new]
    accesses = [[*each] for each in own]
    for (number, which), by in finder.moved().items():
        access = accesses[number][which]
        instruction = made[number]
        assert instruction is not None
        name = fields(instruction, own[number], config)[which]
        place = (getattr(instruction, name) + by) % (1 << ADDRESS_BITS)
        made[number] = dataclasses.replace(instruction, **{name: place})
        accesses[number][which] = access.moved(by)
    for number in finder.spots:
        made[number] = None
    return made, accesses


def elsewhere(load: Transfer, contents: Rows) -> int | None:
    """How many rows further all that is loaded lies on chip; None if it does nowhere."""
    for row in np.flatnonzero(contents == load.addresses[0]).tolist():
        by = int(row) - int(load.rows[0])
        rows = load.rows + by
        if rows.min() < 0 or rows.max() >= len(contents):
            continue
        if (contents[rows] == load.addresses).all():
            return by
    return None


class _Finder:
    """Which LOADs can be left out.

    Members
    -------
    spots: of every LOAD that can, how many rows further its bytes lie.
    """

    def __init__(
        self,
        own: Sequence[Sequence[Access]],
        loads: Mapping[int, Transfer],
        contents: Rows,
        config: AcceleratorConfig,
    ):
        self._own, self._loads, self._contents = own, loads, contents
        self._bank = config.memory.activation_bank_rows
        self.spots: dict[int, int] = {}
        for number, load in loads.items():
            by = elsewhere(load, contents)
            if by is not None:
                self.spots[number] = by
        self._reads = self._origins() if self.spots else {}

    def _origins(self) -> dict[Read, frozenset[int]]:
        """By read access: whose rows they are."""
        writer = np.full(len(self._contents), NOBODY, np.int64)
        found = {}
        for number, accesses in enumerate(self._own):
            for place, access in enumerate(accesses):
                if not access.write:
                    some = writer[access.low : access.high + 1]
                    changes = some[1:][some[1:] != some[:-1]]
                    found[number, place] = frozenset([int(some[0]), *changes.tolist()])
            for access in accesses:
                if access.write and number not in self._loads:
                    writer[access.low : access.high + 1] = OTHER
            if number in self._loads:
                writer[self._loads[number].rows] = number
        return found

    def settle(self) -> None:
        """Keep those LOADs without which every read can be served from one place."""
        while True:
            kept = {*self._mixed()} & self.spots.keys()
            if not kept:  # now each read has one distance
                kept = {*self._overwritten(), *self._on_one_port()} & self.spots.keys()
            if not kept:
                return
            for number in kept:
                del self.spots[number]

    def moved(self) -> dict[Read, int]:
        """By read access that goes elsewhere: how many rows further."""
        return {
            read: self.spots[next(iter(origins))]
            for read, origins in self._reads.items()
            if origins & self.spots.keys()
        }

    def _mixed(self) -> Iterable[int]:
        """LOADs of which something is read together with what lies at another distance."""
        for origins in self._reads.values():
            if len({self.spots.get(origin) for origin in origins}) > 1:
                yield from origins

    def _overwritten(self) -> Iterable[int]:
        """LOADs whose bytes on chip are overwritten before they are read for the last time."""
        last: dict[int, int] = {}
        for (number, _), origins in self._reads.items():
            for origin in origins:
                last[origin] = number
        for number, by in self.spots.items():
            low, high = self._loads[number].span
            for other in self._until(last.get(number, -1)):
                if other in self.spots:
                    continue
                if any(
                    a.write and a.low <= high + by and low + by <= a.high for a in self._own[other]
                ):
                    yield number
                    break

    def _until(self, last: int) -> range:
        """Who may overwrite what one reads for the last time: he, too, writes while he reads."""
        return range(last + 1)

    def _on_one_port(self) -> Iterable[int]:
        """LOADs because of which an instruction would read two rows of a bank at a time."""
        moved = self.moved()
        for number in {number for number, _ in moved}:
            reads = [
                (access, moved.get((number, place), 0), place)
                for place, access in enumerate(self._own[number])
                if not access.write
            ]
            if len(reads) < 2:
                continue
            banks = [
                {*range((a.low + by) // self._bank, (a.high + by) // self._bank + 1)}
                for a, by, _ in reads
            ]
            if banks[0] & banks[1]:
                for _, _, place in reads:
                    yield from self._reads[number, place]
