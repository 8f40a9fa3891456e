"""Import matrix products of two activations: MatMul and Einsum.

Nothing moves on the way in: transposes and reshapes of heads have only renamed digits of the
operands' axes, and the product is told about them (`BatchedMatMul.left`, `right`). The result gets
the axes that the next operator of attention wants: scores have keys along C and heads along T,
mixed values have heads and features along C.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from compiler.frontend.builder import Operand
from compiler.frontend.cuts import reshaped
from compiler.frontend.moves import expanded
from compiler.frontend.site import Site
from compiler.ops import BatchedMatMul
from hw.arch.axes import Axes, aligned, strides_of
from hw.arch.matmul_numerics import ProductScale


def product(site: Site, left: Operand, right: Operand) -> Operand:
    """[..., M, K] by [..., K, N], as numpy.matmul has it; one may be a vector."""
    shapes = [operand.kind.onnx_shape for operand in (left, right)]
    listed = " and ".join(str(list(shape)) for shape in shapes)
    if not all(shapes):
        raise site.refuse(f"matrices of shape {listed}")
    final: list[bool] = [len(shapes[0]) > 1, len(shapes[1]) > 1]
    if not any(final):
        raise site.refuse("a product of two vectors is not read: make one of them a matrix")
    left = left if final[0] else reshaped(left, (1, *shapes[0]))
    right = right if final[1] else reshaped(right, (*shapes[1], 1))
    left, right = _same_batch(site, left, right, listed)
    *lead, rows, inner = left.kind.onnx_shape
    *_, depth, columns = right.kind.onnx_shape
    if depth != inner:
        raise site.refuse(f"matrices of shape {listed} do not meet")
    left, right = _parted(site, left), _parted(site, right)
    axes = _target(left, right)
    batch = math.prod(lead)
    op = BatchedMatMul(
        name=site.builder.op_name(site.node),
        inputs=(left.name, right.name),
        output=site.output(),
        batch=batch,
        rows=rows,
        inner=inner,
        columns=columns,
        left=left.kind.axes,
        right=right.kind.axes,
        target=axes,
        scale=_scale(site),
        low=site.low,
        high=site.high,
    )
    result = site.emit(op, site.result((*lead, rows, columns), axes))
    if all(final):
        return result
    kept = [n for n, keep in zip((rows, columns), final, strict=True) if keep]
    return reshaped(result, (*lead, *kept))


def _scale(site: Site) -> ProductScale:
    za, zb = (site.activation(index).kind.zero_point for index in (0, 1))
    target = site.target
    return ProductScale.of(
        *(site.scale(0), za, site.scale(1), zb),
        *(float(target.scale[0]), int(target.zero_point[0]), site.factor),
    )


def _same_batch(site: Site, left: Operand, right: Operand, listed: str) -> tuple[Operand, Operand]:
    """Both operands with the axes of one batch; what repeats is copied."""
    a, b = left.kind.onnx_shape, right.kind.onnx_shape
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    lead = []
    for n, m in zip(a[:-2], b[:-2], strict=True):
        if n != m and 1 not in (n, m):
            raise site.refuse(f"matrices of shape {listed} do not meet")
        lead.append(max(n, m))
    return (
        expanded(site.builder, site.node, reshaped(left, a), (*lead, *a[-2:])),
        expanded(site.builder, site.node, reshaped(right, b), (*lead, *b[-2:])),
    )


def _parted(site: Site, operand: Operand) -> Operand:
    """The operand with one dimension of its matrices along C, perhaps of one element.

    The other one is along positions; so is each axis of the batch, or along C, as a whole. What
    lies otherwise gets its last axis along C.
    """
    shape = operand.kind.onnx_shape
    along = [_along_channels(operand, axis) for axis in range(len(shape))]
    rows, inner = along[-2:]
    free = 1 in shape[-2:] and not (rows and inner)
    if None not in along and (rows != inner or free):
        return operand
    onto = [1] * (len(shape) - 2) + [3, 0]
    return site.builder.in_form(operand, aligned(shape, onto), site.node)


def _along_channels(operand: Operand, axis: int) -> bool | None:
    """Whether an axis is part of C; None where only a part of it is."""
    shape = operand.kind.onnx_shape
    least, size = strides_of(shape)[axis], shape[axis]
    if size == 1:
        return False
    held = math.prod(
        min(stride * n, least * size) // max(stride, least)
        for n, stride in operand.kind.axes[0]
        if stride < least * size and least < stride * n
    )
    return {1: False, size: True}.get(held)


def _target(left: Operand, right: Operand) -> Axes:
    """Axes of the result: along C what lies along C of the operand that it comes from.

    That is columns before rows; what else the operand has along C (heads) stays there.
    """
    *lead, rows, _ = left.kind.onnx_shape
    columns = right.kind.onnx_shape[-1]
    rank = len(lead) + 2
    shape = (*lead, rows, columns)
    onto = [1] * len(lead) + [3, 0]
    if _along_channels(right, rank - 1):
        onto[:-2] = [0 if _along_channels(right, axis) else 1 for axis in range(rank - 2)]
    elif _along_channels(left, rank - 2):
        onto = [0 if _along_channels(left, axis) else 1 for axis in range(rank - 2)] + [0, 3]
    return aligned(shape, onto)


# Einsum -----------------------------------------------------------------------------------


def einsum(site: Site) -> Operand:
    """Einsum of two activations that is a batch of matrix products: each letter once in each."""
    equation = str(site.attributes.get("equation", "")).replace(" ", "")
    terms, arrow, result = equation.partition("->")
    parts = terms.split(",")
    if len(parts) != 2 or not arrow or not all(p.isalpha() for p in (*parts, result)):
        raise site.refuse(f"equation {equation!r}; products of two tensors into one are read")
    left, right = site.activation(0), site.activation(1)
    if any(len(set(part)) != len(part) for part in (*parts, result)):
        raise site.refuse(f"equation {equation!r} names an axis twice in a tensor")
    for part, operand in zip(parts, (left, right), strict=True):
        if len(part) != len(operand.kind.onnx_shape):
            raise site.refuse(f"equation {equation!r} meets shape {list(operand.kind.onnx_shape)}")
    a, b = (set(part) for part in parts)
    batch = [x for x in result if x in a and x in b]
    rows, columns = [x for x in result if x in a - b], [x for x in result if x in b - a]
    inner = [x for x in parts[0] if x in b and x not in result]
    if (
        {*batch, *rows, *columns} != set(result)
        or {*batch, *rows, *inner} != a
        or ({*batch, *columns, *inner} != b)
    ):
        raise site.refuse(f"equation {equation!r} sums an axis of one tensor alone")
    sizes = dict(zip(parts[0], left.kind.onnx_shape, strict=True))
    for letter, size in zip(parts[1], right.kind.onnx_shape, strict=True):
        if sizes.setdefault(letter, size) != size:
            raise site.refuse(f"equation {equation!r} has two sizes for {letter}")
    made = product(
        site,
        _matrices(site, left, parts[0], (batch, rows, inner), sizes),
        _matrices(site, right, parts[1], (batch, inner, columns), sizes),
    )
    order = [*batch, *rows, *columns]
    seen = reshaped(made, [sizes[x] for x in order])
    return _transposed(site, seen, [order.index(x) for x in result])


def _matrices(
    site: Site,
    operand: Operand,
    letters: str,
    groups: Sequence[Sequence[str]],
    sizes: dict[str, int],
) -> Operand:
    """An operand as [*batch, rows, columns]."""
    order = [letters.index(x) for group in groups for x in group]
    moved = _transposed(site, operand, order)
    batch, first, second = groups
    shape = [sizes[x] for x in batch]
    shape += [math.prod(sizes[x] for x in group) for group in (first, second)]
    return reshaped(moved, shape)


def _transposed(site: Site, operand: Operand, order: Sequence[int]) -> Operand:
    kind = operand.kind.transposed(order)
    if kind is None:
        raise site.refuse(f"transposes {operand.name}, whose axes do not part")
    return Operand(operand.name, kind)
