"""Concats and slices that are blocks of other tensors: who reads them, and what has to move."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from compiler.backend.build import generate, lay_out
from compiler.ir import Concat, Port, verify
from hw.arch.isa import Load
from tests.compiler.backend.group_cases import CONFIGS as PRODUCTS
from tests.compiler.backend.group_cases import product
from tests.compiler.backend.harness import CONFIGS, FOLDING, execute, network
from tests.compiler.backend.ragged import Network

MACHINES = {**CONFIGS, **FOLDING}
SHAPE = (12, 4, 5, 6)


class Joining(Network):
    """Concats of operands whose scale the result has."""

    def join(self, *names, axis=0) -> str:
        t = self.type(names[0])
        op = Concat(name="", inputs=names, output="", axis=axis, tables=(None,) * len(names))
        shape = op.infer([self.type(name) for name in names])
        return self.add(op, t.with_shape((1, *shape)))


def pieces(net: Joining) -> str:
    """Blocks of two tensors in turn: 5 channels of one, 7 and 12 of another, 3 of the first."""
    a, b = net.conv("v0", 24), net.conv("v0", 24)
    parts = [(a, 0, 5), (b, 2, 9), (b, 12, 24), (a, 5, 8)]
    return net.join(*(net.slice(x, 0, first, last) for x, first, last in parts))


READERS = {
    "convolution": lambda net, x: net.conv(x, 9, (1, 3, 3)),
    "transformed": lambda net, x: net.conv(
        x, 16, (3, 1, 1), pad_begin=(1, 0, 0), pad_end=(1, 0, 0)
    ),
    "depthwise": lambda net, x: net.depthwise(x, (1, 3, 3)),
    "temporal depthwise": lambda net, x: net.depthwise(x, (3, 1, 1)),
    "grouped": lambda net, x: net.conv(x, 9, (1, 3, 3), groups=3),
    "table": lambda net, x: net.table(x),
    "sum": lambda net, x: net.binary(x, net.join(x)),
    "gate": lambda net, x: net.binary(x, net.mean(x), multiply=True),
    "mean": lambda net, x: net.mean(x),
    "pool": lambda net, x: net.pool(x, average=True),
    "residual": lambda net, x: net.residual(x),
    "slice of frames": lambda net, x: net.conv(net.slice(x, 1, 1, 3), 8),
    "odd frames": lambda net, x: net.conv(net.slice(x, 1, 1, 4, 2), 8),
    "slice of lines": lambda net, x: net.conv(net.slice(x, 2, 1, 3), 8),
    "view": lambda net, x: net.conv(net.view(x), 8),
    "channels of frames": lambda net, x: net.conv(net.rearrange(x, ((0, 1), (), (2,), (3,))), 8),
    "frames of channels": lambda net, x: net.conv(net.rearrange(x, ((1,), (0,), (2,), (3,))), 8),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("machine", ["tiny", "folding_base"])
def test_every_reader_finds_the_blocks(machine, reader):
    net = Joining(SHAPE)
    READERS[reader](net, pieces(net))
    run = execute(net.graph(), MACHINES[machine])
    assert run.differing() == []


def test_nothing_moves():
    net = Joining(SHAPE)
    net.conv(pieces(net), 9)
    program = generate(net.graph(), CONFIGS["base"])
    stored = {t.name: t for t in program.tensors}
    for layer in program.layers:
        still = layer.op in ("concat", "slice")
        assert (layer.first == layer.last) == still, layer.name
    (joined,) = (layer.tensors[0] for layer in program.layers if layer.op == "concat")
    mine = {stored[layer.tensors[0]].address for layer in program.layers if layer.op == "conv"}
    assert min(mine) <= min(stored[joined].places) < max(mine)


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize(
    "layout",
    [(0, 1, 0, 1, 0, 1), (1, 1, 1, 0, 0, 1), (1, 0, 1, 1, 1, 1), (0, 1, 1, 0, 0, 1)],
)
def test_products_read_operands_in_pieces(layout, name):
    """Vectors, weights by LOAD, weights by TRANSPOSE, heads: operands that are concats."""
    config = PRODUCTS[name]
    sizes = 2, 9, config.lane_block + 4, 2 * config.lane_block + 2
    graph = product(sizes, tuple(map(bool, layout)))
    inputs, results, ops = {}, {"y": graph.type("y")}, []
    for operand in "ab":
        t = graph.type(operand)
        channels, *space = t.shape
        # The second half comes first in DRAM, so that blocks are not evenly spaced.
        first = min(config.lane_block, channels - 1)
        parts = [f"{operand}0", f"{operand}1"]
        for part, count in zip(parts[::-1], (channels - first, first), strict=True):
            inputs[part] = t.with_shape((1, count, *space))
        ops.append(
            Concat(name=operand, inputs=tuple(parts), output=operand, axis=0, tables=(None, None))
        )
        results[operand] = t
    whole = network(inputs, [*ops, *graph.ops], results)
    run = execute(whole, config)
    assert run.differing() == []


@pytest.mark.parametrize("reader", ["convolution", "depthwise", "gate"])
def test_an_exchange_of_two_blocks_is_noticed(reader):
    """The twin: a transfer from the place of another block."""
    net = Joining(SHAPE)
    READERS[reader](net, pieces(net))
    config = FOLDING["folding_base"]
    program = generate(net.graph(), config)
    joined = next(t for t in program.tensors if t.places)
    swap = dict(zip(joined.places[:2], joined.places[1::-1], strict=True))
    after = next(n for n, layer in enumerate(program.layers) if layer.op == "concat")
    first = program.layers[after].last
    instructions = tuple(
        dataclasses.replace(i, dram=swap[i.dram])
        if number >= first and isinstance(i, Load) and i.dram in swap
        else i
        for number, i in enumerate(program.instructions)
    )
    assert instructions != program.instructions
    wrong = dataclasses.replace(program, instructions=instructions)
    assert execute(net.graph(), config, wrong).differing() != []


def test_what_the_host_reads_lies_in_one_piece():
    net = Joining(SHAPE)
    x = pieces(net)
    net.conv(x, 9)
    graph = net.graph()
    graph = dataclasses.replace(graph, outputs=(*graph.outputs, Port(x, x)))
    verify(graph)
    run = execute(graph, CONFIGS["base"])
    assert run.differing() == []
    assert run.program.tensor(x).places == ()


def test_blocks_in_order_lie_in_one_piece():
    """A slice of neighbouring blocks needs no list of places, also where the host reads it."""
    net = Joining((48, 2, 3, 4))
    x = net.slice(net.conv("v0", 48), 0, 16, 48)
    settled = lay_out(net.graph(), CONFIGS["base"])
    assert [op.shared for op in settled.assigned.graph.ops if op.output == x] == [True]
    run = execute(net.graph(), CONFIGS["base"])
    assert run.differing() == [] and run.program.tensor(x).places == ()


def test_other_scales_are_moved_through_tables():
    net = Joining(SHAPE)
    a, b = net.conv("v0", 20), net.binary(net.conv("v0", 20), net.conv("v0", 20))
    net.conv(net.concat(0, a, b), 9)
    program = generate(net.graph(), CONFIGS["base"])
    (layer,) = (layer for layer in program.layers if layer.op == "concat")
    assert layer.first < layer.last
    assert np.all([t.places == () for t in program.tensors])
