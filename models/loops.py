"""ONNX Loop as a straight line of its trips, where their number is known.

The body is copied once a trip. Tensors of trip t are called ``NAME@LOOP.t``; the trip's number is a
constant, carried tensors go on by name, and rows are stacked at the end. If the body decides
whether to go on, later trips are arms of choices (`branches.is_choice`) by that decision.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

from models.onnxfile import STANDARD, UnsupportedGraph, label

MOST = 1024
"""Trips that are written one after another."""
Rename = Callable[[onnx.NodeProto, Mapping[str, str]], None]
Guard = tuple[tuple[str, bool], ...]


def is_loop(node: onnx.NodeProto) -> bool:
    """Whether a node is a Loop."""
    return node.op_type == "Loop" and node.domain in STANDARD


@dataclass
class Straight:
    """A Loop's trips.

    Attributes
    ----------
    nodes: in order, with conditions that must hold for each and its trip, 0 for what is shared or
        behind the trips.
    constants: of the bodies, and the trips' numbers.
    initial: names of what is carried into the first trip.
    left: what trips leave and hand out, whoever reads it.
    """

    nodes: list[tuple[Guard, int, onnx.NodeProto]] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    initial: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def straighten(
    node: onnx.NodeProto, constants: Mapping[str, np.ndarray], rename: Rename
) -> Straight:
    """Write the trips of a Loop one after another.

    Raises
    ------
    UnsupportedGraph
        Their number is not known, 0 or above MOST, or depends on values while rows are stacked.
    """
    trips = _trips(node, constants)
    body = onnx.GraphProto()
    body.CopyFrom(next(a.g for a in node.attribute if a.name == "body"))
    _lift(body, rename)
    count = len(node.input) - 2
    straight = Straight(initial=list(node.input[2:]))
    goes_on = _goes_on(body)
    if goes_on is not None and len(body.output) > count + 1:
        raise UnsupportedGraph(node, "stacks rows whose number depends on values")
    shared = _constants(node, body, straight, rename)
    carried, stacked, stops = list(node.input[2:]), [], []
    guard: Guard = ()
    for trip in range(trips):
        names = shared | _names(node, body, trip, carried, straight)
        for each in body.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(each)
            copy.name = f"{label(each)}@{label(node)}.{trip}"
            rename(copy, names)
            straight.nodes.append((guard, trip, copy))
        made = [names.get(value.name, value.name) for value in body.output]
        straight.left += made[1:]
        if goes_on is not None:
            straight.left += [names.get(each, each) for each in _deciding(body, goes_on)]
        carried = made[1 : count + 1]
        stacked.append(made[count + 1 :])
        if goes_on is not None and trip < trips - 1:
            stops.append((guard, made[0], carried))
            guard = (*guard, (made[0], True))
    for number, (outer, condition, kept) in reversed(list(enumerate(stops))):
        results = [f"{label(node)}.joined{number}.{k}" for k in range(count)]
        for result, later, now in zip(results, carried, kept, strict=True):
            name = f"{label(node)}.trip{number + 1}:{result}"
            choice = helper.make_node("If", [condition, later, now], [result], name)
            straight.nodes.append((outer, 0, choice))
        carried = results
    straight.nodes += [((), 0, each) for each in _results(node, carried, stacked, straight)]
    straight.left += [*straight.initial, *filter(None, node.output)]
    return straight


def _trips(node: onnx.NodeProto, constants: Mapping[str, np.ndarray]) -> int:
    given = constants.get(node.input[0])
    first = constants.get(node.input[1]) if node.input[1] else np.array(True)
    if given is None or first is None or not bool(first.reshape(-1)[0]):
        raise UnsupportedGraph(node, "its number of trips is not known")
    trips = int(given.reshape(-1)[0])
    if not 1 <= trips <= MOST:
        raise UnsupportedGraph(node, f"has {trips} trips; 1 to {MOST} are read")
    return trips


def _goes_on(body: onnx.GraphProto) -> str | None:
    """The tensor that decides whether another trip follows; None if it always does."""
    name = body.output[0].name
    true = {body.input[1].name}
    true |= {t.name for t in body.initializer if numpy_helper.to_array(t).dtype == bool
             and numpy_helper.to_array(t).all()}  # fmt: skip
    makers = {out: each for each in body.node for out in each.output}
    while name not in true:
        maker = makers.get(name)
        if maker is None or maker.op_type not in ("Identity", "Cast", "Constant"):
            return str(body.output[0].name)
        if maker.op_type == "Constant":
            value = next((a.t for a in maker.attribute if a.name == "value"), None)
            known = value is not None and bool(numpy_helper.to_array(value).all())
            return None if known else str(body.output[0].name)
        name = maker.input[0]
    return None


_MOVES = ("Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")


def _deciding(body: onnx.GraphProto, name: str) -> list[str]:
    """What stands for codes that decide whether another trip follows: every trip computes it."""
    makers = {out: each for each in body.node for out in each.output}
    found, names = [], [name]
    while names:
        node = makers.get(name := names.pop())
        if node is None:
            continue
        made = node.op_type == "QuantizeLinear" or node.op_type.startswith("QLinear")
        if made or any(a.type == a.GRAPH for a in node.attribute):
            found.append(name)
            continue
        if node.op_type == "ArgMax":
            found.clear()  # moves of an index stand for no codes
        elif node.op_type in _MOVES:
            found.append(name)
        names += node.input
    return found


def _constant_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes that compute with the graph's own constants alone."""
    known = {tensor.name for tensor in graph.initializer}
    found = []
    for each in graph.node:
        given = set(each.input) <= known and (each.input or each.op_type == "Constant")
        if given and not any(a.type == a.GRAPH for a in each.attribute):
            known |= set(each.output)
            found.append(each)
    return found


