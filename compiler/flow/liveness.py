"""From when to when the bytes of a tensor in DRAM are needed.

Operators count in the order of emission, in which the arms of a branch stand one after the other
behind its decision. An interval reaches from the operator that makes a tensor to the last one that
reads it, or a view of it, on whatever path: what one path does not read may be written over there,
and since an arm's own tensors end with the arm or with its join, arms share memory.

A trip of a Loop reads again what an earlier one has read, and rows are put where they stay: what
is touched in a body and outside of it is needed all the time that the body runs.

What comes from outside a run or leaves it has no interval: inputs, constants, outputs, states, what
Loops carry. Neither has a part that is read in place, whose address stands for another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from compiler.arms import regrouped
from compiler.flow.places import Settled
from compiler.ir import AnyOperation, Graph, LoopEnd, Pick


@dataclasses.dataclass(frozen=True, slots=True)
class Interval:
    """Numbers of operators, both ends included."""

    first: int
    last: int


def in_emission(graph: Graph) -> Sequence[AnyOperation]:
    """Operators in the order in which they are emitted."""
    return regrouped(graph.ops, graph.path)


def homes(settled: Settled) -> dict[str, tuple[str, ...]]:
    """By every value: those at whose addresses it lies, itself if it has an address of its own."""
    graph = settled.assigned.graph

    def home(name: str) -> str:
        while name in settled.places:
            name = settled.places[name]
        return name

    def of(name: str) -> tuple[str, ...]:
        where = settled.views.get(name, ((name, 0),))
        return tuple(dict.fromkeys(home(origin) for origin, _ in where))

    return {name: of(name) for name in graph.values}


def intervals(settled: Settled) -> Mapping[str, Interval]:
    """Intervals of whatever lies at an address of its own and is made and used up within a run."""
    graph, lies = settled.assigned.graph, homes(settled)
    made = {op.output for op in graph.ops}
    outside = [name for name in graph.values if name not in made]
    outside += [*graph.kept(), *(state.target for state in graph.states)]
    outside += [op.output for op in graph.ops if isinstance(op, Pick)]
    pinned = {home for name in outside for home in lies[name]}
    loops = {op.loop for op in graph.ops if isinstance(op, LoopEnd)}
    ordered = in_emission(graph)
    bodies = {loop: _body(ordered, graph, loop) for loop in loops}
    touched: dict[str, list[tuple[int, frozenset[str]]]] = {}
    numbers = {op.output: number for number, op in enumerate(ordered)}
    for number, op in enumerate(ordered):
        around = frozenset(name for name, _ in graph.path(op.output) if name in loops)
        for home in dict.fromkeys(h for name in (*op.inputs, op.output) for h in lies[name]):
            if home not in pinned:
                touched.setdefault(home, []).append((number, around))
        if op.output in settled.followers and op.output not in pinned:
            # It is stored in the layer of what it reads.
            touched[op.output].append((numbers[settled.followers[op.output]], around))
    return {home: _needed(uses, bodies) for home, uses in touched.items()}


def _body(ordered: Sequence[AnyOperation], graph: Graph, loop: str) -> Interval:
    """Operators of a Loop's body."""
    mine = [n for n, op in enumerate(ordered) if (loop, True) in graph.path(op.output)]
    return Interval(mine[0], mine[-1]) if mine else Interval(0, 0)


def _needed(uses: Sequence[tuple[int, frozenset[str]]], bodies: Mapping[str, Interval]) -> Interval:
    """From the first use to the last; of uses in a body and outside of it, for the whole body."""
    everywhere = frozenset.intersection(*(around for _, around in uses))
    numbers = [number for number, _ in uses]
    for _, around in uses:
        for loop in around - everywhere:
            numbers += [bodies[loop].first, bodies[loop].last]
    return Interval(min(numbers), max(numbers))
