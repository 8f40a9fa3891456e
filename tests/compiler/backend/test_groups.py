"""Softmax, norms and ArgMax on the functional machine, and what fits of them and of products."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from compiler.backend.build import generate
from compiler.ir import CompilerError, Graph, GraphError, Port
from compiler.lower import refusal
from compiler.tensor import TensorType
from hw.arch import isa
from hw.arch.axes import aligned
from hw.arch.codes import FoldOp
from hw.arch.config import AcceleratorConfig
from hw.arch.numerics import NumericsError
from sim import host
from tests.compiler.backend.group_cases import (
    COMMON,
    CONFIGS,
    NAMES,
    arg_max,
    broken,
    norm,
    product,
    scores,
    softmax,
)
from tests.compiler.backend.harness import CONFIGS as DIRECT
from tests.compiler.backend.harness import execute, feeds_of
from tests.marks import large

AXES = st.sampled_from([(0,), (3,), (2, 3), (1, 3), (0, 1), (0, 2, 3), (1,), (2,)])


@st.composite
def grouped_shapes(draw, most=1024):
    """A shape [C, T, H, W] and axes of its groups, so many elements in each at most."""
    axes = draw(AXES)
    channels = draw(st.integers(1, 45)) if 0 in axes else 1
    shape = (channels, *(draw(st.integers(1, 6)) for _ in range(3)))
    assume(np.prod([shape[axis] for axis in axes]) <= most)
    return shape, axes


@COMMON
@given(grouped_shapes(), NAMES, st.booleans(), st.booleans())
def test_softmax(case, name, signed, target):
    graph = softmax(*case, signed, target)
    assert execute(graph, CONFIGS[name]).differing() == []


@pytest.mark.parametrize("elements", [1, 49, 196, 784, 2047])
@pytest.mark.parametrize("name", CONFIGS)
def test_softmax_at_the_scale_of_quantizers(name, elements):
    graph = softmax((elements, 3, 1, 1), (0,), scale=1 / 255)
    assert execute(graph, CONFIGS[name]).differing() == []


@pytest.mark.parametrize("shape", [(1, 8, 12, 12), (1, 1, 23, 55), (1, 1, 1, 1280)])
def test_a_group_over_more_positions_than_two_results_fit(shape):
    """The group stays on chip, its result leaves in pieces."""
    run = execute(softmax(shape, (1, 2, 3)), CONFIGS["tiny"])
    assert run.differing() == []
    applied = [
        i
        for i in run.program.instructions
        if isinstance(i, isa.Fold) and i.op == FoldOp.SOFTMAX_APPLY
    ]
    assert len(applied) > 4


def test_a_piece_of_other_elements_is_seen():
    graph = softmax((1, 8, 12, 12), (1, 2, 3))

    def chosen(i):
        return isinstance(i, isa.Fold) and i.op == FoldOp.SOFTMAX_APPLY

    first = next(i for i in generate(graph, CONFIGS["tiny"]).instructions if chosen(i))
    assert broken(graph, CONFIGS["tiny"], chosen, {"source0": first.source0 + 1}) == ["y"]


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


@pytest.mark.parametrize("what", BROKEN)
def test_a_wrong_field_of_fold_is_seen(what):
    graph, op, change = BROKEN[what]
    config = CONFIGS["tiny"]
    chosen = lambda i: isinstance(i, isa.Fold) and i.op == op  # noqa: E731
    assert broken(graph, config, chosen, change) == ["y"]


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


@pytest.mark.parametrize("first", [0, large(32), large(64)])
def test_what_is_accepted_is_emitted_and_right(first):
    machines = small_machines()
    done = {"accepted": 0, "refused": 0, "run": 0}
    for seed in range(first, first + 32):
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
    assert min(done.values()) >= 3, done
