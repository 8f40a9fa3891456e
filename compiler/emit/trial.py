"""Cycles of instructions that are emitted to be timed, not to be kept.

A candidate is emitted alone, on a core that does nothing else, and the event model of the core
(hw/timeline) says when it is done: what the compiler foresees of a finished program and what it
plans with are the same model. Only addresses are of no matter: constants are zeros somewhere.

A long layer repeats itself: its first pieces are emitted, in three parts. Between the ends of the
first and the second one units work as in the middle of the layer, so that what is left takes as
long as they do for as many results; the third one keeps all units as busy behind.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from compiler.emit.ahead import run_ahead
from compiler.emit.allocate import ConstantPool
from compiler.emit.dependencies import DependencyTracker
from compiler.emit.emitter import Emitter
from compiler.emit.transfers import Strided, at
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, Halt, Instruction, Unit, UnitInstruction
from hw.arch.program import Tensor
from hw.timeline.model import CoreModel
from hw.timeline.step import Step

KEPT = 1 << 14
"""Answers that are remembered: networks repeat their layers, each of which is asked about when
layers are joined and when they are emitted."""
CODE, CONSTANTS = 0x7000_0000, 0x5000_0000
"""DRAM addresses of a trial's program and of its constants: behind all that it reads and stores."""
PAGE = 4096
"""Bytes that constants are aligned to: no burst crosses such a line."""
PARTS = 3
"""Parts of a long layer that are emitted (`rest`)."""
SHORT = 300
"""Instructions of a layer up to which it matters that its first weights come during the one before:
it is timed behind itself. Where a layer is longer, what comes before its first result is little."""
SOURCE, TARGET, AGAIN, BESIDE = 0x1000_0000, 0x2000_0000, 0x3000_0000, 0x0800_0000
"""DRAM addresses of a trial's operand and result, and from there to what that is joined with."""
SECOND = 0x7000_0000
"""From tensors that meet each other in DRAM to those of the same layers again."""


