"""Shapes after Reshape, Flatten, Squeeze and Unsqueeze."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx

from compiler.frontend.model import Array, refuse


def in_range(node: onnx.NodeProto, axis: int, rank: int) -> int:
    """An axis counted from the front; Unsupported where there is none such."""
    if not -rank <= axis < rank:
        raise refuse(node, f"axis {axis} of a tensor of rank {rank}")
    return axis % rank


def new_shape(
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
        drop = {in_range(node, a, rank) for a in axes}
        drop = drop or {a for a, n in enumerate(shape) if n == 1}
        if any(shape[a] != 1 for a in drop):
            raise refuse(node, f"squeezes axes {sorted(drop)} of {list(shape)}")
        return tuple(n for a, n in enumerate(shape) if a not in drop)
    result = list(shape)
    for axis in sorted(in_range(node, a, rank + len(axes)) for a in axes):
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
