"""Every n-th line or frame as a stride of the convolution that reads it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from compiler import interpreter
from compiler.ir import Convolution, Slice, verify
from compiler.passes.steps import FUSE_STEPS
from tests.compiler.backend.harness import CONFIGS, convolution, execute, feeds_of, kind, network


def graph_of(shape, axis, step, kernel, *, start=0, stop=None, **attributes):
    """x, every n-th element of it along an axis, and its convolution."""
    x = kind(shape, 0.05, 9)
    cut = Slice(
        name="cut",
        inputs=("x",),
        output="s",
        axis=axis,
        start=start,
        stop=stop or shape[axis],
        step=step,
    )
    taken = x.with_shape((1, *cut.infer([x])))
    op, y = convolution(np.random.default_rng(0), taken, 6, kernel, inputs=("s",), **attributes)
    return network({"x": x}, [cut, op], {"s": taken, "y": y})


def fused(graph):
    outcome = FUSE_STEPS.run(graph, lambda *_: None)
    verify(outcome.graph)
    return outcome


CASES = {
    "frames": ((3, 8, 9, 9), 1, 4, (1, 3, 3), {"pad_begin": (0, 1, 1), "pad_end": (0, 1, 1)}),
    "an odd number": ((3, 7, 5, 5), 1, 2, (1, 1, 1), {}),
    "lines": ((5, 4, 9, 8), 2, 2, (3, 1, 3), {}),
    "columns of a stride": ((5, 1, 6, 13), 3, 2, (1, 3, 1), {"stride": (1, 1, 2)}),
}


@pytest.mark.parametrize("name", CASES)
def test_equal_to_both(name):
    shape, axis, step, kernel, attributes = CASES[name]
    graph = graph_of(shape, axis, step, kernel, **attributes)
    outcome = fused(graph)
    (op,) = outcome.graph.ops
    assert isinstance(op, Convolution) and len(outcome.applied) == 1
    feeds = feeds_of(graph)
    before = interpreter.run(graph, feeds)["y"]
    assert np.array_equal(interpreter.run(outcome.graph, feeds)["y"], before)
    assert execute(outcome.graph, CONFIGS["tiny"]).differing() == []
    moved = {"x": np.roll(feeds["x"], 1, axis + 1)}
    other = interpreter.run(outcome.graph, moved)["y"]
    assert not np.array_equal(other, before), "the elements between are others"


def test_what_stays():
    def why(graph, accept=lambda *_: None):
        outcome = FUSE_STEPS.run(graph, accept)
        assert outcome.graph.ops == graph.ops
        ((_, reason),) = outcome.refused
        return reason

    shape = (3, 8, 9, 9)
    assert why(graph_of(shape, 1, 2, (1, 3, 3), start=1)) == "it takes 1 to 8 of 8"
    assert why(graph_of(shape, 1, 2, (1, 3, 3), stop=5)) == "it takes 0 to 5 of 8"
    assert why(graph_of(shape, 1, 2, (3, 1, 1))).startswith("3 taps")
    assert why(graph_of((8, 1, 4, 4), 0, 2, (1, 1, 1))) == "it takes channels"
    graph = graph_of(shape, 1, 4, (1, 3, 3))
    assert why(graph, lambda *_: "no") == "no"
    shown = dataclasses.replace(graph.outputs[0], value="s", onnx_name="s")
    assert why(dataclasses.replace(graph, outputs=(*graph.outputs, shown))).endswith("others, too")
    plain = graph_of(shape, 1, 1, (1, 3, 3), stop=4)
    outcome = FUSE_STEPS.run(plain, lambda *_: None)
    assert outcome.applied == outcome.refused == ()
