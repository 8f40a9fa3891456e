"""ONNX If and Loop: decisions about codes, the joins of what arms make, what enters and leaves.

A decision is a comparison of one element with constants, or the index of the greatest of a few,
compared with a constant. The sequencer reads those bytes itself (flow/blocks.py). What arms are in
the graph is said in inline.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from compiler.frontend.builder import Builder, Operand, align
from compiler.frontend.functions import Function
from compiler.frontend.inline import decides
from compiler.frontend.model import (
    Array,
    Model,
    attributes_of,
    is_standard,
    label,
    refuse,
)
from compiler.frontend.moves import place_of_axis
from compiler.frontend.quantization import Quantization, of_type
from compiler.ir import Path
from compiler.ops import Enter, Join, Leave, Predicate, Stack, stored_codes
from compiler.tensor import TensorType
from hw.arch.axes import aligned, index_of

PASSED = frozenset(("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"))
"""Operators between an ArgMax and a decision that keep its number."""
COMPARED = {
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
}
HOW_TO_QUANTIZE = (
    "quantizers leave the bodies of If in float: quantize each body as a graph of its own, with "
    "the scales of the tensors that pass, and put it back (models/control.py does so)"
)


# Decisions --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """A decision by the index of the greatest element.

    Attributes
    ----------
    argmax: the node.
    nodes: behind it, in order.
    """

    argmax: onnx.NodeProto
    nodes: tuple[onnx.NodeProto, ...]


def choices(model: Model) -> dict[str, Choice]:
    """Conditions that an ArgMax decides, by name."""
    found = {}
    for node in model.nodes:
        if decides(node):
            choice = _choice(model, node.input[0])
            if choice is not None:
                found[node.input[0]] = choice
    return found


def _choice(model: Model, name: str) -> Choice | None:
    nodes: list[onnx.NodeProto] = []
    while (node := model.producers.get(name)) is not None and is_standard(node):
        if node.op_type == "ArgMax":
            return Choice(node, tuple(reversed(nodes)))
        moving = [each for each in node.input if each and not model.is_constant(each)]
        if node.op_type not in (*PASSED, *COMPARED, "Not") or len(moving) != 1:
            return None
        nodes.append(node)
        name = moving[0]
    return None


def only_deciding(model: Model, found: Mapping[str, Choice]) -> set[str]:
    """Results of nodes behind an ArgMax, and its own, that nothing but decisions read."""
    chained = {c.argmax.output[0] for c in found.values()}
    chained |= {node.output[0] for c in found.values() for node in c.nodes}
    read = {value.name for value in model.proto.graph.output}
    alone = set()
    for node in reversed(model.nodes):
        if node.output[0] in chained and not read.intersection(node.output):
            alone.add(node.output[0])
        elif decides(node) and node.input[0] in found:
            read.update(node.input[1:])
        else:
            read.update(node.input)
    return alone


def by_index(model: Model, node: onnx.NodeProto, choice: Choice, source: Operand) -> Predicate:
    """What a decision by index says of an ArgMax's operand.

    Raises
    ------
    Unsupported
        The greatest of several groups, or a set of indices that is neither one nor all but one.
    """
    attributes = attributes_of(choice.argmax)
    kind = source.kind
    axis = int(attributes.get("axis", 0)) % len(kind.onnx_shape)
    count = kind.onnx_shape[axis]
    if count != kind.elements:
        raise refuse(node, f"ArgMax of several groups of {list(kind.onnx_shape)} decides")
    value: Array = np.arange(count)
    for each in choice.nodes:
        value = _of_index(model, node, each, value)
    if choice.nodes and value.dtype != np.bool_:
        raise refuse(node, f"its condition is {value.dtype}, not bool")
    if not choice.nodes:
        raise refuse(node, "its condition is int64, not bool")
    holding = np.flatnonzero(value)
    others = np.flatnonzero(~value.astype(bool))
    last = bool(attributes.get("select_last_index", 0))
    positions = _positions(kind)
    if holding.size == 1:
        return Predicate(positions, index=int(holding[0]), last=last)
    if others.size == 1:
        return Predicate(positions, index=int(others[0]), last=last, negated=True)
    raise refuse(node, f"{holding.size} of {count} indices decide; one is read, or all but one")


def _of_index(
    model: Model,
    node: onnx.NodeProto,
    step: onnx.NodeProto,
    value: Array,
) -> Array:
    """A node behind an ArgMax, for every index."""
    if step.op_type == "Not":
        return np.logical_not(value)
    if step.op_type == "Cast":
        to = attributes_of(step).get("to")
        return np.asarray(value, onnx.helper.tensor_dtype_to_np_dtype(to))
    if step.op_type in PASSED:
        return value
    constant = next(model.constants[name] for name in step.input if model.is_constant(name))
    if constant.size != 1:
        raise refuse(node, f"{label(step)} compares with {constant.size} numbers")
    other = constant.reshape(-1)[0]
    pair = (other, value) if model.is_constant(step.input[0]) else (value, other)
    return np.asarray(COMPARED[step.op_type](*pair))


def by_code(model: Model, node: onnx.NodeProto, function: Function) -> Predicate:
    """What a comparison says of a single code.

    Raises
    ------
    Unsupported
        It is no single bool.
    """
    kind, name = function.operand.kind, node.input[0]
    if kind.elements != 1 or model.dtypes.get(name) != np.bool_:
        raise refuse(
            node,
            f"its condition {name} is {model.dtypes.get(name)} {list(kind.onnx_shape)}, not one "
            "bool",
        )
    codes = np.sort(stored_codes(kind))
    real = (codes - kind.zero_point).astype(np.float32) * np.float32(kind.scale)
    holds = function(real, model.opset) != 0
    edges = np.flatnonzero(np.diff(np.concatenate([[0], holds.astype(np.int8), [0]])))
    runs = zip(edges[::2], edges[1::2], strict=True)
    intervals = tuple((int(codes[a]), int(codes[b - 1])) for a, b in runs)
    return Predicate(_positions(kind), intervals=intervals)


def _positions(kind: TensorType) -> tuple[tuple[int, int, int, int], ...]:
    return tuple(index_of(kind.axes, i) for i in range(kind.elements))


# Joins ------------------------------------------------------------------------------------


def joined(
    builder: Builder,
    node: onnx.NodeProto,
    arms: Sequence[Operand],
    tested: Operand,
    predicate: Predicate,
    path: Path,
) -> Operand:
    """The result of an If.

    Parameters
    ----------
    node: a join, see `inline`.
    arms: what either arm makes, where the condition holds first.
    tested, predicate: decide.
    path: of the join.

    Raises
    ------
    Unsupported
        The arms' results have different shapes or scales.
    """
    branch = node.name.removesuffix(f":{node.output[0]}")
    known = [arm.kind for arm in arms if arm.type is not None]
    if not known:
        raise refuse(node, "both of its arms make constants")
    result = known[0]
    names = []
    for taken, arm in zip((True, False), arms, strict=True):
        builder.path = (*path, (branch, taken))
        names.append(_arm(builder, node, arm, result))
    builder.path = path
    join = Join(
        name=builder.op_name(node),
        inputs=(*names, tested.name),
        output=builder.inner(node.output[0]),
        branch=branch,
        condition=node.input[0],
        predicate=predicate,
    )
    return builder.emit(join, result, node)


def _arm(builder: Builder, node: onnx.NodeProto, arm: Operand, result: TensorType) -> str:
    """The value of an arm's result, as the join wants it."""
    if arm.type is None:
        return _constant(builder, node, arm, result)
    kind = arm.kind
    if (kind.onnx_shape, kind.quantization) != (result.onnx_shape, result.quantization):
        raise refuse(
            node,
            f"its arms make {_said(result)} and {_said(kind)}: both need one shape and one scale",
        )
    return builder.in_form(arm, result.axes, node).name


