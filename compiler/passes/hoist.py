"""Move rearrangements in front of what works element by element, up to what the host writes.

The host writes an input, and the compiler a constant, in any form. So where a tensor is rearranged
that is computed element by element from such values alone, which nothing else reads, all of them
take the form that is wanted, and nothing moves: position vectors that are added to the tokens of a
transformer before its first product.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping

from compiler.ir import AnyOperation, Graph, Pairwise, Rearrange, UnaryTable, Value
from compiler.passes.base import Accept, Outcome, Pass
from hw.arch.axes import Axes, from_canonical, to_canonical


class _Tree:
    """Values above a rearrangement, as far as each is made for it alone."""

    def __init__(self, graph: Graph, values: Mapping[str, Value], uses: Counter[str], axes: Axes):
        self.values, self.uses, self.axes = values, uses, axes
        self.makers = graph.producers()
        self.bound = set(graph.kept()) | {state.target for state in graph.states}
        self.inputs = {port.value for port in graph.inputs}
        self.names: list[str] = []

    def climbs(self, name: str) -> bool:
        """Whether a value and all that it is made of can take another form; notes their names."""
        value = self.values[name]
        if name in self.bound or self.uses[name] != 1 or value.type.axes != self.axes:
            return False
        self.names.append(name)
        if name in self.inputs or value.constant is not None:
            return True
        op = self.makers.get(name)
        return isinstance(op, Pairwise | UnaryTable) and all(map(self.climbs, op.inputs))


def _hoist(graph: Graph, accept: Accept) -> Outcome:
    """Each rearrangement by itself: those that end at inputs and constants vanish."""
    values = dict(graph.values)
    uses = graph.uses()
    renamed: dict[str, str] = {}
    ops: list[AnyOperation] = []
    applied = []
    for op in graph.ops:
        op = op.reading([renamed.get(n, n) for n in op.inputs])
        if isinstance(op, Rearrange) and op.output not in graph.kept():
            tree = _Tree(graph, values, uses, op.source)
            if tree.climbs(op.inputs[0]):
                for name in tree.names:
                    values[name] = _formed(values[name], op.target)
                renamed[op.output] = op.inputs[0]
                uses[op.inputs[0]] = uses[op.output]
                applied.append(f"{op.name}: {', '.join(tree.names)} take its form")
                continue
        ops.append(op)
    return Outcome(graph.replaced(ops, values), tuple(applied))


def _formed(value: Value, axes: Axes) -> Value:
    """A value with other elements along C, T, H and W."""
    kind = dataclasses.replace(value.type, axes=axes)
    constant = value.constant
    if constant is not None:
        flat = from_canonical(constant, value.type.axes, (value.type.elements,))
        constant = to_canonical(flat, axes)
    return dataclasses.replace(value, type=kind, constant=constant)


HOIST = Pass("hoist", _hoist, requires=frozenset({"folded"}))
