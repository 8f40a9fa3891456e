"""Values that are written where another one lies: common ground of joins and states."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from compiler.arms import regrouped
from compiler.ir import COMPILER, AnyOperation, Graph, Path, Relayout, Slice, Value
from compiler.layout.assign import Assigned
from compiler.lower import lowering
from hw.arch.layout import TensorLayout


@dataclasses.dataclass(frozen=True, slots=True)
class Settled:
    """A graph whose joins and states have places.

    Attributes
    ----------
    assigned: with copies.
    places: by the value that is written there: the one whose address it has.
    """

    assigned: Assigned
    places: Mapping[str, str]


class Placing:
    """A graph under change: copies are added, and values get the places of others."""

    def __init__(self, settled: Settled, mark: str):
        self.graph: Graph = settled.assigned.graph
        self.ops: list[AnyOperation] = list(self.graph.ops)
        self.layouts: dict[str, TensorLayout] = dict(settled.assigned.layouts)
        self.places = dict(settled.places)
        self._values, self._paths = dict(self.graph.values), dict(self.graph.paths)
        self._mark = mark
        self._origins: dict[str, str] = {}
        for op in self.ops:
            if lowering(op).keeps_bytes(op):
                self._origins[op.output] = self.origin(op.inputs[0])

    def origin(self, name: str) -> str:
        """The value whose bytes a value's are."""
        return self._origins.get(name, name)

    def maker(self, name: str) -> AnyOperation | None:
        """The operator that stores a value, if one does."""
        op = next((op for op in self.ops if op.output == name), None)
        return None if op is None or lowering(op).keeps_bytes(op) else op

    def copied(
        self,
        source: str,
        layout: TensorLayout,
        path: Path = (),
        before: AnyOperation | None = None,
    ) -> str:
        """A copy of a value in some lanes, made in some arm, last or before an operator."""
        value, name = self._values[source], self._new_name(source)
        mine = self.layouts[source]
        if mine == layout:
            op: AnyOperation = Slice(
                name=name, inputs=(source,), output=name, axis=3, start=0, stop=mine.width
            )
        else:
            op = Relayout(name=name, inputs=(source,), output=name, lane_map=layout.lane_map)
        self.ops.insert(len(self.ops) if before is None else self.ops.index(before), op)
        self._values[name] = Value(name, value.type, None, COMPILER)
        self.layouts[name] = layout
        if path:
            self._paths[name] = path
        return name

    def settled(self, graph: Graph) -> Settled:
        """What came of it; `graph` says outputs and states."""
        ops = regrouped(self.ops, lambda name: self._paths.get(name, ()))
        graph = dataclasses.replace(graph, paths=self._paths).replaced(ops, self._values)
        layouts = {name: self.layouts[name] for name in graph.values}
        return Settled(Assigned(graph, layouts), self.places)

    def _new_name(self, name: str) -> str:
        number, reserved = 1, self.graph.reserved
        while (new := f"{name}:{self._mark}{number}") in self._values or new in reserved:
            number += 1
        return new
