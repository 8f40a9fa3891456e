"""Lanes: ragged tensors before every kind of reader, and what relayouts cost."""

from __future__ import annotations

import dataclasses

import pytest

from compiler.ir import (
    Graph,
    Port,
    Relayout,
    UnaryTable,
    Value,
)
from compiler.layout.assign import assign_layout
from compiler.ops import make_table
from hw.arch.layout import LaneMap
from tests.compiler.backend.harness import CONFIGS, execute, kind
from tests.compiler.backend.ragged import MACHINES, RAGGED, READERS, SPACE, Network, ragged
from tests.compiler.backend.test_chains import chain
from tests.marks import large


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("producer", [*list(RAGGED)[:2], *map(large, list(RAGGED)[2:])])
@pytest.mark.parametrize("config", ["tiny", large("folding")])
def test_ragged_channels_reach_every_reader(config, producer, reader):
    assert execute(ragged(producer, reader), MACHINES[config]).differing() == []


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("producer", ["concat 5+7", *map(large, list(RAGGED)[1:])])
def test_ragged_channels_reach_every_reader_on_wide_rows(producer, reader):
    assert execute(ragged(producer, reader), CONFIGS["base"]).differing() == []


@pytest.mark.parametrize("reader", READERS)
def test_columns_of_two_blocks_write_every_lane(reader):
    assert execute(ragged("concat 5+27+3", reader), CONFIGS["wide"]).differing() == []


@pytest.mark.parametrize("groups", [2, 3])
@pytest.mark.parametrize("config", CONFIGS)
def test_groups_find_their_channels(groups, config):
    net = Network((6, *SPACE))
    net.conv(net.concat(0, net.conv("v0", 5), net.conv("v0", 7)), 6, (1, 3, 3), groups=groups)
    assert execute(net.graph(), CONFIGS[config]).differing() == []


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(("temporal", "trg"), [(True, True), (True, False), (False, False)])
@pytest.mark.parametrize("producer", ["concat 5+7", *map(large, list(RAGGED)[1:])])
def test_chains_get_dense_operands(producer, temporal, trg, config):
    net = Network((6, 3, 6, 7))
    ragged_value = RAGGED[producer](net, "v0")
    shape = net.type(ragged_value).shape
    made = chain(shape, temporal=temporal, trg=trg)
    (op,) = made.ops
    operand = net.binary(ragged_value, net.constant(shape))
    t = net.type(operand)
    if trg:  # its arithmetic is that of its operand's type
        t = made.type("x")
        table = make_table(net.type(operand), t)
        lookup = UnaryTable(name="", inputs=(operand,), output="", table=table, function="scale")
        operand = net.add(lookup, t)
    net.add(dataclasses.replace(op, inputs=(operand,)), made.type("y"))
    graph = net.graph()
    assigned = assign_layout(graph, CONFIGS[config])
    last = assigned.graph.ops[-1]
    assert assigned.layouts[last.inputs[0]].lane_map.is_dense
    assert execute(graph, CONFIGS[config]).differing() == []


# What it costs


def relayouts(graph: Graph, config: str) -> list[str]:
    return [
        op.output
        for op in assign_layout(graph, CONFIGS[config]).graph.ops
        if isinstance(op, Relayout)
    ]


def test_where_lanes_agree_nothing_moves():
    net = Network((16, *SPACE))
    wide = net.concat(0, net.conv("v0", 16), net.conv("v0", 32))
    both = net.binary(wide, net.conv("v0", 48))
    net.binary(net.depthwise(both, (1, 3, 3)), net.mean(both), True)
    graph = net.graph()
    assigned = assign_layout(graph, CONFIGS["base"])
    assert [op.name for op in assigned.graph.ops] == [op.name for op in graph.ops]
    assert all(layout.lane_map.is_dense for layout in assigned.layouts.values())


@pytest.mark.parametrize("reader", ["- conv", "conv -", "· one channel", "one channel's table -"])
def test_a_convolution_makes_what_its_only_reader_wants(reader):
    assert relayouts(ragged("concat 5+7", reader), "base") == []


