"""Instructions of small layers between those of the long one before them.

A classifier multiplies one vector by many weights: it takes as long as they take to come, while the
array waits. The layer before it, which makes that vector, has the array at work and leaves the port
idle. As soon as the first of its results are averaged, the classifier's products with them can be
summed up, between two instructions of the layer that still makes the others.

Here the *guests*, instructions of the later layers, are put between those of the *host* about when
they can begin, by the host's own timeline (hw/timeline) and a coarse clock of what comes in. None
passes one whose rows it meets. Waits are filled in behind this, and whoever asks for it times both
orders. docs/decisions/0045-classifiers-are-woven-in.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from compiler.emit.ahead import LATENCY, RATE
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import INSTRUCTION_BYTES, Array, Drain, Load, Store, Unit, UnitInstruction
from hw.arch.timing import (
    array_duration,
    array_occupancy,
    drain_duration,
    transfer_beats,
    vector_duration,
)
from hw.arch.walk import Access, Memory, accesses

LEAST_RATE = 0.1
"""Beats a cycle that a busy host leaves, at least: the clock has to go on."""
Numbers: TypeAlias = npt.NDArray[np.int64]
_CODES = {memory: number for number, memory in enumerate(Memory)}


@dataclasses.dataclass(frozen=True, slots=True)
class Times:
    """When each instruction of a host is issued and done if nothing is woven in, in cycles."""

    issue: Sequence[int]
    done: Sequence[int]


class _Uses:
    """What instructions touch, asked which of them another one meets."""

    def __init__(self, touched: Sequence[Sequence[Access]]):
        flat = [
            (_CODES[a.memory], a.low, a.high, a.write, number)
            for number, each in enumerate(touched)
            for a in each
        ]
        table = np.array(flat, np.int64).reshape(-1, 5).T
        self._memory, self._low, self._high, self._write, self._owner = table

    def met(self, own: Sequence[Access], before: int) -> Numbers:
        """Numbers, below one, of instructions that an instruction must not pass."""
        found = np.zeros(len(self._owner), bool)
        for access in own:
            meets = (self._memory == _CODES[access.memory]) & (self._low <= access.high)
            meets &= self._high >= access.low
            if not access.write:
                meets &= self._write > 0
            found |= meets
        owners: Numbers = np.unique(self._owner[found & (self._owner < before)])
        return owners


def woven(
    host: Sequence[UnitInstruction],
    guests: Sequence[UnitInstruction],
    times: Times,
    config: AcceleratorConfig,
) -> list[int]:
    """An order of both: numbers, those of guests behind those of the host.

    Parameters
    ----------
    host, guests: instructions of one straight piece of program, guests behind the host; no register
        moves them.
    times: of the host.
    config: the accelerator.
    """
    return _Loom(host, guests, times, config).order()


class _Loom:
    """See `woven`."""

    def __init__(
        self,
        host: Sequence[UnitInstruction],
        guests: Sequence[UnitInstruction],
        times: Times,
        config: AcceleratorConfig,
    ):
        self._host, self._guests, self._times, self._config = host, guests, times, config
        mine = [accesses(each, config) for each in guests]
        of_host = _Uses([accesses(each, config) for each in host])
        of_guests = _Uses(mine)
        self._behind = [of_host.met(own, len(host)) for own in mine]
        self._after = [of_guests.met(own, number).tolist() for number, own in enumerate(mine)]
        beats = sum(transfer_beats(each) for each in host if isinstance(each, Load | Store))
        beats += len(host) * INSTRUCTION_BYTES // config.port.bytes
        self._rate = max(LEAST_RATE, RATE - beats / max(1, max(times.done)))
        # Cycles in which what has its place is done, and by which the host is late by then.
        self._made = np.zeros(len(host))
        self._done: dict[int, float] = {}
        self._late = 0.0
        self._free = dict.fromkeys(Unit, 0.0)
        self._drained: dict[int, float] = {}

    def order(self) -> list[int]:
        """Numbers in the new order."""
        order: list[int] = []
        waiting = list(range(len(self._guests)))
        clock = 0.0
        for number, instruction in enumerate(self._host):
            if isinstance(instruction, Array):
                clock = max(clock, self._times.issue[number] + self._late)
                while (found := self._next(waiting, number, clock)) is not None:
                    waiting.remove(found)
                    order.append(len(self._host) + found)
                    clock += self._begin(found, clock)
            order.append(number)
            self._made[number] = self._times.done[number] + self._late
            if isinstance(instruction, Drain):
                self._drained[self._bank(instruction)] = self._made[number]
        return [*order, *(len(self._host) + each for each in waiting)]

    def _bank(self, instruction: Array | Drain) -> int:
        return instruction.accumulator // self._config.memory.accumulator_rows

    def _next(self, waiting: Sequence[int], number: int, clock: float) -> int | None:
        """The guest that begins first, if that is by now, in front of a host's instruction."""
        best: tuple[float, int] | None = None
        for guest in waiting:
            start = self._start(guest, number)
            if start is not None and start <= clock and (best is None or (start, guest) < best):
                best = start, guest
        return None if best is None else best[1]

    def _start(self, guest: int, number: int) -> float | None:
        """When a guest may begin; None where something that it waits for has no place yet."""
        behind = self._behind[guest]
        if len(behind) and behind[-1] >= number:
            return None
        if any(other not in self._done for other in self._after[guest]):
            return None
        ready = float(self._made[behind].max()) if len(behind) else 0.0
        ready = max([ready, *(self._done[other] for other in self._after[guest])])
        instruction = self._guests[guest]
        if isinstance(instruction, Array):
            ready = max(ready, self._drained.get(self._bank(instruction), 0.0))
        return max(ready, self._free[instruction.UNIT])

    def _begin(self, guest: int, clock: float) -> float:
        """Let a guest begin; cycles that it keeps the array from the host."""
        instruction = self._guests[guest]
        start = self._start(guest, len(self._host))
        assert start is not None
        if isinstance(instruction, Array):
            self._done[guest] = clock + array_duration(instruction, self._config)
            taken = array_occupancy(instruction, self._config)
            self._late += taken
            return taken
        match instruction:
            case Load() | Store():
                busy = transfer_beats(instruction) / self._rate
                self._done[guest] = start + busy + LATENCY
            case Drain():
                busy = drain_duration(instruction, self._config)
                self._done[guest] = start + busy
            case _:
                busy = vector_duration(instruction, self._config)
                self._done[guest] = start + busy
        self._free[instruction.UNIT] = start + busy
        return 0
