"""Import operators that take a part of their operand: slices, parts of splits, gathers."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from compiler.frontend.builder import Builder, Operand, align
from compiler.frontend.model import Array, Model, refuse
from compiler.frontend.shapes import in_range
from compiler.frontend.trips import MARK
from compiler.ops import Pick, Slice
from compiler.tensor import TensorType
from hw.arch.axes import aligned

Cut = tuple[int, int, int, int]
"""ONNX axis, start, stop, step."""


def cut(builder: Builder, node: onnx.NodeProto, source: Operand, cuts: Sequence[Cut]) -> Operand:
    """One Slice per axis that loses elements; none at all moves nothing."""
    shape = source.kind.onnx_shape
    for axis, start, stop, step in cuts:
        if stop <= start:
            raise refuse(node, f"takes nothing of axis {axis} ({start}..{stop})")
        if (start, stop, step) == (0, shape[axis], 1):
            continue
        source, onto = align(builder, source, node)
        canonical = onto[axis]
        assert canonical is not None, (node.name, axis)  # an axis that loses elements has some
        shape = (*shape[:axis], len(range(start, stop, step)), *shape[axis + 1 :])
        op = Slice(
            name=builder.op_name(node),
            inputs=(source.name,),
            output=builder.inner(source.name),
            axis=canonical,
            start=start,
            stop=stop,
            step=step,
        )
        source = builder.emit(op, sliced(source.kind, shape, onto), node)
    return source


def sliced(kind: TensorType, shape: Sequence[int], onto: Sequence[int | None]) -> TensorType:
    """An aligned type with other sizes along its axes."""
    return kind.with_shape(shape, aligned(shape, [3 if k is None else k for k in onto]))


def slice_cuts(
    node: onnx.NodeProto, shape: tuple[int, ...], constants: Sequence[Array | None]
) -> list[Cut]:
    """What a Slice takes of every axis that it names.

    Raises
    ------
    Unsupported
        It takes elements backwards, or has attributes instead of inputs.
    """
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
        place = in_range(node, axis, len(shape))
        first, last, _ = slice(start, end).indices(shape[place])
        cuts.append((place, first, last, step))
    return cuts


def split_cut(
    node: onnx.NodeProto,
    shape: tuple[int, ...],
    attributes: dict[str, object],
    constants: Sequence[Array | None],
    index: int,
) -> Cut:
    """Output `index` of a Split.

    Raises
    ------
    Unsupported
        The parts are not those of the axis.
    """
    axis = in_range(node, int(str(attributes.get("axis", 0))), len(shape))
    listed = constants[0] if constants else attributes.get("split")
    if listed is None:
        parts = int(str(attributes.get("num_outputs", len(node.output))))
        size = -(-shape[axis] // parts)
        sizes = [size] * (parts - 1) + [shape[axis] - size * (parts - 1)]
    else:
        sizes = [int(n) for n in listed]  # type: ignore[attr-defined]
    if sum(sizes) != shape[axis] or min(sizes) < 1:
        raise refuse(node, f"parts {sizes} of an axis of {shape[axis]} elements")
    start = sum(sizes[:index])
    return axis, start, start + sizes[index], 1


def gather(
    builder: Builder,
    model: Model,
    node: onnx.NodeProto,
    source: Operand,
    attributes: dict[str, object],
    constants: Sequence[Array | None],
) -> Operand:
    """Gather of evenly spaced elements is a slice; a scalar index drops its axis."""
    shape = source.kind.onnx_shape
    axis = in_range(node, int(str(attributes.get("axis", 0))), len(shape))
    index = constants[0]
    if index is None or index.size == 0:
        raise refuse(node, "its indices must be constant, and at least one")
    wanted = [int(i) for i in index.reshape(-1)]
    if any(not -shape[axis] <= i < shape[axis] for i in wanted):
        raise refuse(node, f"indices {wanted[:8]} of an axis of {shape[axis]} elements")
    wanted = [i % shape[axis] for i in wanted]
    loop = model.flat.picks.get(node.output[0])
    if loop is not None:
        return reshaped(
            _picked(builder, model, node, source, axis, loop),
            (*shape[:axis], *index.shape, *shape[axis + 1 :]),
        )
    step = wanted[1] - wanted[0] if len(wanted) > 1 else 1
    if step < 1 or wanted != list(range(wanted[0], wanted[-1] + 1, step)):
        raise refuse(
            node, f"gathers {wanted[:8]}: only evenly rising indices (a slice) are lowered"
        )
    final = (*shape[:axis], *index.shape, *shape[axis + 1 :])
    part = cut(builder, node, source, [(axis, wanted[0], wanted[-1] + 1, step)])
    return reshaped(part, final)


def _picked(
    builder: Builder, model: Model, node: onnx.NodeProto, source: Operand, axis: int, loop: str
) -> Operand:
    """The trip's element of an axis."""
    kept = model.flat.loops[loop]
    shape = source.kind.onnx_shape
    if shape[axis] < kept.trips:
        raise refuse(node, f"takes {kept.trips} elements of axis {axis} of {list(shape)}")
    source, onto = align(builder, source, node)
    place = onto[axis]
    if place is None:  # one element, one trip
        return source
    if place == 0:  # lanes are no place of their own: trips go along another axis
        source, onto = turned(builder, node, source, onto, axis)
        place = onto[axis]
        assert place is not None
    op = Pick(
        name=builder.op_name(node),
        inputs=(source.name,),
        output=builder.inner(source.name),
        loop=f"{loop}{MARK}",
        trips=kept.trips,
        axis=place,
    )
    one = (*shape[:axis], 1, *shape[axis + 1 :])
    return builder.emit(op, sliced(source.kind, one, onto), node)


def turned(
    builder: Builder, node: onnx.NodeProto, source: Operand, onto: list[int | None], axis: int
) -> tuple[Operand, list[int | None]]:
    """The operand with another axis than one along the channels, or none."""
    shape = source.kind.onnx_shape
    free = [k for k in (1, 2, 3) if k not in onto]
    other = next((a for a, k in enumerate(onto) if k not in (0, None)), None)
    places = list(onto)
    if other is not None:
        places[axis], places[other] = onto[other], 0
    elif free:
        places[axis] = free[0]
    axes = aligned(shape, [3 if k is None else k for k in places])
    return builder.in_form(source, axes, node), places


def reshaped(source: Operand, shape: Sequence[int]) -> Operand:
    """The operand under another ONNX shape."""
    return Operand(source.name, source.kind.reshaped(shape))
