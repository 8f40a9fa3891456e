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

MOST_TRIPS = (1 << 20) - 1
"""What LOOP counts."""
MOST_WRITTEN = 64
"""Of a Loop that is written out: the program holds the instructions of every trip."""

Known = Callable[[str], Array | None]
"""The value of a constant of the file, by name."""


def is_loop(node: onnx.NodeProto) -> bool:
    """Whether a node is a Loop of the file."""
    return bool(is_standard(node) and node.op_type == "Loop")


class LoopNode:
    """A node Loop, checked.

    Parameters
    ----------
    known: constants of the outer graph.

    Members
    -------
    name, node, body: of the Loop. initial: what it begins with.
    trips: how many, at most where it exits. exit: whether the body decides that. rows: how many
        tensors it stacks.

    Raises
    ------
    FileError
        The number of trips is not constant, too large, or 0; the body does not fit the node.
    """

    def __init__(self, node: onnx.NodeProto, known: Known) -> None:
        self.node, self.name = node, label(node)
        body = next((a.g for a in node.attribute if a.name == "body"), None)
        if body is None:
            raise self.error("has no body")
        self.body = body
        self.initial = list(node.input[2:])
        if len(body.input) != 2 + len(self.initial) or len(body.output) <= len(self.initial):
            raise self.error("and its body do not carry the same tensors")
        if len(node.output) > len(body.output) - 1:
            raise self.error("and its body do not make the same results")
        self.rows = len(body.output) - 1 - len(self.initial)
        self.trips = self._count(known)
        self.exit = not self._always(body.output[0].name)
        if self.exit and self.rows:
            raise self.error(
                "hands out rows, and its body decides when it ends: their number is not constant"
            )

    def error(self, what: str) -> FileError:
        """An error that names the node."""
        return FileError(f"node {self.name} (Loop): {what}")

    def _count(self, known: Known) -> int:
        given = known(self.node.input[0]) if self.node.input[0] else None
        if given is None or given.size != 1:
            raise self.error("its number of trips is not constant")
        trips = int(given.reshape(-1)[0])
        if not 1 <= trips <= MOST_TRIPS:
            raise self.error(f"{trips} trips; 1 to {MOST_TRIPS} are counted")
        condition = self.node.input[1] if len(self.node.input) > 1 else ""
        first = known(condition) if condition else np.array(True)
        if first is None or first.size != 1 or not bool(first.reshape(-1)[0]):
            raise self.error("whether it begins is not constant, or it never does")
        return trips

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
        read = LoopNode(node, known)
        if read.trips > MOST_WRITTEN:
            raise read.error(
                f"{read.trips} trips, and a trip's number is more than the place of a row, or what "
                f"is carried changes its scale: it is written out, up to {MOST_WRITTEN} trips"
            )
        self.node, self.name, self.body = node, read.name, read.body
        self.substitute, self.trips, self.exit = substitute, read.trips, read.exit
        self.initial = read.initial
        self.result = Unrolled(initial=tuple(self.initial))
        self.own = {n for each in self.body.node for n in each.output if n}
        self.shared = {t.name: f"{t.name}@{self.name}" for t in self.body.initializer}
        for tensor in self.body.initializer:
            copy = onnx.TensorProto()
            copy.CopyFrom(tensor)
            copy.name = self.shared[tensor.name]
            self.result.constants.append(copy)

    def run(self) -> Unrolled:
        """All trips, then the results."""
        carried, rows = list(self.initial), list[list[str]]()
        exits: list[tuple[str, list[str]]] = []
        for trip in range(self.trips):
            path = tuple((self._exit(n), True) for n in range(len(exits)))
            names = self._trip(trip, carried, path)
            made = [names.get(v.name, v.name) for v in self.body.output]
            carried = made[1 : 1 + len(self.initial)]
            rows.append(made[1 + len(self.initial) :])
            if self.exit and trip + 1 < self.trips:
                exits.append((made[0], list(carried)))
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
