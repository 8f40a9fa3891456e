"""Each pass on a graph written by hand, compared with the graph that is expected."""

import dataclasses

import numpy as np
import pytest

from compiler import interpreter
from compiler.ir import (
    AxisMean,
    Concat,
    Convolution,
    Graph,
    GraphError,
    Pairwise,
    PairwiseKind,
    Pool,
    PoolKind,
    Port,
    Slice,
    TemporalResidual,
    TensorType,
    UnaryTable,
    Value,
    Window,
    difference,
    verify,
)
from compiler.ops import make_table
from compiler.passes.base import accept_all
from compiler.passes.fold import FOLD
from compiler.passes.fuse import FUSE_CLAMPS, FUSE_POOLS, FUSE_RESIDUALS
from compiler.pipeline import FUSE, LEGALIZE, optimize
from hw.arch.numerics import Affine, Mean, split_scale

CLIP = (1, 4, 6, 8, 8)


def kind(shape=CLIP, scale=0.05, zero=100):
    return TensorType.of(shape, False, scale, zero)


def graph(ops, outputs, **types):
    """A graph whose input is `x`."""
    values = {name: Value(name, t) for name, t in types.items()}
    ports = tuple(Port(name, name) for name in outputs)
    result = Graph("hand", (Port("x", "x"),), ports, values, tuple(ops))
    verify(result)
    return result


def conv(source, output, kernel=(1, 1, 1), channels=(4, 4), name=None, **fields):
    rng = np.random.default_rng(1)
    multiplier, shift = split_scale(0.004)
    return Convolution(
        name=name or output,
        inputs=(source,),
        output=output,
        weight=rng.integers(-127, 128, (*channels, *kernel)).astype(np.int8),
        bias=rng.integers(-999, 999, channels[0]).astype(np.int32),
        multiplier=np.full(channels[0], multiplier),
        shift=np.full(channels[0], shift),
        **{"low": 0, "high": 255, **fields},
    )


def pool(source, output, window=None, **fields):
    window = window or Window((1, 2, 2), (1, 2, 2))
    limits = {"low": 0, "high": 255, **fields}
    return Pool(
        name=output, inputs=(source,), output=output, kind=PoolKind.MAX, window=window, **limits
    )


def apply(step, before):
    """Run one pass; the result must be sound and compute the same outputs."""
    outcome = step.run(before, accept_all)
    verify(outcome.graph)
    shape = before.type("x").onnx_shape
    feeds = {"x": np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)}
    first, second = (interpreter.run(g, feeds) for g in (before, outcome.graph))
    for old, new in zip(before.outputs, outcome.graph.outputs, strict=True):
        assert np.array_equal(first[old.value], second[new.value])
    return outcome


HALF = kind((1, 4, 6, 4, 4))


def test_pool_is_fused_into_its_convolution():
    before = graph([conv("x", "c"), pool("c", "p")], ["p"], x=kind(), c=kind(), p=HALF)
    outcome = apply(FUSE_POOLS, before)
    fused = conv("x", "p", name="c", pool=Window((1, 2, 2), (1, 2, 2)))
    assert difference(outcome.graph, graph([fused], ["p"], x=kind(), p=HALF)) is None
    assert outcome.applied == ("c: pools for p",) and outcome.refused == ()


def test_twin_difference_sees_a_changed_weight():
    first = graph([conv("x", "c")], ["c"], x=kind(), c=kind())
    other = conv("x", "c")
    other.weight[0, 0] += 1
    second = graph([other], ["c"], x=kind(), c=kind())
    assert difference(first, second) == "c: weight differs"
    assert difference(first, first.replaced(first.ops)) is None


@pytest.mark.parametrize(
    ("ops", "outputs", "reason"),
    [
        ([conv("x", "c"), pool("c", "p")], ["p", "c"], "c is read by p, c"),
        ([conv("x", "c"), pool("x", "p")], ["p", "c"], "made by no convolution"),
        (
            [conv("x", "c"), pool("c", "p", Window((1, 3, 3), (1, 2, 2), (0, 1, 1), (0, 0, 0)))],
            ["p"],
            "overlap",
        ),
    ],
)
def test_pools_that_stay_say_why(ops, outputs, reason):
    before = graph(ops, outputs, x=kind(), c=kind(), p=HALF)
    outcome = apply(FUSE_POOLS, before)
    assert difference(outcome.graph, before) is None
    assert reason in outcome.refused[0][1]


