"""The greater of two neighbours is a pool: Max(x[0::2], x[1::2]) reads x, and copies nothing."""

from __future__ import annotations

import dataclasses

import numpy as np

from compiler.ir import (
    COMPILER,
    AnyOperation,
    Graph,
    Pairwise,
    PairwiseKind,
    Pool,
    PoolKind,
    Slice,
    UnaryTable,
    Value,
    Window,
)
from compiler.ops import stored_codes
from compiler.passes.base import Accept, Outcome, Pass, live
from compiler.tensor import TensorType

PAIR = 2


@dataclasses.dataclass(frozen=True, slots=True)
class _Neighbours:
    """The operands of a maximum.

    Attributes
    ----------
    source: what both are taken of. axis: along which.
    table: what is done with each element of both; None where nothing is.
    """

    source: str
    axis: int
    table: UnaryTable | None


def _fuse_extrema(graph: Graph, accept: Accept) -> Outcome:
    """Maxima of every second element and of those between, along time, height or width."""
    applied: list[str] = []
    refused: list[tuple[str, str]] = []
    for op in graph.ops:
        if not isinstance(op, Pairwise) or op.kind is not PairwiseKind.MAXIMUM:
            continue
        found = _neighbours(graph, op)
        if found is None:
            continue
        pooled, pool, table = _pool(graph, op, found)
        kinds = {name: value.type for name, value in {**graph.values, **pooled}.items()}
        made: list[AnyOperation] = [pool] if table is None else [pool, table]
        for each in made:
            why = accept(each, [kinds[name] for name in each.inputs], kinds[each.output])
            if why is not None:
                refused.append((op.name, why))
                break
        else:
            ops: list[AnyOperation] = []
            for each in graph.ops:
                ops += made if each is op else [each]
            paths = {**graph.paths, **dict.fromkeys(pooled, graph.path(op.output))}
            graph = dataclasses.replace(graph, paths=paths).replaced(ops, pooled)
            graph = graph.replaced(live(graph))
            applied.append(f"{op.name}: a pool of neighbours of {found.source}")
    return Outcome(graph, tuple(applied), tuple(refused))


def _neighbours(graph: Graph, op: Pairwise) -> _Neighbours | None:
    """What a maximum is of, if it is of neighbours."""
    taken = [_taken(graph, name) for name in op.inputs]
    slices = [each[0] for each in taken if each is not None]
    if len(slices) != PAIR or slices[0].inputs != slices[1].inputs:
        return None
    first, second = sorted(slices, key=lambda each: each.start)
    source, axis = first.inputs[0], first.axis
    if axis == 0 or second.axis != axis or graph.path(source) != graph.path(op.output):
        return None
    size = graph.type(source).shape[axis]
    for start, each in enumerate((first, second)):
        if (each.start, each.step) != (start, PAIR) or each.stop - start <= PAIR * (
            size // PAIR - 1
        ):
            return None
    if graph.type(op.output).shape[axis] != size // PAIR:
        return None
    tables = [each[1] for each in taken if each is not None]
    one, other = tables
    if one is None or other is None:
        return _Neighbours(source, axis, None) if one is other else None
    same = one.table == other.table and _rising(one, graph.type(first.output), graph)
    return _Neighbours(source, axis, one) if same else None


def _taken(graph: Graph, name: str) -> tuple[Slice, UnaryTable | None] | None:
    """The slice that makes a value, and a table behind it, if there is one."""
    makers = graph.producers()
    op, table = makers.get(name), None
    if isinstance(op, UnaryTable):
        table, op = op, makers.get(op.inputs[0])
    return (op, table) if isinstance(op, Slice) else None


def _rising(table: UnaryTable, source: TensorType, graph: Graph) -> bool:
    """Whether a greater code never has a smaller result, so that a maximum may come first."""
    result = graph.type(table.output)
    found = np.frombuffer(table.table, result.dtype).astype(np.int16)
    return bool((np.diff(found[np.argsort(stored_codes(source))]) >= 0).all())


def _pool(
    graph: Graph, op: Pairwise, found: _Neighbours
) -> tuple[dict[str, Value], Pool, UnaryTable | None]:
    """The pool with what becomes of its results, and the value between, if there is one."""
    sizes = [1, 1, 1]
    sizes[found.axis - 1] = PAIR
    kernel = sizes[0], sizes[1], sizes[2]
    source, table = graph.type(found.source), found.table
    plain = source.low, source.high
    low, high = (op.low, op.high) if table is None else plain
    name = op.output if table is None else f"{op.output}/pool"
    pool = Pool(
        name=op.name,
        inputs=(found.source,),
        output=name,
        kind=PoolKind.MAX,
        window=Window(kernel, kernel),
        low=low,
        high=high,
    )
    if table is None:
        return {}, pool, None
    result = graph.type(op.output)
    codes = np.clip(np.frombuffer(table.table, result.dtype), op.low, op.high)
    behind = dataclasses.replace(
        table,
        name=f"{op.name}/requantize",
        inputs=(name,),
        output=op.output,
        table=codes.astype(result.dtype).tobytes(),
    )
    kind = TensorType.of(result.onnx_shape, *source.quantization, result.axes)
    return {name: Value(name, kind, None, COMPILER)}, pool, behind


FUSE_EXTREMA = Pass("fuse-extrema", _fuse_extrema)
