"""Lanes: ragged tensors before every kind of reader, contracts, and what relayouts cost."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.backend import build
from compiler.backend.build import generate
from compiler.ir import (
    AxisMean,
    CompilerError,
    Concat,
    Graph,
    Pairwise,
    PairwiseKind,
    Pool,
    PoolKind,
    Port,
    Rearrange,
    Relayout,
    Slice,
    TemporalResidual,
    UnaryTable,
    Value,
    View,
    Window,
    verify,
)
from compiler.layout import assign
from compiler.layout.assign import Assigned, assign_layout, check_layouts
from compiler.ops import make_table
from hw.arch.axes import merged, standard
from hw.arch.isa import Array, Elementwise, Permute
from hw.arch.layout import LaneMap, TensorLayout
from hw.arch.numerics import Affine, Mean, Product
from sim.functional.errors import MachineError
from tests.compiler.backend.harness import CONFIGS, FOLDING, convolution, execute, kind, network
from tests.compiler.backend.test_chains import chain
from tests.marks import large

SPACE = (3, 4, 5)
MACHINES = {**CONFIGS, **FOLDING}


class Network:
    """A graph built value by value; every method appends an operator and returns its result."""

    def __init__(self, *shapes):
        self.rng = np.random.default_rng(5)
        self.values: dict[str, Value] = {}
        self.ops = []
        self.inputs = [self._value(kind(shape)) for shape in shapes]

    def graph(self) -> Graph:
        read = {name for op in self.ops for name in op.inputs}
        ends = [name for name in self.values if name not in read]
        graph = Graph(
            "ragged",
            tuple(Port(name, name) for name in self.inputs),
            tuple(Port(name, name) for name in ends),
            self.values,
            tuple(self.ops),
        )
        verify(graph)
        return graph

    def _value(self, t, constant=None) -> str:
        name = f"v{len(self.values)}"
        self.values[name] = Value(name, t, constant)
        return name

    def type(self, name):
        return self.values[name].type

    def add(self, op, t) -> str:
        name = self._value(t)
        self.ops.append(dataclasses.replace(op, name=f"op{len(self.ops)}", output=name))
        return name

    def constant(self, shape) -> str:
        codes = self.rng.integers(0, 256, shape).astype(np.uint8)
        return self._value(kind(shape, 0.08), codes)

    def conv(self, x, out, kernel=(1, 1, 1), **attributes) -> str:
        op, t = convolution(
            self.rng, self.type(x), out, kernel, inputs=(x,), output="", **attributes
        )
        return self.add(op, t)

    def depthwise(self, x, kernel, **attributes) -> str:
        channels = self.type(x).shape[0]
        pads = tuple(k // 2 for k in kernel)
        return self.conv(
            x, channels, kernel, groups=channels, pad_begin=pads, pad_end=pads, **attributes
        )

    def concat(self, axis, *names) -> str:
        shapes = [self.type(n).shape for n in names]
        shape = list(shapes[0])
        shape[axis] = sum(s[axis] for s in shapes)
        t = kind(tuple(shape), 0.06, 70)
        tables = tuple(make_table(self.type(n), t) for n in names)
        op = Concat(name="", inputs=names, output="", axis=axis, tables=tables)
        return self.add(op, t)

    def slice(self, x, axis, start, stop, step=1) -> str:
        op = Slice(name="", inputs=(x,), output="", axis=axis, start=start, stop=stop, step=step)
        return self.add(op, self.type(x).with_shape((1, *op.infer([self.type(x)]))))

    def binary(self, a, b, multiply=False, scale=0.11) -> str:
        ta, tb = self.type(a), self.type(b)
        shape = tuple(max(m, n) for m, n in zip(ta.shape, tb.shape, strict=True))
        t = kind(shape, scale, 90)
        scales = (ta.scale, ta.zero_point, tb.scale, tb.zero_point, t.scale, t.zero_point)
        op = Pairwise(
            name="",
            inputs=(a, b),
            output="",
            kind=PairwiseKind.MULTIPLY if multiply else PairwiseKind.SUBTRACT,
            arithmetic=Product.of(*scales) if multiply else Affine.subtract(*scales),
            low=0,
            high=255,
        )
        return self.add(op, t)

    def mean(self, x, axes=(1, 2, 3)) -> str:
        source = self.type(x)
        t = kind(tuple(1 if a in axes else n for a, n in enumerate(source.shape)), 0.02, 11)
        count = int(np.prod([source.shape[a] for a in axes]))
        mean = Mean.of(source.scale, t.scale, t.zero_point, count)
        op = AxisMean(name="", inputs=(x,), output="", axes=axes, mean=mean, low=0, high=255)
        return self.add(op, t)

    def pool(self, x, average) -> str:
        source = self.type(x)
        window = Window((2, 2, 3), (1, 2, 1), (1, 0, 1), (0, 1, 1))
        shape = (source.shape[0], *window.output(source.shape[1:]))
        t = kind(shape, 0.04, 3) if average else source.with_shape((1, *shape))
        mean = Mean.of(source.scale, t.scale, t.zero_point, 12) if average else None
        chosen = PoolKind.AVERAGE if average else PoolKind.MAX
        op = Pool(
            name="", inputs=(x,), output="", kind=chosen, window=window, mean=mean, low=0, high=255
        )
        return self.add(op, t)

    def table(self, x) -> str:
        t = kind(self.type(x).shape, 0.01, 128)
        table = make_table(self.type(x), t, [np.tanh])
        return self.add(
            UnaryTable(name="", inputs=(x,), output="", table=table, function="tanh"), t
        )

    def residual(self, x) -> str:
        source = self.type(x)
        t = kind(source.shape, 0.09, 110)
        scale, zero = source.scale, source.zero_point
        op = TemporalResidual(
            name="",
            inputs=(x,),
            output="",
            subtract=Affine.subtract(scale, zero, scale, zero, t.scale, t.zero_point),
            mean=Mean.of(scale, t.scale, t.zero_point, source.shape[1]),
            difference=t,
            average=t,
            difference_low=0,
            difference_high=255,
            average_low=0,
            average_high=255,
        )
        return self.add(op, t)

    def view(self, x) -> str:
        c, t, h, w = self.type(x).shape
        op = View(name="", inputs=(x,), output="", shape=(c, 1, t * h, w))
        return self.add(op, self.type(x).with_shape((1, c, t * h, w)))

    def rearrange(self, x, groups) -> str:
        """C, T, H, W of the result made of axes of the operand, by number."""
        axes = standard((1, *self.type(x).shape))
        c, t, h, w = (merged([d for a in group for d in axes[a]]) for group in groups)
        y = self.type(x).with_shape((1, *self.type(x).shape), (c, t, h, w))
        op = Rearrange(name="", inputs=(x,), output="", source=axes, target=y.axes)
        return self.add(op, y)


RAGGED = {
    "concat 5+7": lambda n, x: n.concat(0, n.conv(x, 5), n.conv(x, 7)),
    "concat 5+27+3": lambda n, x: n.concat(0, n.conv(x, 5), n.conv(x, 27), n.conv(x, 3)),
    "channels 6 to 17 of 24": lambda n, x: n.slice(n.conv(x, 24), 0, 6, 17),
    "every third of 40": lambda n, x: n.slice(n.conv(x, 40), 0, 1, 40, 3),
    "channels 9 to 30 of 22+11": lambda n, x: n.slice(
        n.concat(0, n.conv(x, 22), n.conv(x, 11)), 0, 9, 30
    ),
}

READERS = {
    "output": lambda n, x, c: c,
    "conv": lambda n, x, c: n.conv(c, 9, (1, 3, 3)),
    "pooled conv": lambda n, x, c: n.conv(c, 9, (1, 1, 1), pool=(1, 2, 2)),
    "- conv": lambda n, x, c: n.binary(c, n.conv(x, n.type(c).shape[0])),
    "conv -": lambda n, x, c: n.binary(n.conv(x, n.type(c).shape[0]), c),
    "- conv with two readers": lambda n, x, c: (
        n.table(n.binary(c, both := n.conv(x, n.type(c).shape[0]))) and n.table(both)
    ),
    "- another concat": lambda n, x, c: n.binary(
        c, n.concat(0, n.conv(x, n.type(c).shape[0] - 2), n.conv(x, 2))
    ),
    "· gate": lambda n, x, c: n.binary(c, n.mean(n.conv(x, n.type(c).shape[0])), True),
    "gate ·": lambda n, x, c: n.binary(n.mean(n.conv(x, n.type(c).shape[0])), c, True),
    "· own gate": lambda n, x, c: n.binary(c, n.mean(c), True),
    "· one channel": lambda n, x, c: n.binary(c, n.conv(x, 1), True),
    "one channel's table -": lambda n, x, c: n.binary(n.table(n.conv(x, 1)), c),
    "- constant": lambda n, x, c: n.binary(c, n.constant(n.type(c).shape)),
    "- constant by channel": lambda n, x, c: n.binary(c, n.constant((n.type(c).shape[0], 1, 1, 1))),
    "constant map -": lambda n, x, c: n.binary(n.constant((1, *SPACE)), c),
    "concat of T": lambda n, x, c: n.concat(1, c, n.conv(x, n.type(c).shape[0]), c),
    "concat of H": lambda n, x, c: n.concat(2, n.conv(x, n.type(c).shape[0]), c),
    "concat of W": lambda n, x, c: n.concat(3, c, n.conv(x, n.type(c).shape[0])),
    "concat of C": lambda n, x, c: n.concat(0, n.conv(x, 3), c),
    "slice of T": lambda n, x, c: n.slice(c, 1, 1, 3),
    "slice of W": lambda n, x, c: n.slice(c, 3, 0, 5, 2),
    "slice of C": lambda n, x, c: n.slice(c, 0, 2, n.type(c).shape[0] - 1, 2),
    "slice of H of a concat of H": lambda n, x, c: n.slice(
        n.concat(2, n.conv(x, n.type(c).shape[0]), c), 2, 1, 7, 2
    ),
    "depthwise 3×3": lambda n, x, c: n.depthwise(c, (1, 3, 3)),
    "depthwise of four taps": lambda n, x, c: n.depthwise(c, (4, 1, 1)),
    "depthwise of five taps, stride": lambda n, x, c: n.depthwise(c, (5, 1, 1), stride=(1, 2, 2)),
    "depthwise 2×5": lambda n, x, c: n.depthwise(c, (1, 2, 5)),
    "depthwise, dilated": lambda n, x, c: n.depthwise(c, (1, 3, 3), dilation=(1, 2, 1)),
    "maximum pool": lambda n, x, c: n.pool(c, False),
    "average pool": lambda n, x, c: n.pool(c, True),
    "table": lambda n, x, c: n.table(c),
    "mean over W": lambda n, x, c: n.mean(c, (3,)),
    "mean over all": lambda n, x, c: n.conv(n.mean(c), 6),
    "temporal residual": lambda n, x, c: n.residual(c),
    "view": lambda n, x, c: n.pool(n.view(c), False),
    "transposed positions": lambda n, x, c: n.rearrange(c, ((0,), (3,), (1,), (2,))),
    "flattened, then dense": lambda n, x, c: n.conv(
        n.table(n.rearrange(c, ((0, 1, 2, 3), (), (), ()))), 10
    ),
    "channels last, flattened": lambda n, x, c: n.conv(
        n.rearrange(c, ((1, 2, 3, 0), (), (), ())), 10
    ),
    "channels and time exchanged": lambda n, x, c: n.conv(
        n.rearrange(c, ((1,), (0,), (2,), (3,))), 6, (3, 1, 1)
    ),
    "channels split in positions": lambda n, x, c: n.binary(
        n.rearrange(c, ((), (0,), (1, 2), (3,))), n.constant((1, 1, 1, 5))
    ),
}


def ragged(producer: str, reader: str) -> Graph:
    net = Network((6, *SPACE))
    READERS[reader](net, "v0", RAGGED[producer](net, "v0"))
    return net.graph()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("producer", RAGGED)
def test_ragged_channels_reach_every_reader(producer, reader):
    for config in ("tiny", "folding"):
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


# Exactness


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


# Contracts


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
