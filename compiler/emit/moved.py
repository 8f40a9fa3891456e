"""What earlier layers have stored and could have written to where a layer wants it instead."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from compiler.emit.touches import Rows, Touch, Touches, Transfer, written
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Drain, Elementwise, Fold, Instruction, Permute, Reduce
from hw.arch.walk import Access


@dataclasses.dataclass(frozen=True, slots=True)
class Move:
    """Results that could lie where a layer's LOADs want them.

    Attributes
    ----------
    stores, makers: STOREs, and indices of the instructions that write what they read, each with the
        rows by which it moves on, before the layer itself moves.
    spans: least and greatest row that each of these has then, before the layer itself moves: all
        of them move on together.
    loads: what would be on chip.
    """

    stores: Sequence[tuple[Transfer, int]]
    makers: Sequence[tuple[int, int]]
    spans: Sequence[tuple[int, int]]
    loads: Sequence[Transfer]

    @property
    def first(self) -> int:
        """Index of the first instruction that writes any of it."""
        return min(index for index, _ in self.makers)

    @property
    def rows(self) -> Rows:
        """Where the layer wants it."""
        return np.concatenate([load.rows for load in self.loads])


def moves(
    loads: Iterable[Transfer],
    stores: Iterable[Transfer],
    own: Sequence[Sequence[Access]],
    code: Sequence[Instruction],
    touches: Touches,
    config: AcceleratorConfig,
) -> list[Move]:
    """Whatever could be moved, as far as its own layer and this one say.

    Parameters
    ----------
    loads: of the layer, in order; numbered within it. own: what each of its instructions touches.
    stores: the latest ones of earlier layers, whose bytes nothing else was stored to since.
    code, touches: the program before the layer.
    """
    finder = _Finder(code, touches, config)
    found = [finder.move(*group) for group in _groups(loads, stores) if _alone(group[0], own)]
    return [move for move in found if move is not None]


Group = tuple[list[Transfer], list[Transfer]]


def _groups(loads: Iterable[Transfer], stores: Iterable[Transfer]) -> list[Group]:
    """LOADs of nothing but what STOREs have stored, with these; those that share one, together."""
    groups: list[tuple[list[Transfer], dict[int, Transfer]]] = []
    reaches = [(store, *store.reach) for store in stores]
    for load in loads:
        low, high = load.reach
        met = [store for store, first, last in reaches if first <= high and low <= last]
        if sum(len(store.rows) for store in met) < len(load.rows):
            continue
        left = load.addresses
        # The first one says no of nearly all.
        if not any(store.reaches(left[:1]) for store in met):
            continue
        for store in met:
            left = left[~store.reaches(left)]
        if len(left):
            continue
        members, sources = [load], {store.index: store for store in met}
        for group in [group for group in groups if group[1].keys() & sources.keys()]:
            groups.remove(group)
            members = [*group[0], *members]
            sources |= group[1]
        groups.append((members, sources))
    return [(members, [*sources.values()]) for members, sources in groups]


def _alone(loads: Sequence[Transfer], own: Sequence[Sequence[Access]]) -> bool:
    """Whether nothing in the layer touches rows before they are loaded."""
    numbers = {load.index for load in loads}
    for load in loads:
        low, high = load.span
        for number in range(load.index):
            if number not in numbers and any(a.low <= high and low <= a.high for a in own[number]):
                return False
    return True


class _Finder:
    """Looks for the instructions that made what was stored."""

    def __init__(self, code: Sequence[Instruction], touches: Touches, config: AcceleratorConfig):
        self._code, self._touches, self._config = code, touches, config

    def move(self, loads: list[Transfer], stores: list[Transfer]) -> Move | None:
        """A move, if the rows of every STORE go one way and have makers of their own."""
        addresses = np.concatenate([load.addresses for load in loads])
        rows = np.concatenate([load.rows for load in loads])
        order = np.argsort(addresses, kind="stable")
        addresses, rows = addresses[order], rows[order]
        if (addresses[1:] == addresses[:-1]).any() or len(set(rows.tolist())) < len(rows):
            return None
        moved: list[tuple[Transfer, int]] = []
        makers: list[tuple[int, int]] = []
        spans: list[tuple[int, int]] = []
        for store in stores:
            place = np.searchsorted(addresses, store.addresses)
            if place.max() == len(addresses) or (addresses[place] != store.addresses).any():
                return None
            by = rows[place] - store.rows
            if (by != by[0]).any():
                return None
            found = self._makers(store)
            if found is None:
                return None
            moved.append((store, int(by[0])))
            makers += [(index, int(by[0])) for index in found]
            together = [store.rows, *(written(self._code[n], self._config) for n in found)]
            spans += [(int((rows + by[0]).min()), int((rows + by[0]).max())) for rows in together]
        return Move(moved, makers, spans, loads)

    def _makers(self, store: Transfer) -> list[int] | None:
        """Instructions that write what a STORE reads and nothing else.

        None if somebody else reads it, too, or if it was not written by DRAIN or VECTOR alone.
        """
        low, high = store.span
        around = self._touches.around(low, high)
        place = bisect.bisect_left(around, store.index, key=lambda touch: touch.number)
        wanted = np.zeros(high - low + 1, bool)
        wanted[store.rows - low] = True
        missing, makers = wanted.copy(), list[int]()
        since = self._touches.since(low, high)
        for touch in reversed(around[:place]):
            if touch.number < since:
                return None
            part = slice(max(touch.low, low) - low, min(touch.high, high) - low + 1)
            if not wanted[part].any():
                continue
            if not touch.write:
                return None
            made = self._written(touch.number, low, len(wanted))
            if made is None or not missing[made].all():
                return None
            missing[made] = False
            makers.append(touch.number)
            if not missing.any():
                break
        if missing.any() or self._read_behind(store, around[place:]):
            return None
        return makers

    def _written(self, index: int, low: int, size: int) -> Rows | None:
        """Rows behind the first that an instruction writes; None if there are others."""
        instruction = self._code[index]
        if not isinstance(instruction, Drain | Elementwise | Reduce | Fold | Permute):
            return None
        made = written(instruction, self._config) - low
        return made if len(made) and made.min() >= 0 and made.max() < size else None

    def _read_behind(self, store: Transfer, later: Iterable[Touch]) -> bool:
        """Whether somebody else reads what a STORE reads, before it is overwritten."""
        low, high = store.span
        alive = np.zeros(high - low + 1, bool)
        alive[store.rows - low] = True
        for touch in later:
            if touch.number == store.index:
                continue
            if not touch.write:
                if alive[max(touch.low, low) - low : min(touch.high, high) - low + 1].any():
                    return True
                continue
            made = written(self._code[touch.number], self._config) - low
            alive[made[(made >= 0) & (made < len(alive))]] = False
            if not alive.any():
                return False
        return False
