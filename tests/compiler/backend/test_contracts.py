"""Contracts of lanes: a broken one names the operator, at assignment and again at emission."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from compiler.backend import build
from compiler.backend.build import generate
from compiler.ir import (
    CompilerError,
    Concat,
    Graph,
    Relayout,
)
from compiler.layout import assign
from compiler.layout.assign import Assigned, assign_layout, check_layouts
from hw.arch.isa import Elementwise
from hw.arch.layout import LaneMap, TensorLayout
from tests.compiler.backend.harness import CONFIGS, FOLDING, execute
from tests.compiler.backend.ragged import SPACE, Network, ragged


def swapped(layout: TensorLayout) -> TensorLayout:
    """Two lanes of different channels exchanged: in different runs where there are some."""
    table = layout.lane_map.table().copy()
    held = np.argwhere(table >= 0)
    first = tuple(held[0])
    second = next(tuple(p) for p in held[::-1] if table[tuple(p)] != table[first])
    table[first], table[second] = table[second], table[first]
    return dataclasses.replace(layout, lane_map=LaneMap.of(table))


LANEWISE = [
    "- conv with two readers", "· gate", "· own gate", "concat of T", "slice of T",
    "depthwise 3×3", "depthwise of four taps", "maximum pool", "table", "mean over W",
    "temporal residual", "view", "transposed positions", "concat of C", "slice of C",
]  # fmt: skip


@pytest.mark.parametrize("reader", LANEWISE)
def test_a_broken_contract_names_the_operator(reader):
    assigned = assign_layout(ragged("concat 5+7", reader), CONFIGS["base"])
    check_layouts(assigned)
    op = assigned.graph.ops[-1]
    wrong = {**assigned.layouts, op.output: swapped(assigned.layouts[op.output])}
    with pytest.raises(CompilerError, match=rf"{op.name} \(.*\): lanes do not meet"):
        check_layouts(Assigned(assigned.graph, wrong))


def in_one_lane(graph: Graph, config, number: int) -> tuple[Assigned, str]:
    """The layouts with the only channel of an operand of the last operator in the first lane."""
    assigned = assign_layout(graph, config)
    name = assigned.graph.ops[-1].inputs[number]
    one = dataclasses.replace(assigned.layouts[name], lane_map=LaneMap.dense(1, config.lane_block))
    return Assigned(assigned.graph, {**assigned.layouts, name: one}), name


def one_channel(first: bool, multiply: bool) -> Graph:
    """Twelve channels and one, which is a maximum's result, so that its lanes are kept."""
    net = Network((12, *SPACE), (1, *SPACE))
    one = net.pool("v1", False)
    full = net.pool("v0", False)
    net.binary(*((one, full) if first else (full, one)), multiply, 1.5 if multiply else 0.11)
    return net.graph()


def test_a_spread_channel_stands_in_every_lane_where_nothing_spreads_it(monkeypatch):
    config = CONFIGS["base"]
    graph = one_channel(first=False, multiply=False)
    assigned = assign_layout(graph, config)
    one = assigned.layouts[assigned.graph.ops[-1].inputs[1]]
    assert one.lane_map == LaneMap.spread(16)
    changed, _ = in_one_lane(graph, config, 1)
    monkeypatch.setattr(build, "assign_layout", lambda g, c: changed)
    with pytest.raises(CompilerError, match="one lane for all needs the feature `fold`"):
        generate(graph, config)


def test_the_first_operand_of_a_sum_stands_in_every_lane():
    config = FOLDING["folding"]
    graph = one_channel(first=True, multiply=False)
    check_layouts(assign_layout(graph, config))
    with pytest.raises(CompilerError, match=r"channel 1 does not stand in every lane"):
        check_layouts(in_one_lane(graph, config, 0)[0])


@pytest.mark.parametrize(("first", "multiply"), [(False, False), (False, True), (True, True)])
def test_a_channel_is_spread_by_the_instruction(first, multiply):
    graph = one_channel(first, multiply)
    for config in FOLDING.values():
        assert not any(isinstance(op, Relayout) for op in assign_layout(graph, config).graph.ops)
        run = execute(graph, config)
        assert run.differing() == []
        last = [i for i in run.program.instructions if isinstance(i, Elementwise)]
        assert all(i.spread for i in last)
        code = [
            dataclasses.replace(i, spread=0) if i in last else i for i in run.program.instructions
        ]
        broken = dataclasses.replace(run.program, instructions=tuple(code))
        assert execute(graph, config, broken).differing() == [graph.ops[-1].output]


def corrupted(graph, config, name):
    """The layouts of `assign_layout` with two lanes of a value swapped."""
    assigned = assign_layout(graph, config)
    return Assigned(assigned.graph, {**assigned.layouts, name: swapped(assigned.layouts[name])})


@pytest.mark.parametrize("reader", ["- conv with two readers", "concat of T", "depthwise 3×3"])
def test_emission_checks_again_and_values_would_tell(reader, monkeypatch):
    config = CONFIGS["base"]
    graph = ragged("concat 5+7", reader)
    concat = next(op for op in graph.ops if isinstance(op, Concat))
    monkeypatch.setattr(build, "assign_layout", lambda g, c: corrupted(g, c, concat.output))
    with pytest.raises(CompilerError, match=rf"{concat.name} \(Concat\): lanes do not meet"):
        generate(graph, config)
    monkeypatch.setattr(assign, "broken", lambda op, sources, result: None)
    assert execute(graph, config, generate(graph, config)).differing() != []
