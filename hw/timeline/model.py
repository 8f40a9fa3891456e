"""The event model of the core: when every instruction issues and is done, to the cycle.

Most times follow from others by maxima and sums as soon as those are known (a unit's issue from
dispatch, tokens and its previous instruction; `done` from a closed form). Two things have to be
taken in the order of time and are the events: the arbiter's grants, and the flush of the prefetch
at a taken jump.

Cycle 0 is the first cycle of the run (`timing.START_LATENCY` after the write of START).
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    ALL_UNITS,
    Array,
    Fence,
    Halt,
    Instruction,
    Load,
    Scalar,
    Store,
    Unit,
)
from hw.arch.timing import (
    CLOSING,
    HALT_LATENCY,
    JUMP_LATENCY,
    QUEUE_INTERVAL,
    QUEUE_LATENCY,
    SCALAR_LATENCY,
    SCALAR_RELEASE,
    TAKE_TO_DISPATCH,
    TOKEN_LATENCY,
    MemoryTiming,
)
from hw.timeline.compute import ArrayModel, duration
from hw.timeline.fetch import FetchModel
from hw.timeline.port import MemoryModel, MemoryPort, UniformMemory
from hw.timeline.step import Step, split_awaits
from hw.timeline.transfers import LoadModel, StoreModel

NEVER = 1 << 62
"""No cycle."""


class TimelineError(RuntimeError):
    """The model cannot go on: the trace does not end with HALT, or cannot be timed."""


Awaited: TypeAlias = Sequence[tuple[Sequence[int], int]]
"""Completions that something waits for: the `done` of a unit, and the index of one of them."""


@dataclasses.dataclass(slots=True)
class UnitTimes:
    """What is known about one unit.

    Attributes
    ----------
    queue: dispatched, not issued: (dispatch cycle; what holds it: units' `done`, and which of them;
        the DRAIN that a `late` ARRAY waits for, or 0; instruction).
    issue, done: cycles, in order; for LOAD, STORE and a `late` ARRAY `done` is known later than
        `issue`.
    free: first cycle of the next issue, for the units with closed forms.
    busy, wait: counters as the hardware's.
    """

    queue: deque[tuple[int, Awaited, int, Instruction]] = dataclasses.field(default_factory=deque)
    issue: list[int] = dataclasses.field(default_factory=list)
    done: list[int] = dataclasses.field(default_factory=list)
    free: int = 0
    busy: int = 0
    wait: int = 0

    def complete(self, cycle: int) -> None:
        """Record a `done`; the unit is busy from the cycle after its issue to its done."""
        issue = self.issue[len(self.done)]
        covered = self.done[-1] if self.done else -1
        self.busy += cycle - max(issue, covered)
        self.done.append(cycle)


class CoreModel:
    """One run.

    Parameters
    ----------
    config: the accelerator.
    steps: the executed instructions in order, ending with HALT.
    base: DRAM address of instruction 0.
    length: instructions in the program.
    memory: what is behind the memory port; None: the memory of the RTL harness.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        steps: Sequence[Step],
        base: int,
        length: int,
        memory: MemoryModel | None = None,
    ):
        self.config = config
        self.units = {unit: UnitTimes() for unit in Unit}
        self._units = [*self.units.items()]
        self._done = [times.done for times in self.units.values()]
        self.load = LoadModel(config.port)
        self.store = StoreModel(config.port)
        self.array = ArrayModel(config)
        # A `late` ARRAY that was issued: the cycle, itself, and the DRAIN that it waits for.
        self._late: tuple[int, Instruction, int] | None = None
        self.fetch = FetchModel(config.port, base, length)
        self.instructions = 0
        self.halt: int | None = None
        """Cycle in which HALT executes."""
        self._port = MemoryPort(config.port, memory or UniformMemory(MemoryTiming()))
        self._store_was_last = True
        # Of the jump that was taken and has not flushed yet: cycle, target.
        self._jump: tuple[int, int] | None = None
        self._arbiter_free = 0
        self._steps = _with_jumps(steps)
        self._step: tuple[Step, int | None] | None = next(self._steps, None)
        self._taken: int | None = None
        self._free = 0

    def run(self) -> None:
        """Simulate to HALT."""
        self._settle()
        while self._next():
            self._settle()
        if self.halt is None:
            raise TimelineError("the run does not end: no event is left before HALT")

    @property
    def cycles(self) -> int:
        """Counter `cycles`: from the start until no burst is open after HALT."""
        assert self.halt is not None
        return max(self.halt + HALT_LATENCY, self._port.last_end) + CLOSING

    # Known times, followed as far as they go.

    def _settle(self) -> None:
        progress = True
        while progress:
            progress = self._advance_sequencer()
            for unit, times in self._units:
                if times.queue or (unit is Unit.ARRAY and self._late is not None):
                    progress |= self._advance_unit(unit, times)

    def _advance_unit(self, unit: Unit, times: UnitTimes) -> bool:
        moved = unit is Unit.ARRAY and self._late is not None and self._stream_late()
        queue, issued = times.queue, times.issue
        while queue:
            dispatch, held, late, instruction = queue[0]
            tokens = _visible(held)
            if tokens is None:
                break
            visible = dispatch + QUEUE_LATENCY
            if issued:
                visible = max(visible, issued[-1] + QUEUE_INTERVAL)
            offered = max(visible, tokens)
            ready = self._ready(unit, instruction, offered)
            if ready is None:
                break
            issue = max(offered, ready)
            times.wait += offered - visible
            queue.popleft()
            issued.append(issue)
            if late:
                self._late = issue, instruction, late
                self._stream_late()
            else:
                self._issue(unit, issue, instruction)
            moved = True
        return moved

    def _stream_late(self) -> bool:
        """Give a `late` ARRAY its times, if those of the DRAIN that it waits for are known."""
        assert self._late is not None
        issue, instruction, awaited = self._late
        drained = self.units[Unit.DRAIN].done
        if len(drained) < awaited:
            return False
        self._late = None
        assert isinstance(instruction, Array)
        done = self.array.issue(issue, instruction, drained[awaited - 1])
        self.units[Unit.ARRAY].complete(done)
        return True

    def _ready(self, unit: Unit, instruction: Instruction, offered: int) -> int | None:
        """Earliest cycle in which a unit takes an instruction; None if not yet known.

        Its queue offers it from cycle `offered` on.
        """
        match instruction:
            case Load():
                return self.load.ready
            case Store():
                return self.store.ready
            case Array():
                return None if self._late else self.array.ready(instruction, offered)
            case _:
                return self.units[unit].free

    def _awaited(self, awaits: Sequence[int]) -> Awaited:
        """The completions that a step waits for."""
        return [(self._done[unit], count - 1) for unit, count in enumerate(awaits) if count]

    def _issue(self, unit: Unit, cycle: int, instruction: Instruction) -> None:
        match instruction:
            case Load():
                self.load.accept(cycle, instruction)
            case Store():
                self.store.accept(cycle, instruction)
            case Array():
                self.units[unit].complete(self.array.issue(cycle, instruction))
            case _:
                done = cycle + duration(instruction, self.config)
                self.units[unit].free = done + 1
                self.units[unit].complete(done)

    # The sequencer.

    def _advance_sequencer(self) -> bool:
        moved = False
        while self._step is not None and self._jump is None:
            step, target = self._step
            if self._taken is None:
                self._taken = self.fetch.take(self._free)
                if self._taken is None:
                    return moved
                moved = True
            end = self._act(step, self._taken + TAKE_TO_DISPATCH)
            if end is None:
                return moved
            moved = True
            self.instructions += 1
            self._taken = None
            self._free = end + 1
            if isinstance(step.instruction, Halt):
                self.halt = end
                self._step = None
                return moved
            if target is not None:
                self._jump = end + JUMP_LATENCY, target
            self._step = next(self._steps, None)
        return moved

    def _act(self, step: Step, cycle: int) -> int | None:
        """Last cycle in which the sequencer is busy with a step; None if not yet known."""
        if step.unit is not None:
            times = self.units[step.unit]
            before = step.ordinal - 1 - self.config.queue_depth
            if before >= 0:
                if len(times.issue) <= before:
                    return None
                cycle = max(cycle, times.issue[before] + 1)
            held, late = split_awaits(step.instruction, step.awaits)
            times.queue.append((cycle, self._awaited(held), late, step.instruction))
            return cycle
        match step.instruction:
            case Scalar():
                tokens = _visible(self._awaited(step.awaits))
                if tokens is None:
                    return None
                return max(cycle + SCALAR_RELEASE, tokens) + SCALAR_LATENCY
            case Fence() | Halt() as fence:
                named = fence.units if isinstance(fence, Fence) else ALL_UNITS
                ends = [
                    self._all_done(times) for unit, times in self.units.items() if named >> unit & 1
                ]
                if any(end is None for end in ends):
                    return None
                return max([cycle, *(end for end in ends if end is not None)])
            case _:
                return cycle

    def _all_done(self, times: UnitTimes) -> int | None:
        if times.queue or len(times.done) < len(times.issue):
            return None
        return times.done[-1] + TOKEN_LATENCY if times.done else 0

    # Events.

    def _next(self) -> bool:
        """Go on to what may let instructions go on; False if there is nothing before the end."""
        port, load, store, fetch = self._port, self.load, self.store, self.fetch
        while True:
            # Cycles from which each can be granted a burst, were there room.
            loads = stores = fetches = NEVER
            if load.valid is not None:
                loads = max(load.valid, port.free(False))
            if store.request is not None:
                stores = max(store.request, port.free(True))
            if fetch.request is not None:
                fetches = max(fetch.request, port.free(False))
            cycle = max(min(loads, stores, fetches), self._arbiter_free)
            if self._jump is not None and self._jump[0] < cycle:
                fetch.jump(*self._jump)
                self._jump = None
                return True
            if cycle == NEVER or (self.halt is not None and cycle > self.halt + HALT_LATENCY):
                return False
            room = port.room_at(cycle)
            if room > cycle:
                self._arbiter_free = cycle = room
                if self._jump is not None or self.halt is not None:
                    continue  # which may come before
            self._arbiter_free = cycle + 1
            if self._grant(cycle, loads <= cycle, stores <= cycle, fetches <= cycle):
                return True

    def _grant(self, cycle: int, load: bool, store: bool, fetch: bool) -> bool:
        """Grant one burst in `cycle` to one of those who ask for one by then.

        Returns whether more than the memory port may go on because of it.
        """
        if fetch and (self.fetch.urgent(cycle) or not (load or store)):
            self.fetch.granted(self._port.serve(cycle, False, *self.fetch.request_burst))
            return True
        if load and (self._store_was_last or not store):
            self._store_was_last = False
            burst = self.load.burst
            done = self.load.granted(self._port.serve(cycle, False, burst.beats, burst.address))
            if done is not None:
                self.units[Unit.LOAD].complete(done)
            return done is not None or self.load.ready is not None
        self._store_was_last = True
        done = self.store.granted(self._port.serve(cycle, True, *self.store.request_burst))
        if done is not None:
            self.units[Unit.STORE].complete(done)
        return done is not None or self.store.ready is not None


def _visible(awaited: Awaited) -> int | None:
    """Cycle in which all awaited completions are visible; None if one is not yet known."""
    result = 0
    for done, index in awaited:
        if len(done) <= index:
            return None
        if done[index] + TOKEN_LATENCY > result:
            result = done[index] + TOKEN_LATENCY
    return result


def _with_jumps(steps: Sequence[Step]) -> Iterator[tuple[Step, int | None]]:
    """Each step with the target of the jump that it takes, if it takes one."""
    for i, step in enumerate(steps):
        yield step, steps[i + 1].pc if step.taken else None
