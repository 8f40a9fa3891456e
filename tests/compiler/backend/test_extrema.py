"""The greater of neighbouring frames, lines or columns as a pool."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from compiler import interpreter
from compiler.ir import (
    COMPILER,
    Pairwise,
    PairwiseKind,
    Pool,
    Slice,
    UnaryTable,
    verify,
)
from compiler.ops import make_table
from compiler.passes.extrema import FUSE_EXTREMA
from tests.compiler.backend.harness import CONFIGS, execute, feeds_of, kind, network


def graph_of(
    shape, axis, *, starts=(0, 1), stops=None, step=2, scales=(None, None), falling=False,
    what=PairwiseKind.MAXIMUM,
):  # fmt: skip
    """Max of two slices of x; `scales` of what a table makes of each of them."""
    x = kind(shape, 0.05, 9)
    even = shape[axis] // 2 * 2
    ops, values, names = [], {}, []
    for n, start in enumerate(starts):
        op = Slice(
            name=f"cut{n}", inputs=("x",), output=f"s{n}", axis=axis, start=start,
            stop=(stops or (even, even))[n], step=step,
        )  # fmt: skip
        result = x.with_shape((1, *op.infer([x])))
        ops.append(op)
        values[op.output] = result
        names.append(op.output)
        if scales[n] is not None:
            source, result = result, dataclasses.replace(result, scale=scales[n], zero_point=40)
            functions = [np.negative] if falling else []
            table = make_table(source, result, functions)
            name = f"t{n}"
            ops.append(
                UnaryTable(
                    name=name, inputs=(names[-1],), output=name, table=table, function="requantize"
                )
            )
            values[name] = result
            names[-1] = name
    op = Pairwise(name="max", inputs=tuple(names), output="y", kind=what, low=150, high=200)
    return network({"x": x}, [*ops, op], {**values, "y": result})


def run(graph, accept=lambda *_: None):
    outcome = FUSE_EXTREMA.run(graph, accept)
    verify(outcome.graph)
    return outcome


CASES = {
    "frames": ((20, 8, 5, 4), 1, {}),
    "an odd number": ((20, 7, 5, 4), 1, {}),
    "lines, the later first": ((3, 2, 6, 4), 2, {"starts": (1, 0)}),
    "columns": ((3, 2, 6, 10), 3, {}),
    "up to the end": ((5, 7, 3, 3), 1, {"stops": (6, 7)}),
    "another scale": ((20, 8, 5, 4), 1, {"scales": (0.07, 0.07)}),
}


@pytest.mark.parametrize("name", CASES)
def test_equal_to_what_it_replaces(name):
    shape, axis, options = CASES[name]
    graph = graph_of(shape, axis, **options)
    outcome = run(graph)
    pool, *behind = outcome.graph.ops
    assert isinstance(pool, Pool) and len(behind) == ("scales" in options)
    if behind:
        assert outcome.graph.values[pool.output].origin == COMPILER
    feeds = feeds_of(graph)
    before = interpreter.run(graph, feeds)["y"]
    assert np.array_equal(interpreter.run(outcome.graph, feeds)["y"], before)
    assert before.min() == 150 and before.max() == 200, "clamps are tried"
    assert execute(outcome.graph, CONFIGS["tiny"]).differing() == []
    # Twin: other neighbours are others.
    moved = {"x": np.roll(feeds["x"], 1, axis + 1)}
    assert not np.array_equal(interpreter.run(outcome.graph, moved)["y"], before)


STAY = {
    "the lesser": {"what": PairwiseKind.MINIMUM},
    "others than neighbours": {"starts": (0, 2), "stops": (6, 8)},
    "the same frames": {"starts": (0, 0)},
    "every fourth": {"step": 4},
    "half of them": {"stops": (4, 4)},
    "one has another scale": {"scales": (0.05, None)},
    "a falling table": {"scales": (0.07, 0.07), "falling": True},
}


@pytest.mark.parametrize("name", STAY)
def test_what_stays(name):
    options = dict(STAY[name])
    if options.get("scales") == (0.05, None):
        graph = graph_of((3, 8, 4, 4), 1, scales=(0.05, 0.05))
        second = next(op for op in graph.ops if op.output == "t1")
        table = bytes(reversed(second.table))
        ops = [dataclasses.replace(op, table=table) if op is second else op for op in graph.ops]
        graph = dataclasses.replace(graph, ops=tuple(ops))
    else:
        graph = graph_of((3, 8, 4, 4), 1, **options)
    outcome = run(graph)
    assert outcome.graph.ops == graph.ops and not outcome.applied


def test_channels_stay():
    graph = graph_of((8, 2, 4, 4), 0)
    assert run(graph).graph.ops == graph.ops


def test_what_the_back_end_refuses_stays():
    graph = graph_of((3, 8, 4, 4), 1)
    outcome = run(graph, lambda *_: "no")
    assert outcome.graph.ops == graph.ops and outcome.refused == (("max", "no"),)


def test_slices_that_others_read_stay():
    graph = graph_of((3, 8, 4, 4), 1)
    shown = dataclasses.replace(graph.outputs[0], value="s0", onnx_name="s0")
    outcome = run(dataclasses.replace(graph, outputs=(*graph.outputs, shown)))
    assert [type(op) for op in outcome.graph.ops] == [Slice, Pool]