def test_pool_stays_where_the_back_end_declines():
    before = graph([conv("x", "c"), pool("c", "p")], ["p"], x=kind(), c=kind(), p=HALF)
    outcome = FUSE_POOLS.run(before, lambda op, inputs, output: "too wide")
    assert difference(outcome.graph, before) is None
    assert outcome.refused == (("p", "not lowered in one: too wide"),)


def clamp_table(low, high):
    codes = np.arange(256).clip(low, high).astype(np.uint8).tobytes()
    return UnaryTable(name="r", inputs=("c",), output="r", table=codes, function="Relu")


def test_clamp_is_fused():
    before = graph([conv("x", "c"), clamp_table(100, 200)], ["r"], x=kind(), c=kind(), r=kind())
    expected = graph([conv("x", "r", name="c", low=100, high=200)], ["r"], x=kind(), r=kind())
    assert difference(apply(FUSE_CLAMPS, before).graph, expected) is None


def test_clamps_that_do_not_meet_leave_one_code():
    first = conv("x", "c", high=200)
    second = dataclasses.replace(clamp_table(0, 255), name="y", inputs=("c",), output="y")
    second = dataclasses.replace(second, table=bytes([230]) * 256)
    before = graph([first, second], ["y"], x=kind(), c=kind(), y=kind())
    (fused,) = apply(FUSE_CLAMPS, before).graph.ops
    assert (fused.low, fused.high) == (230, 230)


def test_table_that_is_no_clamp_stays():
    table = dataclasses.replace(clamp_table(0, 255), table=bytes(range(255, -1, -1)))
    before = graph([conv("x", "c"), table], ["r"], x=kind(), c=kind(), r=kind())
    assert difference(apply(FUSE_CLAMPS, before).graph, before) is None


def residual(extra=(), start=1, frames=6):
    """Slice, Slice, Sub, ReduceMean, Concat as an exporter writes them."""
    short, one = kind((1, 4, frames - 1, 8, 8)), kind((1, 4, 1, 8, 8), 0.03, 90)
    d = kind((1, 4, frames - 1, 8, 8), 0.07, 128)
    y = kind(CLIP, 0.06, 128)
    subtract = Affine.subtract(0.05, 100, 0.05, 100, 0.07, 128)
    mean = Mean.of(0.05, 0.03, 90, frames)
    ops = [
        Slice(name="s1", inputs=("x",), output="s1", axis=1, start=start, stop=start + 5),
        Slice(name="s0", inputs=("x",), output="s0", axis=1, start=0, stop=5),
        Pairwise(
            name="d",
            inputs=("s1", "s0"),
            output="d",
            kind=PairwiseKind.SUBTRACT,
            arithmetic=subtract,
            low=0,
            high=255,
        ),
        AxisMean(name="m", inputs=("x",), output="m", axes=(1,), mean=mean, low=0, high=255),
        Concat(
            name="y",
            inputs=("d", "m"),
            output="y",
            axis=1,
            tables=(make_table(d, y), make_table(one, y)),
        ),
    ]
    outputs = ["y", *extra]
    return graph(ops, outputs, x=kind(), s1=short, s0=short, d=d, m=one, y=y)


def test_temporal_residual_is_fused():
    before = residual()
    outcome = apply(FUSE_RESIDUALS, before)
    (op,) = outcome.graph.ops
    assert isinstance(op, TemporalResidual)
    sub, mean, join = before.ops[2:]
    expected = TemporalResidual(
        name="y",
        inputs=("x",),
        output="y",
        subtract=sub.arithmetic,
        mean=mean.mean,
        difference=before.type("d"),
        average=before.type("m"),
        difference_low=0,
        difference_high=255,
        average_low=0,
        average_high=255,
        difference_table=join.tables[0],
        average_table=join.tables[1],
    )
    fused = graph([expected], ["y"], x=kind(), y=before.type("y"))
    assert difference(outcome.graph, fused) is None