def _lift(graph: onnx.GraphProto, rename: Rename) -> None:
    """Take constants of arms, and what is computed with them alone, out of the arms, in place."""
    for node in list(graph.node):
        for attribute in node.attribute if node.op_type == "If" else ():
            arm = attribute.g
            _lift(arm, rename)
            moved = _constant_nodes(arm)
            made = [t.name for t in arm.initializer] + [n for each in moved for n in each.output]
            names = {name: f"{name}@{label(node)}.{attribute.name}" for name in made if name}
            for each in arm.node:
                rename(each, names)
            for value in arm.output:
                value.name = names.get(value.name, value.name)
            for tensor in arm.initializer:
                tensor.name = names[tensor.name]
            graph.initializer.extend(arm.initializer)
            graph.node.extend(moved)
            gone = {each.output[0] for each in moved}
            kept = [each for each in arm.node if each.output[0] not in gone]
            del arm.initializer[:], arm.node[:]
            arm.node.extend(kept)


def _constants(
    node: onnx.NodeProto, body: onnx.GraphProto, straight: Straight, rename: Rename
) -> dict[str, str]:
    """What all trips share, constants and what is computed with them alone; names by the body's.

    Nodes that are shared leave the body.
    """
    fixed = _constant_nodes(body)
    made = [t.name for t in body.initializer] + [n for each in fixed for n in each.output]
    names = {name: f"{name}@{label(node)}" for name in made if name}
    for tensor in body.initializer:
        copy = onnx.TensorProto()
        copy.CopyFrom(tensor)
        copy.name = names[tensor.name]
        straight.constants.append(copy)
    for each in fixed:
        single = onnx.NodeProto()
        single.CopyFrom(each)
        single.name = f"{label(each)}@{label(node)}"
        rename(single, names)
        straight.nodes.append(((), 0, single))
    gone = {each.output[0] for each in fixed}
    kept = [each for each in body.node if each.output[0] not in gone]
    del body.node[:]
    body.node.extend(kept)
    true = numpy_helper.from_array(np.array(True), f"{label(node)}.true")
    straight.constants.append(true)
    return names


def _names(
    node: onnx.NodeProto, body: onnx.GraphProto, trip: int, carried: list[str], straight: Straight
) -> dict[str, str]:
    """What the body's tensors are called in a trip."""
    number, condition, *inputs = (value.name for value in body.input)
    counted = f"{label(node)}.number{trip}"
    straight.constants.append(numpy_helper.from_array(np.array(trip, np.int64), counted))
    made = (name for each in body.node for name in each.output if name)
    names = {name: f"{name}@{label(node)}.{trip}" for name in made}
    return (
        names
        | {number: counted, condition: f"{label(node)}.true"}
        | dict(zip(inputs, carried, strict=True))
    )


def _results(
    node: onnx.NodeProto, carried: list[str], stacked: list[list[str]], straight: Straight
) -> Iterator[onnx.NodeProto]:
    """What was carried last, and the rows of all trips."""
    for output, name in zip(node.output, carried, strict=False):
        if output:
            yield helper.make_node("Identity", [name], [output], output)
    first = numpy_helper.from_array(np.array([0], np.int64), f"{label(node)}.first")
    straight.constants.append(first)
    for place, output in enumerate(node.output[len(carried) :]):
        rows = [f"{label(node)}.row{place}.{trip}" for trip in range(len(stacked))]
        if not output:
            continue
        for row, made in zip(rows, stacked, strict=True):
            yield helper.make_node("Unsqueeze", [made[place], first.name], [row], row)
        yield helper.make_node("Concat", rows, [output], output, axis=0)
