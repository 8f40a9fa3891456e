"""ONNX Loop as one body that runs again and again: what `inline` leaves of it.

The body's nodes stand in the graph once, under the path (LOOP, True), and its tensors are called
``NAME@LOOP.*``: the asterisk stands for the trip. In front of them a node `LoopEnter` makes each
carried tensor, behind them a node `LoopLeave` makes the results. A body can stay whole where a
trip's number only picks an element of something outside, and where what is carried are codes, or
reals of one scale; other Loops are written out (loops.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from compiler.frontend.loops import Known, LoopNode
from compiler.frontend.model import Array, is_standard, label
from compiler.ir import Path

ENTER, LEAVE = "LoopEnter", "LoopLeave"
KEEPS = frozenset(("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"))
"""Operators between a trip's number and the Gather that picks by it."""
MOVED = frozenset(("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"))
"""Operators that keep codes and scale."""
CODES = (onnx.TensorProto.UINT8, onnx.TensorProto.INT8)
Substitute = Callable[[onnx.NodeProto, Mapping[str, str]], None]


Names = tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """A Loop whose body stands in the graph once; names are those in the flat graph.

    Attributes
    ----------
    trips: how many, at most where `condition` decides.
    condition: what decides whether another trip follows; empty if all follow.
    carried, following: what a trip reads (codes), and what it leaves in its place.
    rows: what each trip hands out.
    """

    trips: int
    condition: str
    carried: Names
    following: Names
    rows: Names


@dataclasses.dataclass
class Body:
    """What stands in a Loop's place.

    Attributes
    ----------
    loop: what is known of it.
    before: nodes of the outer graph. nodes: of the body. behind: the node that leaves.
    constants: of the body.
    picks: results of nodes Gather that take the trip's element.
    """

    loop: Kept
    before: list[onnx.NodeProto]
    nodes: list[onnx.NodeProto]
    behind: onnx.NodeProto
    constants: list[onnx.TensorProto]
    picks: list[str]


def keep(node: onnx.NodeProto, known: Known, substitute: Substitute) -> Body | None:
    """The body of a Loop, once; None where it has to be written out.

    Raises
    ------
    FileError
        As `loops.unroll`.
    """
    read = LoopNode(node, known)
    scales = _Scales(read, known).all()
    picks = _picks(read)
    if scales is None or picks is None:
        return None
    return _body(read, scales, picks, substitute)


MARK = ".*"
"""Behind the name of a Loop whose body is whole: the asterisk stands for the trip."""


def in_loop(path: Path) -> bool:
    """Whether what stands there runs once for every trip."""
    return any(name.endswith(MARK) for name, _ in path)


def _picks(read: LoopNode) -> list[str] | None:
    """Nodes Gather that take a trip's element of something outside; None: it is used otherwise."""
    number = {read.body.input[0].name}
    own = {n for each in read.body.node for n in each.output} | {v.name for v in read.body.input}
    picks = []
    for each in read.body.node:
        if _reads_inside(each, number):
            return None
        if not number.intersection(each.input):
            continue
        if is_standard(each) and each.op_type in KEEPS and each.input[0] in number:
            number.update(each.output)
        elif (
            is_standard(each)
            and each.op_type == "Gather"
            and each.input[1] in number
            and each.input[0] not in own
        ):
            picks.append(each.output[0])
        else:
            return None
    return None if number.intersection(v.name for v in read.body.output) else picks