@pytest.mark.parametrize(
    ("before", "reason"),
    [(residual(extra=["d"]), "d is read by y, d"), (residual(start=0), "neighbouring frames")],
)
def test_residuals_that_stay_say_why(before, reason):
    outcome = apply(FUSE_RESIDUALS, before)
    assert difference(outcome.graph, before) is None
    assert reason in outcome.refused[0][1]


def test_constants_are_folded():
    values = {
        "k": Value("k", kind((1, 4, 1, 8, 8)), np.full((4, 1, 8, 8), 130, np.uint8)),
        "x": Value("x", kind((1, 4, 1, 8, 8))),
        "t": Value("t", kind((1, 4, 1, 8, 8))),
        "y": Value("y", kind((1, 4, 1, 8, 8))),
    }
    ops = (
        dataclasses.replace(clamp_table(0, 120), name="t", inputs=("k",), output="t"),
        Pairwise(
            name="y",
            inputs=("x", "t"),
            output="y",
            kind=PairwiseKind.MAXIMUM,
            low=0,
            high=255,
        ),
    )
    before = Graph("hand", (Port("x", "x"),), (Port("y", "y"),), values, ops)
    outcome = apply(FOLD, before)
    assert [op.name for op in outcome.graph.ops] == ["y"]
    assert (outcome.graph.constants()["t"] == 120).all() and "k" not in outcome.graph.values


def test_every_pass_finds_what_it_requires():
    holds = set()
    for step in (*LEGALIZE, *FUSE):
        assert step.requires <= holds, step.name
        holds |= step.ensures
    names = [step.name for step in (*LEGALIZE, *FUSE)]
    assert len(set(names)) == len(names)


def test_fuse_off_fuses_nothing():
    before = graph([conv("x", "c"), pool("c", "p")], ["p"], x=kind(), c=kind(), p=HALF)
    assert difference(optimize(before, fuse=False), before) is None


# The checker ------------------------------------------------------------------------------


def broken_graphs():
    good = graph([conv("x", "c"), pool("c", "p")], ["p"], x=kind(), c=kind(), p=HALF)
    c, p = good.ops

    def with_type(name, t):
        return dataclasses.replace(good, values={**good.values, name: Value(name, t)})

    def with_ops(*ops):
        return dataclasses.replace(good, ops=ops)

    flat = dataclasses.replace
    window = Window((1, 3, 3), (1, 2, 2), (0, 1, 1), (0, 0, 0))
    overlapping = good.replaced([])
    overlapping = dataclasses.replace(
        overlapping, ops=(flat(c, output="p", pool=window),), values=overlapping.values
    )
    return [
        (with_ops(p, c), "operand c is not defined before"),
        (with_ops(c, c, p), "defined twice"),
        (with_ops(c), "p is not defined"),
        (with_type("p", kind((1, 4, 6, 4, 5))), "makes shape [4, 6, 4, 4]"),
        (with_type("p", flat(HALF, scale=0.06)), "keeps scale and zero point"),
        (with_type("c", flat(kind(), zero_point=256)), "zero point 256 outside 0..255"),
        (with_type("c", flat(kind(), scale=0.0)), "not a positive normal float32"),
        (with_type("spare", kind()), "spare is made by nothing"),
        (with_ops(flat(c, low=9, high=8), p), "clamp 9..8"),
        (with_ops(flat(c, bias=c.bias[:2]), p), "4 entries"),
        (with_ops(flat(c, groups=3), p), "meet 4 channels"),
        (with_ops(flat(c, bias=c.bias + np.int32(2**31 - 1000)), p), "accumulators may reach"),
        (overlapping, "kernel = stride"),
    ]


@pytest.mark.parametrize(("broken", "message"), broken_graphs())
def test_checker_names_what_is_wrong(broken, message):
    with pytest.raises(GraphError) as error:
        verify(broken)
    assert message in str(error.value)
