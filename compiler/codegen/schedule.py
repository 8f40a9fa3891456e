"""Order of a layer's instructions: transfers run ahead of the computation that needs them.

A lowering describes its layer as *steps* in execution order. A step needs *items* (an input tile,
a piece of the weights), each from a *ring*: a memory region of equal slots that is refilled in
first-in first-out order. `run` emits the steps in order and every item's transfers as early as
its slot is free, that is, right after the last step that uses the slot's former occupant. An item
that is still there is not loaded again, so resident weights and streamed weights are the same
code with a different number of slots.

Program order is dispatch order, and a full queue blocks the sequencer; an item that comes in
several transfers can therefore be spread over the steps before its first use, so that it does
not hold back the small transfers that other steps are waiting for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeAlias

from compiler.codegen.emitter import Emitter
from hw.arch.isa import UnitInstruction

Key: TypeAlias = Hashable
Slots: TypeAlias = Mapping[str, int]
"""The slot of every item that a step needs, by ring."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ring:
    """Slots that items are brought into.

    Attributes
    ----------
    slots: how many items are resident at a time.
    fill: the instructions that bring an item (key) into a slot.
    spread: distribute them over the steps before the first use instead of all at once.
    """

    slots: int
    fill: Callable[[Key, int], Sequence[UnitInstruction]]
    spread: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """A piece of computation.

    Attributes
    ----------
    needs: key of the item needed from each ring.
    body: emits the computation; is told the slots.
    """

    needs: Mapping[str, Key]
    body: Callable[[Slots], None]


@dataclasses.dataclass(slots=True)
class _Arrival:
    """An item's way into its slot: instructions still to emit, and between which steps."""

    ring: str
    key: Key
    slot: int
    earliest: int
    deadline: int
    pending: list[UnitInstruction] | None = None
    total: int = 0


def _plan(rings: Mapping[str, Ring], steps: Sequence[Step]) -> tuple[list[_Arrival], list[Slots]]:
    """Arrivals in the order of their first use, and every step's slots."""
    resident: dict[str, dict[Key, int]] = {name: {} for name in rings}
    occupant: dict[str, list[Key]] = {name: [None] * ring.slots for name, ring in rings.items()}
    last_use: dict[str, list[int]] = {name: [-1] * ring.slots for name, ring in rings.items()}
    turn = dict.fromkeys(rings, 0)
    arrivals = []
    places: list[Slots] = []
    for number, step in enumerate(steps):
        slots = {}
        for name, key in step.needs.items():
            slot = resident[name].get(key)
            if slot is None:
                slot = turn[name]
                turn[name] = (slot + 1) % rings[name].slots
                resident[name].pop(occupant[name][slot], None)
                resident[name][key] = slot
                occupant[name][slot] = key
                arrivals.append(_Arrival(name, key, slot, last_use[name][slot] + 1, number))
            last_use[name][slot] = number
            slots[name] = slot
        places.append(slots)
    return arrivals, places


def run(emitter: Emitter, rings: Mapping[str, Ring], steps: Sequence[Step]) -> None:
    """Emit a layer: its steps in order, transfers ahead of them."""
    arrivals, places = _plan(rings, steps)
    waiting: list[_Arrival] = []
    upcoming = sorted(arrivals, key=lambda a: (a.earliest, a.deadline))
    position = 0
    for number, step in enumerate(steps):
        while position < len(upcoming) and upcoming[position].earliest <= number:
            waiting.append(upcoming[position])
            position += 1
        waiting.sort(key=lambda a: a.deadline)
        for arrival in waiting:
            _advance(emitter, rings[arrival.ring], arrival, number)
        waiting = [a for a in waiting if a.pending is None or a.pending]
        step.body(places[number])


def _advance(emitter: Emitter, ring: Ring, arrival: _Arrival, number: int) -> None:
    """Emit what is due of an arrival before step `number`."""
    if arrival.pending is None:
        arrival.pending = list(ring.fill(arrival.key, arrival.slot))
        arrival.total = len(arrival.pending)
    keep = 0
    if ring.spread and number < arrival.deadline:
        window = arrival.deadline - arrival.earliest + 1
        elapsed = number - arrival.earliest + 1
        keep = arrival.total - arrival.total * elapsed // window
    while len(arrival.pending) > keep:
        emitter.emit(arrival.pending.pop(0))
