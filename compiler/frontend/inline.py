"""ONNX If and Loop as a straight line: arms and bodies stand in the graph.

An arm reads outer tensors by name and can be read where it stands. `inline` puts the nodes of both
arms in the If's place and leaves a node `If` of three inputs for each result: condition, and what
either arm makes of it. Which arm a tensor belongs to is its *path*: decisions, outermost first.
What is read in an arm is computed in that arm only. Bodies of Loops stand there once (trips.py), or
once for every trip (loops.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from compiler.frontend.loops import is_loop, unroll
from compiler.frontend.model import Array, FileError, is_standard, label
from compiler.frontend.scans import Sizes, as_loop, is_scan, sizes
from compiler.frontend.trips import LEAVE, MARK, Kept, keep
from compiler.ir import Path


def is_if(node: onnx.NodeProto) -> bool:
    """Whether a node is an If of the file."""
    return bool(is_standard(node) and node.op_type == "If" and node.attribute)


def is_join(node: onnx.NodeProto) -> bool:
    """Whether a node is what `inline` left of an If."""
    return bool(is_standard(node) and node.op_type == "If" and not node.attribute)


def decides(node: onnx.NodeProto) -> bool:
    """Whether a node is one of those whose first input is a condition."""
    return is_join(node) or (node.op_type == LEAVE and bool(node.input[0]))


@dataclasses.dataclass(frozen=True, slots=True)
class Inlined:
    """A straight line.

    Attributes
    ----------
    model: without If and Loop.
    paths: of what arms make, by name.
    carried: what Loops that are written out carry into their first trips.
    loops: those whose bodies are whole, by name.
    picks: results of nodes Gather that take the trip's element, with their Loop.
    """

    model: onnx.ModelProto
    paths: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    carried: frozenset[str] = frozenset()
    loops: Mapping[str, Kept] = dataclasses.field(default_factory=dict)
    picks: Mapping[str, str] = dataclasses.field(default_factory=dict)


def inline(model: onnx.ModelProto) -> Inlined:
    """Put bodies in the place of every Loop, and arms in the place of every If.

    Names of an arm that stand in the file already, or that stand in a Loop, get ``@`` and the arm
    behind them.

    Raises
    ------
    FileError
        An If is damaged, or a Loop cannot be written out.
    """
    for node in model.graph.node:
        if is_join(node):  # what is made of an If here looks so; no file holds it
            raise FileError(f"node {label(node)} (If): it has no branches")
    if not any(is_if(node) or is_loop(node) or is_scan(node) for node in model.graph.node):
        return Inlined(model)
    flat = onnx.ModelProto()
    flat.CopyFrom(model)
    work = _Inlining(flat.graph, sizes(model))
    nodes = [made for node in list(flat.graph.node) for made in work.expanded(node, ())]
    del flat.graph.node[:]
    flat.graph.node.extend(nodes)
    return Inlined(flat, work.paths, frozenset(work.carried), work.loops, work.picks)


class _Inlining:
    def __init__(self, graph: onnx.GraphProto, shapes: Sizes) -> None:
        self.graph, self.shapes = graph, shapes
        self.paths: dict[str, Path] = {}
        self.labels: set[str] = set()
        self.carried: set[str] = set()
        self.loops: dict[str, Kept] = {}
        self.picks: dict[str, str] = {}
        self.constants: dict[str, Array] = {}
        self.trips = 0  # Loops around what is being read
        self.names = {value.name for value in (*graph.input, *graph.initializer)}
        self.names |= {name for node in graph.node for name in node.output if name}

    def expanded(self, node: onnx.NodeProto, path: Path) -> list[onnx.NodeProto]:
        """The nodes that take a node's place."""
        if is_scan(node):
            node, constants = as_loop(node, self.shapes)
            self.graph.initializer.extend(constants)
        if is_loop(node):
            return self._trips(node, path)
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            self.constants[node.output[0]] = np.asarray(numpy_helper.to_array(node.attribute[0].t))
        made = self._arms(node, path) if is_if(node) else [node]
        for name in filter(None, node.output):
            if path:
                self.paths[name] = path
        return made

    def _trips(self, node: onnx.NodeProto, path: Path) -> list[onnx.NodeProto]:
        """The body of a Loop, or all of its trips."""
        self.trips += 1
        made = self._body(node, path)
        if made is None:
            made = self._written_out(node, path)
        self.trips -= 1
        return made

    def _body(self, node: onnx.NodeProto, path: Path) -> list[onnx.NodeProto] | None:
        """A body once, between what enters and what leaves it."""
        body = keep(node, self._known, substitute)
        if body is None:
            return None
        loop = label(node)
        if loop in self.loops:
            raise FileError(f"two nodes Loop have the name {loop!r}")
        self.loops[loop] = body.loop
        self.picks |= dict.fromkeys(body.picks, loop)
        self.graph.initializer.extend(body.constants)
        self.names |= {tensor.name for tensor in body.constants}
        self.names |= {name for inner in body.nodes for name in inner.output}
        within = (*path, (f"{loop}{MARK}", True))
        nodes = [made for inner in body.nodes for made in self.expanded(inner, within)]
        made = [*body.before, *nodes, body.behind]
        if path:
            for outer in (*body.before, body.behind):
                self.paths |= dict.fromkeys(outer.output, path)
        return made

    def _written_out(self, node: onnx.NodeProto, path: Path) -> list[onnx.NodeProto]:
        """All trips of a Loop."""
        trips = unroll(node, self._known, substitute)
        self.graph.initializer.extend(trips.constants)
        self.carried |= set(trips.initial)
        self.names |= {tensor.name for tensor in trips.constants}
        self.names |= {name for _, inner in trips.nodes for name in inner.output}
        return [
            made for within, inner in trips.nodes for made in self.expanded(inner, (*path, *within))
        ]

    def _known(self, name: str) -> Array | None:
        """A constant of the graph so far."""
        for tensor in self.graph.initializer:
            if tensor.name == name:
                return np.asarray(numpy_helper.to_array(tensor))
        return self.constants.get(name)

    def _arms(self, node: onnx.NodeProto, path: Path) -> list[onnx.NodeProto]:
        branch = label(node)
        if branch in self.labels:
            raise FileError(f"two nodes If have the name {branch!r}")
        self.labels.add(branch)
        arms = {attribute.name: attribute.g for attribute in node.attribute}
        made: list[onnx.NodeProto] = []
        results: list[list[str]] = []
        for name, taken in (("then_branch", True), ("else_branch", False)):
            arm = arms.get(name)
            if arm is None or len(arm.output) != len(node.output) or arm.input:
                raise FileError(f"node {branch} (If): its {name} does not make its results")
            within = (*path, (branch, taken))
            known = self._fresh(arm, f"@{branch}.{name.removesuffix('_branch')}")
            for tensor in arm.initializer:
                tensor.name = known[tensor.name]
                self.graph.initializer.append(tensor)
            for inner in arm.node:
                if self.trips:
                    inner.name = f"{label(inner)}@{branch}.{name.removesuffix('_branch')}"
                substitute(inner, known)
                made += self.expanded(inner, within)
            results.append([known.get(value.name, value.name) for value in arm.output])
        for place, output in enumerate(node.output):
            if output:
                inputs = [node.input[0], results[0][place], results[1][place]]
                made.append(onnx.helper.make_node("If", inputs, [output], f"{branch}:{output}"))
        return made

    def _fresh(self, arm: onnx.GraphProto, suffix: str) -> dict[str, str]:
        """Names for what an arm makes."""
        known = {}
        for name in (*(t.name for t in arm.initializer), *(n for o in arm.node for n in o.output)):
            if name:
                again = name in self.names or self.trips
                known[name] = f"{name}{suffix}" if again else name
        self.names |= set(known.values())
        return known


def substitute(node: onnx.NodeProto, known: Mapping[str, str]) -> None:
    """Give tensors other names, also where a body inside reads them."""
    for names in (node.input, node.output):
        names[:] = [known.get(name, name) for name in names]
    for attribute in node.attribute:
        if attribute.type != onnx.AttributeProto.GRAPH:
            continue
        body = attribute.g
        own = {value.name for value in (*body.input, *body.initializer)}
        own |= {name for inner in body.node for name in inner.output}
        outer = {name: new for name, new in known.items() if name not in own}
        for inner in body.node:
            substitute(inner, outer)
        for value in body.output:
            value.name = outer.get(value.name, value.name)
