"""Operators that compute. Integers in, integers out.

Each function reads a node and gives a `Pending`: what the node makes, ready for the parameters of
the QuantizeLinear that finishes it. Here: elementwise ones of several tensors, and the table of
all. Definitions: docs/numerics.md.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from models import channelwise, grouped, means, prelu, products, tables
from models.operands import Source, activation, lookup, reads
from models.tables import QParams
from models.values import Call, Kernel, Pending, Shape, Tensors


def pair(call: Call) -> Pending:
    """Add, Sub, Mul, Div of two quantized tensors: a 65536-entry table."""
    a, b = activation(call, 0), activation(call, 1)
    shape = _broadcast(call, a, b)

    def by_table(make: Callable[[QParams, QParams, QParams], np.ndarray]) -> Kernel:
        def kernel(tensors: Tensors, target: QParams) -> torch.Tensor:
            table = torch.from_numpy(make(a.params, b.params, target).reshape(-1))
            left = (a.tensor(tensors).to(torch.int32) - a.params.low) * 256
            index = left + (b.tensor(tensors).to(torch.int32) - b.params.low)
            if call.op == "Div" and bool(_undefined(index, a.params, b.params).any()):
                raise call.refuse("divides 0 by 0")
            return table[index]

        return kernel

    # Behind a clamp that cuts, ONNX Runtime does not fuse Add: it adds in float.
    clamped = by_table(tables.add_float_table) if call.op == "Add" else None
    kernel = by_table(tables.PAIRS[call.op])
    return Pending(call.node, reads(a, b), kernel, shape, call.op, clamped=clamped)


def _undefined(index: torch.Tensor, a: QParams, b: QParams) -> torch.Tensor:
    return index == (a.zero - a.low) * 256 + b.zero - b.low


def _broadcast(call: Call, *sources: Source) -> Shape:
    shapes = [s.shape for s in sources]
    try:
        return tuple(np.broadcast_shapes(*shapes))
    except ValueError:
        listed = ", ".join(str(list(s)) for s in shapes)
        raise call.refuse(f"shapes {listed} do not broadcast") from None


def extremum(call: Call) -> Pending:
    """Max and Min of any number of tensors: each at the scale of the result, then the choice."""
    sources = [activation(call, i) for i in range(len(call.operands))]
    choose = torch.maximum if call.op == "Max" else torch.minimum

    def kernel(tensors: Tensors, target: QParams) -> torch.Tensor:
        result = rescaled(sources[0], tensors, target)
        for each in sources[1:]:
            result = choose(result, rescaled(each, tensors, target))
        return result

    return Pending(call.node, reads(*sources), kernel, _broadcast(call, *sources), "extremum")


def total(call: Call) -> Pending:
    """Sum: of two as Add, of more in float32 from left to right, as the file says."""
    sources = [activation(call, i) for i in range(len(call.operands))]
    if len(sources) == 2:
        return pair(replace(call, op="Add"))

    def kernel(tensors: Tensors, target: QParams) -> torch.Tensor:
        reals = [tables.dequantize(s.tensor(tensors).numpy(), s.params) for s in sources]
        result = reals[0]
        for each in reals[1:]:
            result = result + each
        return torch.from_numpy(tables.quantize_float(result, target).astype(np.int16))

    return Pending(call.node, reads(*sources), kernel, _broadcast(call, *sources), "Sum")


def rescaled(operand: Source, tensors: Tensors, target: QParams) -> torch.Tensor:
    """An operand's codes at the scale of the result."""
    codes = operand.tensor(tensors)
    if operand.params.same_as(target):
        return codes
    return lookup(codes, operand.params, tables.requantize_table(operand.params, target))


def concat(call: Call) -> Pending:
    """Concat: each part at the scale of the result, then side by side."""
    sources = [activation(call, i) for i in range(len(call.operands))]
    axis, shape = concatenated(call, [s.shape for s in sources])

    def kernel(tensors: Tensors, target: QParams) -> torch.Tensor:
        return torch.cat([rescaled(s, tensors, target) for s in sources], dim=axis)

    return Pending(call.node, reads(*sources), kernel, shape, "Concat")


def concatenated(call: Call, shapes: list[Shape]) -> tuple[int, Shape]:
    """Axis and shape of a Concat."""
    rank = len(shapes[0])
    axis = call.attributes.get("axis", 1) % rank
    rest = {(*s[:axis], *s[axis + 1 :]) for s in shapes}
    if len(rest) > 1 or any(len(s) != rank for s in shapes):
        raise call.refuse(f"shapes {', '.join(str(list(s)) for s in shapes)} along axis {axis}")
    size = sum(s[axis] for s in shapes)
    return axis, (*shapes[0][:axis], size, *shapes[0][axis + 1 :])


OPERATORS: dict[str, Callable[[Call], Pending]] = {
    "Add": pair,
    "AveragePool": means.average_pool,
    "BatchNormalization": channelwise.batch_normalization,
    "Concat": concat,
    "Conv": products.conv,
    "Div": pair,
    "Einsum": products.einsum,
    "Gemm": products.gemm,
    "GlobalAveragePool": means.global_average_pool,
    "LayerNormalization": grouped.layer_norm,
    "MatMul": products.matmul,
    "Max": extremum,
    "Min": extremum,
    "Mul": pair,
    "PRelu": prelu.prelu,
    "ReduceMean": means.reduce_mean,
    "ReduceSum": means.reduce_sum,
    "Softmax": grouped.softmax,
    "Sub": pair,
    "Sum": total,
}

FORMS = (
    *("product", "mean", "AveragePool", "Add", "Sub", "Mul", "Div", "Sum", "PRelu", "extremum"),
    *("Concat", "softmax", "norm", "channelwise"),
)
"""Definitions of docs/numerics.md that the operators follow."""
