"""Where an instruction has to wait: distances to earlier instructions of other units.

The tracker replays the program in dispatch order. For every instruction it asks `walk.accesses`
what is read and written and looks, per other unit, for the latest earlier instruction that it
must not overtake:

* read after write, write after read and write after write on overlapping intervals of a memory (of
  DRAM: on bytes, compiler/emit/combs.py);
* two users of one port of one bank of activations or weights (each has one read and one write
  port);
* ARRAY and DRAIN on one accumulator bank. Where an ARRAY in mode HFA has to wait for DRAIN for that
  alone, it is `late`: it reads and transforms before that wait is over.

The order inside a unit is implicit: units issue and complete in order, and ARRAY, the only one
that issues before its predecessor is done, touches accumulators in stream order.

Waits that follow from other waits are left out. Each instruction carries a *clock*: how many
instructions of each unit have certainly completed when it issues.

Where a block of a program can be reached on several paths, it starts from the union of what may be
in flight at their ends (compiler/emit/flight.py).
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence

from compiler.emit.combs import Comb
from compiler.emit.flight import UNITS, ZERO, Clock, Flight, Port, Use
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    MAX_WAIT,
    Array,
    ArrayMode,
    Load,
    Scalar,
    Store,
    Unit,
    UnitInstruction,
)
from hw.arch.walk import Access, Memory, accesses, bank_rows

SEQUENCER = -1
"""In the place of a unit: SCALAR, which the sequencer itself executes."""


class DependencyTracker:
    """Fills in the `waits` of unit instructions and SCALAR, given in dispatch order.

    Parameters
    ----------
    flight: what may be in flight before the first of them; nothing at a program's start.
    """

    def __init__(self, config: AcceleratorConfig, flight: Flight | None = None):
        flight = flight or Flight()
        self._config = config
        self._bank_rows = {memory: bank_rows(memory, config) for memory in Memory}
        # Per unit: clocks of its instructions at their issue.
        self._clocks: list[list[Clock]] = [list(clocks) for clocks in flight.clocks]
        # What the sequencer has waited for itself: all that is dispatched from here on knows it.
        self._floor = list(flight.floor)
        self._unnamed = set(flight.unnamed)
        # (memory, write) -> per unit: uses in dispatch order.
        self._uses: dict[tuple[Memory, bool], list[list[Use]]] = defaultdict(
            lambda: [[] for _ in Unit]
        )
        self._uses |= {key: [list(own) for own in uses] for key, uses in flight.uses.items()}
        # Per unit: number of the last instruction on a port. A bank of accumulators is as one port.
        self._ports: dict[Port, list[int]] = defaultdict(lambda: [0] * UNITS)
        self._ports |= {port: list(numbers) for port, numbers in flight.ports.items()}

    def add(self, instruction: UnitInstruction, reach: int = 0) -> UnitInstruction:
        """Return the instruction with its waits, and remember what it touches.

        Parameters
        ----------
        reach: bytes by which a register may move its transfer on in DRAM.
        """
        waits, late = self.waits(instruction, reach)
        if isinstance(instruction, Array):
            return dataclasses.replace(instruction, waits=waits, late=int(late))
        return dataclasses.replace(instruction, waits=waits)

    def waits(self, instruction: UnitInstruction, reach: int = 0) -> tuple[Clock, bool]:
        """As `add`: the waits alone, and whether an ARRAY is `late`."""
        unit = instruction.UNIT
        touched = accesses(instruction, self._config)
        clocks = self._clocks[unit]
        known = self._known(unit)
        # Accumulators are shared with DRAIN alone, and what mode HFA needs of it is told apart.
        needed, accumulators = list(known), list(known)
        comb = None
        if reach:
            touched = [_moved(access, reach) for access in touched]
        elif isinstance(instruction, Load | Store):
            comb = Comb.of(instruction, self._config.port.bytes)
        transforms = isinstance(instruction, Array) and instruction.mode == ArrayMode.HFA
        taken = [self._taken(access) for access in touched]
        for access, ports in zip(touched, taken, strict=True):
            apart = transforms and access.memory is Memory.ACCUMULATOR
            self._conflicts(unit, access, ports, comb, accumulators if apart else needed)
        needed[unit] = known[unit]
        if transforms:
            waits, late, clock = self._transforming(known, needed, accumulators[Unit.DRAIN])
        else:
            (waits, clock), late = self._waits(known, needed), False
        clocks.append(clock)
        number = len(clocks)
        for access, ports in zip(touched, taken, strict=True):
            theirs = comb if access.memory is Memory.DRAM else None
            use = (number, access.low, access.high, theirs)
            self._uses[access.memory, access.write][unit].append(use)
            for last in ports:
                last[unit] = number
        return waits, late

    def scalar(self, instruction: Scalar) -> Scalar:
        """Return a SCALAR with its waits. What follows is dispatched when it has its byte."""
        known = self._known(SEQUENCER)
        needed = list(known)
        for access in accesses(instruction, self._config):
            self._conflicts(SEQUENCER, access, self._taken(access), None, needed)
        waits, clock = self._waits(known, needed)
        _raise(self._floor, clock)
        return dataclasses.replace(instruction, waits=waits)

    def fence(self, units: int) -> None:
        """All that is dispatched from here on knows what the units of a mask have been given."""
        for unit in Unit:
            clocks = self._clocks[unit]
            if units >> unit & 1 and clocks:
                _raise(self._floor, clocks[-1])
                self._floor[unit] = len(clocks)
        self._unnamed -= {unit for unit in Unit if units >> unit & 1}

    def flight(self) -> Flight:
        """What may be in flight here."""
        return Flight(
            tuple(tuple(clocks) for clocks in self._clocks),
            tuple(self._floor),
            {key: tuple(tuple(own) for own in uses) for key, uses in self._uses.items()},
            {port: tuple(numbers) for port, numbers in self._ports.items()},
            frozenset(self._unnamed),
        ).recent()

    def _known(self, unit: int) -> Clock:
        """What an instruction of a unit (or of the sequencer) knows without waiting."""
        if self._unnamed:
            names = ", ".join(Unit(each).name for each in sorted(self._unnamed))
            raise RuntimeError(f"{names} may be in flight, and no wait can name them: FENCE first")
        clocks = [] if unit == SEQUENCER else self._clocks[unit]
        known = clocks[-1] if clocks else ZERO
        if not any(self._floor):
            return known
        return tuple(map(max, known, self._floor))

    def _conflicts(
        self,
        unit: int,
        access: Access,
        ports: Sequence[list[int]],
        comb: Comb | None,
        needed: list[int],
    ) -> None:
        """Raise `needed` to the latest conflicting instruction of every other unit."""
        directions = (True, False) if access.write else (True,)
        for write in directions:
            for other, uses in enumerate(self._uses[access.memory, write]):
                if other != unit and uses and uses[-1][0] > needed[other]:
                    self._latest_overlap(other, uses, access, comb, needed)
        for last in ports:
            _raise(needed, last)

    def _latest_overlap(
        self, other: int, uses: list[Use], access: Access, comb: Comb | None, needed: list[int]
    ) -> None:
        dispatched = len(self._clocks[other])
        for number, low, high, theirs in reversed(uses):
            if number <= needed[other]:
                return
            if dispatched - number >= MAX_WAIT:
                # Too far back to be named: the 63rd latest is stricter, and already over since
                # no queue holds that many.
                needed[other] = max(needed[other], dispatched - MAX_WAIT + 1)
                return
            if low <= access.high and access.low <= high and _meet(comb, theirs):
                needed[other] = number
                return

    def _transforming(
        self, known: Clock, needed: list[int], drained: int
    ) -> tuple[Clock, bool, Clock]:
        """Waits of an ARRAY in mode HFA, whether it is `late`, and its clock behind them.

        Nothing is left out because a `late` wait implies it: at the issue that is not yet over.

        Parameters
        ----------
        known: at its issue without waiting.
        needed: at its issue.
        drained: of DRAIN, when it touches accumulators.
        """
        waits, clock = self._waits(known, needed)
        if drained <= clock[Unit.DRAIN]:
            return waits, False, clock
        late = not waits[Unit.DRAIN]
        before = clock if late else known
        wanted = list(before if late else needed)
        wanted[Unit.DRAIN] = drained
        more, clock = self._waits(before, wanted)
        return (tuple(map(max, waits, more)) if late else more), late, clock

    def _waits(self, known: Clock, needed: list[int]) -> tuple[Clock, Clock]:
        """Distances to the needed instructions, without those implied by others; new clock."""
        targets = {
            u: max(needed[u], len(self._clocks[u]) - MAX_WAIT + 1)
            for u in range(UNITS)
            if needed[u] > known[u]
        }
        if not targets:
            return ZERO, known
        waits = [0] * UNITS
        clock = list(known)
        for u, number in targets.items():
            implied = any(
                self._clocks[v][other - 1][u] >= number for v, other in targets.items() if v != u
            )
            if not implied:
                waits[u] = len(self._clocks[u]) - number + 1
            _raise(clock, self._clocks[u][number - 1])
            clock[u] = max(clock[u], number)
        return tuple(waits), tuple(clock)

    def _taken(self, access: Access) -> list[list[int]]:
        """The ports that an access takes, as in `_ports`."""
        rows = self._bank_rows[access.memory]
        if rows is None:
            return []
        memory, write = access.memory, access.write or access.memory is Memory.ACCUMULATOR
        banks = range(access.low // rows, access.high // rows + 1)
        return [self._ports[memory, bank, write] for bank in banks]


def _moved(access: Access, reach: int) -> Access:
    """An access to DRAM on all the places to which a register may move it."""
    if access.memory is not Memory.DRAM:
        return access
    return access._replace(high=access.high + reach)


def _meet(mine: Comb | None, theirs: Comb | None) -> bool:
    """Whether two uses that overlap as intervals do so; only those of DRAM may not."""
    return mine is None or theirs is None or mine.meets(theirs)


def _raise(clock: list[int], other: Clock | list[int]) -> None:
    for u, number in enumerate(other):
        if number > clock[u]:
            clock[u] = number
