"""In which banks of the scratchpad a layer lies.

A layer is emitted in some banks. Those that one of its instructions touches at a time are a
*group*, which stays as it is; groups may lie anywhere, without meeting.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from compiler.emit.moved import Move
from compiler.emit.redirected import elsewhere
from compiler.emit.touches import Rows, Touches, Transfer
from hw.arch.config import AcceleratorConfig
from hw.arch.walk import Access

Shifts: TypeAlias = npt.NDArray[np.int64]
"""By bank in which a layer was emitted: how many rows its rows move on."""
MOST = 2000
"""Steps of the search for places."""


class Cost(NamedTuple):
    """What is bad about places of groups, what matters most first.

    Attributes
    ----------
    loaded: rows that this layer or a later one has to load, less those that it need not.
    early: index of the last instruction that touched the banks, where the layer loads to them: its
        LOADs come while the layer before still works. Summed up.
    met: banks that hold what the layer, or a later one, reads there.
    latest: as `early`, of whatever the layer does with them.
    """

    loaded: int
    early: int
    met: int
    latest: int

    def plus(self, other: Cost) -> Cost:
        """Both together."""
        return Cost(*(a + b for a, b in zip(self, other, strict=True)))


NOTHING = Cost(0, 0, 0, 0)


def groups(
    own: Iterable[Sequence[Access]], bank: int, spans: Iterable[tuple[int, int]] = ()
) -> list[range]:
    """Groups of banks that some instructions touch, each with what it touches at a time.

    Parameters
    ----------
    own: what each instruction touches.
    bank: rows.
    spans: least and greatest row of what else stays together.
    """
    together = [(a.low, a.high) for each in own for a in each]
    found: list[range] = []
    for first, end in sorted({(a // bank, b // bank + 1) for a, b in (*together, *spans)}):
        if found and first < found[-1].stop:
            found[-1] = range(found[-1].start, max(found[-1].stop, end))
        else:
            found.append(range(first, end))
    return found


def laid(sizes: Sequence[int], costs: Sequence[Mapping[int, Cost]]) -> list[int] | None:
    """First banks of some groups so that none meet, the cheapest way that is found.

    Parameters
    ----------
    sizes: banks of each.
    costs: of each, by its first bank.
    """
    least = [min(each.values()) for each in costs]
    rest = [*itertools.accumulate(reversed(least), Cost.plus, initial=NOTHING)][::-1]
    orders = [sorted(each, key=each.__getitem__) for each in costs]
    found: tuple[Cost, list[int]] | None = None
    waiting: list[tuple[Cost, list[int], frozenset[int]]] = [(NOTHING, [], frozenset())]
    for _ in range(MOST):
        if not waiting:
            break
        spent, places, taken = waiting.pop()
        number = len(places)
        if found is not None and spent.plus(rest[number]) >= found[0]:
            continue
        if number == len(sizes):
            found = spent, places
            continue
        for first in reversed(orders[number]):  # the cheapest one is taken up next
            mine = range(first, first + sizes[number])
            if taken.isdisjoint(mine):
                cost = spent.plus(costs[number][first])
                waiting.append((cost, [*places, first], taken.union(mine)))
    return None if found is None else found[1]


@dataclasses.dataclass(frozen=True, eq=False)
class Placing:
    """What the places of a layer's groups depend on.

    Attributes
    ----------
    config: the accelerator.
    contents: DRAM address of what every row holds before the layer.
    touches: of the program before it.
    own: rows that its instructions touch. loads: LOADs into the scratchpad, by number.
    found: what earlier layers could make where it wants it.
    needed: by row, whether later layers load what it holds.
    """

    config: AcceleratorConfig
    contents: Rows
    touches: Touches
    own: Sequence[Sequence[Access]]
    loads: Mapping[int, Transfer]
    found: Sequence[Move]
    needed: npt.NDArray[np.bool_]

    @property
    def bank(self) -> int:
        """Rows."""
        return self.config.memory.activation_bank_rows

    def shifts(self) -> Shifts:
        """How far each group moves on; nowhere where rows beyond the last one are touched."""
        count = self.config.memory.activation_banks
        shifts: Shifts = np.zeros(count, np.int64)
        spans = [span for move in self.found for span in move.spans]
        all_groups = groups(self.own, self.bank, spans)
        if not all_groups or all_groups[-1].stop > count:
            return shifts
        costs = [
            {first: self._cost(group, first) for first in range(count - len(group) + 1)}
            for group in all_groups
        ]
        places = laid([len(group) for group in all_groups], costs)
        for group, first in zip(all_groups, places or (), strict=False):
            shifts[group.start : group.stop] = (first - group.start) * self.bank
        return shifts

    @functools.cached_property
    def _spots(self) -> dict[int, Rows]:
        """Where on chip lies what is loaded, by LOAD."""
        far = {number: elsewhere(load, self.contents) for number, load in self.loads.items()}
        return {
            number: self.loads[number].rows + by for number, by in far.items() if by is not None
        }

    @functools.cached_property
    def _written(self) -> npt.NDArray[np.bool_]:
        """By row: whether the layer writes it, apart from LOADs of what lies on chip."""
        written = np.zeros(len(self.contents), bool)
        for number, accesses in enumerate(self.own):
            for access in accesses if number not in self._spots else ():
                if access.write:
                    written[access.low : access.high + 1] = True
        return written

    def _cost(self, group: range, first: int) -> Cost:
        """Of a group from a bank on."""
        bank, by = self.bank, (first - group.start) * self.bank
        old = slice(group.start * bank, group.stop * bank)
        new = slice(first * bank, (first + len(group)) * bank)
        loaded, strange = 0, set[int]()
        over = self._written[old]
        moved = self._moved(by)
        for number, load in self.loads.items():
            inside = old.start <= load.rows[0] < old.stop
            spot = self._spots.get(number)
            if spot is not None:
                # The places of one that is read elsewhere are not overwritten, or it is loaded.
                here = (spot >= new.start) & (spot < new.stop)
                if over[spot[here] - new.start].any():
                    loaded += len(load.rows)
                if not inside:
                    strange.update((spot[here] // bank).tolist())
            elif inside and number not in moved and not self._held(load, by):
                loaded += len(load.rows)
        latest = sum(self.touches.latest(first + n) for n in range(len(group)))
        if not over.any():  # all that it reads may lie elsewhere, or is made there
            return Cost(loaded, 0, 0, latest if moved else 0)
        needed = self.needed[new]
        loaded += int(np.count_nonzero(over & needed))
        met = len(strange | {*(np.flatnonzero(needed) // bank + first).tolist()})
        early = any(old.start <= load.rows[0] < old.stop for load in self.loads.values())
        return Cost(loaded, latest if early else 0, met, latest)

    def _moved(self, by: int) -> set[int]:
        """LOADs of what would be made where they want it, if their rows moved on so far."""
        return {
            load.index
            for move in self.found
            for load in move.loads
            if all(
                self.touches.latest(place) < move.first
                for place in {*((load.rows + by) // self.bank).tolist()}
                if place < self.config.memory.activation_banks
            )
        }

    def _held(self, load: Transfer, by: int) -> bool:
        """Whether the rows of a LOAD, moved on, hold what it would bring."""
        return bool((self.contents[load.rows + by] == load.addresses).all())
