"""Relayouts: exact for every code, copied by whole blocks, selected row by row."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.ir import (
    Graph,
    Relayout,
)
from hw.arch.isa import Array, Permute
from hw.arch.layout import LaneMap
from sim.functional.errors import MachineError
from tests.compiler.backend.harness import CONFIGS, FOLDING, execute, kind, network
from tests.compiler.backend.ragged import MACHINES, SPACE


@pytest.mark.parametrize("config", MACHINES)
@pytest.mark.parametrize(("signed", "zero"), [(False, 0), (False, 255), (True, -128), (True, 17)])
def test_every_code_passes_a_relayout(signed, zero, config):
    lanes = MACHINES[config].lane_block
    t = kind((7, 1, 16, 16), 0.05, zero, signed)
    rng = np.random.default_rng(0)
    table = np.full((12, lanes), -1, np.int64)
    table.reshape(-1)[rng.choice(table.size, 7, replace=False)] = np.arange(7)
    lane_map = LaneMap.of(table[(table >= 0).any(axis=1)])
    op = Relayout(name="move", inputs=("x",), output="y", lane_map=lane_map)
    graph = network({"x": t}, [op], {"y": t})
    codes = np.array([rng.permutation(256) for _ in range(7)]).astype(np.uint8)
    feeds = {"x": codes.reshape(1, 7, 1, 16, 16).view(t.dtype)}
    run = execute(graph, MACHINES[config], feeds=feeds)
    assert run.differing() == []
    used = {type(i) for i in run.program.instructions}
    assert Array in used or (Permute in used and config in FOLDING)


def test_whole_blocks_are_copied():
    t = kind((40, *SPACE))
    blocks = LaneMap.dense(40, 16).table()[[2, 0, 1]]
    op = Relayout(name="move", inputs=("x",), output="y", lane_map=LaneMap.of(blocks))
    run = execute(network({"x": t}, [op], {"y": t}), CONFIGS["base"])
    assert run.differing() == []
    assert not any(isinstance(i, Array) for i in run.program.instructions)


@pytest.mark.parametrize("config", MACHINES)
def test_blocks_from_all_over(config):
    """Each block of the result takes channels from many blocks of the operand."""
    t = kind((88, 2, 3, 4))
    lanes = MACHINES[config].lane_block
    table = LaneMap.dense(88, lanes).table().copy()
    table[table >= 0] = np.random.default_rng(1).permutation(88)
    op = Relayout(name="move", inputs=("x",), output="y", lane_map=LaneMap.of(table))
    assert execute(network({"x": t}, [op], {"y": t}), MACHINES[config]).differing() == []


# SELECT


def moved(source: LaneMap, target: LaneMap, space=SPACE) -> Graph:
    """A relayout of a tensor that a concat has left in some lanes."""
    shape = (source.channels, *space)
    given, made = (kind(shape), "in"), (kind(shape), "out")
    first = Relayout(name="lay", inputs=("x",), output=given[1], lane_map=source)
    second = Relayout(name="move", inputs=(given[1],), output=made[1], lane_map=target)
    return network({"x": kind(shape)}, [first, second], {given[1]: given[0], made[1]: made[0]})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=5), st.randoms(), st.sampled_from([*FOLDING])
)
def test_lanes_of_any_maps_are_selected(widths, random, config):
    lanes = FOLDING[config].lane_block
    source = LaneMap.joined([LaneMap.dense(width, lanes) for width in widths])
    order = list(range(source.channels))
    if random.random() < 0.3:
        random.shuffle(order)
    table = LaneMap.dense(source.channels, lanes).table().copy()
    table[table >= 0] = order
    assert execute(moved(source, LaneMap.of(table)), FOLDING[config]).differing() == []


def merged_pairs(config="folding_base"):
    """Ragged blocks of a concat, merged pairwise, and the SELECT instructions."""
    lanes = FOLDING[config].lane_block
    source = LaneMap.joined([LaneMap.dense(lanes - 3, lanes)] * 3)
    graph = moved(source, LaneMap.dense(source.channels, lanes), (2, 9, 11))
    run = execute(graph, FOLDING[config])
    first = next(layer.first for layer in run.program.layers if layer.name == "move")
    selects = [i for i in run.program.instructions[first:] if isinstance(i, Permute)]
    return graph, run, selects


def test_a_row_is_made_of_two():
    _, run, selects = merged_pairs()
    assert run.differing() == []
    assert selects
    assert not any(isinstance(i, Array) for i in run.program.instructions)


@pytest.mark.parametrize("change", [{"valid": 0x7FFF}, {"select": (*range(15), 31)}])
def test_a_wrong_selection_is_seen(change):
    graph, run, selects = merged_pairs()
    number = run.program.instructions.index(selects[0])
    code = list(run.program.instructions)
    code[number] = dataclasses.replace(selects[0], **change)
    broken = dataclasses.replace(run.program, instructions=tuple(code))
    assert execute(graph, run.config, broken).differing() == ["out"]


def test_rows_of_one_bank_are_read_one_after_another():
    """Both lie in one region: without `serial` the simulator refuses."""
    graph, run, selects = merged_pairs()
    assert all(i.serial for i in selects if len({b // 16 for b in i.select}) > 1)
    code = [
        dataclasses.replace(i, serial=0) if i in selects else i for i in run.program.instructions
    ]
    with pytest.raises(MachineError, match="BANK_CONFLICT"):
        execute(graph, run.config, dataclasses.replace(run.program, instructions=tuple(code)))
