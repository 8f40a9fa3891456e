"""Every arm of a program with branches runs in some pass of its proof."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from compiler.ir import Graph, Join, Leave, Path
from hw.arch.isa import Branch, Condition, Loop
from hw.arch.program import Block, Program, Trips
from hw.timeline.step import Step
from sim.path import visited
from sim.trips import instances

Forced: TypeAlias = Mapping[str, bool]
"""Decisions by the file's name of the condition."""


def forced(program: Program, decisions: Forced) -> Program:
    """The program with jumps in the place of decisions.

    What is read before the first jump of a decision is read all the same: all that comes behind
    knows what that waited for.
    """
    instructions = list(program.instructions)
    for block in program.blocks:
        if block.condition in decisions:
            target = block.following[0 if decisions[block.condition] else 1]
            own = range(block.first, block.last)
            jumps = (at for at in own if isinstance(instructions[at], Branch))
            # Without a jump it always goes on to what follows it.
            place = next(jumps, block.first)
            instructions[place] = Branch(condition=Condition.ALWAYS, target=target)
    return dataclasses.replace(program, instructions=tuple(instructions))


TRIPS = 2
"""Trips that a Loop makes in a pass whose forced decisions are all its own: an arm follows itself
once."""


def within(program: Program, decisions: Forced) -> Trips | None:
    """The outermost Loop in whose body all forced decisions stand; None if there is no such."""
    blocks = {block.condition: block for block in program.blocks if block.condition}
    outermost = {program.around(blocks[name])[:1] for name in decisions}
    (loops,) = outermost if len(outermost) == 1 else [()]
    return loops[0] if loops else None


def shortened(program: Program, loop: Trips) -> Program:
    """The program with at most `TRIPS` trips of a Loop."""
    instructions = list(program.instructions)
    opening = instructions[loop.first - 1]
    assert isinstance(opening, Loop)
    count = min(opening.count, TRIPS)
    instructions[loop.first - 1] = dataclasses.replace(opening, count=count)
    return dataclasses.replace(program, instructions=tuple(instructions))


def untaken(program: Program, graph: Graph, traces: Sequence[Sequence[Step]]) -> Forced | None:
    """Decisions that lead to arms which no pass has taken yet; None if there are none.

    The first of those arms, and as many others as do not exclude one another, all `within` one
    Loop or none.
    """
    merged: dict[str, bool] = {}
    for _, decisions in _missing(program, graph, traces):
        if decisions is None or (merged and within(program, decisions) != within(program, merged)):
            continue
        if all(merged.get(name, arm) == arm for name, arm in decisions.items()):
            merged |= decisions
    return merged or None


def unreachable(program: Program, graph: Graph, traces: Sequence[Sequence[Step]]) -> list[str]:
    """Arms behind decisions that exclude one another."""
    return [name for name, forced in _missing(program, graph, traces) if forced is None]


def in_every_trip(program: Program, decisions: Forced) -> Forced:
    """Decisions by the names that the file's conditions have in every trip of their Loops."""
    loops = {block.condition: program.around(block) for block in program.blocks if block.condition}
    return {
        each: arm
        for name, arm in decisions.items()
        for each in instances(name, loops.get(name, ()))
    }


def _missing(
    program: Program, graph: Graph, traces: Sequence[Sequence[Step]]
) -> list[tuple[str, Forced | None]]:
    """Arms that did not run, and what leads there."""
    seen = {program.blocks[i].first for t in traces for i in visited(program, t) if program.blocks}
    forks = _forks(graph)
    conditions = {name: condition for name, (condition, _) in forks.items()}
    found = []
    for block in program.blocks:
        for place, first in enumerate(block.following if block.condition else ()):
            if first not in seen:
                branch = _branch(block)
                path = (*forks[branch][1], (branch, place == 0))
                name = next(b.name for b in program.blocks if b.first == first)
                leads = [(conditions[b], arm) for b, arm in path if b in conditions]
                found.append((name, _decisions(leads)))
    return found


def _forks(graph: Graph) -> dict[str, tuple[str, Path]]:
    """Condition of every decision, and where it stands; a body of a Loop decides nothing."""
    found: dict[str, tuple[str, Path]] = {}
    for op in graph.ops:
        if isinstance(op, Join):
            found[op.branch] = op.condition, graph.path(op.output)
        elif isinstance(op, Leave) and op.predicate is not None:
            found[f"{op.loop}: next"] = op.condition, graph.path_of(op, 0)
    return found


def _branch(block: Block) -> str:
    """Name of the decision that a block makes."""
    return block.name.removesuffix("?")


def _decisions(path: Sequence[tuple[str, bool]]) -> Forced | None:
    """Decisions of a path; None where two of one condition differ."""
    decisions = dict(path)
    return decisions if all(decisions[name] == arm for name, arm in path) else None