class Trial(Emitter):
    """An emitter of what is only timed."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__(config, {}, ConstantPool(0))
        self._end = CONSTANTS

    def constant(self, data: bytes) -> int:
        """A place of its own for any constant; its bytes are not kept."""
        address = self._end
        self._end += -(-len(data) // PAGE) * PAGE
        return address


class Emission(Protocol):
    """A layer, or as much of one as tells how long all of it takes."""

    def emit(self) -> None:
        """Emit it."""

    @property
    def sampled(self) -> bool:
        """Whether only a part of it is emitted."""

    def left(self, stored: Sequence[int]) -> int:
        """Cycles of what is not emitted, told when each STORE is done."""


class Partly:
    """An `Emission` that may be of the first pieces only; `_ends` as in `rest`."""

    _ends: tuple[int, ...] = ()

    @property
    def sampled(self) -> bool:
        """Whether only a part of it is emitted."""
        return bool(self._ends)


class Whole:
    """An `Emission` of all of a layer.

    Parameters
    ----------
    emit: emits it.
    """

    sampled = False

    def __init__(self, emit: Callable[[], object]):
        self._emit = emit

    def emit(self) -> None:
        """Emit it."""
        self._emit()

    def left(self, stored: Sequence[int]) -> int:
        """Nothing."""
        return 0


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """A layer that is to be timed.

    Attributes
    ----------
    key: all that the answer depends on: no values, nor where tensors lie.
    emission: of the layer, told where to; and whether it is the second of two that follow one
        another.
    """

    key: Hashable
    emission: Callable[[Trial, bool], Emission] = dataclasses.field(compare=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Timed:
    """When a trial is done; `issue` and `done` in the order in which constants have run ahead.

    Attributes
    ----------
    cycles: of all of it.
    stored: cycle in which each STORE is done, in order.
    issue, done: of each instruction.
    """

    cycles: int
    stored: Sequence[int]
    issue: Sequence[int]
    done: Sequence[int]


def timed(
    instructions: Sequence[Instruction], config: AcceleratorConfig, ahead: bool = False
) -> Timed:
    """The timeline of unit instructions without waits, which are found here.

    Parameters
    ----------
    instructions, config: what is timed, where.
    ahead: constants run ahead first, as they do in a program.

    Raises
    ------
    TypeError
        If there is anything but unit instructions: nobody knows what a decision skips.
    """
    if ahead:
        order = run_ahead(_waiting(instructions, config), (), CONSTANTS, config)
        instructions = [instructions[n] for n in order]
    tracker = DependencyTracker(config)
    dispatched, steps = [0] * len(Unit), list[Step]()
    for pc, made in enumerate(map(_of_a_unit, instructions)):
        waits, late = tracker.waits(made)
        if late:
            assert isinstance(made, Array)
            made = dataclasses.replace(made, late=1)
        awaits = awaited(dispatched, waits)
        dispatched[made.UNIT] += 1
        steps.append(Step(pc, made, made.UNIT, awaits, dispatched[made.UNIT]))
    steps.append(Step(len(steps), Halt(), None, tuple(0 for _ in Unit), 0))
    model = CoreModel(config, steps, CODE, len(steps))
    model.run()
    units = [(model.units[step.unit], step.ordinal - 1) for step in steps if step.unit is not None]
    issue = [unit.issue[number] for unit, number in units]
    done = [unit.done[number] for unit, number in units]
    return Timed(model.cycles, model.units[Unit.STORE].done, issue, done)


def alone_cycles(asked: Asked, config: AcceleratorConfig) -> int:
    """Cycles of a layer on a core that does nothing before."""
    cycles, _ = _alone(asked, config)
    return cycles


@functools.lru_cache(maxsize=KEPT)
def layer_cycles(asked: Asked, config: AcceleratorConfig) -> int:
    """Cycles of a layer in a network.

    A short one is timed behind itself, as the layers of a network follow one another: its operand
    ends with what the one before stores last, while its constants run ahead.
    """
    cycles, short = _alone(asked, config)
    if not short:
        return cycles
    emitter = Trial(config)
    asked.emission(emitter, False).emit()
    once = timed(emitter.instructions, config, ahead=True)
    asked.emission(emitter, True).emit()
    return timed(emitter.instructions, config, ahead=True).cycles - once.cycles


@functools.lru_cache(maxsize=KEPT)
def _alone(asked: Asked, config: AcceleratorConfig) -> tuple[int, bool]:
    """Cycles of a layer alone, and whether it is short."""
    emitter = Trial(config)
    layer = asked.emission(emitter, False)
    layer.emit()
    found = timed(emitter.instructions, config)
    short = len(emitter.instructions) <= SHORT and not layer.sampled
    return found.cycles + layer.left(found.stored), short


def ends(source: Tensor, target: Tensor, again: bool) -> tuple[Tensor, Tensor]:
    """Operand and result of a layer; or again, where the operand ends with what is stored last."""
    if not again:
        return at(source, SOURCE), at(target, TARGET)
    return at(source, TARGET + target.layout.nbytes - source.layout.nbytes), at(target, AGAIN)


def placed(view: Strided, base: int) -> Strided:
    """The same view elsewhere, as far from a page's start as it is."""
    return view.shifted(base - min((view.address, *view.places)) // PAGE * PAGE)


def behind(view: Strided, before: Strided) -> Strided:
    """The same view elsewhere: it ends where another one does."""
    return view.shifted(before.last - view.last + before.lanes - view.lanes)


def rest(stored: Sequence[int], sizes: Sequence[int], ends: Sequence[int]) -> int:
    """Cycles of the pieces of a long layer that were not emitted.

    They take as long, for as much, as those between the ends of the first and the second part.

    Parameters
    ----------
    stored: when each piece that was emitted is stored.
    sizes: results of each piece, of those that were not emitted too.
    ends: pieces up to the end of each of the PARTS that were emitted; none if all pieces were.
    """
    if not ends:
        return 0
    first, second, last = ends
    rate = (stored[second - 1] - stored[first - 1]) / sum(sizes[first:second])
    return round(rate * sum(sizes[last:]))


def _waiting(
    instructions: Sequence[Instruction], config: AcceleratorConfig
) -> list[UnitInstruction]:
    tracker = DependencyTracker(config)
    return [tracker.add(_of_a_unit(instruction)) for instruction in instructions]


def _of_a_unit(instruction: Instruction) -> UnitInstruction:
    if not isinstance(instruction, UnitInstruction):
        raise TypeError(f"{instruction} has no place in a trial")
    return instruction


def awaited(dispatched: Sequence[int], waits: Sequence[int]) -> tuple[int, ...]:
    """Completions of each unit that an instruction awaits.

    Parameters
    ----------
    dispatched: instructions of each unit before it.
    waits: how far the one it waits for lies behind it, 1 for the last one; 0 for none. An arm
        that is passed may put more between the two than any path does.
    """
    return tuple(
        max(0, count - distance + 1) if distance else 0
        for count, distance in zip(dispatched, waits, strict=True)
    )
