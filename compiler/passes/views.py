"""Remove operators that only relabel: flatten before a dense layer, and views."""

from __future__ import annotations

import dataclasses

from compiler.ir import AnyOperation, Convolution, Graph, Port, Rearrange, Value, View
from compiler.passes.base import Accept, Outcome, Pass


def _flatten(graph: Graph, accept: Accept) -> Outcome:
    """Let a dense layer read the map itself: its kernel becomes the whole map.

    [C, T, H, W] flattened in row-major order meets weights [Cout, C·T·H·W]; the same weights read
    as [Cout, C, T, H, W] make a convolution with one output position.
    """
    producers = graph.producers()
    ops: list[AnyOperation] = []
    applied, refused = [], []
    for op in graph.ops:
        flatten = producers.get(op.inputs[0])
        if not isinstance(op, Convolution) or not isinstance(flatten, Rearrange):
            ops.append(op)
            continue
        why = _why_not(graph, op, flatten)
        if why is not None:
            refused.append((op.name, why))
            ops.append(op)
            continue
        source = graph.type(flatten.inputs[0])
        weight = op.weight.reshape(op.out_channels, *source.shape)
        ops.append(dataclasses.replace(op, inputs=flatten.inputs, weight=weight))
        applied.append(f"{op.name}: reads {flatten.inputs[0]} instead of {flatten.output}")
    return Outcome(graph.replaced(ops), tuple(applied), tuple(refused))


def _why_not(graph: Graph, op: Convolution, flatten: Rearrange) -> str | None:
    features = graph.type(flatten.output)
    if not flatten.reshapes_only:
        return f"{flatten.name} also moves axes"
    if features.shape[1:] != (1, 1, 1):
        return f"{flatten.name} does not end in one row of features"
    if op.kernel != (1, 1, 1) or op.groups != 1:
        return "it is no dense layer"
    return None


def _remove_views(graph: Graph, accept: Accept) -> Outcome:
    """Let readers of a view read what it views; only a network output keeps its name."""
    values = dict(graph.values)
    names: dict[str, str] = {}
    ops: list[AnyOperation] = []
    applied, refused = [], []
    shaped = {op.inputs[0] for op in graph.ops if isinstance(op, Rearrange)}
    for op in graph.ops:
        op = dataclasses.replace(op, inputs=tuple(names.get(n, n) for n in op.inputs))
        if not isinstance(op, View):
            ops.append(op)
            continue
        source = op.inputs[0]
        if op.output in shaped:
            refused.append((op.name, "a rearrangement reads the view's own shape"))
            ops.append(op)
            continue
        names[op.output] = source
        applied.append(f"{op.name}: {op.output} is {source}")
    result = graph.replaced(ops, values)
    outputs = tuple(_renamed(port, names) for port in graph.outputs)
    result = dataclasses.replace(result, outputs=outputs).replaced(ops, values)
    return _restore_output_names(graph, result, tuple(applied), tuple(refused))


def _renamed(port: Port, names: dict[str, str]) -> Port:
    return Port(names.get(port.value, port.value), port.onnx_name)


def _restore_output_names(
    before: Graph, graph: Graph, applied: tuple[str, ...], refused: tuple[tuple[str, str], ...]
) -> Outcome:
    """Give a network output that was a view its own name and ONNX shape back."""
    fixed = {port.value for port in graph.inputs} | set(graph.constants())
    shaped = {op.inputs[0] for op in graph.ops if isinstance(op, Rearrange)}
    renames: dict[str, str] = {}
    for old, new in zip(before.outputs, graph.outputs, strict=True):
        free = new.value not in fixed | shaped and new.value not in renames
        if old.value != new.value and free:
            renames[new.value] = old.value
    if not renames:
        return Outcome(graph, applied, refused)

    def rename(name: str) -> str:
        return renames.get(name, name)

    ops = [
        dataclasses.replace(
            op, inputs=tuple(rename(n) for n in op.inputs), output=rename(op.output)
        )
        for op in graph.ops
    ]
    kept = {n: v for n, v in graph.values.items() if n not in renames}
    added = {n: Value(n, before.type(n)) for n in renames.values()}
    outputs = tuple(Port(rename(p.value), p.onnx_name) for p in graph.outputs)
    renamed = dataclasses.replace(graph, outputs=outputs, values={**kept, **added})
    return Outcome(renamed.replaced(ops), applied, refused)


FLATTEN = Pass("flatten", _flatten, ensures=frozenset({"no flatten before dense"}))
VIEWS = Pass(
    "views",
    _remove_views,
    requires=frozenset({"no flatten before dense"}),
    ensures=frozenset({"no views"}),
)
