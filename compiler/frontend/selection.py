"""Import Where between two tensors: c·a + (1 − c)·b, c a table of the condition's operand.

Both tensors have one scale, so that each product is a code or the zero point and their sum exact:
the result holds codes of theirs and needs no QuantizeLinear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx

from compiler.frontend import pairs
from compiler.frontend.builder import Operand
from compiler.frontend.functions import Function
from compiler.frontend.model import Array, Model, refuse
from compiler.frontend.quantization import of_type
from compiler.frontend.reading import Read, Readings
from compiler.frontend.site import site_at
from compiler.ops import UnaryTable, make_table
from compiler.tensor import TensorType

TRUTH = (False, 1.0, 0)
"""Quantization of a condition: the code is 0 or 1."""


def chosen(reader: Readings, node: onnx.NodeProto, found: Sequence[Read | None]) -> Operand | None:
    """What a Where of two tensors makes; None where it is none, or a function of one tensor."""
    if node.op_type != "Where" or len(found) != 3:
        return None
    condition = found[0]
    parts = map(reader.as_codes, node.input[1:], found[1:])
    operands = [f for f in parts if isinstance(f, Operand)]
    if not isinstance(condition, Function) or len(operands) != 2:
        return None
    tensors = [f for f in operands if f.type is not None]
    own = condition.operand
    if all((f.name, f.kind) == (own.name, own.kind) for f in tensors):
        return None  # a function of the condition's own operand and of constants
    if not tensors or any(f.type is None and f.quantization is None for f in operands):
        raise refuse(node, "selects a float constant: quantize it")
    kind = tensors[0].kind
    for operand in operands:
        given = of_type(operand.kind) if operand.type is not None else operand.quantization
        if given is None or not given.describes(kind):
            raise refuse(node, "selects among tensors of different scales: quantize both alike")

    def truth(real: Array) -> Array:
        return np.asarray(condition(real, reader.model.opset), np.float32)

    def falsehood(real: Array) -> Array:
        return np.float32(1) - truth(real)

    first, second = (
        _pair(reader, node, "Mul", operand, _table(reader, node, condition, function), kind)
        for operand, function in zip(operands, (truth, falsehood), strict=True)
    )
    return _pair(reader, node, "Add", first, second, kind)


def _table(
    reader: Readings, node: onnx.NodeProto, condition: Function, function: Callable[[Array], Array]
) -> Operand:
    """A condition as codes 0 and 1."""
    source = condition.operand
    kind = TensorType.of(source.kind.onnx_shape, *TRUTH, source.kind.axes)
    op = UnaryTable(
        name=reader.builder.op_name(node),
        inputs=(source.name,),
        output=reader.builder.inner(source.name),
        table=make_table(source.kind, kind, [function]),
        function="condition",
    )
    return reader.builder.emit(op, kind, node)


def _pair(
    reader: Readings, node: onnx.NodeProto, op: str, a: Operand, b: Operand, kind: TensorType
) -> Operand:
    """An operator on two tensors whose result has the scale of what is selected."""
    model: Model = reader.model
    return pairs.pair(site_at(reader.builder, model, node, op, [a, b], of_type(kind)))
