"""What may be in flight at a place of a program, on whichever path it was reached.

Waits are distances: "the d-th latest instruction that unit u was given before me". So a place that
is reached on several paths starts from the union of their uses, each at its least distance: on
every path, units complete in order, and what was used further back is over by then as well. Numbers
of instructions count from the oldest one that a wait may name on every path: at most `MAX_WAIT` of
each unit, and no more than the path has dispatched that has dispatched fewest, for a wait for what
was never dispatched is an error (BAD_WAIT).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from compiler.emit.combs import Comb
from hw.arch.isa import MAX_WAIT, Unit
from hw.arch.walk import Memory

Clock: TypeAlias = tuple[int, ...]
Use: TypeAlias = tuple[int, int, int, Comb | None]
"""Number of the instruction in its unit (from 1), low, high; of DRAM, what of that."""
Port: TypeAlias = tuple[Memory, int, bool]
"""Memory, bank, and whether it is written."""

UNITS = len(Unit)
ZERO: Clock = (0,) * UNITS
ANYWHERE = (0, (1 << 32) - 1)
"""All of any memory, in bytes of DRAM or in rows."""


@dataclasses.dataclass(frozen=True)
class Flight:
    """What an instruction at this place may have to wait for.

    Attributes
    ----------
    clocks: by unit, of its instructions so far: how many of each unit had certainly completed when
        it issued.
    floor: how many of each unit have certainly completed, whoever asks.
    uses: by memory and direction, of each unit, in order of dispatch.
    ports: by port, of each unit, its last instruction there.
    unnamed: units that may be in flight although some path has given them nothing: no wait can name
        them, and only a FENCE can stand here.
    """

    clocks: tuple[tuple[Clock, ...], ...] = ((),) * UNITS
    floor: Clock = ZERO
    uses: Mapping[tuple[Memory, bool], tuple[tuple[Use, ...], ...]] = dataclasses.field(
        default_factory=dict
    )
    ports: Mapping[Port, Clock] = dataclasses.field(default_factory=dict)
    unnamed: frozenset[int] = frozenset()

    @property
    def dispatched(self) -> Clock:
        """Instructions that each unit was given at least, as far as a wait can tell them apart."""
        return tuple(len(clocks) for clocks in self.clocks)

    def recent(self) -> Flight:
        """The same, by the last `MAX_WAIT` instructions of each unit.

        What was used further back may be anything, and is over with the oldest of these.
        """
        counts = [min(count, MAX_WAIT) for count in self.dispatched]
        old = [all_ - kept for all_, kept in zip(self.dispatched, counts, strict=True)]
        uses = {
            key: tuple(self._recent(unit, own, old[unit]) for unit, own in enumerate(each))
            for key, each in self.uses.items()
        }
        return dataclasses.replace(self, uses=uses)._last(counts)

    def _recent(self, unit: int, uses: Sequence[Use], old: int) -> tuple[Use, ...]:
        kept = tuple(use for use in uses if use[0] > old)
        if any(self.floor[unit] < use[0] <= old for use in uses):
            return ((old, *ANYWHERE, None), *kept)
        return kept

    def _last(self, counts: Sequence[int]) -> Flight:
        """The same, by the last so many instructions of each unit."""
        gone = [all_ - kept for all_, kept in zip(self.dispatched, counts, strict=True)]
        uses = {
            key: tuple(
                tuple(
                    (max(number - gone[unit], 1), low, high, comb)
                    for number, low, high, comb in own
                    if number > self.floor[unit] and counts[unit]
                )
                for unit, own in enumerate(each)
            )
            for key, each in self.uses.items()
        }
        unnamed = {
            unit
            for unit, count in enumerate(counts)
            for each in self.uses.values()
            if not count and each[unit] and each[unit][-1][0] > self.floor[unit]
        }
        ports = {
            port: tuple(
                max(number - gone[unit], 1) if number > self.floor[unit] and counts[unit] else 0
                for unit, number in enumerate(numbers)
            )
            for port, numbers in self.ports.items()
        }
        return Flight(
            tuple(
                tuple(_less(clock, gone) for clock in own[gone[unit] :])
                for unit, own in enumerate(self.clocks)
            ),
            _less(self.floor, gone),
            {key: each for key, each in uses.items() if any(each)},
            {port: numbers for port, numbers in ports.items() if any(numbers)},
            self.unnamed | unnamed,
        )

    def joined(self, other: Flight) -> Flight:
        """What may be in flight where two paths meet."""
        counts = [min(a, b) for a, b in zip(self.dispatched, other.dispatched, strict=True)]
        ends = (self._last(counts), other._last(counts))
        uses = {key for end in ends for key in end.uses}
        ports = {port for end in ends for port in end.ports}
        nothing: tuple[tuple[Use, ...], ...] = ((),) * UNITS
        return Flight(
            tuple(
                tuple(_least(pair) for pair in zip(*own, strict=True))
                for own in zip(*(end.clocks for end in ends), strict=True)
            ),
            _least([end.floor for end in ends]),
            {
                key: tuple(
                    _union(own)
                    for own in zip(*(end.uses.get(key, nothing) for end in ends), strict=True)
                )
                for key in sorted(uses, key=str)
            },
            {
                port: tuple(
                    max(pair)
                    for pair in zip(*(end.ports.get(port, ZERO) for end in ends), strict=True)
                )
                for port in sorted(ports, key=str)
            },
            ends[0].unnamed | ends[1].unnamed,
        )


def _less(clock: Clock, gone: Sequence[int]) -> Clock:
    return tuple(max(count - less, 0) for count, less in zip(clock, gone, strict=True))


def _least(clocks: Iterable[Clock]) -> Clock:
    return tuple(map(min, zip(*clocks, strict=True)))


def _union(paths: Iterable[Sequence[Use]]) -> tuple[Use, ...]:
    """Uses of several paths in order; what several of them use, at the least distance."""
    latest: dict[tuple[object, ...], Use] = {}
    for use in sorted((use for path in paths for use in path), key=lambda use: use[:3]):
        _, low, high, comb = use
        latest[low, high, None if comb is None else tuple(sorted(comb.spans.items()))] = use
    return tuple(sorted(latest.values(), key=lambda use: use[:3]))
