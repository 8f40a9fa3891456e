"""ONNX Loop with a constant trip count, trip after trip.

Every trip's nodes stand in the graph under names of their own (``NAME@LOOP.TRIP``), so each trip's
tensors are tensors of the graph, proven and compared like any other. What is carried goes from trip
to trip by name, a trip's number is a constant, and rows that the body hands out are stacked. Where
the body decides whether there is another trip, all later trips stand behind that decision.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from compiler.frontend.model import Array, FileError, is_standard, label
from compiler.ir import Path

MOST_TRIPS = 64
"""A program holds the instructions of every trip."""

Known = Callable[[str], Array | None]
"""The value of a constant of the file, by name."""


def is_loop(node: onnx.NodeProto) -> bool:
    """Whether a node is a Loop of the file."""
    return bool(is_standard(node) and node.op_type == "Loop")


@dataclasses.dataclass
class Unrolled:
    """What stands in a Loop's place.

    Attributes
    ----------
    nodes: in order of execution, with the decisions that each stands behind.
    constants: what the bodies hold, once, and the numbers of the trips.
    initial: names of what is carried into the first trip.
    """

    nodes: list[tuple[Path, onnx.NodeProto]] = dataclasses.field(default_factory=list)
    constants: list[onnx.TensorProto] = dataclasses.field(default_factory=list)
    initial: tuple[str, ...] = ()


def unroll(
    node: onnx.NodeProto,
    known: Known,
    substitute: Callable[[onnx.NodeProto, Mapping[str, str]], None],
) -> Unrolled:
    """Write a Loop out.

    Parameters
    ----------
    substitute: gives the tensors of a node other names.

    Raises
    ------
    FileError
        The number of trips is not constant, too large, or 0; the body does not fit the node.
    """
    return _Unrolling(node, known, substitute).run()


class _Unrolling:
    def __init__(
        self,
        node: onnx.NodeProto,
        known: Known,
        substitute: Callable[[onnx.NodeProto, Mapping[str, str]], None],
    ) -> None:
        self.node, self.substitute = node, substitute
        self.name = label(node)
        body = next((a.g for a in node.attribute if a.name == "body"), None)
        if body is None:
            raise self._error("has no body")
        self.body = body
        self.initial = list(node.input[2:])
        if len(body.input) != 2 + len(self.initial) or len(body.output) <= len(self.initial):
            raise self._error("and its body do not carry the same tensors")
        if len(node.output) != len(body.output) - 1:
            raise self._error("and its body do not make the same results")
        self.trips = self._count(known)
        self.result = Unrolled(initial=tuple(self.initial))
        self.own = {n for each in body.node for n in each.output if n}
        self.shared = {t.name: f"{t.name}@{self.name}" for t in body.initializer}
        for tensor in body.initializer:
            copy = onnx.TensorProto()
            copy.CopyFrom(tensor)
            copy.name = self.shared[tensor.name]
            self.result.constants.append(copy)

    def _error(self, what: str) -> FileError:
        return FileError(f"node {self.name} (Loop): {what}")

    def _count(self, known: Known) -> int:
        given = known(self.node.input[0]) if self.node.input[0] else None
        if given is None or given.size != 1:
            raise self._error("its number of trips is not constant")
        trips = int(given.reshape(-1)[0])
        if not 1 <= trips <= MOST_TRIPS:
            raise self._error(
                f"{trips} trips; 1 to {MOST_TRIPS} are written out (more: build the body as a step "
                "with states, and `sim run --steps`)"
            )
        condition = self.node.input[1] if len(self.node.input) > 1 else ""
        first = known(condition) if condition else np.array(True)
        if first is None or first.size != 1 or not bool(first.reshape(-1)[0]):
            raise self._error("whether it begins is not constant, or it never does")
        return trips

    def run(self) -> Unrolled:
        """All trips, then the results."""
        always = self._always(self.body.output[0].name)
        carried, rows = list(self.initial), list[list[str]]()
        exits: list[tuple[str, list[str]]] = []
        for trip in range(self.trips):
            path = tuple((self._exit(n), True) for n in range(len(exits)))
            names = self._trip(trip, carried, path)
            made = [names.get(v.name, v.name) for v in self.body.output]
            carried = made[1 : 1 + len(self.initial)]
            rows.append(made[1 + len(self.initial) :])
            if not always and trip + 1 < self.trips:
                exits.append((made[0], list(carried)))
        if exits and rows[0]:
            raise self._error(
                "hands out rows, and its body decides when it ends: their number is not constant"
            )
        for n in reversed(range(len(exits))):
            condition, before = exits[n]
            path = tuple((self._exit(m), True) for m in range(n))
            joined = [f"{self.name}.joined{n}.{k}" for k in range(len(carried))]
            for result, name, kept in zip(joined, carried, before, strict=True):
                self._add(path, "If", [condition, name, kept], result, f"{self._exit(n)}:{result}")
            carried = joined
        self._results(carried, rows)
        return self.result

    def _exit(self, number: int) -> str:
        """Name of the decision that another trip follows."""
        return f"{self.name}.trip{number + 1}"

    def _trip(self, trip: int, carried: list[str], path: Path) -> dict[str, str]:
        """Append the nodes of a trip; new names by the body's."""
        number, condition, *inputs = (v.name for v in self.body.input)
        names = self.shared | {n: f"{n}@{self.name}.{trip}" for n in self.own}
        counted, true = f"{self.name}.number{trip}", f"{self.name}.true"
        self._constant(counted, np.array(trip, np.int64))
        if not trip:
            self._constant(true, np.array(True))
        names |= {number: counted, condition: true} | dict(zip(inputs, carried, strict=True))
        for each in self.body.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(each)
            copy.name = f"{label(each)}@{self.name}.{trip}"
            self.substitute(copy, names)
            self.result.nodes.append((path, copy))
        return names

    def _always(self, name: str) -> bool:
        """Whether the body goes on whatever it computes: it hands its condition on."""
        makers = {n: each for each in self.body.node for n in each.output}
        constants = {t.name: numpy_helper.to_array(t) for t in self.body.initializer}
        while name in makers and makers[name].op_type in ("Identity", "Cast"):
            name = makers[name].input[0]
        if name in makers and makers[name].op_type == "Constant":
            value = makers[name].attribute[0]
            return value.name == "value" and bool(numpy_helper.to_array(value.t).all())
        return name == self.body.input[1].name or bool(constants.get(name, np.array(False)).all())

    def _constant(self, name: str, value: Array) -> str:
        self.result.constants.append(numpy_helper.from_array(value, name))
        return name

    def _add(
        self, path: Path, op: str, inputs: list[str], output: str, name: str = "", **attributes: int
    ) -> None:
        made = onnx.helper.make_node(op, inputs, [output], name or output, **attributes)
        self.result.nodes.append((path, made))

    def _results(self, carried: list[str], rows: list[list[str]]) -> None:
        """The node's results: what was carried last, and the stacked rows."""
        first = self._constant(f"{self.name}.first", np.array([0], np.int64))
        for output, name in zip(self.node.output, carried, strict=False):
            if output:
                self._add((), "Identity", [name], output)
        for place, output in enumerate(self.node.output[len(carried) :]):
            parts = [f"{self.name}.row{place}.{trip}" for trip in range(self.trips)]
            if output:
                for part, made in zip(parts, rows, strict=True):
                    self._add((), "Unsqueeze", [made[place], first], part)
                self._add((), "Concat", parts, output, axis=0)
