"""Import operators that only select or move elements; their result keeps its quantization."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx

from compiler.frontend.model import Array, Model, attributes_of, label, refuse
from compiler.frontend.site import Builder, Operand
from compiler.frontend.windows import canonical_axis
from compiler.ops import Rearrange, Slice, View

MOVES = (
    *("Dropout", "Flatten", "Gather", "Identity", "Reshape"),
    *("Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
)
"""Operators with one data operand; the others are constants."""


def move(
    builder: Builder, model: Model, node: onnx.NodeProto, index: int, source: str, output: str
) -> None:
    """Append a move of the value `source` to `output`, output `index` of the node."""
    kind = builder.type(source)
    attributes = attributes_of(node)
    constants = [_constant(model, node, name) for name in node.input[1:]]
    match node.op_type:
        case "Identity" | "Dropout":
            _reshape(builder, node, source, output, kind.onnx_shape)
        case "Transpose":
            rank = len(kind.onnx_shape)
            order = tuple(attributes.get("perm", range(rank - 1, -1, -1)))
            _permute(builder, node, source, output, order)
        case "Slice":
            cuts = _slice_cuts(node, kind.onnx_shape, constants)
            _cut(builder, node, source, output, cuts)
        case "Split":
            cuts = [_split_cut(node, kind.onnx_shape, attributes, constants, index)]
            _cut(builder, node, source, output, cuts)
        case "Gather":
            _gather(builder, node, source, output, attributes, constants)
        case _:
            shape = _new_shape(node, kind.onnx_shape, attributes, constants)
            _reshape(builder, node, source, output, shape)


def move_constant(model: Model, node: onnx.NodeProto, operand: Operand) -> Operand:
    """Apply a move to a quantized constant (a transposed weight)."""
    assert operand.array is not None and operand.quantization is not None
    array, quantization = operand.array, operand.quantization
    attributes = attributes_of(node)
    if node.op_type == "Transpose":
        order = list(attributes.get("perm", range(array.ndim - 1, -1, -1)))
        if quantization.axis is not None:
            quantization = quantization.moved(order.index(quantization.axis))
        array = array.transpose(order)
    elif node.op_type not in ("Identity", "Dropout"):
        constants = [_constant(model, node, name) for name in node.input[1:]]
        if quantization.axis is not None or node.op_type in ("Slice", "Split", "Gather"):
            raise refuse(node, f"moves the dequantized constant {operand.name}: fold it")
        array = array.reshape(_new_shape(node, array.shape, attributes, constants))
    return Operand(str(node.output[0]), None, array, quantization)


def _constant(model: Model, node: onnx.NodeProto, name: str) -> Array | None:
    if not name:
        return None
    if not model.is_constant(name):
        raise refuse(node, f"input {name} must be constant (shapes are fixed at compile time)")
    return model.constants[name]


def _reshape(
    builder: Builder, node: onnx.NodeProto, source: str, output: str, shape: tuple[int, ...]
) -> None:
    kind = builder.type(source)
    target = kind.with_shape(shape)
    name = label(node)
    if target.shape == kind.shape:
        builder.emit(View(name=name, inputs=(source,), output=output), target)
        return
    order = tuple(range(len(kind.onnx_shape)))
    op = Rearrange(name=name, inputs=(source,), output=output, permutation=order, shape=shape)
    builder.emit(op, target)


def _permute(
    builder: Builder, node: onnx.NodeProto, source: str, output: str, order: tuple[int, ...]
) -> None:
    kind = builder.type(source)
    shape = tuple(kind.onnx_shape[a] for a in order)
    large = [a for a in order if kind.onnx_shape[a] > 1]
    if large == sorted(large):  # only axes of size 1 change their place
        _reshape(builder, node, source, output, shape)
        return
    op = Rearrange(
        name=label(node), inputs=(source,), output=output, permutation=order, shape=shape
    )
    builder.emit(op, kind.with_shape(shape))


Cut = tuple[int, int, int, int]
"""ONNX axis, start, stop, step."""


def _cut(
    builder: Builder, node: onnx.NodeProto, source: str, output: str, cuts: Sequence[Cut]
) -> None:
    """One Slice per axis that loses elements; none at all is a view."""
    shape = builder.type(source).onnx_shape
    cuts = [c for c in cuts if c[1:] != (0, shape[c[0]], 1)]
    if not cuts:
        _reshape(builder, node, source, output, shape)
    for number, (axis, start, stop, step) in enumerate(cuts, 1):
        last = number == len(cuts)
        name = label(node) if last else f"{label(node)}/axis{axis}"
        target = output if last else builder.unused(f"{output}/axis{axis}")
        canonical = canonical_axis(axis, len(shape))
        if canonical < 0:
            raise refuse(node, "cuts the batch axis; programs have batch 1")
        if stop <= start:
            raise refuse(node, f"takes nothing of axis {axis} ({start}..{stop})")
        shape = (*shape[:axis], len(range(start, stop, step)), *shape[axis + 1 :])
        op = Slice(
            name=name,
            inputs=(source,),
            output=target,
            axis=canonical,
            start=start,
            stop=stop,
            step=step,
        )
        source = builder.emit(op, builder.type(source).with_shape(shape))


def _slice_cuts(
    node: onnx.NodeProto, shape: tuple[int, ...], constants: Sequence[Array | None]
) -> list[Cut]:
    starts, ends, axes, steps = [*constants, None, None, None, None][:4]
    if starts is None or ends is None:
        raise refuse(node, "starts and ends must be inputs (opset 10 and later)")
    count = starts.size
    listed = list(range(count)) if axes is None else axes.reshape(-1).tolist()
    strides = [1] * count if steps is None else steps.reshape(-1).tolist()
    cuts = []
    for start, end, axis, step in zip(
        starts.reshape(-1).tolist(), ends.reshape(-1).tolist(), listed, strides, strict=True
    ):
        if step < 1:
            raise refuse(node, f"step {step}: only forward slices are lowered")
        axis %= len(shape)
        first, last, _ = slice(start, end).indices(shape[axis])
        cuts.append((axis, first, last, step))
    return cuts


def _split_cut(
    node: onnx.NodeProto,
    shape: tuple[int, ...],
    attributes: dict[str, object],
    constants: Sequence[Array | None],
    index: int,
) -> Cut:
    axis = int(str(attributes.get("axis", 0))) % len(shape)
    listed = constants[0] if constants else attributes.get("split")
    if listed is None:
        parts = len(node.output)
        size = -(-shape[axis] // parts)
        sizes = [size] * (parts - 1) + [shape[axis] - size * (parts - 1)]
    else:
        sizes = [int(n) for n in listed]  # type: ignore[attr-defined]
    if sum(sizes) != shape[axis] or min(sizes) < 1:
        raise refuse(node, f"parts {sizes} of an axis of {shape[axis]} elements")
    start = sum(sizes[:index])
    return axis, start, start + sizes[index], 1


def _gather(
    builder: Builder,
    node: onnx.NodeProto,
    source: str,
    output: str,
    attributes: dict[str, object],
    constants: Sequence[Array | None],
) -> None:
    """Gather of one element, which drops its axis, is a slice."""
    shape = builder.type(source).onnx_shape
    axis = int(str(attributes.get("axis", 0))) % len(shape)
    index = constants[0]
    if index is None or index.size != 1:
        raise refuse(node, "gathers several elements; one element (a slice) is lowered")
    element = int(index.reshape(()))
    element += shape[axis] if element < 0 else 0
    final = (*shape[:axis], *index.shape, *shape[axis + 1 :])
    cut = (axis, element, element + 1, 1)
    if len(final) == len(shape):
        _cut(builder, node, source, output, [cut])
        return
    middle = builder.unused(f"{output}/slice")
    _cut(builder, node, source, middle, [cut])
    _reshape(builder, node, middle, output, final)


def _new_shape(
    node: onnx.NodeProto,
    shape: tuple[int, ...],
    attributes: dict[str, object],
    constants: Sequence[Array | None],
) -> tuple[int, ...]:
    """Shape after Reshape, Flatten, Squeeze or Unsqueeze."""
    rank = len(shape)
    given = constants[0] if constants else None
    if node.op_type == "Flatten":
        axis = int(str(attributes.get("axis", 1)))
        axis += rank if axis < 0 else 0
        return math.prod(shape[:axis]), math.prod(shape[axis:])
    if node.op_type == "Reshape":
        return _resolved(node, shape, given, bool(attributes.get("allowzero", 0)))
    listed = attributes.get("axes", []) if given is None else given.reshape(-1).tolist()
    axes = [int(a) for a in listed]  # type: ignore[attr-defined]
    if node.op_type == "Squeeze":
        drop = {a % rank for a in axes} or {a for a, n in enumerate(shape) if n == 1}
        return tuple(n for a, n in enumerate(shape) if a not in drop)
    result = list(shape)
    for axis in sorted(a % (rank + len(axes)) for a in axes):
        result.insert(axis, 1)
    return tuple(result)


def _resolved(
    node: onnx.NodeProto, shape: tuple[int, ...], given: Array | None, allow_zero: bool
) -> tuple[int, ...]:
    if given is None:
        raise refuse(node, "the shape is missing")
    wanted = [
        shape[a] if n == 0 and not allow_zero and a < len(shape) else int(n)
        for a, n in enumerate(given.reshape(-1).tolist())
    ]
    total = math.prod(shape)
    if -1 in wanted:
        rest = math.prod(n for n in wanted if n != -1)
        wanted[wanted.index(-1)] = total // rest if rest else 0
    if math.prod(wanted) != total:
        raise refuse(node, f"{list(shape)} does not fill {wanted}")
    return tuple(wanted)
