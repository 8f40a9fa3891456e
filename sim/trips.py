"""Trips of Loops: how many a run has made, and what tensors are called in each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from hw.arch.program import Program, Trips, in_trip
from hw.timeline.step import Step


class Counter:
    """The trips that a run is in, step by step."""

    def __init__(self, program: Program) -> None:
        self._firsts = {loop.first: loop.name for loop in program.loops}
        self._openings = {loop.first - 1: loop.name for loop in program.loops}
        self._trip = dict.fromkeys(self._firsts.values(), -1)

    def follow(self, pc: int) -> str | None:
        """Told every instruction that executes; the loop that begins a trip with it."""
        if pc in self._openings:
            self._trip[self._openings[pc]] = -1
        elif pc in self._firsts:
            self._trip[self._firsts[pc]] += 1
            return self._firsts[pc]
        return None

    def at(self, loops: Sequence[Trips]) -> tuple[int, ...]:
        """The trips of some loops, from 0."""
        return tuple(self._trip[loop.name] for loop in loops)


def trips_made(
    program: Program, trace: Sequence[Step]
) -> Mapping[tuple[str, tuple[int, ...]], int]:
    """Trips that every loop has made, by its name and the trips of the loops around it."""
    counter, made = Counter(program), dict[tuple[str, tuple[int, ...]], int]()
    around = {
        loop.name: [o for o in program.loops if o.first < loop.first < o.last]
        for loop in program.loops
    }
    loops = {loop.name: loop for loop in program.loops}
    for step in trace if program.loops else ():
        name = counter.follow(step.pc)
        if name is not None:
            outer = sorted(around[name], key=lambda loop: loop.first)
            made[name, counter.at(outer)] = counter.at([loops[name]])[0] + 1
    return made


def instances(name: str, loops: Sequence[Trips]) -> Iterator[str]:
    """What a tensor is called in each trip, in order."""
    for trips in itertools.product(*(range(loop.trips) for loop in loops)):
        yield in_trip(name, trips)
