"""Import operators on two tensors, and concatenation."""

from __future__ import annotations

import numpy as np

from compiler.frontend.quantization import Quantization
from compiler.frontend.site import Operand, Site
from compiler.frontend.windows import canonical_axis
from compiler.ir import Value
from compiler.ops import Concat, Elementwise, ElementwiseKind, UnaryTable, make_table
from compiler.tensor import TensorType
from hw.arch.layout import canonical_shape
from hw.arch.numerics import Affine, Product

KINDS = {
    "Add": ElementwiseKind.ADD,
    "Sub": ElementwiseKind.SUBTRACT,
    "Mul": ElementwiseKind.MULTIPLY,
    "Max": ElementwiseKind.MAXIMUM,
    "Min": ElementwiseKind.MINIMUM,
}


def pair(site: Site) -> None:
    """Add, Sub, Mul, Max and Min of two quantized tensors."""
    if len(site.operands) != 2:
        raise site.refuse(f"{len(site.operands)} operands; two are lowered")
    operands = [site.operand(i) for i in range(2)]
    shapes = [_onnx_shape(site, operand) for operand in operands]
    try:
        shape = tuple(int(n) for n in np.broadcast_shapes(*shapes))
    except ValueError:
        raise site.refuse(
            f"shapes {list(shapes[0])} and {list(shapes[1])} do not broadcast"
        ) from None
    names, kinds = [], []
    for operand, own in zip(operands, shapes, strict=True):
        name, operand_type = _aligned(site, operand, own, len(shape))
        names.append(name)
        kinds.append(operand_type)
    kind = KINDS[site.op]
    if kind in (ElementwiseKind.MAXIMUM, ElementwiseKind.MINIMUM):
        names = [
            _rescaled(site, n, k, i) for i, (n, k) in enumerate(zip(names, kinds, strict=True))
        ]
    op = Elementwise(
        name=site.name,
        inputs=(names[0], names[1]),
        output=site.output,
        kind=kind,
        arithmetic=_arithmetic(kind, kinds[0], kinds[1], site.target),
        low=site.low,
        high=site.high,
    )
    site.emit(op, shape)


def _arithmetic(
    kind: ElementwiseKind, a: TensorType, b: TensorType, target: Quantization
) -> Affine | Product | None:
    scales = (a.scale, a.zero_point, b.scale, b.zero_point)
    result = (float(target.scale[0]), int(target.zero_point[0]))
    match kind:
        case ElementwiseKind.ADD:
            return Affine.add(*scales, *result)
        case ElementwiseKind.SUBTRACT:
            return Affine.subtract(*scales, *result)
        case ElementwiseKind.MULTIPLY:
            return Product.of(*scales, *result)
        case ElementwiseKind.MAXIMUM | ElementwiseKind.MINIMUM:
            return None


def _onnx_shape(site: Site, operand: Operand) -> tuple[int, ...]:
    if operand.type is not None:
        return operand.type.onnx_shape
    if operand.array is None or operand.quantization is None:
        raise site.refuse(f"constant {operand.name} is float and no scalar: quantize it")
    return tuple(operand.array.shape)


def _aligned(
    site: Site, operand: Operand, own: tuple[int, ...], rank: int
) -> tuple[str, TensorType]:
    """Name and type of an operand whose canonical axes agree with the result's."""
    shape = (1,) * (rank - len(own)) + own
    if operand.type is not None:
        if canonical_shape(shape) != operand.type.shape:
            raise site.refuse(
                f"operand {operand.name} of shape {list(own)} meets one of rank {rank}: its axes "
                "would change their meaning; reshape it to the same rank"
            )
        return operand.name, operand.type
    assert operand.array is not None and operand.quantization is not None
    if not operand.quantization.single:
        raise site.refuse(f"constant {operand.name} needs one scale and 8 bits")
    kind = operand.quantization.type(shape)
    name = operand.name
    codes = operand.array.reshape(kind.shape)
    known = site.builder.values.get(name)
    if known is None or known.type != kind:
        name = site.builder.unused(name)
        site.builder.values[name] = Value(name, kind, codes)
    return name, kind


def _rescaled(site: Site, name: str, kind: TensorType, index: int) -> str:
    """An operand in the result's quantization; exact for extrema, as rounding is monotone."""
    if site.target.describes(kind):
        return name
    return requantized(site, name, kind, f"{site.output}/input{index}")


def requantized(site: Site, name: str, kind: TensorType, output: str) -> str:
    """Append a change of quantization by table."""
    output = site.builder.unused(output)
    target = site.target.type(kind.onnx_shape)
    table = make_table(kind, target)
    op = UnaryTable(name=output, inputs=(name,), output=output, table=table, function="requantize")
    return site.builder.emit(op, target)


def concat(site: Site) -> None:
    """Concat and QLinearConcat; operands of another scale go through tables."""
    pieces = [site.activation(i) for i in range(len(site.operands))]
    shape = list(pieces[0][1].onnx_shape)
    rank = len(shape)
    axis = int(site.attributes.get("axis", 0)) % rank
    if canonical_axis(axis, rank) < 0:
        raise site.refuse("joins along the batch axis; programs have batch 1")
    if any(len(kind.onnx_shape) != rank for _, kind in pieces):
        raise site.refuse("operands of different rank")
    shape[axis] = sum(kind.onnx_shape[axis] for _, kind in pieces)
    tables = []
    for _, kind in pieces:
        same = site.target.describes(kind)
        tables.append(None if same else make_table(kind, site.target.type(kind.onnx_shape)))
    if (site.low, site.high) != _range(site.target):
        raise site.refuse("a clamp after a concat: quantize between them")
    op = Concat(
        name=site.name,
        inputs=tuple(name for name, _ in pieces),
        output=site.output,
        axis=canonical_axis(axis, rank),
        tables=tuple(tables),
    )
    site.emit(op, tuple(shape))


def _range(target: Quantization) -> tuple[int, int]:
    limits = np.iinfo(target.dtype)
    return int(limits.min), int(limits.max)
