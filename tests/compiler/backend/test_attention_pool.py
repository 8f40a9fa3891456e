"""Attention pooling: scores, softmax and weighted sums of positions as one region."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.backend.build import generate
from compiler.cost import Cost
from compiler.emit.emitter import Emitter
from compiler.ir import (
    AttentionPool,
    BatchedMatMul,
    GraphError,
    Relayout,
    Softmax,
    View,
    verify,
)
from compiler.lower import attention_pool, refusal
from compiler.passes.region import FUSE_REGIONS
from compiler.policy import OBJECTIVES, Policy
from compiler.tile.attention_pool import candidates, pool_window
from hw.arch.axes import merged
from hw.arch.fold_numerics import Dot
from hw.arch.group_numerics import SoftmaxConstants
from hw.arch.isa import Array, Drain, Fold, FoldOp, Load, Space, Store, Unit
from hw.arch.layout import LaneMap
from hw.arch.matmul_numerics import ProductScale
from hw.arch.numerics import NumericsError, split_scale
from sim.backend import Options
from sim.backends import make_backend
from sim.functional.backend import dynamic_trace
from sim.functional.errors import MachineError
from sim.functional.hazards import HazardError, check_hazards
from sim.host import start_image
from tests.compiler.backend.group_cases import COMMON, CONFIGS, broken
from tests.compiler.backend.harness import convolution, execute, feeds_of, kind, network
from tests.ladder.compare import differences


def apart(shape, *, clip=False, signed=False, shares_signed=False, scale=1 / 256, leads=True):
    """x to scores, their softmax over each frame (or the clip), and its product with x.

    `leads`: x is the product's first operand.
    """
    channels, frames, height, width = shape
    groups, n = (1, frames * height * width) if clip else (frames, height * width)
    x = kind(shape, 0.05, 9, signed)
    scores, made = _scores(x, signed)
    line = kind((1, 1, groups, n), made.scale, made.zero_point, signed)
    shares = kind((1, 1, groups, n), scale, -128 if shares_signed else 0, shares_signed)
    view = View(name="view", inputs=("s",), output="v", shape=line.shape)
    softmax = Softmax(
        name="softmax",
        inputs=("v",),
        output="a",
        axes=(3,),
        constants=SoftmaxConstants.of(made.scale / 2, scale),
        low=shares.low,
        high=shares.high,
    )
    y = kind((channels, groups, 1, 1), 0.04, 70)
    codes = [v for t in ((x, shares) if leads else (shares, x)) for v in (t.scale, t.zero_point)]
    # Row-major [groups, channels, n] or [groups, n, channels], cut into x's axes.
    lane, along = (n, 1) if leads else (1, channels)
    time = channels * n if not clip else height * width * along
    of_x = axes((channels, lane), (frames, time), (height, width * along), (width, along))
    of_shares = axes((1, 1), (1, 1), (groups, n), (n, 1))
    product = BatchedMatMul(
        name="product",
        inputs=("x", "a") if leads else ("a", "x"),
        output="y",
        batch=groups,
        rows=channels if leads else 1,
        inner=n,
        columns=1 if leads else channels,
        left=of_x if leads else of_shares,
        right=of_shares if leads else of_x,
        target=axes((channels, 1), (groups, channels), (1, 1), (1, 1)),
        scale=ProductScale.of(*codes, y.scale, y.zero_point),
        low=2,
        high=251,
    )
    types = {"s": made, "v": line, "a": shares, "y": y}
    return network({"x": x}, [scores, view, softmax, product], types)


def _scores(x, signed):
    """A convolution whose results are spread about the middle, so that shares differ."""
    op, made = convolution(
        np.random.default_rng(0), x, 1, (1, 1, 1), name="scores", output="s", signed=signed
    )
    middle, spread = (x.low + x.high) / 2 - x.zero_point, (x.high - x.low) / np.sqrt(12)
    weight = op.weight.astype(np.float64)
    multiplier, shift = split_scale(np.float32(40 / spread / np.linalg.norm(weight)))
    changed = {
        "bias": np.array([-round(middle * weight.sum())], np.int32),
        "multiplier": np.array([multiplier]),
        "shift": np.array([shift]),
    }
    return dataclasses.replace(op, **changed), made


def axes(*digits):
    """Axes of a digit each."""
    return tuple(merged([digit]) for digit in digits)


def joined(graph):
    """That as one region."""
    outcome = FUSE_REGIONS.run(graph, lambda op, inputs, output: None)
    assert [type(op) for op in outcome.graph.ops] == [AttentionPool], outcome
    verify(outcome.graph)
    return outcome.graph


CASES = {
    "frames": ((9, 3, 4, 5), {}),
    "one position": ((9, 3, 1, 1), {}),
    "blocks that are full": ((8, 2, 6, 4), {}),
    "many groups": ((5, 9, 2, 3), {}),
    "a clip": ((6, 2, 4, 5), {"clip": True}),
    "signed": ((9, 2, 4, 5), {"signed": True}),
    "weights come first": ((9, 2, 4, 5), {"leads": False}),
    "signed weights": ((9, 2, 4, 5), {"signed": True, "shares_signed": True}),
    "scale of quantizers": ((9, 2, 4, 5), {"scale": float(np.float32(1 / 255))}),
    "a prime of positions": ((20, 2, 1, 53), {}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("machine", CONFIGS)
def test_equal_to_its_parts(machine, name):
    shape, attributes = CASES[name]
    graph = apart(shape, **attributes)
    run = execute(joined(graph), CONFIGS[machine])
    assert run.differing() == []
    assert {t.name for t in run.program.tensors} == {"x", "y"}
    first = execute(graph, CONFIGS[machine])
    assert np.array_equal(run.reference["y"], first.reference["y"])
    for inner in "sa" if shape[2:] != (1, 1) else "":
        assert np.unique(first.reference[inner]).size > 3, "scores and shares differ"


@settings(parent=COMMON, max_examples=30)
@given(
    st.tuples(*(st.integers(1, n) for n in (21, 6, 6, 7))),
    st.booleans(),
    st.booleans(),
    st.sampled_from(sorted(CONFIGS)),
)
def test_any_shape(shape, clip, leads, machine):
    graph, config = joined(apart(shape, clip=clip, leads=leads)), CONFIGS[machine]
    (op,) = graph.ops
    why = refusal(op, [graph.type("x")], graph.type("y"), config)
    if why is not None:
        _, frames, height, width = shape
        positions = height * width * (frames if clip else 1)
        assert why.startswith(f"no group of {positions} positions")
        return
    assert execute(graph, config).differing() == []


def test_any_tiling_is_right(monkeypatch):
    config = CONFIGS["tiny"]
    graph = joined(apart((11, 7, 3, 4)))
    sizes = attention_pool.sizes_of(graph.ops[0], execute(graph, config).program.tensor("x").layout)
    tilings = list(candidates(sizes, config))
    tilings += [dataclasses.replace(tilings[1], piece=n) for n in (1, 2)]
    assert len({t.groups for t in tilings}) > 3
    for tiling in tilings:
        monkeypatch.setattr(attention_pool, "choose", lambda sizes, c, t=tiling: t)
        assert execute(graph, config).differing() == [], tiling


def test_lanes_stay_as_they_are():
    """Behind a concat: blocks that are not full, and lanes of no channel hold anything."""
    config = CONFIGS["tiny"]
    graph = joined(apart((9, 2, 4, 5)))
    (op,) = graph.ops
    ragged = LaneMap.joined([LaneMap.dense(5, 4), LaneMap.dense(4, 4)])
    moved = Relayout(name="lay", inputs=("x",), output="r", lane_map=ragged)
    whole = network(
        {"x": graph.type("x")},
        [moved, op.reading(["r"])],
        {"r": graph.type("x"), "y": graph.type("y")},
    )
    run = execute(whole, config)
    assert run.differing() == []
    assert run.program.tensor("y").layout.lane_map == ragged


def test_the_operand_crosses_the_port_once(monkeypatch):
    # As lowerings emit them: the pass of decision 0038 leaves out some LOADs of either.
    monkeypatch.setattr(Emitter, "end_layer", lambda *_: None)
    config = CONFIGS["base"]
    graph = apart((40, 4, 14, 14))
    moved = []
    for each in (graph, joined(graph)):
        program = generate(each, config)
        assert execute(each, config, program).differing() == []
        transfers = [i for i in program.instructions if isinstance(i, Load | Store)]
        moved.append(
            sum(
                i.beats * int(np.prod(i.counts))
                for i in transfers
                if isinstance(i, Store) or i.space == Space.ACTIVATION
            )
        )
    rows = 3 * 4 * 14 * 14
    assert moved[1] == rows + 3 * 4 < moved[0] - rows


@pytest.mark.parametrize("positions", [1, 2, 49, 53, 64, 196, 784, 1000])
def test_windows_cut_positions_evenly(positions):
    window = pool_window(positions)
    assert positions % int(np.prod(window)) == 0 and max(window) <= 7
    assert int(np.prod(pool_window(784))) == 196


# Twins ---------------------------------------------------------------------------------------


def fold(op):
    return lambda i: isinstance(i, Fold) and i.op == op


TWINS = {
    "another row of weights": (fold(FoldOp.DOT), {"source1": 1}),
    "all lanes counted": (fold(FoldOp.SOFTMAX_COLLECT), {"valid": 0}),
    "one lane weighed": (fold(FoldOp.SOFTMAX_APPLY), {"valid": 1}),
    "a zero point left out": (fold(FoldOp.DOT), {"zero_points": (0, 0)}),
    "blocks that are not added up": (lambda i: isinstance(i, Array), {"accumulate": 0}),
}


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_shows(name, monkeypatch):
    chosen, change = TWINS[name]
    monkeypatch.setattr("compiler.tile.attention_pool.PIECE_ROWS", 40)
    graph, config = joined(apart((23, 2, 6, 6))), CONFIGS["tiny"]
    if name.startswith("another"):
        first = next(filter(chosen, generate(graph, config).instructions))
        change = {"source1": first.source1 - 1}
    assert broken(graph, config, chosen, change) == ["y"]


def test_maxima_of_other_windows_show():
    graph, config = joined(apart((9, 2, 6, 7))), CONFIGS["tiny"]
    smaller = {"accumulator_deltas": (0,) * 7}
    assert broken(graph, config, lambda i: isinstance(i, Drain), smaller) == ["y"]


def test_scores_above_the_greatest_are_an_error():
    graph, config = joined(apart((9, 2, 6, 7))), CONFIGS["tiny"]
    with pytest.raises(MachineError, match="a softmax whose sum"):
        broken(graph, config, fold(FoldOp.MAX), {"high": 3})


@pytest.mark.parametrize("unit", [Unit.LOAD, Unit.DRAIN])
def test_a_wait_left_out_is_a_race(unit):
    graph, config = joined(apart((9, 6, 6, 7))), CONFIGS["tiny"]
    program = generate(graph, config)
    check_hazards(dynamic_trace(program, config, program.memory()), config, program.memory_bytes)

    def without(i):
        waits = list(i.waits)
        waits[unit] = 0
        return dataclasses.replace(i, waits=tuple(waits))

    kinds = Array if unit is Unit.LOAD else Fold
    code = tuple(without(i) if isinstance(i, kinds) else i for i in program.instructions)
    racing = dataclasses.replace(program, instructions=code)
    with pytest.raises(HazardError):
        check_hazards(dynamic_trace(racing, config, racing.memory()), config, racing.memory_bytes)


# Which are joined ------------------------------------------------------------------------------


def stays(graph):
    return FUSE_REGIONS.run(graph, lambda *_: None).applied == ()


def test_what_stays_apart():
    graph = apart((9, 2, 4, 5))
    scores, view, softmax, product = graph.ops
    x = graph.type("x")

    def with_ops(*ops, inputs=("x",), **types):
        known = {op.output: graph.type(op.output) for op in ops}
        return network({name: x for name in inputs}, ops, known | types)

    shown = dataclasses.replace(graph.outputs[0], value="a", onnx_name="a")
    assert stays(dataclasses.replace(graph, outputs=(*graph.outputs, shown)))
    assert stays(dataclasses.replace(graph, paths={"y": (("branch", True),)}))
    other = dataclasses.replace(product, inputs=("z", "a"))
    assert stays(with_ops(scores, view, softmax, other, inputs=("x", "z")))
    padded = {"pad_begin": (0, 1, 1), "pad_end": (0, 1, 1)}
    wide = dataclasses.replace(scores, weight=np.ones((1, 9, 1, 3, 3), np.int8), **padded)
    assert stays(with_ops(wide, view, softmax, product))


@pytest.mark.parametrize(("over", "wanted"), [((2, 3), True), ((3,), False)])
def test_a_softmax_of_maps_needs_no_view(over, wanted):
    """Of whole frames; one of lines is no mean over consecutive positions of the product's."""
    graph = apart((9, 2, 4, 5))
    scores, _, softmax, product = graph.ops
    shares = graph.type("a")
    maps = kind((1, 2, 4, 5), shares.scale, shares.zero_point, shares.signed)
    ops = (
        scores,
        dataclasses.replace(softmax, inputs=("s",), axes=over),
        dataclasses.replace(product, right=axes((1, 1), (2, 20), (4, 5), (5, 1))),
    )
    whole = network(
        {"x": graph.type("x")}, ops, {"s": graph.type("s"), "a": maps, "y": graph.type("y")}
    )
    assert stays(whole) is not wanted
    if wanted:
        assert execute(joined(whole), CONFIGS["tiny"]).differing() == []