def _reads_inside(node: onnx.NodeProto, names: set[str]) -> bool:
    """Whether a body of a node reads one of some tensors."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            inner = attribute.g
            if any(names.intersection(n.input) or _reads_inside(n, names) for n in inner.node):
                return True
            if names.intersection(v.name for v in inner.output):
                return True
    return False


class _Scales:
    """Whether what a Loop carries has one scale all along."""

    def __init__(self, read: LoopNode, known: Known) -> None:
        self.read, self._known = read, known
        self.own = {t.name: np.asarray(numpy_helper.to_array(t)) for t in read.body.initializer}
        self.makers = {n: each for each in read.body.node for n in each.output if n}
        for each in read.body.node:
            if each.op_type == "Constant" and each.attribute[0].name == "value":
                self.own[each.output[0]] = np.asarray(numpy_helper.to_array(each.attribute[0].t))

    def all(self) -> list[Names] | None:
        """Names of scale and zero point of every carried tensor, () of codes; None: it has none."""
        body, count = self.read.body, len(self.read.initial)
        found = list(map(self._one, body.input[2:], body.output[1 : 1 + count]))
        return None if None in found else [each for each in found if each is not None]

    def _one(self, value: onnx.ValueInfoProto, following: onnx.ValueInfoProto) -> Names | None:
        kind = value.type.tensor_type.elem_type
        if kind in CODES:
            return ()
        if kind != onnx.TensorProto.FLOAT:
            return None
        node = self._behind(following.name)
        made = None if node is None else self._parameters(node)
        if node is None or made is None or not self._read_as(value.name, made):
            return None
        return tuple(node.input[1:])

    def _behind(self, name: str) -> onnx.NodeProto | None:
        """The DequantizeLinear that makes a tensor of the body."""
        while (node := self.makers.get(name)) is not None and node.op_type in MOVED:
            name = node.input[0]
        node = self.makers.get(name)
        return node if node is not None and node.op_type == "DequantizeLinear" else None

    def _parameters(self, node: onnx.NodeProto) -> tuple[Array, ...] | None:
        found = [self._constant(name) for name in node.input[1:]]
        if len(found) != 2 or any(f is None or f.size != 1 for f in found):
            return None
        return tuple(f.reshape(()) for f in found if f is not None)

    def _constant(self, name: str) -> Array | None:
        return self.own[name] if name in self.own else self._known(name)

    def _read_as(self, name: str, made: tuple[Array, ...]) -> bool:
        """Whether a trip quantizes a carried tensor with a scale before it does anything else."""
        names = [name]
        while names:
            name = names.pop()
            if any(_reads_inside(each, {name}) for each in self.read.body.node):
                return False
            if any(v.name == name for v in self.read.body.output):
                return False
            for each in self.read.body.node:
                if name not in each.input:
                    continue
                if each.op_type in MOVED and each.input[0] == name:
                    names.append(each.output[0])
                elif each.op_type != "QuantizeLinear" or self._parameters(each) != made:
                    return False
        return True


def _body(read: LoopNode, scales: list[Names], picks: list[str], substitute: Substitute) -> Body:
    loop, body = read.name, read.body
    inside = f"@{loop}{MARK}"
    own = [n for each in body.node for n in each.output if n]
    names = {t.name: f"{t.name}@{loop}" for t in body.initializer}
    names |= {n: n + inside for n in own}
    number, going, *inputs = (v.name for v in body.input)
    carried = tuple(f"{name}{inside}" for name in inputs)
    names |= {number: f"{loop}.number", going: f"{loop}.true"}
    names |= dict(zip(inputs, carried, strict=True))
    constants = [
        numpy_helper.from_array(np.array(0, np.int64), names[number]),
        numpy_helper.from_array(np.array(True), names[going]),
    ]
    for tensor in body.initializer:
        copy = onnx.TensorProto()
        copy.CopyFrom(tensor)
        copy.name = names[tensor.name]
        constants.append(copy)
    nodes = []
    for each in body.node:
        copied = onnx.NodeProto()
        copied.CopyFrom(each)
        copied.name = f"{label(each)}{inside}"
        substitute(copied, names)
        nodes.append(copied)
    made = [names.get(v.name, v.name) for v in body.output]
    count = len(inputs)
    entered = tuple(f"{n}:codes" if s else n for n, s in zip(carried, scales, strict=True))
    kept = Kept(
        read.trips,
        made[0] if read.exit else "",
        entered,
        tuple(made[1 : 1 + count]),
        tuple(made[1 + count :]),
    )
    before: list[onnx.NodeProto] = []
    for initial, name, scale in zip(read.initial, carried, scales, strict=True):
        scale = tuple(names.get(n, n) for n in scale)
        before += _entering(initial, name, scale)
    outputs = [n or f"{loop}.unused{k}" for k, n in enumerate(read.node.output)]
    outputs += [f"{loop}.unused{k}" for k in range(len(outputs), count + len(kept.rows))]
    behind = onnx.helper.make_node(
        LEAVE, [kept.condition, *kept.following, *kept.rows, *entered], outputs, loop
    )
    return Body(kept, before, nodes, behind, constants, [names[n] for n in picks])


def _entering(initial: str, name: str, scale: Names) -> list[onnx.NodeProto]:
    """Nodes that make a carried tensor; of reals, through their codes."""
    make = onnx.helper.make_node
    if not scale:
        return [make(ENTER, [initial], [name], name)]
    first, inside = f"{name}:first", f"{name}:codes"
    return [
        make("QuantizeLinear", [initial, *scale], [first], first),
        make(ENTER, [first], [inside], name),
        make("DequantizeLinear", [inside, *scale], [name], f"{name}:real"),
    ]
