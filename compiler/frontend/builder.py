"""The graph that an import makes: operands, values with the file's names, and forms."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import onnx

from compiler.frontend.model import Array, label, refuse
from compiler.frontend.quantization import Quantization
from compiler.frontend.trips import MARK
from compiler.ir import COMPILER, FILE, AnyOperation, Carried, Path, Port, Value
from compiler.ops import Rearrange, View
from compiler.tensor import TensorType
from hw.arch.axes import (
    Axes,
    aligned,
    canonical_of,
    carried,
    file_axes,
    positions,
    standard,
    strides_of,
)


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Operand:
    """One input of an operator.

    Attributes
    ----------
    name: of the integer value, or of the constant.
    type: of an activation as the file sees it here (its ONNX shape may be another than the
        value's own: reshapes and transposes move nothing); None for a constant.
    array: the constant: integers where `quantization` is given, else as in the file.
    quantization: of a quantized constant.
    """

    name: str
    type: TensorType | None = None
    array: Array | None = None
    quantization: Quantization | None = None

    def named(self, old: str, new: str) -> Operand:
        """The same operand after its value has got another name."""
        return dataclasses.replace(self, name=new) if self.name == old else self

    @property
    def kind(self) -> TensorType:
        """Type of an operand that is an activation."""
        assert self.type is not None, self.name
        return self.type


class Builder:
    """The graph under construction.

    Parameters
    ----------
    taken: names that stand in the file; values of the compiler's own get others.

    Members
    -------
    values: by name.
    ops: in topological order.
    inputs: values that the host writes.
    owners: the user's node behind every operator, by the operator's name.
    path: arm in which nodes are being read. paths: of values, by name, as in Graph.
    """

    def __init__(self, taken: set[str]) -> None:
        self.values: dict[str, Value] = {}
        self.ops: list[AnyOperation] = []
        self.inputs: list[Port] = []
        self.owners: dict[str, onnx.NodeProto] = {}
        self.path: Path = ()
        self.paths: dict[str, Path] = {}
        self._taken = taken
        self._given: set[str] = set()

    def type(self, name: str) -> TensorType:
        """Type of a value made before."""
        return self.values[name].type

    def emit(self, op: AnyOperation, kind: TensorType, node: onnx.NodeProto) -> Operand:
        """Append an operator and its result, a step of the compiler's own until it is settled.

        Raises
        ------
        GraphError
            Operands, attributes and result do not agree.
        """
        kind.check(op.output)
        op.check([self.values[name].type for name in op.inputs], kind)
        self.ops.append(op)
        self.values[op.output] = Value(op.output, kind, origin=COMPILER)
        if self.path:
            self.paths[op.output] = self.path
        self.owners.setdefault(op.name, node)
        return Operand(op.output, kind)

    def inner(self, name: str) -> str:
        """A value name that is nowhere in the file: `name` with something behind it."""
        number = 1
        while (result := f"{name}#{number}") in self.values or result in self._taken:
            number += 1
        return result

    def op_name(self, node: onnx.NodeProto, part: str = "") -> str:
        """An operator name that is not used yet, made of the node's."""
        wanted = label(node) + part
        result, number = wanted, 1
        while result in self._given:
            number += 1
            result = f"{wanted}#{number}"
        self._given.add(result)
        return result

    def settle(self, operand: Operand, name: str, origin: str) -> Operand:
        """Give a value that has none yet the name that the file has for its codes.

        Inputs and values that were settled before keep theirs.
        """
        value = self.values[operand.name]
        if value.origin != COMPILER or name in self.values or value.constant is not None:
            return operand
        if self.paths.get(operand.name, ()) != self.path:
            return operand  # what an arm reads has no name of that arm
        if any(port.value == operand.name for port in self.inputs):
            return operand
        self.rename(operand.name, Value(name, operand.kind, origin=origin))
        return Operand(name, operand.kind)

    def rename(self, old: str, value: Value) -> None:
        """Let what an operator makes be another value, of the same elements."""
        for place, op in enumerate(self.ops):
            if op.output == old:
                self.ops[place] = dataclasses.replace(op, output=value.name)
        self._replace_operand(old, value.name)
        del self.values[old]
        self.values[value.name] = value
        if old in self.paths:
            self.paths[value.name] = self.paths.pop(old)

    def snapshot(self) -> tuple[dict[str, Value], list[AnyOperation], list[Port]]:
        """State to return to."""
        return dict(self.values), list(self.ops), list(self.inputs)

    def restore(self, state: tuple[dict[str, Value], list[AnyOperation], list[Port]]) -> None:
        """Forget everything since a snapshot."""
        values, ops, inputs = state
        self.values, self.ops, self.inputs = dict(values), list(ops), list(inputs)

    # Forms --------------------------------------------------------------------------------

    def constant(self, name: str, kind: TensorType, codes: Array) -> str:
        """A value known at compile time; returns its name.

        Parameters
        ----------
        name: of the file's constant whose codes these are, or what the compiler calls its own.
        kind: as the operator sees it.
        codes: in that shape.

        Raises
        ------
        CompilerError
            It has no elements.
        """
        kind.check(name.partition(MARK)[0])
        known = self.values.get(name)
        if known is not None and known.type == kind and known.constant is not None:
            return name
        # In a Loop's body the file has a name for each trip.
        own = name in self._taken and known is None and MARK not in name
        name = name if own else self.inner(name)
        self.values[name] = Value(name, kind, kind.in_lanes(codes), FILE if own else COMPILER)
        return name

    def in_form(self, operand: Operand, axes: Axes, node: onnx.NodeProto) -> Operand:
        """The operand with other elements along C, T, H and W.

        Nothing moves where only T, H and W are cut otherwise, or where the host writes it.
        """
        kind = operand.kind
        if kind.axes == axes:
            return operand
        target = dataclasses.replace(kind, axes=axes)
        port = next((p for p in self.inputs if p.value == operand.name), None)
        written = None if port is None else self._written_in_form(operand, port, target)
        if written is not None:
            return written
        known = self._moved_before(operand, target)
        if known is not None:
            return known
        name = self.inner(operand.name)
        if kind.axes[0] == axes[0] and positions(kind.axes) == positions(axes):
            view = View(
                name=self.op_name(node, "/view"),
                inputs=(operand.name,),
                output=name,
                shape=canonical_of(axes),
            )
            return self.emit(view, target, node)
        move = Rearrange(
            name=self.op_name(node, "/rearrange"),
            inputs=(operand.name,),
            output=name,
            source=kind.axes,
            target=axes,
        )
        return self.emit(move, target, node)

    def _moved_before(self, operand: Operand, target: TensorType) -> Operand | None:
        """What a rearrangement of the value, seen as it is here, has made already."""
        wanted = (operand.name,), operand.kind.axes, target.axes
        for op in self.ops:
            if isinstance(op, Rearrange) and (op.inputs, op.source, op.target) == wanted:
                return Operand(op.output, target)
        return None

    def _written_in_form(self, operand: Operand, port: Port, target: TensorType) -> Operand | None:
        """Another value that the host writes from the same source."""
        own = self.type(operand.name)
        axes = carried(target.axes, operand.kind.axes, own.axes)
        if axes is None:
            return None
        kind = dataclasses.replace(own, axes=axes)
        for other in self.inputs:
            if other.onnx_name == port.onnx_name and self.type(other.value) == kind:
                return Operand(other.value, target)
        name = self.inner(operand.name)
        self.values[name] = Value(name, kind, origin=COMPILER)
        self.inputs.append(Port(name, port.onnx_name))
        return Operand(name, target)

    def finish_inputs(
        self, outputs: Sequence[Port], states: Sequence[Carried] = ()
    ) -> tuple[Carried, ...]:
        """Forget values that the host would write and nothing reads; the states that are left.

        One that was needed in another form only gives its name to that form.
        """
        read = {n for op in self.ops for n in op.inputs} | {port.value for port in outputs}
        read |= {state.source for state in states}
        states = [state for state in states if state.target in read]
        for port in [p for p in self.inputs if p.value not in read]:
            self.inputs.remove(port)
            value = self.values.pop(port.value)
            if value.origin == COMPILER:
                continue
            others = [
                other
                for other in self.inputs
                if other.onnx_name == port.onnx_name
                and other.value in read
                and self.values[other.value].origin == COMPILER
                and self.type(other.value).quantization == value.type.quantization
            ]
            if others:
                old = others[0].value
                self._rename_input(others[0], value)
                states = [state.renamed(old, value.name) for state in states]
        return tuple(states)

    def _rename_input(self, port: Port, value: Value) -> None:
        """Let a value that the host writes have the name of one that is gone."""
        kind = self.values.pop(port.value).type
        self.values[value.name] = dataclasses.replace(value, type=kind)
        self.inputs[self.inputs.index(port)] = dataclasses.replace(port, value=value.name)
        self._replace_operand(port.value, value.name)

    def _replace_operand(self, old: str, new: str) -> None:
        for i, op in enumerate(self.ops):
            if old in op.inputs:
                renamed = tuple(new if n == old else n for n in op.inputs)
                self.ops[i] = dataclasses.replace(op, inputs=renamed)


def align(
    builder: Builder, operand: Operand, node: onnx.NodeProto
) -> tuple[Operand, list[int | None]]:
    """The operand so that each of its ONNX axes is one of C, T, H, W; and which (None: size 1).

    Raises
    ------
    Unsupported
        It has more axes than that.
    """
    kind = operand.kind
    found = file_axes(kind.axes, kind.onnx_shape)
    if found is None:
        axes = _recut(kind)
        if axes is None:
            try:
                axes = standard(kind.onnx_shape)
            except ValueError as error:  # a batch of volumes is none where an axis is of size 1
                axes = _parted(kind)
                if axes is None:
                    raise refuse(node, f"on {operand.name}: {error}") from error
        operand = builder.in_form(operand, axes, node)
        found = file_axes(axes, kind.onnx_shape)
    if found is None:
        raise refuse(node, f"on {operand.name}: the axes of {list(kind.onnx_shape)} do not part")
    return operand, list(found)


def _parted(kind: TensorType) -> Axes | None:
    """Aligned axes of a shape without a standard form, if four are enough.

    Heads are parted so: of the file's axes along the channels, the innermost one stays there.
    """
    shape = kind.onnx_shape
    strides = strides_of(shape)
    space = [k for k, n in enumerate(shape) if n > 1]
    lanes = {stride for _, stride in kind.axes[0]}
    inner = [k for k in space if strides[k] in lanes][-1:]
    others = [k for k in space if k not in inner]
    if len(others) > 3:
        return None
    onto = [3] * len(shape)
    for place, axis in (*((0, k) for k in inner), *enumerate(others, 4 - len(others))):
        onto[axis] = place
    return aligned(shape, onto)


def _recut(kind: TensorType) -> Axes | None:
    """Aligned axes with the same channels and the same order of positions, if there are any."""
    shape = kind.onnx_shape
    onto = [3] * len(shape)
    space = [k for k, n in enumerate(shape) if n > 1]
    strides = {k: int(np.prod(shape[k + 1 :], dtype=np.int64)) for k in space}
    channel = [k for k in space if kind.axes[0] == ((shape[k], strides[k]),)]
    if channel:
        onto[channel[0]] = 0
        space.remove(channel[0])
    if len(space) > 3:
        return None
    # The outermost position comes first: the file's axes in order of their place among positions.
    order = {stride: place for place, (_, stride) in enumerate(positions(kind.axes))}

    def outermost(axis: int) -> tuple[int, int]:
        within = [s for s in order if s <= strides[axis]]
        return (order[max(within)] if within else 0, -strides[axis])

    for place, axis in enumerate(sorted(space, key=outermost), 4 - len(space)):
        onto[axis] = place
    # Axes of one group would follow the file's order; each has a group of its own here.
    axes = aligned(shape, onto)
    same = axes[0] == kind.axes[0] and positions(axes) == positions(kind.axes)
    return axes if same else None
