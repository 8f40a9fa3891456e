"""Where between two tensors of codes, by a condition that is a function of codes."""

import numpy as np
import torch

from models.operands import lookup
from models.tables import QParams
from models.values import Call, Codes, Compute, Constant, Function, Tensors, Value


def where(call: Call) -> tuple[Codes, tuple[str, ...], Compute] | None:
    """What it makes, reads and computes; None where a condition or a tensor of codes is missing.

    Raises
    ------
    UnsupportedGraph
        The tensors have different scales, or one is a float constant.
    """
    condition, *parts = call.operands
    tensors = [v for v in parts if isinstance(v, Codes)]
    if not isinstance(condition, Function) or condition.steps or len(parts) != 2 or not tensors:
        return None
    first, second = (_part(call, v, tensors[0].params) for v in parts)
    shapes = [v.shape for v in parts if isinstance(v, Codes | Constant)]
    try:
        shape = tuple(np.broadcast_shapes(condition.shape, *shapes))
    except ValueError:
        raise call.refuse(f"shapes {[condition.shape, *shapes]} do not broadcast") from None
    table, source = condition.table.astype(bool), condition.codes

    def compute(tensors: Tensors) -> torch.Tensor:
        truth = lookup(tensors[source.name], source.params, table)
        return torch.where(truth.reshape(condition.shape), first(tensors), second(tensors))

    reads = tuple(dict.fromkeys((source.name, *(v.name for v in tensors))))
    return Codes(call.node.output[0], tensors[0].params, shape), reads, compute


def _part(call: Call, value: Value | None, like: QParams) -> Compute:
    """Codes of a tensor or a constant that may be selected."""
    if isinstance(value, Codes) and value.params.same_as(like):
        name = value.name
        return lambda tensors: tensors[name]
    params = value.params if isinstance(value, Constant) else None
    if isinstance(value, Constant) and params is not None and params.same_as(like):
        codes = np.array(value.codes)
        return lambda tensors: torch.from_numpy(codes)
    raise call.refuse("selects among tensors of different scales, or a float constant")
