"""Products of two activations on the functional machine."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.array.matmul import product_of
from compiler.array.matrices import form_of
from compiler.backend.build import generate
from compiler.layout.assign import assign_layout
from compiler.lower import batched_matmul
from compiler.ops import BatchedMatMul, Relayout
from compiler.tile.matmul import candidates
from hw.arch import isa
from hw.arch.codes import PermuteOp
from hw.arch.layout import LaneMap
from tests.compiler.backend.group_cases import COMMON, CONFIGS, NAMES, broken, product, scores
from tests.compiler.backend.harness import execute, network


@st.composite
def products(draw):
    """Sizes, and where batch, rows, inner and columns lie: a batch along C or along T."""
    sizes = tuple(draw(st.integers(1, n)) for n in (3, 9, 21, 19))
    layout = tuple(draw(st.booleans()) for _ in range(6))
    return sizes, layout, draw(st.booleans()), draw(st.booleans())


@settings(parent=COMMON, max_examples=30)
@given(products(), NAMES)
def test_product(case, name):
    assert execute(product(*case), CONFIGS[name]).differing() == []


@pytest.mark.parametrize("layout", [(0, 1, 0, 1, 0, 0), (1, 1, 1, 0, 0, 1), (1, 0, 1, 1, 1, 1)])
def test_any_tiling_is_right(layout, monkeypatch):
    """Parts of every dimension, the last ones smaller than the others."""
    config = CONFIGS["wide"]
    graph = product((3, 11, 37, 35), tuple(map(bool, layout)))
    form = form_of(graph.ops[0], config.lane_block)
    tilings = list(candidates(product_of(form, config), config))
    ragged = [
        t for t in tilings if form.batch % t.batch and product_of(form, config).inner % t.inner
    ]
    assert ragged
    for tiling in [*ragged[:: max(1, len(ragged) // 4)], *tilings[:: max(1, len(tilings) // 6)]]:
        monkeypatch.setattr(batched_matmul, "choose", lambda problem, c, t=tiling: t)
        assert execute(graph, config).differing() == [], tiling


@pytest.mark.parametrize("name", CONFIGS)
def test_attention_of_two_ragged_heads(name):
    """d over two lane blocks, an unfilled last one, and tokens that fill no block."""
    config = CONFIGS[name]
    heads, d, tokens = 2, config.lane_block + 2, config.lane_block + 1
    for layout in ((True, True, True, False, False, True), (False, True, True, True, True, True)):
        sizes = heads, tokens, d, tokens
        if layout[3]:
            sizes = heads, tokens, tokens, d
        run = execute(product(sizes, layout, signed_b=True), config)
        assert run.differing() == []
        permutes = [i for i in run.program.instructions if isinstance(i, isa.Permute)]
        assert bool(permutes) is not layout[3]


@pytest.mark.parametrize("name", ["tiny", "ecp5"])
def test_large_operands_come_in_pieces(name):
    """More of every dimension than the accumulators, the weights or the scratchpad hold."""
    config = CONFIGS[name]
    blocks = config.weight_beats // config.weight_block_beats
    inner = config.lane_block * (blocks + 3) + 1
    rows = config.memory.accumulator_rows + 5
    for layout in ((True, True, True, False, False, True), (False, False, False, True, True, True)):
        for sizes in ((1, 3, inner, 9), (2, rows, 9, 5), (3, 5, 9, rows)):
            run = execute(product(sizes, layout), config)
            assert run.differing() == []
            arrays = [i for i in run.program.instructions if isinstance(i, isa.Array)]
            assert len(arrays) > 1


@pytest.mark.parametrize(
    ("kind_of", "change"),
    [
        (isa.Array, {"weight_zero_point": 99}),
        (isa.Array, {"weight_unsigned": 0, "weight_zero_point": 100}),
        (isa.Permute, {"pad": 0}),
    ],
)
def test_a_wrong_weight_is_seen(kind_of, change):
    graph, config = scores()
    assert broken(graph, config, lambda i: isinstance(i, kind_of), change) == ["y"]


def test_a_transposition_of_other_rows_is_seen():
    graph, config = scores()

    def chosen(i):
        return isinstance(i, isa.Permute) and i.op == PermuteOp.TRANSPOSE and i.counts[0] == 4

    first = next(i for i in generate(graph, config).instructions if chosen(i))
    assert broken(graph, config, chosen, {"source0": first.source0 + 1}) == ["y"]


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_that_are_loaded_may_have_any_lanes(name):
    """Pooling by scores behind a concat: its ragged channels are columns as they lie."""
    config = CONFIGS[name]
    lanes = config.lane_block
    graph = product((3, 1, 2 * lanes + 3, 2 * lanes + 1), (False, True, False, True, False, True))
    (op,) = graph.ops
    ragged = LaneMap.joined([LaneMap.dense(lanes + 1, lanes), LaneMap.dense(lanes, lanes)])
    moved = Relayout(name="lay", inputs=("b",), output="r", lane_map=ragged)
    whole = network(
        {"a": graph.type("a"), "b": graph.type("b")},
        [moved, dataclasses.replace(op, inputs=("a", "r"))],
        {"r": graph.type("b"), "y": graph.type("y")},
    )
    assigned = assign_layout(whole, config)
    assert [type(o) for o in assigned.graph.ops] == [Relayout, BatchedMatMul]
    assert assigned.layouts["y"].lane_map == ragged
    assert execute(whole, config).differing() == []


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("of", ["weights", "result", "both"])
def test_columns_may_be_numbered_another_way(of, name):
    """Behind a channel shuffle: channel c of the weights, or of the result, is another column."""
    config = CONFIGS[name]
    columns = 2 * (config.lane_block + 1)
    graph = product((3, 1, 9, columns), (False, True, False, True, False, True))
    (op,) = graph.ops
    types = {name: graph.type(name) for name in "aby"}
    shuffled = ((2, 1), (columns // 2, 2))
    for name, field in (("b", "right"), ("y", "target")):
        if of in ({"b": "weights", "y": "result"}[name], "both"):
            axes = (shuffled, *types[name].axes[1:])
            types[name] = dataclasses.replace(types[name], axes=axes)
            op = dataclasses.replace(op, **{field: axes})
    whole = network({"a": types["a"], "b": types["b"]}, [op], {"y": types["y"]})
    assert execute(whole, config).differing() == []
    ragged = LaneMap.joined(
        [LaneMap.dense(columns - 3, config.lane_block), LaneMap.dense(3, config.lane_block)]
    )
    moved = Relayout(name="lay", inputs=("b",), output="r", lane_map=ragged)
    behind = network(
        {"a": types["a"], "b": types["b"]},
        [moved, dataclasses.replace(op, inputs=("a", "r"))],
        {"r": types["b"], "y": types["y"]},
    )
    assert execute(behind, config).differing() == []


def test_what_was_stored_first_is_loaded_first():
    """Parameters, which wait for nothing, then operands as they lie, whichever becomes weights."""
    config = CONFIGS["tiny"]
    streamed = set()
    for lanes_last in (False, True):
        graph = product((2, 5, 6, 7), (False, True, False, False, False, lanes_last))
        streamed.add(form_of(graph.ops[0], config.lane_block).streamed)
        program = generate(graph, config)
        constant, *loads = [i for i in program.instructions if isinstance(i, isa.Load)]
        assert constant.space == isa.Space.PARAMETER
        first, second = (program.tensor(name).address for name in "ab")
        assert first < second
        which = [second <= load.dram for load in loads if load.space != isa.Space.PARAMETER]
        assert which[0] is False and True in which
    assert streamed == {0, 1}


def test_weights_that_are_transposed_take_their_heads_lanes():
    graph, config = scores()
    maps = [assign_layout(graph, config).layouts[name].lane_map for name in ("a", "b")]
    assert all(len(m.blocks) == 2 * 2 for m in maps)
