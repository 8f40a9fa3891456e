"""Rearrangements in front of what works element by element, and where they have to stay."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from compiler import interpreter
from compiler.ir import Graph, Pairwise, PairwiseKind, Port, Rearrange, UnaryTable, Value, verify
from compiler.ops import make_table
from compiler.passes.base import accept_all
from compiler.passes.hoist import HOIST
from compiler.tensor import TensorType
from hw.arch.axes import aligned
from hw.arch.numerics import Affine

SHAPE = (1, 5, 12)
TOKENS_AS_CHANNELS, FEATURES_AS_CHANNELS = aligned(SHAPE, (3, 0, 3)), aligned(SHAPE, (3, 3, 0))


def tokens(scale=0.05, zero_point=9) -> TensorType:
    return TensorType.of(SHAPE, False, scale, zero_point, TOKENS_AS_CHANNELS)


def positions_added(*, constant=True, outputs=("z",), twice=False) -> Graph:
    """Tokens plus positions, read with their features as channels."""
    x, p, y = tokens(), tokens(0.02, 100), tokens(0.07, 60)
    z = dataclasses.replace(y, axes=FEATURES_AS_CHANNELS)
    codes = np.random.default_rng(3).integers(0, 256, p.shape).astype(np.uint8)
    scales = (x.scale, x.zero_point, p.scale, p.zero_point, y.scale, y.zero_point)
    ops = [
        Pairwise(
            name="add",
            inputs=("x", "p"),
            output="y",
            kind=PairwiseKind.ADD,
            arithmetic=Affine.add(*scales),
            low=0,
            high=255,
        ),
        Rearrange(
            name="turn", inputs=("y",), output="t", source=y.axes, target=FEATURES_AS_CHANNELS
        ),
        UnaryTable(
            name="f", inputs=("t",), output="z", table=make_table(z, z, [np.tanh]), function="tanh"
        ),
    ]
    if twice:
        ops.append(dataclasses.replace(ops[2], name="g", inputs=("y",), output="w"))
    inputs = (Port("x", "x"),) if constant else (Port("x", "x"), Port("p", "p"))
    values = {"x": Value("x", x), "p": Value("p", p, codes if constant else None)}
    values |= {"y": Value("y", y), "t": Value("t", z), "z": Value("z", z), "w": Value("w", y)}
    if not twice:
        del values["w"]
    graph = Graph("hand", inputs, tuple(Port(n, n) for n in outputs), values, tuple(ops))
    verify(graph)
    return graph


def hoisted(graph: Graph) -> Graph:
    result = HOIST.run(graph, accept_all).graph
    verify(result)
    return result


def rearranges(graph: Graph) -> int:
    return sum(isinstance(op, Rearrange) for op in graph.ops)


@pytest.mark.parametrize("constant", [True, False])
def test_what_the_host_writes_takes_the_form_that_is_read(constant):
    graph = positions_added(constant=constant)
    result = hoisted(graph)
    assert rearranges(result) == 0
    assert result.type("x").shape == (12, 1, 1, 5)
    rng = np.random.default_rng(0)
    feeds = {n: rng.integers(0, 256, SHAPE).astype(np.uint8) for n in ("x", "p")}
    before, after = (interpreter.run(g, feeds) for g in (graph, result))
    for name in result.values:
        assert np.array_equal(before[name], after[name]), name
    feeds["x"] = feeds["x"][:, ::-1].copy()
    assert not np.array_equal(interpreter.run(result, feeds)["z"], before["z"])


def test_a_constant_in_the_old_form_would_be_seen():
    graph = positions_added()
    result = hoisted(graph)
    value = result.values["p"]
    wrong = dataclasses.replace(value, constant=np.roll(value.constant, 1, axis=0))
    broken = dataclasses.replace(result, values={**result.values, "p": wrong})
    feeds = {"x": np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)}
    runs = [interpreter.run(g, feeds)["z"] for g in (result, broken)]
    assert not np.array_equal(*runs)


@pytest.mark.parametrize(
    "graph",
    [positions_added(outputs=("z", "y")), positions_added(outputs=("z", "w"), twice=True)],
    ids=["an output", "two readers"],
)
def test_what_others_read_stays_as_it_is(graph):
    assert rearranges(hoisted(graph)) == 1