def _constant(builder: Builder, node: onnx.NodeProto, arm: Operand, result: TensorType) -> str:
    assert arm.array is not None
    quantization: Quantization | None = arm.quantization or of_type(result)
    if arm.array.dtype != result.dtype or arm.array.shape != result.onnx_shape:
        raise refuse(
            node, f"its arms make {_said(result)} and {arm.array.dtype} {list(arm.array.shape)}"
        )
    if quantization is None or not quantization.describes(result):
        raise refuse(node, f"its arms make {_said(result)} and a constant of another scale")
    return builder.constant(arm.name, result, arm.array)


# Loops ------------------------------------------------------------------------------------


def entered(
    builder: Builder,
    node: onnx.NodeProto,
    loop: str,
    first: Operand,
    quantization: Quantization | None,
) -> Operand:
    """A carried tensor; see `trips`.

    Parameters
    ----------
    first: what the first trip reads.
    quantization: of the carried tensor, which a constant of the file does not tell.

    Raises
    ------
    Unsupported
        No node says what codes the file's constant holds.
    """
    kind = first.type
    if kind is None:
        if first.array is None or quantization is None or not quantization.single:
            raise refuse(node, f"nothing says what the codes of {first.name} stand for")
        kind = quantization.type(first.array.shape)
        if first.array.dtype != kind.dtype:
            raise refuse(
                node, f"{first.name} holds {first.array.dtype}, it is read as {kind.dtype}"
            )
        name = builder.constant(builder.inner(first.name), kind, first.array)
        first = Operand(name, kind)
    op = Enter(
        name=builder.op_name(node),
        inputs=(first.name,),
        output=builder.inner(node.output[0]),
        loop=loop,
    )
    return builder.emit(op, kind, node)


