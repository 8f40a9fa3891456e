"""ONNX If as a straight line: nodes of both arms with the decisions that they stand behind.

An arm computes with outer tensors by name, so its nodes can stand in the outer graph; what is left
of the If is one node per result that chooses among the arms' results. Which nodes run is said apart
from them (`Flat.guards`): nothing of the arm that is not taken is ever computed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from models.loops import is_loop, straighten
from models.onnxfile import CODES, STANDARD, UnsupportedGraph, attributes_of, label
from models.scans import is_scan, lengths, looped
from models.values import (
    Call,
    Codes,
    Constant,
    Function,
    Group,
    Integers,
    Shape,
    Tensors,
    Value,
)

Guard = tuple[tuple[str, bool], ...]
"""Decisions, outermost first: the condition's name, and what it must be."""
ARMS = (("then_branch", True), ("else_branch", False))
_INDEX = (
    *("Cast", "Equal", "Flatten", "Greater", "GreaterOrEqual", "Identity", "Less"),
    *("LessOrEqual", "Not", "Reshape", "Squeeze", "Unsqueeze"),
)
"""Operators that may stand between an ArgMax and the condition that it decides."""


def is_choice(node: onnx.NodeProto) -> bool:
    """Whether a node is what `flatten` left of an If: condition, result of either arm."""
    return node.op_type == "If" and node.domain in STANDARD and not node.attribute


@dataclass
class Flat:
    """A model without If.

    Attributes
    ----------
    model: nodes of arms stand in the graph; an If is a node without attributes for each result,
        whose inputs are its condition and the results of its arms.
    guards: by tensor, for those that arms make.
    carried: constants that a Loop carries into its first trip: what is computed with them is
        computed in integers, as in any other trip.
    beside: results of each Loop, with what its trips leave: a trip computes all of it, although
        what the last one leaves, or a tensor that goes round in vain, may have no reader.
    shapes: of the file's tensors, where ONNX infers them.
    trips: by tensor and Loop, the trip in which it is made, where that is not the first, 0.
    """

    model: onnx.ModelProto
    guards: dict[str, Guard] = field(default_factory=dict)
    carried: set[str] = field(default_factory=set)
    beside: list[tuple[list[str], list[str]]] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    trips: dict[str, dict[str, int]] = field(default_factory=dict)


def flatten(model: onnx.ModelProto) -> Flat:
    """Put the arms of every If, and the trips of every Loop, into the graph.

    A name that stands in the file already, or in a trip of a Loop, gets ``@`` and the arm's name
    behind it.

    Raises
    ------
    UnsupportedGraph
        An If lacks an arm, or its arms differ in their number of results.
    """
    if not any(node.op_type in ("If", "Loop", "Scan") for node in model.graph.node):
        return Flat(model)
    flat = Flat(onnx.ModelProto(), shapes=lengths(model))
    flat.model.CopyFrom(model)
    graph = flat.model.graph
    taken = {v.name for v in (*graph.input, *graph.initializer)}
    taken |= {name for node in graph.node for name in node.output}
    nodes = list(_nodes(list(graph.node), (), taken, flat, trips=False))
    del graph.node[:]
    graph.node.extend(nodes)
    return flat


def _nodes(
    nodes: list[onnx.NodeProto], guard: Guard, taken: set[str], flat: Flat, trips: bool
) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        if is_scan(node):
            node, count = looped(node, flat.shapes)
            flat.model.graph.initializer.append(count)
        if is_loop(node):
            known = {t.name: numpy_helper.to_array(t) for t in flat.model.graph.initializer}
            straight = straighten(node, known, _rename)
            flat.model.graph.initializer.extend(straight.constants)
            flat.carried |= set(straight.initial) & set(known)
            taken |= {name for *_, each in straight.nodes for name in each.output}
            flat.beside.append((list(node.output), straight.left))
            for inner, trip, each in straight.nodes:
                for made in _nodes([each], (*guard, *inner), taken, flat, trips=True):
                    for name in made.output if trip else ():
                        flat.trips.setdefault(name, {})[label(node)] = trip
                    yield made
            continue
        if node.op_type == "If" and node.domain in STANDARD and node.attribute:
            yield from _arms(node, guard, taken, flat, trips)
        else:
            yield node
        flat.guards |= {name: guard for name in node.output if name and guard}


