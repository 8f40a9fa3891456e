"""What a pass is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeAlias

from compiler.ir import AnyOperation, Graph
from compiler.tensor import TensorType

Accept: TypeAlias = Callable[[AnyOperation, Sequence[TensorType], TensorType], str | None]
"""Says why the back end cannot lower an operator (operand types, result type); None if it can."""


def accept_all(op: AnyOperation, inputs: Sequence[TensorType], output: TensorType) -> str | None:
    """For a graph that nothing will be generated from."""
    return None


def live(graph: Graph) -> list[AnyOperation]:
    """Operators that an output or a state needs, in order."""
    needed = set(graph.kept())
    kept: list[AnyOperation] = []
    for op in reversed(graph.ops):
        if op.output in needed:
            needed.update(op.inputs)
            kept.append(op)
    return kept[::-1]


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What a pass did.

    Attributes
    ----------
    graph: the result.
    applied: each rewrite, named.
    refused: (where, why not) for each place that matched but was left alone.
    """

    graph: Graph
    applied: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Pass:
    """A named rewrite of whole graphs.

    Attributes
    ----------
    name: short, for dumps and messages.
    requires: properties that earlier passes must have established.
    ensures: properties that hold afterwards.
    run: the rewrite.
    """

    name: str
    run: Callable[[Graph, Accept], Outcome]
    requires: frozenset[str] = frozenset()
    ensures: frozenset[str] = frozenset()
