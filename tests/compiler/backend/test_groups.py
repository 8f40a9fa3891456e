"""Softmax, norms, ArgMax and products of two activations on the functional machine."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from compiler.array.matmul import product_of
from compiler.array.matrices import form_of
from compiler.backend.build import generate
from compiler.ir import CompilerError, Graph, GraphError, Port
from compiler.layout.assign import assign_layout
from compiler.lower import batched_matmul, refusal
from compiler.ops import ArgMax, BatchedMatMul, Normalize, Relayout, Softmax
from compiler.tensor import TensorType
from compiler.tile.matmul import candidates
from hw.arch import isa
from hw.arch.axes import aligned, merged
from hw.arch.codes import FoldOp, PermuteOp
from hw.arch.config import AcceleratorConfig
from hw.arch.group_numerics import NormConstants, SoftmaxConstants
from hw.arch.layout import LaneMap
from hw.arch.matmul_numerics import ProductScale
from hw.arch.numerics import NumericsError
from sim import host
from tests.compiler.backend.harness import CONFIGS as DIRECT
from tests.compiler.backend.harness import execute, feeds_of, kind, network
from tests.machines import folding

CONFIGS = {
    "tiny": folding("tiny_direct", weight_bits=9),
    "ecp5": folding("ecp5_85k"),
    "wide": folding("wide", weight_bits=9),
    "base": folding("base"),
}
COMMON = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
NAMES = st.sampled_from(sorted(CONFIGS))
AXES = st.sampled_from([(0,), (3,), (2, 3), (1, 3), (0, 1), (0, 2, 3), (1,), (2,)])


@st.composite
def grouped_shapes(draw, most=1024):
    """A shape [C, T, H, W] and axes of its groups, so many elements in each at most."""
    axes = draw(AXES)
    channels = draw(st.integers(1, 45)) if 0 in axes else 1
    shape = (channels, *(draw(st.integers(1, 6)) for _ in range(3)))
    assume(np.prod([shape[axis] for axis in axes]) <= most)
    return shape, axes


def softmax(shape, axes, signed=False, target=False, scale=1 / 256) -> Graph:
    x = kind(shape, 0.06, 11, signed)
    y = kind(shape, scale, -128 if target else 0, target)
    constants = SoftmaxConstants.of(x.scale, y.scale)
    op = Softmax(
        name="op", inputs=("x",), output="y", axes=axes, constants=constants, low=y.low, high=y.high
    )
    return network({"x": x}, [op], {"y": y})


def norm(shape, axes, unbiased=False, seed=0) -> Graph:
    rng = np.random.default_rng(seed)
    x, y = kind(shape, 0.04, 100), kind(shape, 0.03, -5, True)
    n = int(np.prod([shape[axis] for axis in axes]))
    gamma, beta = rng.normal(1, 0.3, n), rng.normal(0, 0.3, n)
    correction = n / (n - 1) if unbiased and n > 1 else 1.0
    epsilon = {"root_epsilon": 1e-3} if unbiased else {"epsilon": 1e-5}
    constants = NormConstants.of(x.scale, y.scale, gamma, beta, correction=correction, **epsilon)
    op = Normalize(
        name="op", inputs=("x",), output="y", axes=axes, constants=constants, low=-128, high=127
    )
    return network({"x": x}, [op], {"y": y})


def arg_max(shape) -> Graph:
    x, y = kind(shape, 0.04, 100), kind((1 + (shape[0] > 256), *shape[1:]), 1.0, 0)
    return network({"x": x}, [ArgMax(name="op", inputs=("x",), output="y")], {"y": y})


@COMMON
@given(grouped_shapes(), NAMES, st.booleans(), st.booleans())
def test_softmax(case, name, signed, target):
    graph = softmax(*case, signed, target)
    assert execute(graph, CONFIGS[name]).differing() == []


@pytest.mark.parametrize("elements", [1, 49, 196, 784, 1024])
@pytest.mark.parametrize("name", CONFIGS)
def test_softmax_at_the_scale_of_quantizers(name, elements):
    graph = softmax((elements, 3, 1, 1), (0,), scale=1 / 255)
    assert execute(graph, CONFIGS[name]).differing() == []


@COMMON
@given(grouped_shapes(most=500), NAMES, st.booleans())
def test_norm(case, name, unbiased):
    assert execute(norm(*case, unbiased), CONFIGS[name]).differing() == []


def test_elements_of_small_groups_count_several_times():
    graph = norm((9, 1, 2, 5), (0,))
    repeats = graph.ops[0].constants.repeats
    run = execute(graph, CONFIGS["tiny"])
    assert repeats > 1 and run.differing() == []
    folds = [i for i in run.program.instructions if isinstance(i, isa.Fold)]
    collects = [i for i in folds if i.op == FoldOp.NORM_COLLECT]
    assert [(i.first, i.last) for i in collects] == [
        (int(turn == 0), int(turn == repeats - 1)) for turn in range(repeats)
    ]


def test_a_norm_whose_coefficients_do_not_fit_is_refused():
    """A thousand elements in rows of four: six rows of coefficients for each of them."""
    graph = norm((1000, 1, 1, 3), (0,))
    op = graph.ops[0]
    why = refusal(op, graph.input_types(op), graph.type("y"), CONFIGS["tiny"])
    assert why is not None
    assert "[1500] beside them" in why
    assert execute(graph, CONFIGS["base"]).differing() == []


@COMMON
@given(st.tuples(*(st.integers(1, n) for n in (100, 3, 5, 6))), NAMES)
def test_arg_max(shape, name):
    assert execute(arg_max(shape), CONFIGS[name]).differing() == []


@pytest.mark.parametrize("shape", [(256, 1, 2, 3), (400, 1, 3, 3), (700, 2, 1, 3)])
@pytest.mark.parametrize("name", ["tiny", "base"])
def test_an_index_of_many_channels_reaches_the_host_whole(shape, name):
    graph = arg_max(shape)
    digits, space = 1 + (shape[0] > 256), shape[1:]
    own = (*space, digits) if digits > 1 else space
    seen = TensorType.of(own, False, 1.0, 0, aligned(own, (1, 2, 3, 0)[: len(own)]))
    graph = dataclasses.replace(graph, outputs=(Port("y", "index", seen, "int64", digits),))
    feeds = feeds_of(graph, seed=shape[0])
    feeds["x"][feeds["x"] == 255] = 0
    feeds["x"][0, -1].flat[0] = 255
    wanted = feeds["x"][0].argmax(axis=0).astype(np.int64)
    assert digits == 1 or wanted.max() > 255
    run = execute(graph, CONFIGS[name], feeds=feeds)
    assert run.differing() == []
    (output,) = run.program.outputs
    got = host.result(run.program, run.memory, output)
    assert got.dtype == np.int64 and np.array_equal(got, wanted)
    run.memory[run.program.tensor("y").address] ^= 1
    assert not np.array_equal(host.result(run.program, run.memory, output), wanted)


def test_many_groups_take_several_batches():
    for graph in (softmax((5, 1, 9, 30), (0,)), norm((5, 1, 9, 30), (0,))):
        run = execute(graph, CONFIGS["tiny"])
        assert run.differing() == []
        folds = [i for i in run.program.instructions if isinstance(i, isa.Fold)]
        assert len(folds) > 10


@pytest.mark.parametrize(
    "graph", [softmax((3, 1, 2, 5), (3,)), norm((3, 1, 2, 5), (2, 3))], ids=["softmax", "norm"]
)
def test_groups_of_several_channels_positions_are_refused(graph):
    op = graph.ops[0]
    why = refusal(op, graph.input_types(op), graph.type("y"), CONFIGS["tiny"])
    assert why is not None
    assert "3 channels" in why


# Products


@st.composite
def products(draw):
    """Sizes, and where batch, rows, inner and columns lie: a batch along C or along T."""
    sizes = tuple(draw(st.integers(1, n)) for n in (3, 9, 21, 19))
    layout = tuple(draw(st.booleans()) for _ in range(6))
    return sizes, layout, draw(st.booleans()), draw(st.booleans())


def matrices(sizes, batch_in_channels: bool, lanes_last: bool):
    """Axes of [batch, a, b]: b (or a) along C, the other one along W."""
    b, m, n = sizes
    strides = (m * n, n, 1)
    lane = (n, 1) if lanes_last else (m, n)
    other = (m, n) if lanes_last else (n, 1)
    channels = [(b, strides[0]), lane] if batch_in_channels else [lane]
    frames = () if batch_in_channels else ((b, strides[0]),)
    return merged(channels), merged(frames), (), merged([other])


def product(sizes, layout, signed_a=False, signed_b=False) -> Graph:
    batch, rows, inner, columns = sizes
    left = matrices((batch, rows, inner), layout[0], layout[1])
    right = matrices((batch, inner, columns), layout[2], layout[3])
    target = matrices((batch, rows, columns), layout[4], layout[5])
    a = typed((batch, rows, inner), left, 0.03, 17, signed_a)
    b = typed((batch, inner, columns), right, 0.02, 100, signed_b)
    y = typed((batch, rows, columns), target, 0.02 * np.sqrt(inner), 121, False)
    scale = ProductScale.of(a.scale, a.zero_point, b.scale, b.zero_point, y.scale, y.zero_point)
    op = BatchedMatMul(
        name="op",
        inputs=("a", "b"),
        output="y",
        batch=batch,
        rows=rows,
        inner=inner,
        columns=columns,
        left=left,
        right=right,
        target=target,
        scale=scale,
        low=3,
        high=250,
    )
    return network({"a": a, "b": b}, [op], {"y": y})


def typed(shape, axes, scale, zero_point, signed):
    known = kind((1, 1, 1, int(np.prod(shape))), scale, zero_point, signed)
    return dataclasses.replace(known, onnx_shape=shape, axes=axes)


@settings(parent=COMMON, max_examples=60)
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


def scores(name="tiny") -> tuple[Graph, AcceleratorConfig]:
    """Q·Kᵀ: heads in the channels of both operands."""
    config = CONFIGS[name]
    return product((2, 5, config.lane_block + 2, 6), (True, True, True, False, False, True)), config


BROKEN = {
    "the maximum of a softmax": (softmax((9, 1, 3, 5), (0,)), FoldOp.MAX, {"signed": (1, 1)}),
    "its sums": (softmax((9, 1, 3, 5), (0,)), FoldOp.SOFTMAX_COLLECT, {"valid": 3}),
    "its numerator": (softmax((9, 1, 3, 5), (0,)), FoldOp.SOFTMAX_COLLECT, {"multiplier": 99}),
    "its quotients": (softmax((9, 1, 3, 5), (0,)), FoldOp.SOFTMAX_APPLY, {"high": 99}),
    "the sums of a norm": (norm((9, 1, 3, 5), (0,)), FoldOp.NORM_COLLECT, {"epsilon": 1 << 33}),
    "its elements": (norm((9, 1, 3, 5), (0,)), FoldOp.NORM_APPLY, {"elements": 8}),
    "its gains": (norm((9, 1, 3, 5), (0,)), FoldOp.NORM_APPLY, {"coefficient_shift": 5}),
    "an index": (arg_max((9, 1, 3, 5)), FoldOp.ARGMAX, {"signed": (1, 0)}),
}


def broken(graph, config, chosen, change) -> list[str]:
    """What differs where the chosen instructions are changed."""
    program = generate(graph, config)
    assert any(map(chosen, program.instructions))
    code = [dataclasses.replace(i, **change) if chosen(i) else i for i in program.instructions]
    return execute(
        graph, config, dataclasses.replace(program, instructions=tuple(code))
    ).differing()


@pytest.mark.parametrize("what", BROKEN)
def test_a_wrong_field_of_fold_is_seen(what):
    graph, op, change = BROKEN[what]
    config = CONFIGS["tiny"]
    chosen = lambda i: isinstance(i, isa.Fold) and i.op == op  # noqa: E731
    assert broken(graph, config, chosen, change) == ["y"]


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


@pytest.mark.parametrize("feature", ["fold", "attention"])
def test_what_a_configuration_lacks_is_named(feature):
    names = ("fold",) if feature == "attention" else ()
    graphs = [scores()[0]] if names else [softmax((9, 1, 3, 5), (0,)), norm((9, 1, 3, 5), (0,))]
    config = dataclasses.replace(CONFIGS["tiny"], features=("depthwise", "vector", *names))
    for graph in graphs:
        op = graph.ops[0]
        why = refusal(op, graph.input_types(op), graph.type("y"), config)
        assert why is not None
        assert f"`{feature}`" in why


def test_configurations_without_the_features_refuse_all():
    for graph in (softmax((9, 1, 3, 5), (0,)), arg_max((9, 1, 3, 5)), scores()[0]):
        op = graph.ops[0]
        for config in DIRECT.values():
            assert refusal(op, graph.input_types(op), graph.type("y"), config)


# What fits


def small_machines() -> list[AcceleratorConfig]:
    """Some that are smaller than anyone would build."""
    tiny = CONFIGS["tiny"]
    changes = [
        {"activation_banks": 1},
        {"activation_banks": 2},
        {"activation_banks": 4},
        {"activation_bank_rows": 16},
        {"weight_bytes": 64},
        {"accumulator_rows": 4},
        {"parameter_columns": 4},
    ]
    memories = [dataclasses.replace(tiny.memory, **change) for change in changes]
    return [tiny, *(dataclasses.replace(tiny, memory=memory) for memory in memories)]


def sized(rng: np.random.Generator) -> Graph | None:
    """One operator of any size; None where it is none."""

    def of(*values):
        return int(rng.choice(values))

    flip = [bool(rng.integers(2)) for _ in range(8)]
    sizes = of(1, 2, 3, 8), of(1, 4, 17, 300), of(1, 5, 40, 900), of(1, 4, 9, 260)
    shape = (of(1, 3, 16, 100, 500), of(1, 2), of(1, 3), of(1, 7, 200))
    axes = [(0,), (3,), (0, 3), (1, 3)][of(0, 1, 2, 3)]
    try:
        return [
            lambda: product(sizes, tuple(flip[:6]), *flip[6:]),
            lambda: softmax(shape, axes, *flip[:2]),
            lambda: norm(shape, axes, flip[0]),
            lambda: arg_max((min(shape[0], 250), *shape[1:])),
        ][of(0, 0, 0, 1, 1, 2, 2, 3)]()
    except (GraphError, NumericsError):
        return None


def test_what_is_accepted_is_emitted_and_right():
    machines = small_machines()
    done = {"accepted": 0, "refused": 0, "run": 0}
    for seed in range(80):
        graph = sized(np.random.default_rng(seed))
        if graph is None:
            continue
        config = machines[seed % len(machines)]
        (op,) = graph.ops
        kinds = graph.input_types(op)
        why = refusal(op, kinds, graph.type("y"), config)
        if why is not None:
            with pytest.raises(CompilerError) as refused:
                generate(graph, config)
            assert why in str(refused.value), seed
            done["refused"] += 1
            continue
        program = generate(graph, config)
        done["accepted"] += 1
        if graph.macs() <= 1_000_000 and max(k.elements for k in kinds) <= 20_000:
            assert execute(graph, config, program).differing() == [], seed
            done["run"] += 1
    assert min(done.values()) >= 10, done


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


def test_weights_that_are_transposed_take_their_heads_lanes():
    graph, config = scores()
    maps = [assign_layout(graph, config).layouts[name].lane_map for name in ("a", "b")]
    assert all(len(m.blocks) == 2 * 2 for m in maps)
