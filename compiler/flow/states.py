"""State in DRAM: every state gets a value that is written where its input lies.

The next run reads its input where the last one left it, so a program needs no second buffer and a
host no copy. An operator writes there itself where nothing reads the input any more when it starts;
else the last layers copy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from compiler.ir import COMPILER, AnyOperation, Carried, Graph, Port, Relayout, Slice, Value
from compiler.layout.assign import Assigned, check_layouts
from compiler.lower import lowering
from hw.arch.layout import TensorLayout


@dataclasses.dataclass(frozen=True, slots=True)
class Settled:
    """A graph whose states have places.

    Attributes
    ----------
    assigned: with copies.
    places: by the value that is written there: the input whose address it has.
    """

    assigned: Assigned
    places: Mapping[str, str]


def settle(assigned: Assigned) -> Settled:
    """Let every state be written at its input's address.

    Raises
    ------
    CompilerError
        If a copy's contract does not hold.
    """
    if not assigned.graph.states:
        return Settled(assigned, {})
    work = _Settling(assigned)
    outputs, staged = work.outputs(), work.staged()
    states = tuple(work.settled(state) for state in staged)
    graph = dataclasses.replace(assigned.graph, outputs=outputs, states=states)
    graph = graph.replaced(work.ops, work.values)
    layouts = {name: work.layouts[name] for name in graph.values}
    settled = Assigned(graph, layouts)
    check_layouts(settled)
    return Settled(settled, work.places)


class _Settling:
    """The pass at work."""

    def __init__(self, assigned: Assigned):
        self.graph: Graph = assigned.graph
        self.ops: list[AnyOperation] = list(self.graph.ops)
        self.values = dict(self.graph.values)
        self.layouts: dict[str, TensorLayout] = dict(assigned.layouts)
        self.places: dict[str, str] = {}
        self._copies: dict[str, str] = {}
        self._origins: dict[str, str] = {}
        for op in self.ops:
            if lowering(op).keeps_bytes(op):
                self._origins[op.output] = self._origin(op.inputs[0])
        # Inputs whose codes are some state's source: they are read when all operators are done.
        sources = {self._origin(state.source) for state in self.graph.states}
        self._targets = {state.target for state in self.graph.states}
        self._late = sources & self._targets

    def outputs(self) -> tuple[Port, ...]:
        """Outputs of the graph; one that is an input's bytes is copied before those change."""
        moved = {s.target for s in self.graph.states if s.source != s.target}
        return tuple(
            dataclasses.replace(port, value=self._saved(port.value))
            if self._origin(port.value) in moved
            else port
            for port in self.graph.outputs
        )

    def staged(self) -> list[Carried]:
        """The states; what one takes from another's input is copied before any input is written."""
        states = []
        for state in self.graph.states:
            if self._origin(state.source) in self._late and state.source != state.target:
                states.append(dataclasses.replace(state, source=self._saved(state.source)))
            else:
                states.append(state)
        return states

    def settled(self, state: Carried) -> Carried:
        """The state with a source that lies at its target's address."""
        source, target = state.source, state.target
        if source == target:
            return state
        if self._is_written_there(source, target):
            self.places[source] = target
            return state
        copy = self._copied(source, self.layouts[target])
        self.places[copy] = target
        return dataclasses.replace(state, source=copy)

    def _is_written_there(self, source: str, target: str) -> bool:
        """Whether the operator behind a source may write over a target."""
        place = next((i for i, op in enumerate(self.ops) if op.output == source), None)
        if place is None or source in self.places or target in self._late:
            return False
        maker = self.ops[place]
        if lowering(maker).keeps_bytes(maker) or self.layouts[source] != self.layouts[target]:
            return False
        # Its first rows are stored while later ones of its operands are still to be loaded.
        later = (name for op in self.ops[place:] for name in op.inputs)
        return all(self._origin(name) != target for name in later)

    def _origin(self, name: str) -> str:
        """The value whose bytes a value's are."""
        return self._origins.get(name, name)

    def _saved(self, name: str) -> str:
        """A copy of what lies where a state will be written."""
        if name not in self._copies:
            self._copies[name] = self._copied(name, self.layouts[name])
        return self._copies[name]

    def _copied(self, source: str, layout: TensorLayout) -> str:
        """A copy of a value in some lanes, made last."""
        value, name = self.values[source], self._new_name(source)
        mine = self.layouts[source]
        if mine == layout:
            op: AnyOperation = Slice(
                name=name, inputs=(source,), output=name, axis=3, start=0, stop=mine.width
            )
        else:
            op = Relayout(name=name, inputs=(source,), output=name, lane_map=layout.lane_map)
        self.ops.append(op)
        self.values[name] = Value(name, value.type, None, COMPILER)
        self.layouts[name] = layout
        return name

    def _new_name(self, name: str) -> str:
        number, reserved = 1, self.graph.reserved
        while (new := f"{name}:state{number}") in self.values or new in reserved:
            number += 1
        return new
