"""Slices that take every n-th line or frame become a stride of the convolution behind them."""

from __future__ import annotations

import dataclasses

from compiler.ir import Convolution, Graph, Slice
from compiler.passes.base import Accept, Outcome, Pass


def _fuse_steps(graph: Graph, accept: Accept) -> Outcome:
    """Where one tap lies on the axis, reading every n-th element is a stride of n."""
    applied: list[str] = []
    refused: list[tuple[str, str]] = []
    for op in graph.ops:
        taken = graph.producers().get(op.inputs[0]) if op.inputs else None
        if not isinstance(op, Convolution) or not isinstance(taken, Slice) or taken.step == 1:
            continue
        why = _apart(graph, taken, op)
        if why is None:
            fused = _strided(taken, op)
            why = accept(fused, graph.input_types(fused), graph.type(fused.output))
        if why is not None:
            refused.append((f"{taken.name}, {op.name}", why))
            continue
        ops = [fused if o is op else o for o in graph.ops if o is not taken]
        graph = graph.replaced(ops)
        applied.append(f"{op.name}: reads every {taken.step}th of what {taken.name} took")
    return Outcome(graph, tuple(applied), tuple(refused))


def _apart(graph: Graph, taken: Slice, op: Convolution) -> str | None:
    """Why a slice stays, or None if its step can be a stride."""
    if taken.axis == 0:
        return "it takes channels"
    if graph.uses()[taken.output] != 1:
        return f"{taken.output} is read by others, too"
    if graph.path(taken.output) != graph.path(op.output):
        return "they do not stand in the same arm"
    d = taken.axis - 1
    if op.kernel[d] != 1 or op.pad_begin[d] or op.pad_end[d]:
        return f"{op.kernel[d]} taps, padded by {op.pad_begin[d]}, lie along it"
    size = graph.type(taken.inputs[0]).shape[taken.axis]
    step = taken.step * op.stride[d]
    results = len(range(taken.start, taken.stop, step))
    if taken.start or results != (size - 1) // step + 1:
        return f"it takes {taken.start} to {taken.stop} of {size}"
    return None


def _strided(taken: Slice, op: Convolution) -> Convolution:
    stride = list(op.stride)
    stride[taken.axis - 1] *= taken.step
    return dataclasses.replace(op, inputs=taken.inputs, stride=(stride[0], stride[1], stride[2]))


FUSE_STEPS = Pass("fuse-steps", _fuse_steps)
