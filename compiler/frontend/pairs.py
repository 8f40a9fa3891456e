"""Import operators on two tensors, and concatenation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.frontend.builder import Operand, align
from compiler.frontend.channelwise import channelwise
from compiler.frontend.moves import joined
from compiler.frontend.shapes import in_range
from compiler.frontend.site import Site
from compiler.ops import Pairwise, PairwiseKind, UnaryTable, make_table
from compiler.tensor import TensorType
from hw.arch.axes import STANDARD, Axes, aligned, standard
from hw.arch.numerics import Affine, Product

KINDS = {
    "Add": PairwiseKind.ADD,
    "Sub": PairwiseKind.SUBTRACT,
    "Mul": PairwiseKind.MULTIPLY,
    "Max": PairwiseKind.MAXIMUM,
    "Min": PairwiseKind.MINIMUM,
}
EXTREMA = (PairwiseKind.MAXIMUM, PairwiseKind.MINIMUM)


def pair(site: Site) -> Operand:
    """Add, Sub, Mul of two quantized tensors, Max and Min of any number."""
    kind = KINDS[site.op]
    operands = [site.operand(i) for i in range(len(site.operands))]
    if kind not in EXTREMA and any(_is_float(operand) for operand in operands):
        return channelwise(site)
    if len(operands) != 2 and (kind not in EXTREMA or len(operands) < 2):
        raise site.refuse(f"{len(operands)} operands; two are lowered")
    shapes = [_onnx_shape(site, operand) for operand in operands]
    try:
        shape = tuple(int(n) for n in np.broadcast_shapes(*shapes))
    except ValueError:
        listed = " and ".join(str(list(s)) for s in shapes)
        raise site.refuse(f"shapes {listed} do not broadcast") from None
    placed = _placed(site, operands, shapes, shape)
    if kind in EXTREMA:
        placed = [_rescaled(site, operand) for operand in placed]
    result = placed[0]
    for number, other in enumerate(placed[1:], 2):
        last = number == len(placed)
        result = _elementwise(site, kind, result, other, last)
    return Operand(result.name, result.kind.reshaped(shape))


def _elementwise(site: Site, kind: PairwiseKind, a: Operand, b: Operand, clamped: bool) -> Operand:
    """One operator on two operands whose axes agree."""
    limits = np.iinfo(site.target.dtype)
    shape = np.broadcast_shapes(a.kind.onnx_shape, b.kind.onnx_shape)
    full = a.kind if a.kind.onnx_shape == shape else b.kind
    axes = full.axes if full.onnx_shape == shape else standard(shape)
    op = Pairwise(
        name=site.builder.op_name(site.node),
        inputs=(a.name, b.name),
        output=site.output(),
        kind=kind,
        arithmetic=_arithmetic(site, kind, a.kind, b.kind),
        low=site.low if clamped else int(limits.min),
        high=site.high if clamped else int(limits.max),
    )
    return site.emit(op, site.result(shape, axes))


def _arithmetic(
    site: Site, kind: PairwiseKind, a: TensorType, b: TensorType
) -> Affine | Product | None:
    target = site.target
    scales = (a.scale, a.zero_point, b.scale, b.zero_point)
    result = (float(target.scale[0]), int(target.zero_point[0]))
    match kind:
        case PairwiseKind.ADD:
            if site.clamped:  # then ONNX Runtime does not fuse it into QLinearAdd
                return Affine.add_float(*scales, *result)
            return Affine.add(*scales, *result)
        case PairwiseKind.SUBTRACT:
            return Affine.subtract(*scales, *result)
        case PairwiseKind.MULTIPLY:
            return Product.of(*scales, *result)
        case PairwiseKind.MAXIMUM | PairwiseKind.MINIMUM:
            return None


def _is_float(operand: Operand) -> bool:
    """Whether it is a constant that nothing quantized."""
    return operand.array is not None and operand.quantization is None


def _onnx_shape(site: Site, operand: Operand) -> tuple[int, ...]:
    if operand.type is not None:
        return operand.type.onnx_shape
    assert operand.array is not None, operand.name
    if operand.quantization is None:
        raise site.refuse(f"constant {operand.name} is float: quantize it")
    return tuple(operand.array.shape)


def _placed(
    site: Site,
    operands: Sequence[Operand],
    shapes: Sequence[tuple[int, ...]],
    shape: tuple[int, ...],
) -> list[Operand]:
    """The operands in the result's rank, with the same axes along C, T, H and W."""
    rank = len(shape)
    wide = [
        o if o.type is None else Operand(o.name, o.type.reshaped((1,) * (rank - len(s)) + s))
        for o, s in zip(operands, shapes, strict=True)
    ]
    whole = [o for o in wide if o.type is not None and o.type.onnx_shape == shape]
    if not whole and rank > 5:
        raise site.refuse(f"operands of rank {rank} repeat each other")
    if whole and all(o.type is not None and o.type.onnx_shape == shape for o in wide):
        axes = whole[0].kind.axes
        return [site.builder.in_form(o, axes, site.node) for o in wide]
    onto: list[int | None]
    if whole:
        _, onto = align(site.builder, whole[0], site.node)
    else:
        standard(shape)  # a batch before time, height and width has no place
        onto = list(STANDARD[rank])
    result = []
    for operand, own in zip(wide, shapes, strict=True):
        padded = (1,) * (rank - len(own)) + tuple(own)
        axes = aligned(padded, [3 if k is None else k for k in onto])
        if operand.type is not None:
            result.append(site.builder.in_form(operand, axes, site.node))
        else:
            result.append(_constant(site, operand, padded, axes))
    return result


