"""Fusions that keep every bit: clamps, maximum pools, the temporal residual gradient."""

from __future__ import annotations

import dataclasses

import numpy as np

from compiler.ir import (
    AnyOperation,
    AxisMean,
    Concat,
    Convolution,
    Graph,
    Pairwise,
    PairwiseKind,
    Pool,
    PoolKind,
    Slice,
    TemporalResidual,
    UnaryTable,
)
from compiler.ops import stored_codes
from compiler.passes.base import Accept, Outcome, Pass
from hw.arch.numerics import Affine

Clamped = Convolution | Pairwise | AxisMean | Pool


class _NotFusedError(Exception):
    """Why a place that matched is left alone."""


def _single_use(graph: Graph, name: str) -> None:
    """Refuse where a value that would vanish is needed elsewhere."""
    count = graph.uses()[name]
    if count != 1:
        readers = [op.name for op in graph.consumers()[name]]
        readers += [p.onnx_name for p in graph.outputs if p.value == name]
        readers += [f"state {s.input}" for s in graph.states if s.source == name]
        raise _NotFusedError(f"{name} is read by {', '.join(readers)}")


def _replace(graph: Graph, last: AnyOperation, fused: AnyOperation, gone: set[str]) -> Graph:
    """The graph with `fused` in place of `last`, without the operators that made `gone`."""
    ops = [fused if op is last else op for op in graph.ops if op.output not in gone]
    return graph.replaced(ops)


# Clamps -----------------------------------------------------------------------------------


def clamp_of(graph: Graph, op: UnaryTable) -> tuple[int, int] | None:
    """Bounds if a table only clamps codes."""
    kind = graph.type(op.inputs[0])
    if kind.quantization != graph.type(op.output).quantization:
        return None
    codes = stored_codes(kind)
    table = np.frombuffer(op.table, kind.dtype).astype(np.int64)
    low, high = int(table.min()), int(table.max())
    return (low, high) if np.array_equal(table, np.clip(codes, low, high)) else None


def _fuse_clamps(graph: Graph, accept: Accept) -> Outcome:
    applied: list[str] = []
    refused: list[tuple[str, str]] = []
    for op in graph.ops:
        if not isinstance(op, UnaryTable) or (bounds := clamp_of(graph, op)) is None:
            continue
        producer = graph.producers().get(op.inputs[0])
        if not isinstance(producer, Clamped):
            refused.append((op.name, f"{op.inputs[0]} is made by no operator with a clamp"))
            continue
        try:
            _single_use(graph, op.inputs[0])
        except _NotFusedError as why:
            refused.append((op.name, str(why)))
            continue
        # The producer's clamp comes first: bounds that do not meet leave one code.
        low, high = (min(max(b, bounds[0]), bounds[1]) for b in (producer.low, producer.high))
        fused = dataclasses.replace(producer, output=op.output, low=low, high=high)
        graph = _replace(graph, op, fused, {producer.output})
        applied.append(f"{producer.name}: clamps to {low}..{high} for {op.name}")
    return Outcome(graph, tuple(applied), tuple(refused))


# Pools ------------------------------------------------------------------------------------


def _fuse_pools(graph: Graph, accept: Accept) -> Outcome:
    """Convolution and maximum pool: the maximum commutes with the monotone requantization."""
    applied: list[str] = []
    refused: list[tuple[str, str]] = []
    for op in graph.ops:
        if not isinstance(op, Pool) or op.kind is not PoolKind.MAX:
            continue
        try:
            fused, producer = _pooled(graph, op, accept)
        except _NotFusedError as why:
            refused.append((op.name, str(why)))
            continue
        graph = _replace(graph, op, fused, {producer})
        applied.append(f"{fused.name}: pools for {op.name}")
    return Outcome(graph, tuple(applied), tuple(refused))


