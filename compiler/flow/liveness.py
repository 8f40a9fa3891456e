"""From when to when the bytes of a tensor in DRAM are needed.

Operators count in the order of emission, in which the arms of a branch stand one after the other
behind its decision. An interval reaches from the operator that makes a tensor to the last one that
reads it, or a view of it, on whatever path: what one path does not read may be written over there,
and since an arm's own tensors end with the arm or with its join, arms share memory.

What comes from outside a run or leaves it has no interval: inputs, constants, outputs, states.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from compiler.arms import regrouped
from compiler.flow.places import Settled
from compiler.ir import AnyOperation, Graph
from compiler.lower import lowering


@dataclasses.dataclass(frozen=True, slots=True)
class Interval:
    """Numbers of operators, both ends included."""

    first: int
    last: int


def in_emission(graph: Graph) -> Sequence[AnyOperation]:
    """Operators in the order in which they are emitted."""
    return regrouped(graph.ops, graph.path)


def homes(settled: Settled) -> dict[str, str]:
    """By every value: the one at whose address it lies, itself if it has an address of its own."""
    graph = settled.assigned.graph
    nearest = {op.output: op.inputs[0] for op in graph.ops if lowering(op).keeps_bytes(op)}
    nearest |= settled.places
    found: dict[str, str] = {}

    def home(name: str) -> str:
        if name not in found:
            found[name] = home(nearest[name]) if name in nearest else name
        return found[name]

    return {name: home(name) for name in graph.values}


def intervals(settled: Settled) -> Mapping[str, Interval]:
    """Intervals of whatever lies at an address of its own and is made and used up within a run."""
    graph, lies = settled.assigned.graph, homes(settled)
    made = {op.output for op in graph.ops}
    pinned = {lies[name] for name in graph.values if name not in made}
    pinned |= {lies[name] for name in graph.kept()}
    pinned |= {lies[state.target] for state in graph.states}
    found: dict[str, Interval] = {}
    for number, op in enumerate(in_emission(graph)):
        for name in (*op.inputs, op.output):
            home = lies[name]
            if home not in pinned:
                first = found[home].first if home in found else number
                found[home] = Interval(first, number)
    return found