def _arms(
    node: onnx.NodeProto, guard: Guard, taken: set[str], flat: Flat, trips: bool
) -> Iterator[onnx.NodeProto]:
    """Nodes of both arms, then a choice for each result."""
    graphs = {a.name: a.g for a in node.attribute}
    condition, results = node.input[0], []
    for name, holds in ARMS:
        if name not in graphs or len(graphs[name].output) != len(node.output):
            raise UnsupportedGraph(node, f"its {name} does not make its {len(node.output)} results")
        arm = onnx.GraphProto()
        arm.CopyFrom(graphs[name])
        suffix = f"@{label(node)}.{name.removesuffix('_branch')}"
        names = _renamed(arm, taken, suffix, trips)
        for tensor in arm.initializer:
            tensor.name = names[tensor.name]
            flat.model.graph.initializer.append(tensor)
        for inner in arm.node:
            if trips:  # every trip has an arm of its own
                inner.name = label(inner) + suffix
            _rename(inner, names)
        results.append([names.get(value.name, value.name) for value in arm.output])
        yield from _nodes(list(arm.node), (*guard, (condition, holds)), taken, flat, trips)
    for place, output in enumerate(node.output):
        if output:
            chosen = [condition, results[0][place], results[1][place]]
            yield helper.make_node("If", chosen, [output], f"{label(node)}:{output}")


def _renamed(arm: onnx.GraphProto, taken: set[str], suffix: str, always: bool) -> dict[str, str]:
    """New names of everything that an arm makes itself."""
    own = [t.name for t in arm.initializer]
    own += [name for node in arm.node for name in node.output if name]
    names = {name: name + suffix if always or name in taken else name for name in own}
    taken |= set(names.values())
    return names


