"""A graph with Loops as a straight line of their trips, as many as a run has made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from compiler.arms import Fork, Item, Trips, structured
from compiler.ir import (
    AnyOperation,
    Concat,
    Enter,
    Graph,
    Leave,
    Pick,
    Put,
    Stack,
    View,
)
from hw.arch.program import in_trip

Counted = Callable[[str, tuple[int, ...]], int]
"""How many trips a Loop has made, told its name and the trips of the Loops around it."""


def unrolled(graph: Graph, counted: Counted) -> Graph:
    """Every trip's operators one after another; values are called as in the program's versions.

    What enters and leaves a Loop, and rows on their way, become views.
    """
    if not any(isinstance(op, Leave | Stack) for op in graph.ops):
        return graph
    work = _Unrolling(graph, counted)
    work.walk(structured(graph.ops, graph.path))
    return dataclasses.replace(graph, ops=tuple(work.ops), values=work.values, paths={})


class _Unrolling:
    def __init__(self, graph: Graph, counted: Counted) -> None:
        self.graph, self.counted = graph, counted
        self.loops = {op.loop for op in graph.ops if isinstance(op, Leave | Stack)}
        made = {op.output for op in graph.ops}
        self.values = {n: v for n, v in graph.values.items() if n not in made}
        self.ops: list[AnyOperation] = []
        self._trips: dict[str, int] = {}
        self._carried: dict[str, str] = {}  # where a trip finds what the one before left
        self._rows: dict[str, tuple[str, ...]] = {}

    def walk(self, items: Iterable[Item]) -> None:
        """Append operators in the order in which they run."""
        for item in items:
            if isinstance(item, Fork):
                self.walk(item.then)
                self.walk(item.otherwise)
            elif isinstance(item, Trips):
                self._loop(item)
            else:
                self._add(item)

    def _loop(self, item: Trips) -> None:
        leaves = [end for end in item.ends if isinstance(end, Leave)]
        around = tuple(self._trips.values())
        for trip in range(self.counted(item.loop, around)):
            self._trips[item.loop] = trip
            self.walk(item.body)
            left = {leave.inputs[1]: self._name(leave.inputs[0]) for leave in leaves}
            self._carried |= left
        for end in item.ends:
            if isinstance(end, Stack):
                self._rows[end.output] = tuple(self._rows_of(end, around))
        self._trips.pop(item.loop, None)

    def _rows_of(self, stack: Stack, around: tuple[int, ...]) -> list[str]:
        count = self.counted(stack.loop, around)
        return [in_trip(stack.inputs[0], (*around, trip)) for trip in range(count)]

    def _name(self, value: str) -> str:
        """What a value is called now."""
        if value in self._carried:
            return self._carried[value]
        loops = [name for name, _ in self.graph.path(value) if name in self.loops]
        return in_trip(value, [self._trips[name] for name in loops])

    def _add(self, op: AnyOperation) -> None:
        value = self.graph.values[op.output]
        read = op.inputs[1:2] if isinstance(op, Leave) else op.inputs
        inputs = () if isinstance(op, Stack) else tuple(map(self._name, read))
        self._carried.pop(op.output, None)
        output = self._name(op.output)
        self.ops.append(self._flat(op, inputs, output))
        self.values[output] = dataclasses.replace(value, name=output)

    def _flat(self, op: AnyOperation, inputs: tuple[str, ...], output: str) -> AnyOperation:
        """What an operator is in a straight line."""
        name, shape = op.name, self.graph.type(op.output).shape
        if isinstance(op, Pick):
            op = op.at(self._trips[op.loop])
        elif isinstance(op, Stack):
            rows = self._rows[op.output]
            tables = (None,) * len(rows)
            return Concat(name=name, inputs=rows, output=output, axis=op.axis, tables=tables)
        elif isinstance(op, Enter | Put | Leave):
            return View(name=name, inputs=inputs, output=output, shape=shape)
        return dataclasses.replace(op, inputs=inputs, output=output)


__all__ = ["unrolled"]