def left(
    builder: Builder,
    node: onnx.NodeProto,
    loop: str,
    trips: int,
    following: Operand,
    carried: Operand,
    decision: tuple[Operand, Predicate] | None,
) -> Operand:
    """What was carried last.

    Raises
    ------
    Unsupported
        A trip leaves another shape or scale than it finds.
    """
    kind, path = carried.kind, builder.path
    made_kind = following.type
    if made_kind is not None and (made_kind.onnx_shape, made_kind.quantization) != (
        kind.onnx_shape,
        kind.quantization,
    ):
        raise refuse(
            node,
            f"a trip finds {_said(kind)} and leaves {_said(made_kind)}: give both one scale "
            "(calibrate them together)",
        )
    builder.path = (*path, (loop, True))
    made = _arm(builder, node, following, kind)
    builder.path = path
    inputs = [made, carried.name]
    if decision is not None:
        inputs.append(decision[0].name)
    op = Leave(
        name=builder.op_name(node),
        inputs=tuple(inputs),
        output=builder.inner(carried.name),
        loop=loop,
        trips=trips,
        condition=node.input[0],
        predicate=None if decision is None else decision[1],
    )
    return builder.emit(op, kind, node)


def stacked(builder: Builder, node: onnx.NodeProto, loop: str, trips: int, row: Operand) -> Operand:
    """A tensor of every trip along a new first axis.

    Raises
    ------
    Unsupported
        It has four axes already, or is constant.
    """
    if row.type is None:
        raise refuse(node, f"the row {row.name} is constant: put it behind the Loop")
    path = builder.path
    builder.path = (*path, (loop, True))
    shape = (1, *row.kind.onnx_shape)
    row, onto = align(builder, Operand(row.name, row.kind.reshaped(shape)), node)
    builder.path = path
    place = place_of_axis(onto, 0, node)
    onto[0] = place
    whole = (trips, *shape[1:])
    # The row itself takes the form in which axis 0 lies along that place.
    builder.path = (*path, (loop, True))
    row = builder.in_form(row, aligned(shape, [3 if k is None else k for k in onto]), node)
    builder.path = path
    op = Stack(
        name=builder.op_name(node),
        inputs=(row.name,),
        output=builder.inner(row.name),
        loop=loop,
        trips=trips,
        axis=place,
    )
    axes = aligned(whole, [3 if k is None else k for k in onto])
    return builder.emit(op, row.kind.with_shape(whole, axes), node)


def _said(kind: TensorType) -> str:
    return (
        f"{kind.dtype} {list(kind.onnx_shape)} with scale {kind.scale:.9g}, zero point "
        f"{kind.zero_point}"
    )
