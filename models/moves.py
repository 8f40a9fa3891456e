"""Operators that select or move integers; where scales differ, a table follows."""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from models import integer
from models.operands import (
    Tensors,
    codes_of,
    constant_of,
    integers,
    lookup,
    operand_of,
    target_of,
    window,
)
from models.quantgraph import Group, Operand
from models.tables import F32, quantize_float, unary_table


def _slices(group: Group, shape: torch.Size) -> tuple[slice, ...]:
    starts, ends = constant_of(group, 1), constant_of(group, 2)
    if starts is None or ends is None:
        raise group.refuse("starts and ends must be inputs (opset 10 and later)")
    axes, steps = constant_of(group, 3), constant_of(group, 4)
    listed = range(len(starts)) if axes is None else axes.tolist()
    strides = [1] * len(starts) if steps is None else steps.tolist()
    cuts = [slice(None)] * len(shape)
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), listed, strides, strict=True):
        if step < 1:
            raise group.refuse(f"step must be positive, not {step}")
        cuts[axis] = slice(*slice(start, end).indices(shape[axis])[:2], step)
    return tuple(cuts)


def _reshaped(group: Group, x: torch.Tensor) -> list[int]:
    wanted = constant_of(group, 1)
    if wanted is None:
        raise group.refuse("the shape is missing")
    keep = not group.attributes.get("allowzero", 0)
    return [x.shape[i] if n == 0 and keep else n for i, n in enumerate(wanted.tolist())]


def _axes(group: Group, rank: int) -> list[int]:
    """Axes of Squeeze and Unsqueeze: an input since opset 13, an attribute before."""
    listed = constant_of(group, 1)
    axes = integers(group, "axes", []) if listed is None else listed.tolist()
    return sorted(axis % rank for axis in axes)


def _split(group: Group, x: torch.Tensor) -> torch.Tensor:
    axis = group.attributes.get("axis", 0)
    listed = constant_of(group, 1)
    sizes = integers(group, "split", []) if listed is None else listed.tolist()
    if not sizes:
        parts = len(group.node.output)
        size = -(-x.shape[axis] // parts)
        sizes = [size] * (parts - 1) + [x.shape[axis] - size * (parts - 1)]
    return torch.split(x, sizes, dim=axis)[group.index]


def _move_one(group: Group, x: torch.Tensor, low: int) -> torch.Tensor:
    """Select or move elements of one tensor."""
    rank = x.dim()
    match group.op:
        case "Identity":
            return x
        case "Slice":
            return x[_slices(group, x.shape)]
        case "Transpose":
            return x.permute(integers(group, "perm", list(reversed(range(rank)))))
        case "Reshape":
            return x.reshape(_reshaped(group, x))
        case "Flatten":
            axis = group.attributes.get("axis", 1) % (rank + 1)
            return x.reshape(int(np.prod(x.shape[:axis])), -1)
        case "Squeeze":
            axes = _axes(group, rank) or [i for i, n in enumerate(x.shape) if n == 1]
            return x.squeeze(axes)
        case "Unsqueeze":
            for axis in _axes(group, rank + len(_axes(group, 1 << 16))):
                x = x.unsqueeze(axis)
            return x
        case "Split":
            return _split(group, x)
        case "Expand":
            wanted = _reshaped(group, x)
            return x.expand(torch.broadcast_shapes(x.shape, wanted))
        case "Gather":
            index = constant_of(group, 1)
            if index is None:
                raise group.refuse("its indices are missing")
            axis = group.attributes.get("axis", 0) % rank
            picked = x.index_select(axis, torch.tensor(np.ravel(index)))
            return picked.reshape(*x.shape[:axis], *np.shape(index), *x.shape[axis + 1 :])
        case "MaxPool":
            kernel = integers(group, "kernel_shape", [])
            strides, pads, dilations = window(group, kernel)
            ceil_mode = bool(group.attributes.get("ceil_mode", 0))
            return integer.max_pool(x, kernel, strides, pads, dilations, ceil_mode, low)
    raise group.refuse("has no integer definition")


def _rescaled(group: Group, operand: Operand, x: torch.Tensor) -> torch.Tensor:
    """Change of scale after a move, by table; nothing where the scales agree."""
    source, target = operand.params, group.params
    if source is None or target is None or source.same_as(target):
        return x
    return lookup(x, source, unary_table(source, target, []))


def move(group: Group, tensors: Tensors) -> torch.Tensor:
    """Slice, Transpose, Reshape, MaxPool and the like: one tensor in, one out."""
    x = operand_of(group, 0)
    codes = codes_of(x, tensors)
    low = torch.iinfo(codes.dtype).min
    return _rescaled(group, x, _move_one(group, codes, low))


def concat(group: Group, tensors: Tensors) -> torch.Tensor:
    """Concat: each part to the scale of the result, then side by side."""
    parts = [
        _rescaled(group, operand, codes_of(operand, tensors)).to(torch.int16)
        for operand in (operand_of(group, i) for i in range(len(group.operands)))
    ]
    return torch.cat(parts, dim=group.attributes["axis"])


def pad(group: Group, tensors: Tensors) -> torch.Tensor:
    """Pad with a constant, which is quantized at the scale of the result."""
    x, target = operand_of(group, 0), target_of(group)
    if group.attributes.get("mode", "constant") != "constant":
        raise group.refuse(f"mode {group.attributes['mode']} is not read")
    pads, fill = constant_of(group, 1), 0.0
    if pads is None or constant_of(group, 3) is not None or int(pads.min()) < 0:
        raise group.refuse("pads must be a constant input, not negative, over all axes")
    if len(group.operands) > 2 and group.operands[2] is not None:
        operand = operand_of(group, 2)
        value = float(np.asarray(constant_of(group, 2)).reshape(()))
        params = operand.params
        fill = value if params is None else (value - params.zero) * float(params.unit)
    code = int(quantize_float(np.asarray([fill], dtype=F32), target)[0])
    moved = _rescaled(group, x, codes_of(x, tensors)).to(torch.int16)
    rank = moved.dim()
    widths = [int(pads[i + side]) for i in reversed(range(rank)) for side in (0, rank)]
    return F.pad(moved, widths, value=code)


def reduce_max(group: Group, tensors: Tensors) -> torch.Tensor:
    """ReduceMax over any axes."""
    x = operand_of(group, 0)
    codes = codes_of(x, tensors)
    listed = constant_of(group, 1)
    axes = integers(group, "axes", []) if listed is None else listed.tolist()
    greatest = codes.amax(
        dim=axes or list(range(codes.dim())), keepdim=bool(group.attributes.get("keepdims", 1))
    )
    return _rescaled(group, x, greatest)