def _constant(site: Site, operand: Operand, shape: tuple[int, ...], axes: Axes) -> Operand:
    """A quantized constant as a value of the graph."""
    assert operand.array is not None and operand.quantization is not None
    if not operand.quantization.single:
        raise site.refuse(f"constant {operand.name} needs one scale and 8 bits")
    kind = operand.quantization.type(shape, axes)
    own = kind.reshaped(operand.array.shape)
    return Operand(site.builder.constant(operand.name, own, operand.array), kind)


def _rescaled(site: Site, operand: Operand) -> Operand:
    """An operand in the result's quantization; exact for extrema, as rounding is monotone."""
    if site.target.describes(operand.kind):
        return operand
    known = site.builder.values[operand.name].constant
    target = site.target.like(operand.kind)
    table = make_table(operand.kind, target)
    op = UnaryTable(
        name=site.builder.op_name(site.node, "/requantize"),
        inputs=(operand.name,),
        output=site.builder.inner(operand.name),
        table=table,
        function="requantize",
    )
    if known is not None:
        codes = op.evaluate([known], [operand.kind], target)
        inner = site.builder.inner(operand.name)
        return Operand(site.builder.constant(inner, target, target.in_file_order(codes)), target)
    return site.emit(op, target)


def _piece(site: Site, operand: Operand) -> Operand:
    """A part of a concat; a constant with the type that its codes have."""
    if operand.type is not None:
        return operand
    if operand.array is None or operand.quantization is None:
        raise site.refuse(f"constant {operand.name} is float: quantize it")
    if not operand.quantization.single:
        raise site.refuse(f"constant {operand.name} needs one scale and 8 bits")
    axes = aligned(operand.array.shape, [3] * operand.array.ndim)
    kind = operand.quantization.type(operand.array.shape, axes)
    return Operand(operand.name, kind, operand.array)


def concat(site: Site) -> Operand:
    """Concat and QLinearConcat; operands of another scale go through tables.

    Some may be constant: the class token of a vision transformer, a padding that is learned.
    """
    pieces = [_piece(site, site.operand(i)) for i in range(len(site.operands))]
    rank = len(pieces[0].kind.onnx_shape)
    axis = in_range(site.node, int(site.attributes.get("axis", 0)), rank)
    for piece in pieces[1:]:
        shapes = [list(p.kind.onnx_shape) for p in (pieces[0], piece)]
        if len(shapes[1]) != rank or any(
            n != m for k, (n, m) in enumerate(zip(*shapes, strict=True)) if k != axis
        ):
            raise site.refuse(f"shapes {shapes[0]} and {shapes[1]} do not join along axis {axis}")
    tables: list[bytes | None] = []
    for piece in pieces:
        table = None
        if site.clamped or not site.target.describes(piece.kind):
            target = site.target.like(piece.kind)
            codes = np.frombuffer(make_table(piece.kind, target), target.dtype)
            table = np.clip(codes, site.low, site.high).astype(target.dtype).tobytes()
        tables.append(table)
    kind = site.target.like(pieces[0].kind)
    return joined(site.builder, site.node, pieces, axis, tables, kind)
