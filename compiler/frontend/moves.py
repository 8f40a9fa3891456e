"""Import operators that only select or move elements; their result keeps its quantization.

Reshapes and transposes move nothing: they change how the file sees a value
(`TensorType.reshaped`, `transposed`). An operator that needs its elements in a certain form asks
for it (`Builder.in_form`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx

from compiler.frontend.builder import Builder, Operand, align
from compiler.frontend.cuts import cut, gather, reshaped, slice_cuts, split_cut
from compiler.frontend.model import Array, Model, attributes_of, refuse
from compiler.frontend.shapes import in_range, new_shape
from compiler.ops import Concat
from compiler.tensor import TensorType
from hw.arch.axes import STANDARD, aligned

MOVES = (
    *("Dropout", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape"),
    *("Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
)
"""Operators with one data operand; the others are constants."""


def move(
    builder: Builder,
    model: Model,
    node: onnx.NodeProto,
    index: int,
    source: Operand,
    pending: bool = False,
    integer: bool = False,
) -> Operand:
    """A move of an activation: output `index` of the node.

    `pending`: a QuantizeLinear of the operand's scale follows, so what is no code is rounded.
    `integer`: the file moves bare codes, and so the value of a Pad is one.

    Raises
    ------
    Unsupported
        The node asks for something that is not lowered.
    """
    shape = source.kind.onnx_shape
    attributes = attributes_of(node)
    constants = [_constant(model, node, name) for name in node.input[1:]]
    match node.op_type:
        case "Identity" | "Dropout":
            if index:
                raise refuse(node, "its mask is not made")
            if len(constants) > 1 and constants[1] is not None and bool(constants[1].any()):
                raise refuse(node, "training_mode is set: it drops at random; export for inference")
            return source
        case "Expand":
            return _expand(builder, node, source, constants)
        case "Transpose":
            return _permute(builder, node, source, attributes)
        case "Slice":
            return cut(builder, node, source, slice_cuts(node, shape, constants))
        case "Split":
            cuts = [split_cut(node, shape, attributes, constants, index)]
            return cut(builder, node, source, cuts)
        case "Gather":
            return gather(builder, model, node, source, attributes, constants)
        case "Pad":
            value = [*constants, None, None][1]
            kind = source.kind
            code = _bare_code(node, kind, value) if integer else _code(node, kind, value, pending)
            return _pad(builder, node, source, attributes, constants, code)
        case _:
            return reshaped(source, new_shape(node, shape, attributes, constants))


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
        if node.op_type in ("Slice", "Split", "Gather", "Pad", "Expand"):
            raise refuse(node, f"moves the dequantized constant {operand.name}: fold it")
        shape = new_shape(node, array.shape, attributes, constants)
        if quantization.axis is not None:
            before = array.shape[: quantization.axis]
            same = [
                axis
                for axis, n in enumerate(shape)
                if n == array.shape[quantization.axis]
                and math.prod(shape[:axis]) == math.prod(before)
            ]
            if not same:
                raise refuse(node, f"reshapes {operand.name} across its channels: fold it")
            quantization = quantization.moved(same[0])
        array = array.reshape(shape)
    return Operand(str(node.output[0]), None, array, quantization)


def _constant(model: Model, node: onnx.NodeProto, name: str) -> Array | None:
    if not name:
        return None
    if not model.is_constant(name):
        raise refuse(node, f"input {name} must be constant (shapes are fixed at compile time)")
    return model.constants[name]


def _expand(
    builder: Builder, node: onnx.NodeProto, source: Operand, constants: Sequence[Array | None]
) -> Operand:
    """Repetition along axes of size 1: a concat of the tensor with itself, axis after axis."""
    shape = source.kind.onnx_shape
    if constants[0] is None:
        raise refuse(node, "the shape is missing")
    try:
        wanted = tuple(int(n) for n in np.broadcast_shapes(shape, tuple(constants[0].tolist())))
    except ValueError:
        raise refuse(node, f"{list(shape)} does not expand to {constants[0].tolist()}") from None
    return expanded(
        builder, node, reshaped(source, (1,) * (len(wanted) - len(shape)) + shape), wanted
    )


def expanded(
    builder: Builder, node: onnx.NodeProto, source: Operand, shape: Sequence[int]
) -> Operand:
    """The operand repeated along its axes of size 1, to a shape of its rank."""
    for axis, size in enumerate(shape):
        if source.kind.onnx_shape[axis] != size:
            source = joined(builder, node, [source] * size, axis)
    return source


def _permute(
    builder: Builder, node: onnx.NodeProto, source: Operand, attributes: dict[str, object]
) -> Operand:
    rank = len(source.kind.onnx_shape)
    order = [int(str(a)) for a in attributes.get("perm", range(rank - 1, -1, -1))]  # type: ignore[attr-defined]
    if sorted(order) != list(range(rank)):
        raise refuse(node, f"perm {order} does not permute {list(source.kind.onnx_shape)}")
    kind = source.kind.transposed(order)
    if kind is None:  # cut where this shape has no axes: bring it into a form that has
        source, _ = align(builder, source, node)
        kind = source.kind.transposed(order)
    assert kind is not None, node.name
    return Operand(source.name, kind)


def _code(node: onnx.NodeProto, kind: TensorType, value: Array | None, rounded: bool) -> int:
    """Code of the real value of a Pad, which must be one exactly unless it is `rounded`."""
    real = np.float32(0.0 if value is None else _single(node, value))
    code = int(
        np.clip(np.rint(real / np.float32(kind.scale)) + kind.zero_point, kind.low, kind.high)
    )
    if not rounded and np.float32(code - kind.zero_point) * np.float32(kind.scale) != real:
        raise refuse(
            node,
            f"pads with {real:g}, which is no code of {kind}: put QuantizeLinear before and behind",
        )
    return code


def _bare_code(node: onnx.NodeProto, kind: TensorType, value: Array | None) -> int:
    """The value of a Pad of bare codes: a code as it stands, 0 where none is given."""
    if value is None:
        return 0
    if value.dtype != kind.dtype:
        raise refuse(node, f"pads {np.dtype(kind.dtype)} codes with a value of {value.dtype}")
    return int(_single(node, value))


def _single(node: onnx.NodeProto, value: Array) -> Array:
    """The one element of the value of a Pad."""
    if value.size != 1:
        raise refuse(node, f"its value has {value.size} elements; one is read")
    return value.reshape(())


def _pad(
    builder: Builder,
    node: onnx.NodeProto,
    source: Operand,
    attributes: dict[str, object],
    constants: Sequence[Array | None],
    code: int,
) -> Operand:
    """Constant padding with a code: a concat with constant maps, one axis after another."""
    kind = source.kind
    rank = len(kind.onnx_shape)
    pads, _, axes = [*constants, None, None, None][:3]
    if attributes.get("mode", "constant") != "constant":
        raise refuse(
            node,
            f"mode {attributes['mode']}; only constant padding is lowered; else Slice, Concat",
        )
    if pads is None:
        raise refuse(node, "pads must be an input (opset 11 and later)")
    listed = list(range(rank)) if axes is None else [int(a) for a in axes]
    if pads.size != 2 * len(listed):
        raise refuse(node, f"pads {pads.reshape(-1).tolist()} for {len(listed)} axes")
    widths = {
        in_range(node, axis, rank): (int(pads[i]), int(pads[i + len(listed)]))
        for i, axis in enumerate(listed)
    }
    for axis, (before, after) in widths.items():
        if before < 0 or after < 0:
            raise refuse(node, f"pads {before}, {after} of axis {axis}: negative pads are slices")
        parts = [source]
        for width, end in ((before, 0), (after, 1)):
            if width:
                shape = list(source.kind.onnx_shape)
                shape[axis] = width
                filled = Operand(source.name, source.kind, np.full(shape, code, kind.dtype))
                parts.insert(len(parts) if end else 0, filled)
        if len(parts) > 1:
            source = joined(builder, node, parts, axis)
    return source


def joined(
    builder: Builder,
    node: onnx.NodeProto,
    parts: Sequence[Operand],
    axis: int,
    tables: Sequence[bytes | None] = (),
    kind: TensorType | None = None,
) -> Operand:
    """Operands side by side along an ONNX axis.

    Parameters
    ----------
    parts: activations; those with an array are constant maps of the quantization of their type.
    axis: ONNX axis, counted from the front.
    tables: per operand a change of quantization.
    kind: its quantization is the result's; the operands' own where it is not given.
    """
    first = next(part for part in parts if part.array is None)
    first, onto = align(builder, first, node)
    place = place_of_axis(onto, axis, node)
    onto[axis] = place
    names, size = [], 0
    for part in parts:
        shape = part.kind.onnx_shape if part.array is None else part.array.shape
        form = aligned(shape, _onto(shape, onto))
        size += shape[axis]
        if part.array is None:
            names.append(builder.in_form(part, form, node).name)
        else:
            filled = part.kind.with_shape(shape, form)
            names.append(builder.constant(builder.inner(part.name), filled, part.array))
    whole = list(first.kind.onnx_shape)
    whole[axis] = size
    quantized = kind or first.kind
    op = Concat(
        name=builder.op_name(node),
        inputs=tuple(names),
        output=builder.inner(first.name),
        axis=place,
        tables=tuple(tables) or (None,) * len(parts),
    )
    return builder.emit(op, quantized.with_shape(whole, aligned(whole, _onto(whole, onto))), node)


def _onto(shape: Sequence[int], onto: Sequence[int | None]) -> list[int]:
    """Places of a shape's axes; those of size 1 may stand anywhere."""
    return [3 if place is None else place for place in onto[: len(shape)]]


def place_of_axis(onto: Sequence[int | None], axis: int, node: onnx.NodeProto) -> int:
    """C, T, H or W for the axis along which operands are joined."""
    own = onto[axis]
    if own is not None:
        return own
    free = [k for k in range(4) if k not in onto]
    usual = STANDARD[len(onto)][axis] if len(onto) in STANDARD else None
    if usual in free:
        return usual
    if not free:
        raise refuse(node, "joins along a fifth axis; channels, time, height and width are four")
    return free[-1]
