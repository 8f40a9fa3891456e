"""Where an operator is imported: its operands, its attributes and its result."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from compiler.frontend.builder import Builder, Operand, align
from compiler.frontend.model import Array, Model, Unsupported, attributes_of, label, refuse
from compiler.frontend.quantization import Quantization
from compiler.ir import AnyOperation
from compiler.tensor import TensorType
from hw.arch.axes import Axes, standard


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
    low, high: clamp codes of the result.
    factors: constants by which the operands are multiplied in float before they are read; () where
        there are none.
    factor: constant by which the result is multiplied in float.
    """

    builder: Builder
    model: Model
    node: onnx.NodeProto
    op: str
    operands: Sequence[Operand | None]
    attributes: dict[str, Any]
    target: Quantization
    low: int
    high: int
    factors: Sequence[float] = ()
    factor: float = 1.0

    @property
    def name(self) -> str:
        """Name for messages."""
        return label(self.node)

    @property
    def clamped(self) -> bool:
        """Whether a Relu or Clip behind the operator cuts into the codes."""
        limits = np.iinfo(self.target.dtype)
        return (self.low, self.high) != (int(limits.min), int(limits.max))

    def refuse(self, reason: str) -> Unsupported:
        """The finding that this operator cannot be compiled."""
        return refuse(self.node, reason)

    def operand(self, index: int) -> Operand:
        """An operand that must be there."""
        if index >= len(self.operands) or (operand := self.operands[index]) is None:
            raise self.refuse(f"input {index} is missing")
        return operand

    def activation(self, index: int) -> Operand:
        """An operand that must be an activation."""
        operand = self.operand(index)
        if operand.type is None:
            raise self.refuse(f"input {operand.name} must be an activation, not a constant")
        return operand

    def standard(self, index: int) -> Operand:
        """An activation as [N, C, (T, (H,)) W]."""
        operand = self.activation(index)
        try:
            axes = standard(operand.kind.onnx_shape)
        except ValueError as error:
            raise self.refuse(str(error)) from error
        return self.builder.in_form(operand, axes, self.node)

    def aligned(self, index: int) -> tuple[Operand, list[int | None]]:
        """An activation each of whose ONNX axes is C, T, H or W; and which (None for size 1)."""
        return align(self.builder, self.activation(index), self.node)

    def scale(self, index: int) -> float:
        """Scale of an activation with the constant that it is multiplied by."""
        own = np.float32(self.activation(index).kind.scale)
        return float(own * np.float32(self.factors[index])) if self.factors else float(own)

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

    def result(self, onnx_shape: Sequence[int], axes: Axes | None = None) -> TensorType:
        """Type of the result; without `axes` in standard form."""
        return self.target.type(onnx_shape, axes)

    def output(self) -> str:
        """A name for the result, until it is settled."""
        return self.builder.inner(self.name)

    def emit(self, op: AnyOperation, kind: TensorType) -> Operand:
        """Append an operator."""
        return self.builder.emit(op, kind, self.node)


def site_at(
    builder: Builder,
    model: Model,
    node: onnx.NodeProto,
    op: str,
    operands: Sequence[Operand | None],
    target: Quantization,
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
        low=int(limits.min),
        high=int(limits.max),
    )