def _rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Rename what a node reads and makes, in arms of its own, too."""
    node.input[:] = [names.get(name, name) for name in node.input]
    node.output[:] = [names.get(name, name) for name in node.output]
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            inner = attribute.g
            hidden = {t.name for t in (*inner.initializer, *inner.input)}
            hidden |= {name for each in inner.node for name in each.output}
            outer = {old: new for old, new in names.items() if old not in hidden}
            for each in inner.node:
                _rename(each, outer)
            for value in inner.output:
                value.name = outer.get(value.name, value.name)


# Conditions --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decision:
    """How a condition follows from codes.

    Attributes
    ----------
    reads: name of the codes.
    table: without `axis`: what it is for every code, ascending, of the one element.
    axis: the index of the greatest code along it decides; the other axes have one element.
    last: the last one of equal codes, not the first.
    low: least code.
    """

    reads: str
    table: np.ndarray
    axis: int | None = None
    last: bool = False
    low: int = 0

    def __call__(self, codes: np.ndarray) -> bool:
        """Decide."""
        values = codes.reshape(-1).astype(np.int64)
        if self.axis is None:
            return bool(self.table[values[0] - self.low])
        index = values.size - 1 - values[::-1].argmax() if self.last else values.argmax()
        return bool(self.table[index])


def behind_argmax(
    name: str, producers: Mapping[str, onnx.NodeProto], constants: Mapping[str, np.ndarray]
) -> list[onnx.NodeProto] | None:
    """Nodes from an ArgMax to a condition, in order; None if none decides it."""
    chain: list[onnx.NodeProto] = []
    while True:
        node = producers.get(name)
        if node is None or node.domain not in STANDARD:
            return None
        chain.insert(0, node)
        if node.op_type == "ArgMax":
            return chain
        moving = [each for each in node.input if each and each not in constants]
        if node.op_type not in _INDEX or len(moving) != 1:
            return None
        name = moving[0]


def decided(
    node: onnx.NodeProto,
    condition: Value | None,
    chain: list[onnx.NodeProto] | None,
    source: Value | None,
    constants: Mapping[str, np.ndarray],
    opset: int,
) -> Decision:
    """How the condition of an If follows from codes.

    Parameters
    ----------
    node: the choice, for messages.
    condition: what the condition stands for, where no ArgMax decides it.
    chain, source: nodes from the ArgMax on, and what that reads.

    Raises
    ------
    UnsupportedGraph
        It depends on more than one element, or is computed in float.
    """
    if chain is None:
        return _by_code(node, condition)
    if not isinstance(source, Codes | Integers) or source.params is None:
        raise UnsupportedGraph(node, f"input {chain[0].input[0]} of its ArgMax is not quantized")
    attributes = attributes_of(chain[0])
    axis = attributes.get("axis", 0) % len(source.shape)
    count = source.shape[axis]
    if count != int(np.prod(source.shape)):
        raise UnsupportedGraph(node, f"ArgMax over one of the axes of {list(source.shape)} decides")
    kept = attributes.get("keepdims", 1)
    shape = [n for a, n in enumerate(source.shape) if a != axis or kept]
    shape = [1 if a == axis and kept else n for a, n in enumerate(shape)]
    table = [
        _follow(node, chain[1:], chain[0].output[0], shape, i, constants, opset)
        for i in range(count)
    ]
    last = bool(attributes.get("select_last_index", 0))
    return Decision(source.name, np.array(table), axis, last)


def _by_code(node: onnx.NodeProto, condition: Value | None) -> Decision:
    if isinstance(condition, Constant):
        raise UnsupportedGraph(node, f"its condition {node.input[0]} is constant")
    if not isinstance(condition, Function):
        raise UnsupportedGraph(
            node, f"its condition {node.input[0]} is no comparison of quantized values"
        )
    if condition.table.dtype != bool or int(np.prod(condition.shape)) != 1:
        raise UnsupportedGraph(
            node,
            f"its condition {node.input[0]} is {condition.table.dtype} {list(condition.shape)}, "
            "not one bool",
        )
    low = int(condition.codes.params.low)
    return Decision(condition.codes.name, condition.table, low=low)


def _follow(
    node: onnx.NodeProto,
    chain: list[onnx.NodeProto],
    name: str,
    shape: list[int],
    index: int,
    constants: Mapping[str, np.ndarray],
    opset: int,
) -> bool:
    """What a condition is where the greatest element has an index."""
    if not chain:
        raise UnsupportedGraph(node, f"its condition {name} is int64, not bool")
    read = dict.fromkeys(n for each in chain for n in each.input if n in constants)
    graph = helper.make_graph(
        chain,
        "decision",
        [helper.make_tensor_value_info(name, onnx.TensorProto.INT64, shape)],
        [onnx.ValueInfoProto(name=chain[-1].output[0])],
        [numpy_helper.from_array(constants[each], each) for each in read],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    (value,) = ReferenceEvaluator(model).run(None, {name: np.full(shape, index, np.int64)})
    found = np.asarray(value)
    if found.dtype != bool or found.size != 1:
        raise UnsupportedGraph(
            node, f"its condition is {found.dtype} {list(found.shape)}, not one bool"
        )
    return bool(found.reshape(-1)[0])


# Results -----------------------------------------------------------------------------------


def chosen(call: Call) -> tuple[Group, Integers | Codes]:
    """The group that takes the result of the arm that ran, and what it stands for.

    Parameters
    ----------
    call: condition, result of the arm where it holds, of the other one.

    Raises
    ------
    UnsupportedGraph
        The arms' results are no codes of one type, shape and scale.
    """
    output, arms = call.node.output[0], call.operands[1:]
    kinds = [_codes_of(call, value) for value in arms]
    if kinds[0] != kinds[1]:
        raise call.refuse(
            f"its arms make {_said(kinds[0])} and {_said(kinds[1])}: quantize their results with "
            "one scale"
        )
    dtype, shape, _, integer = kinds[0]
    params = [v.params for v in arms if isinstance(v, Integers | Codes | Constant)]
    same = None not in params and params[0].same_as(params[1])  # type: ignore[union-attr,arg-type]
    known = params[0] if same else None
    condition = call.names[0]

    def compute(tensors: Tensors) -> torch.Tensor:
        arm = arms[0] if bool(tensors[condition]) else arms[1]
        if isinstance(arm, Constant):
            return torch.from_numpy(np.array(arm.array if arm.codes is None else arm.codes))
        assert isinstance(arm, Integers | Codes)
        return tensors[arm.name]

    reads = [v.name for v in arms if isinstance(v, Integers | Codes)]
    group = Group(
        call.node,
        "If",
        output,
        tuple(dict.fromkeys((condition, *reads))),
        compute,
        shape,
        dtype,
        known,
        stands=not integer,
    )
    if integer:
        return group, Integers(output, dtype, shape, known)
    assert known is not None
    return group, Codes(output, known, shape)


_Kind = tuple[np.dtype, Shape, tuple[float, int] | None, bool]


def _codes_of(call: Call, value: Value | None) -> _Kind:
    """Type, shape, scale and zero point (of reals), and whether a result is bare integers."""
    if isinstance(value, Integers):
        return value.dtype, tuple(value.shape), None, True
    if isinstance(value, Constant) and value.codes is None and value.array.dtype in CODES:
        return value.array.dtype, tuple(value.array.shape), None, True
    if isinstance(value, Codes):
        shape, params = value.shape, value.params
    elif isinstance(value, Constant) and value.codes is not None and value.params is not None:
        shape, params = value.codes.shape, value.params
    else:
        raise call.refuse(
            "a result of its arms is computed in float: put QuantizeLinear (and DequantizeLinear) "
            "behind it, inside the arm"
        )
    return params.dtype, tuple(shape), (float(params.unit), params.zero), False


def _said(kind: _Kind) -> str:
    dtype, shape, scale, integer = kind
    what = f"{dtype} {list(shape)}" if integer else f"reals of {dtype} {list(shape)}"
    return what if scale is None else f"{what} with scale {scale[0]:.9g}, zero point {scale[1]}"


def deciding(call: Call, found: Decision) -> Group:
    """The group that makes a condition."""
    shape: Shape = ()

    def compute(tensors: Tensors) -> torch.Tensor:
        return torch.tensor(found(tensors[found.reads].numpy()))

    kind = np.dtype(bool)
    return Group(
        call.node, "If", call.names[0], (found.reads,), compute, shape, kind, form="decision"
    )
