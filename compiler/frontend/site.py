"""Where an operator is imported: its operands, its result, and the graph that grows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from compiler.frontend.model import Array, Model, Unsupported, attributes_of, refuse
from compiler.frontend.quantization import Quantization
from compiler.ir import AnyOperation, Value
from compiler.tensor import TensorType


class Builder:
    """The graph under construction.

    Members
    -------
    values: by name.
    ops: in topological order.
    """

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}
        self.ops: list[AnyOperation] = []

    def type(self, name: str) -> TensorType:
        """Type of a value made before."""
        return self.values[name].type

    def emit(self, op: AnyOperation, kind: TensorType) -> str:
        """Append an operator and its result; GraphError where they do not agree."""
        kind.check(op.output)
        op.check([self.values[name].type for name in op.inputs], kind)
        self.ops.append(op)
        self.values[op.output] = Value(op.output, kind)
        return op.output

    def unused(self, name: str) -> str:
        """A value name that is still free: `name`, or with a number behind it."""
        result, number = name, 1
        while result in self.values:
            number += 1
            result = f"{name}#{number}"
        return result

    def snapshot(self) -> tuple[dict[str, Value], int]:
        """State to return to."""
        return dict(self.values), len(self.ops)

    def restore(self, state: tuple[dict[str, Value], int]) -> None:
        """Forget everything since a snapshot."""
        self.values, count = dict(state[0]), state[1]
        del self.ops[count:]


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Operand:
    """One input of an operator.

    Attributes
    ----------
    name: of the integer value, or of the constant.
    type: of an activation; None for a constant.
    array: the constant: integers where `quantization` is given, else as in the file.
    quantization: of a quantized constant.
    """

    name: str
    type: TensorType | None = None
    array: Array | None = None
    quantization: Quantization | None = None


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Site:
    """One operator with quantized operands and a quantized result.

    Attributes
    ----------
    builder, model: the graph under construction, and the file.
    node: the ONNX node, for names and messages.
    op: float operator name (``Conv`` also for QLinearConv).
    operands: in the order of the float operator; None where an optional one is absent.
    attributes: of the node.
    target: quantization of the result.
    output: value name of the result.
    low, high: clamp codes of the result.
    index: which output of the node.
    """

    builder: Builder
    model: Model
    node: onnx.NodeProto
    op: str
    operands: Sequence[Operand | None]
    attributes: dict[str, Any]
    target: Quantization
    output: str
    low: int
    high: int
    index: int = 0

    @property
    def name(self) -> str:
        """Name for the operator."""
        return str(self.node.name or self.output)

    def refuse(self, reason: str) -> Unsupported:
        """The finding that this operator cannot be compiled."""
        return refuse(self.node, reason)

    def operand(self, index: int) -> Operand:
        """An operand that must be there."""
        if index >= len(self.operands) or (operand := self.operands[index]) is None:
            raise self.refuse(f"input {index} is missing")
        return operand

    def activation(self, index: int) -> tuple[str, TensorType]:
        """Name and type of an operand that must be an activation."""
        operand = self.operand(index)
        if operand.type is None:
            raise self.refuse(f"input {operand.name} must be an activation, not a constant")
        return operand.name, operand.type

    def quantized_constant(self, index: int, what: str) -> tuple[str, Array, Quantization]:
        """An operand that must be a constant of integers."""
        operand = self.operand(index)
        if operand.array is None:
            raise self.refuse(f"{what} {operand.name} must be constant")
        if operand.quantization is None:
            raise self.refuse(f"{what} {operand.name} is float: quantize it to int8")
        return operand.name, operand.array, operand.quantization

    def constant(self, index: int) -> Array | None:
        """Value of an optional constant operand (axes, shapes)."""
        if index >= len(self.operands) or (operand := self.operands[index]) is None:
            return None
        if operand.array is None:
            raise self.refuse(f"input {operand.name} must be constant")
        return operand.array

    def emit(self, op: AnyOperation, onnx_shape: tuple[int, ...]) -> None:
        """Append the operator that makes the site's result."""
        self.builder.emit(op, self.target.type(onnx_shape))


def site_at(
    builder: Builder,
    model: Model,
    node: onnx.NodeProto,
    op: str,
    operands: Sequence[Operand | None],
    target: Quantization,
    output: str,
    index: int = 0,
) -> Site:
    """A site whose result may take every code; see `Site` for the parameters."""
    limits = np.iinfo(target.dtype)
    return Site(
        builder=builder,
        model=model,
        node=node,
        op=op,
        operands=operands,
        attributes=attributes_of(node),
        target=target,
        output=output,
        low=int(limits.min),
        high=int(limits.max),
        index=index,
    )
