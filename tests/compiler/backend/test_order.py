"""The order of emission: what passes no constant weights comes as soon as it can."""

from __future__ import annotations

import numpy as np

from compiler import interpreter
from compiler.backend.order import in_order
from compiler.ir import Graph, verify
from tests.compiler.backend.harness import CONFIGS, execute, feeds_of
from tests.compiler.backend.ragged import Network

SHAPE = (6, 2, 4, 5)


def two_branches() -> Graph:
    """A pool of the first convolution stands behind the second one, which does not need it."""
    net = Network(SHAPE)
    first, second = net.conv("v0", 5), net.conv("v0", 7)
    net.pool(first, False)
    net.table(second)
    return net.graph()


def test_a_pool_comes_before_a_convolution_that_does_not_make_it():
    graph = two_branches()
    result = in_order(graph)
    verify(result)
    assert [op.name for op in result.ops] == ["op0", "op2", "op1", "op3"]
    feeds = feeds_of(graph)
    before, after = (interpreter.run(g, feeds) for g in (graph, result))
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_chain_of_operators_keeps_its_order():
    net = Network(SHAPE)
    net.table(net.conv(net.pool(net.conv("v0", 5), False), 7))
    graph = net.graph()
    assert [op.name for op in in_order(graph).ops] == [op.name for op in graph.ops]


def test_layers_come_in_that_order():
    run = execute(two_branches(), CONFIGS["tiny"])
    assert run.differing() == []
    assert [layer.name for layer in run.program.layers] == ["op0", "op2", "op1", "op3"]
