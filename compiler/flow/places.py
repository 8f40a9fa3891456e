"""Values that are written where another one lies: common ground of joins, Loops and states."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from compiler.arms import regrouped
from compiler.ir import (
    COMPILER,
    AnyOperation,
    Graph,
    Leave,
    Path,
    Pick,
    Relayout,
    Slice,
    Stack,
    Value,
)
from compiler.layout.assign import Assigned
from compiler.lower import lowering
from compiler.tensor import TensorType
from hw.arch.layout import TensorLayout


@dataclasses.dataclass(frozen=True, slots=True)
class Guests:
    """Layers that may be woven into another one; values by name.

    Attributes
    ----------
    host: what the long layer makes. mean: of it. product: of the mean, by constant weights.
    """

    host: str
    mean: str
    product: str


@dataclasses.dataclass(frozen=True, slots=True)
class Settled:
    """A graph whose joins and states have places.

    Attributes
    ----------
    assigned: with copies.
    places: by the value that is written there: the one whose address it has.
    views: by a value that is bytes of others (compiler/flow/views.py): of every block the value
        that holds it, and the row in it.
    followers: by the result of what is emitted with another operator, that one's result.
    guests: layers that may be woven into others (compiler/flow/guests.py).
    """

    assigned: Assigned
    places: Mapping[str, str]
    views: Mapping[str, tuple[tuple[str, int], ...]] = dataclasses.field(default_factory=dict)
    followers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    guests: tuple[Guests, ...] = ()


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
        passes = op is None or lowering(op).keeps_bytes(op) or isinstance(op, Pick | Stack)
        return None if passes else op

    def path(self, name: str) -> Path:
        """The arm in which a value is made."""
        return self._paths.get(name, ())

    def taken(self) -> set[str]:
        """Values that lie where another one does."""
        return {*self.places, *self.places.values()}

    def read_by(self, op: AnyOperation) -> tuple[str, ...]:
        """What an operator's instructions read when it stands in the program."""
        return () if isinstance(op, Leave | Stack) else op.inputs

    def copied(
        self,
        source: str,
        layout: TensorLayout,
        path: Path = (),
        before: AnyOperation | None = None,
    ) -> str:
        """A copy of a value in some lanes, made in some arm, last or before an operator."""
        value, name = self._values[source], self.new_name(source)
        mine = self.layouts[source]
        if mine == layout:
            op: AnyOperation = Slice(
                name=name, inputs=(source,), output=name, axis=3, start=0, stop=mine.width
            )
        else:
            op = Relayout(name=name, inputs=(source,), output=name, lane_map=layout.lane_map)
        self.add(op, value.type, layout, path, before)
        return name

    def add(
        self,
        op: AnyOperation,
        kind: TensorType,
        layout: TensorLayout,
        path: Path = (),
        before: AnyOperation | None = None,
    ) -> None:
        """An operator of the compiler's own in some arm, last or before another one."""
        self.ops.insert(len(self.ops) if before is None else self.ops.index(before), op)
        self._values[op.output] = Value(op.output, kind, None, COMPILER)
        self.layouts[op.output] = layout
        if path:
            self._paths[op.output] = path

    def settled(self, graph: Graph) -> Settled:
        """What came of it; `graph` says outputs and states."""
        ops = regrouped(self.ops, lambda name: self._paths.get(name, ()))
        graph = dataclasses.replace(graph, paths=self._paths).replaced(ops, self._values)
        layouts = {name: self.layouts[name] for name in graph.values}
        return Settled(Assigned(graph, layouts), self.places)

    def new_name(self, name: str) -> str:
        """A name for something of the compiler's own that is made of a value."""
        number, reserved = 1, self.graph.reserved
        while (new := f"{name}:{self._mark}{number}") in self._values or new in reserved:
            number += 1
        return new
