"""Operators on 8-bit integers as they are, without scales: moves, extrema and clamps."""

from collections.abc import Callable
from functools import reduce

import numpy as np
import torch

from models import moves
from models.functions import clip_bounds
from models.operators import concatenated
from models.values import Call, Constant, Group, Integers, Shape, Tensors

Compute = Callable[[Tensors], torch.Tensor]


def read(call: Call) -> list[tuple[Group, Integers]]:
    """Groups and results of a node whose operands are integers, one for each of its outputs.

    Raises
    ------
    UnsupportedGraph
        The operator does arithmetic, or its operands are of different types.
    """
    values = [v for v in call.operands if isinstance(v, Integers)]
    first, reads = values[0], tuple(dict.fromkeys(v.name for v in values))
    given = all(v.given for v in values) and call.op in moves.MOVES
    found = []
    for index, name in enumerate(call.node.output):
        if not name:
            continue
        compute, shape = _compute(call, first, index)
        group = Group(call.node, call.op, name, reads, compute, shape, first.dtype, first.params)
        found.append((group, Integers(name, first.dtype, shape, first.params, given)))
    return found


def _compute(call: Call, first: Integers, index: int) -> tuple[Compute, Shape]:
    if call.op in (*moves.MOVES, *moves.SELECTIONS):
        if not isinstance(call.operands[0], Integers):
            raise call.refuse("moves a constant by what is computed")
        move = moves.read(call, first.shape, index)
        return lambda tensors: move(tensors[first.name], None), moves.shape_after(move, first.shape)
    if call.op in ("Concat", "Max", "Min"):
        return _several(call, first.dtype)
    if call.op in ("Clip", "Relu"):
        limits = np.iinfo(first.dtype)
        bounds = (0.0, np.inf) if call.op == "Relu" else clip_bounds(call)
        ends = [int(min(max(end, limits.min), limits.max)) for end in bounds]
        return lambda tensors: tensors[first.name].clamp(*ends), first.shape
    raise call.refuse("is not read on integers as they are: dequantize them first")


def _several(call: Call, dtype: np.dtype) -> tuple[Compute, Shape]:
    """Concat, Max and Min; operands may be constant."""
    parts: list[Integers | np.ndarray] = []
    for value, name in zip(call.operands, call.names, strict=True):
        part = value.array if isinstance(value, Constant) else value
        if not isinstance(part, Integers | np.ndarray) or part.dtype != dtype:
            raise call.refuse(f"input {name} is not {dtype}")
        parts.append(part)
    shapes = [tuple(part.shape) for part in parts]

    def operands(tensors: Tensors) -> list[torch.Tensor]:
        return [
            tensors[p.name] if isinstance(p, Integers) else torch.from_numpy(p.copy())
            for p in parts
        ]

    if call.op == "Concat":
        axis, shape = concatenated(call, shapes)
        return lambda tensors: torch.cat(operands(tensors), dim=axis), shape
    choose = torch.maximum if call.op == "Max" else torch.minimum
    try:
        shape = tuple(np.broadcast_shapes(*shapes))
    except ValueError:
        raise call.refuse(f"shapes {shapes} do not broadcast") from None
    return lambda tensors: reduce(choose, operands(tensors)), shape
