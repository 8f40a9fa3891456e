"""Order of a layer's instructions: transfers run ahead of the computation that needs them.

A lowering describes its layer as *steps* in execution order. A step needs *items* (an input tile,
a piece of the weights), each from a *ring*: a memory region of equal slots that is refilled in
first-in first-out order. `run` emits the steps in order and every item's transfers as early as
its slot is free, that is, right after the last step that uses the slot's former occupant. An item
that is still there is not loaded again, so resident weights and streamed weights are the same
code with a different number of slots.

Program order is dispatch order, and a full queue blocks the sequencer: only so many transfers run
ahead as the queue takes. An item that comes in several transfers can be spread over the steps
before its first use, so that it does not hold back the small ones that other steps wait for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeAlias

from compiler.emit.emitter import Emitter
from hw.arch.isa import Array, Load, Store, UnitInstruction
from hw.arch.timing import array_occupancy, transfer_beats

AHEAD_BEATS = 768
"""Beats of transfers that run ahead of instructions that are short themselves. They are fetched
through the same port, last of all, so that long transfers in the queue keep all units waiting."""
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
    not_before: number of a step by item: what an earlier step makes cannot be brought before it.
    free: items depend on no layer before: in the first step, those that run ahead come first, while
        others may have to wait.
    """

    slots: int
    fill: Callable[[Key, int], Sequence[UnitInstruction]]
    spread: bool = False
    not_before: Mapping[Key, int] = dataclasses.field(default_factory=dict)
    free: bool = False


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


@dataclasses.dataclass(frozen=True, slots=True)
class _Arrival:
    """An item's way into its slot: from which step on it may come, and for which it must."""

    ring: str
    key: Key
    slot: int
    earliest: int
    deadline: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Transfer:
    """One instruction of an arrival, the step before which it has to be emitted, `Ring.free`."""

    instruction: UnitInstruction
    due: int
    free: bool


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
                earliest = max(last_use[name][slot] + 1, rings[name].not_before.get(key, 0))
                arrivals.append(_Arrival(name, key, slot, earliest, number))
            last_use[name][slot] = number
            slots[name] = slot
        places.append(slots)
    return arrivals, places


def run(
    emitter: Emitter,
    rings: Mapping[str, Ring],
    steps: Sequence[Step],
    late: bool = False,
    short: bool = False,
) -> None:
    """Emit a layer: its steps in order, transfers ahead of them.

    What a step needs comes before it; beyond that, as many transfers run ahead as the queue of
    the load unit takes without blocking the sequencer.

    Parameters
    ----------
    emitter, rings, steps: see above.
    late: transfers that run ahead come behind a step's computation. A port that is full of them
        starves the instruction fetch, which would keep the first steps waiting.
    short: only `AHEAD_BEATS` run ahead, or what comes while the step before computes. Unless
        `late`, where the port may be the slower one, what has come while the array worked does not
        count.
    """
    arrivals, places = _plan(rings, steps)
    arrivals.sort(key=lambda a: (a.earliest, a.deadline))
    ahead = max(1, emitter.config.queue_depth - 2)
    waiting: list[_Transfer] = []
    early: list[_Early] = []
    position = cycles = 0
    for number, step in enumerate(steps):
        while position < len(arrivals) and arrivals[position].earliest <= number:
            arrival = arrivals[position]
            waiting += _transfers(rings[arrival.ring], arrival)
            position += 1
        waiting.sort(key=lambda t: t.due)
        early = [each for each in early if each.transfer.due > number]
        needed = sum(transfer.due <= number for transfer in waiting)
        count = needed
        limit = max(AHEAD_BEATS, cycles) if short else None
        while count < len(waiting) and _runs_ahead(waiting[count], early, ahead, limit):
            early.append(_Early(waiting[count], _beats(waiting[count])))
            count += 1
        emitted = waiting[:count]
        del waiting[:count]
        if number == 0 and not late:
            emitted.sort(key=lambda t: not t.free)
        for transfer in emitted[: needed if late else count]:
            emitter.emit(transfer.instruction)
        begin = len(emitter.instructions)
        step.body(places[number])
        cycles = _cycles(emitter, begin)
        if short and not late:
            early = _after(early, cycles)
        for transfer in emitted[needed:] if late else ():
            emitter.emit(transfer.instruction)


@dataclasses.dataclass(frozen=True, slots=True)
class _Early:
    """A transfer that runs ahead, and beats of it that are still to come."""

    transfer: _Transfer
    beats: int


def _cycles(emitter: Emitter, begin: int) -> int:
    """Cycles that the array works on the instructions from one on."""
    found = emitter.instructions[begin:]
    return sum(array_occupancy(i, emitter.config) for i in found if isinstance(i, Array))


def _after(early: Sequence[_Early], cycles: int) -> list[_Early]:
    """What is still to come after some cycles, in which a beat each has come."""
    left = []
    for each in early:
        beats = max(each.beats - cycles, 0)
        cycles -= each.beats - beats
        if beats:
            left.append(_Early(each.transfer, beats))
    return left


def _runs_ahead(
    transfer: _Transfer, early: Sequence[_Early], ahead: int, limit: int | None
) -> bool:
    """Whether one more transfer is emitted before it is due; `limit` is in beats."""
    beats = sum(other.beats for other in early) + _beats(transfer)
    return not early or (len(early) < ahead and (limit is None or beats <= limit))


def _beats(transfer: _Transfer) -> int:
    instruction = transfer.instruction
    return transfer_beats(instruction) if isinstance(instruction, Load | Store) else 0


def _transfers(ring: Ring, arrival: _Arrival) -> list[_Transfer]:
    """An arrival's instructions; spread ones are due evenly between its first and last step."""
    instructions = ring.fill(arrival.key, arrival.slot)
    window = arrival.deadline - arrival.earliest if ring.spread else 0
    return [
        _Transfer(
            instruction, arrival.deadline - window + window * n // len(instructions), ring.free
        )
        for n, instruction in enumerate(instructions)
    ]