def test_what_others_read_too_is_moved():
    assert len(relayouts(ragged("concat 5+7", "- conv with two readers"), "base")) == 1


def test_an_input_is_written_where_its_only_reader_wants_it():
    net = Network((6, *SPACE), (12, *SPACE))
    net.binary(net.concat(0, net.conv("v0", 5), net.conv("v0", 7)), "v1")
    graph = net.graph()
    assert relayouts(graph, "base") == []
    assert execute(graph, CONFIGS["base"]).differing() == []


@pytest.mark.parametrize(
    "reader", ["- constant", "- constant by channel", "constant map -", "· own gate"]
)
def test_constants_and_own_gates_move_for_nothing(reader):
    assert relayouts(ragged("concat 5+7", reader), "base") == []


def test_one_move_serves_all_who_want_it():
    net = Network((6, *SPACE))
    c = net.concat(0, net.conv("v0", 5), net.conv("v0", 7))
    plain = net.conv("v0", 12)
    for _ in range(2):
        net.binary(c, plain)
    assert len(relayouts(net.graph(), "base")) == 1


def test_a_ragged_map_is_made_dense_before_a_reader_of_many_taps():
    def graph(out):
        net = Network((16, 1, 28, 28))
        net.conv(net.concat(0, net.conv("v0", 5), net.conv("v0", 7)), out, (1, 3, 3))
        return net.graph()

    assert len(relayouts(graph(64), "base")) == 1
    small = Network((6, 1, 2, 2))
    small.conv(small.concat(0, small.conv("v0", 5), small.conv("v0", 7)), 8)
    assert relayouts(small.graph(), "base") == []


@pytest.mark.parametrize("config", ["tiny", "base"])
def test_blocks_do_not_multiply(config):
    """Halves of every second channel, joined again and again."""
    net = Network((44, 1, 2, 3))
    x = "v0"
    for _ in range(6):
        even, odd = (net.slice(x, 0, first, 44, 2) for first in (0, 1))
        x = net.concat(0, net.table(odd), even)
    graph = net.graph()
    for layout in assign_layout(graph, CONFIGS[config]).layouts.values():
        assert layout.blocks <= 4 * len(LaneMap.dense(layout.channels, layout.lanes).blocks)
    assert execute(graph, CONFIGS[config]).differing() == []


def test_a_ragged_operand_that_does_not_fit_is_made_dense():
    """Every fourth of 4,400 channels: 1,100 blocks of a lane each, 275 dense ones."""
    config = CONFIGS["tiny"]
    net = Network((2200, 1, 1, 1))
    wide = net.concat(0, "v0", "v0")
    picked = net.slice(wide, 0, 0, 4400, 4)
    net.conv(picked, 4)
    graph = net.graph()
    assert execute(graph, config).differing() == []


def test_names_of_others_are_left_alone():
    net = Network((6, *SPACE))
    READERS["- conv with two readers"](net, "v0", RAGGED["concat 5+7"](net, "v0"))
    (moved,) = relayouts(net.graph(), "base")
    values = {**net.values, moved: Value(moved, kind((3, 1, 1, 1)))}
    inputs = (*net.graph().inputs, Port(moved, moved))
    graph = dataclasses.replace(net.graph(), values=values, inputs=inputs)
    assert moved not in relayouts(graph, "base")
    assert execute(graph, CONFIGS["base"]).differing() == []


def test_names_that_only_the_file_knows_are_left_alone():
    graph = ragged("concat 5+7", "- conv with two readers")
    (moved,) = relayouts(graph, "base")
    (other,) = relayouts(dataclasses.replace(graph, reserved=frozenset({moved})), "base")
    assert other not in (moved, *graph.values)


def test_a_graph_with_relayouts_keeps_them():
    graph = ragged("concat 5+7", "- conv with two readers")
    once = assign_layout(graph, CONFIGS["base"])
    again = assign_layout(once.graph, CONFIGS["base"])
    assert [op.name for op in again.graph.ops] == [op.name for op in once.graph.ops]
    assert again.layouts == once.layouts