def _pooled(graph: Graph, op: Pool, accept: Accept) -> tuple[Convolution, str]:
    """The fused convolution and the value that vanishes."""
    producer = graph.producers().get(op.inputs[0])
    if not isinstance(producer, Convolution):
        raise _NotFusedError(f"{op.inputs[0]} is made by no convolution")
    if producer.pool is not None:
        raise _NotFusedError(f"{producer.name} pools already")
    if not op.window.tiles:
        raise _NotFusedError(
            f"kernel {op.window.kernel}, stride {op.window.stride}, pads "
            f"{op.window.pad_begin}, {op.window.pad_end}: windows overlap or reach into padding"
        )
    _single_use(graph, op.inputs[0])
    fused = dataclasses.replace(
        producer,
        output=op.output,
        pool=op.window,
        low=min(max(producer.low, op.low), op.high),
        high=min(max(producer.high, op.low), op.high),
    )
    why = accept(fused, graph.input_types(producer), graph.type(op.output))
    if why is not None:
        raise _NotFusedError(f"not lowered in one: {why}")
    return fused, producer.output


# Temporal residual ------------------------------------------------------------------------


def _fuse_residuals(graph: Graph, accept: Accept) -> Outcome:
    """Slice, Slice, Sub, ReduceMean, Concat on the time axis to one operator."""
    applied: list[str] = []
    refused: list[tuple[str, str]] = []
    for op in graph.ops:
        if not isinstance(op, Concat) or op.axis != 1 or len(op.inputs) != 2:
            continue
        try:
            fused, gone = _residual(graph, op)
            why = accept(fused, graph.input_types(fused), graph.type(fused.output))
            if why is not None:
                raise _NotFusedError(f"not lowered in one: {why}")
        except _NotFusedError as why_not:
            refused.append((op.name, str(why_not)))
            continue
        graph = _replace(graph, op, fused, gone)
        applied.append(f"{op.name}: temporal residual of {fused.inputs[0]}")
    return Outcome(graph, tuple(applied), tuple(refused))


def _residual(graph: Graph, op: Concat) -> tuple[TemporalResidual, set[str]]:
    """The fused operator and the values that vanish."""
    producers = graph.producers()
    sub, mean = (producers.get(name) for name in op.inputs)
    if not isinstance(sub, Pairwise) or sub.kind is not PairwiseKind.SUBTRACT:
        raise _NotFusedError("its first operand is no difference")
    if not isinstance(mean, AxisMean) or mean.axes != (1,):
        raise _NotFusedError("its second operand is no mean over time")
    source = mean.inputs[0]
    frames = graph.type(source).shape[1]
    current, previous = (producers.get(name) for name in sub.inputs)
    if not _takes(current, source, 1, frames) or not _takes(previous, source, 0, frames - 1):
        raise _NotFusedError("the difference is not between neighbouring frames of one tensor")
    gone = {*sub.inputs, *op.inputs}
    for name in sorted(gone):
        _single_use(graph, name)
    assert isinstance(sub.arithmetic, Affine)
    fused = TemporalResidual(
        name=op.name,
        inputs=(source,),
        output=op.output,
        subtract=sub.arithmetic,
        mean=mean.mean,
        difference=graph.type(sub.output),
        average=graph.type(mean.output),
        difference_low=sub.low,
        difference_high=sub.high,
        average_low=mean.low,
        average_high=mean.high,
        difference_table=op.tables[0],
        average_table=op.tables[1],
    )
    return fused, gone


def _takes(op: AnyOperation | None, source: str, start: int, stop: int) -> bool:
    """Whether an operator cuts frames start..stop−1 out of `source`."""
    return (
        isinstance(op, Slice)
        and op.inputs == (source,)
        and (op.axis, op.start, op.stop, op.step) == (1, start, stop, 1)
    )


NEEDS = frozenset({"folded"})
FUSE_CLAMPS = Pass("fuse-clamps", _fuse_clamps, NEEDS, frozenset({"clamps fused"}))
FUSE_POOLS = Pass("fuse-pools", _fuse_pools, NEEDS | {"clamps fused"}, frozenset({"pools fused"}))
FUSE_RESIDUALS = Pass("fuse-residuals", _fuse_residuals, NEEDS, frozenset({"residuals fused"}))