def test_refusals():
    def why(graph, machine, policy=None):
        (op,) = joined(graph).ops
        return refusal(op, [graph.type("x")], graph.type("y"), machine, policy)

    base = CONFIGS["base"]
    graph = apart((40, 4, 14, 14))
    for objective in OBJECTIVES:
        assert why(graph, base, Policy(objective=objective)) is None
    assert why(apart((9, 1, 40, 40)), CONFIGS["tiny"]).startswith("no group of 1600 positions")
    plain = dataclasses.replace(
        base, features=tuple(f for f in base.features if f not in ("fold", "attention"))
    )
    assert "feature `fold`" in why(graph, plain)


def test_what_is_slower_joined_stays_apart(monkeypatch):
    graph = apart((40, 4, 14, 14))
    (op,) = joined(graph).ops
    dear = Cost(1e9, 1e9, 1e9, 1e9)
    monkeypatch.setattr(attention_pool.AttentionPoolLowering, "cost", lambda *_: dear)
    why = refusal(op, [graph.type("x")], graph.type("y"), CONFIGS["base"], Policy())
    assert "joined" in why and "apart" in why


def test_bounds_of_sums():
    """Shares add up to 1/scale and half a step each."""
    (op,) = joined(apart((9, 1, 40, 40))).ops
    source = attention_pool.tensor_of(kind((9, 1, 40, 40), 0.05, 9), 16)
    dot = attention_pool.dot_of(op, source)
    scale = op.product.scale
    assert (dot.za, dot.zb, dot.zero_point) == (9, 0, 70)
    assert dot.scale.fixed == scale.multiplier << 44 - scale.shift
    with pytest.raises(NumericsError, match="at most 16777216"):
        Dot.scaled(np.float32(1.0), 0, 0, 0, (1 << 24) + 1)
    lifted = dataclasses.replace(op.softmax, low=3)
    with pytest.raises(NumericsError, match="shares of 3 codes at least"):
        attention_pool.dot_of(
            dataclasses.replace(
                op, parts=tuple(lifted if p is op.softmax else p for p in op.parts)
            ),
            source,
        )


def test_a_pool_that_is_none():
    graph = joined(apart((9, 2, 4, 5)))
    (op,) = graph.ops
    scores, view, softmax, product = op.parts
    tall = dataclasses.replace(softmax, axes=(2, 3))
    for wrong, message in (
        ((scores, view, tall, product), "groups are not consecutive positions"),
        ((scores, softmax, view, product), "reads v, which is not made before"),
    ):
        changed = dataclasses.replace(op, parts=wrong)
        with pytest.raises(GraphError, match=message):
            verify(dataclasses.replace(graph, ops=(changed,)))


@pytest.mark.cosim
@pytest.mark.parametrize("name", ["frames", "a clip", "signed weights"])
def test_on_rtl(name):
    """Values, and the times of every instruction."""
    config = CONFIGS["tiny"]
    shape, attributes = CASES[name]
    graph = joined(apart(shape, **attributes))
    program = generate(graph, config)
    memory = start_image(program, feeds_of(graph))
    rtl, model = (make_backend(b).run(program, config, memory, Options()) for b in ("rtl", "cycle"))
    assert differences(rtl, model) == []
    run = execute(graph, config, program)
    assert run.differing() == []
    assert np.array_equal(rtl.image.read(program.tensor("y")), run.reference["y"])
