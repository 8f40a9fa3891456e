"""Operators of the vector unit and moves, against the integer reference."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from compiler.backend.build import generate
from compiler.ir import (
    AxisMean,
    Concat,
    Pairwise,
    PairwiseKind,
    Pool,
    PoolKind,
    Rearrange,
    Slice,
    TemporalResidual,
    UnaryTable,
    View,
    Window,
)
from compiler.ops import make_table
from hw.arch import isa
from hw.arch.numerics import Affine, Mean, Product
from tests.compiler.backend.harness import CONFIGS, convolution, execute, kind, network
from tests.compiler.backend.single_operators import uncounted

COMMON = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
NAMES = st.sampled_from(sorted(CONFIGS))


@st.composite
def shapes(draw, frames: int = 1):
    """[C, T, H, W]."""
    return (
        draw(st.integers(1, 40)),
        draw(st.integers(frames, 6)),
        draw(st.integers(1, 12)),
        draw(st.integers(1, 14)),
    )


def mean_of(source, target, elements: int) -> Mean:
    return Mean.of(source.scale, target.scale, target.zero_point, elements)


def residual(shape, signed: bool = False, tables: bool = True):
    """A temporal residual, as the fusion pass makes it."""
    x = kind(shape, 0.05, 7, signed)
    y = kind(shape, 0.09, 110, False)
    difference = kind((shape[0], shape[1] - 1, *shape[2:]), 0.08, 120, True) if tables else None
    average = kind((shape[0], 1, *shape[2:]), 0.06, 3, False) if tables else None
    d, a = difference or y, average or y
    op = TemporalResidual(
        name="trg",
        inputs=("x",),
        output="y",
        subtract=Affine.subtract(x.scale, 7, x.scale, 7, d.scale, d.zero_point),
        mean=mean_of(x, a, shape[1]),
        difference=d,
        average=a,
        difference_low=d.low,
        difference_high=d.high,
        average_low=a.low,
        average_high=a.high,
        difference_table=make_table(d, y) if tables else None,
        average_table=make_table(a, y) if tables else None,
    )
    return network({"x": x}, [op], {"y": y})


@COMMON
@given(shapes(frames=2), st.booleans(), st.booleans(), NAMES)
def test_temporal_residual(shape, signed, tables, name):
    assert execute(residual(shape, signed, tables), CONFIGS[name]).differing() == []


def binary(op_kind: PairwiseKind, a_shape, b_shape, out_shape):
    """One operator on two tensors."""
    same = op_kind in (PairwiseKind.MAXIMUM, PairwiseKind.MINIMUM)
    a = kind(a_shape, 0.05, 30)
    b = kind(b_shape, 0.05, 30) if same else kind(b_shape, 0.07, -5, True)
    y = kind(out_shape, 0.05, 30) if same else kind(out_shape, 0.11, 90)
    scales = (a.scale, a.zero_point, b.scale, b.zero_point, y.scale, y.zero_point)
    arithmetic = {
        PairwiseKind.ADD: Affine.add,
        PairwiseKind.SUBTRACT: Affine.subtract,
        PairwiseKind.MULTIPLY: Product.of,
    }.get(op_kind)
    op = Pairwise(
        name="op",
        inputs=("a", "b"),
        output="y",
        kind=op_kind,
        arithmetic=None if arithmetic is None else arithmetic(*scales),
        low=4,
        high=251,
    )
    return network({"a": a, "b": b}, [op], {"y": y})


@COMMON
@given(shapes(), st.sampled_from(PairwiseKind), NAMES)
def test_elementwise(shape, op_kind, name):
    assert execute(binary(op_kind, shape, shape, shape), CONFIGS[name]).differing() == []


@COMMON
@given(shapes(), st.sets(st.sampled_from([1, 2, 3])), st.booleans(), NAMES)
def test_broadcast(shape, axes, swap, name):
    small = tuple(1 if d in axes else n for d, n in enumerate(shape))
    pair = (small, shape) if swap else (shape, small)
    graph = binary(PairwiseKind.MULTIPLY, *pair, shape)
    assert execute(graph, CONFIGS[name]).differing() == []


@COMMON
@given(shapes(), st.sets(st.sampled_from([1, 2, 3]), min_size=1), st.booleans(), NAMES)
def test_mean(shape, axes, signed, name):
    x = kind(shape, 0.05, 9, signed)
    y = kind(tuple(1 if d in axes else n for d, n in enumerate(shape)), 0.04, 20)
    count = int(np.prod([shape[d] for d in axes]))
    op = AxisMean(
        name="mean",
        inputs=("x",),
        output="y",
        axes=tuple(sorted(axes)),
        mean=mean_of(x, y, count),
        low=0,
        high=255,
    )
    assert execute(network({"x": x}, [op], {"y": y}), CONFIGS[name]).differing() == []


@COMMON
@given(
    shapes(),
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 1)),
    st.sampled_from(PoolKind),
    st.booleans(),
    NAMES,
)
def test_pool(shape, kernel, stride, pads, op_kind, counted, name):
    pads = tuple(min(p, k - 1) for p, k in zip(pads, kernel, strict=True))
    window = Window(kernel, stride, pads, pads)
    out = window.output(shape[1:])
    assume(min(out) >= 1)
    x = kind(shape, 0.05, 9)
    average = op_kind is PoolKind.AVERAGE
    y = kind((shape[0], *out), 0.04, 20) if average else kind((shape[0], *out), 0.05, 9)
    mean = mean_of(x, y, int(np.prod(kernel)))
    if not counted:
        mean = uncounted(window, shape[1:], lambda n: mean_of(x, y, n))
    op = Pool(
        name="pool",
        inputs=("x",),
        output="y",
        kind=op_kind,
        window=window,
        mean=mean if average else None,
        low=2,
        high=240,
    )
    assert execute(network({"x": x}, [op], {"y": y}), CONFIGS[name]).differing() == []


@COMMON
@given(shapes(), st.integers(0, 3), st.lists(st.booleans(), min_size=2, max_size=3), NAMES)
def test_concat(shape, axis, change, name):
    y_scale = 0.05
    inputs, tables, size = {}, [], 0
    for number, changed in enumerate(change):
        part = list(shape)
        part[axis] += number
        size += part[axis]
        inputs[f"x{number}"] = kind(tuple(part), 0.03 if changed else y_scale, 9)
    whole = list(shape)
    whole[axis] = size
    y = kind(tuple(whole), y_scale, 9)
    tables = tuple(
        make_table(t, y) if changed else None
        for t, changed in zip(inputs.values(), change, strict=True)
    )
    op = Concat(name="concat", inputs=tuple(inputs), output="y", axis=axis, tables=tables)
    assert execute(network(inputs, [op], {"y": y}), CONFIGS[name]).differing() == []


@pytest.mark.parametrize("config", CONFIGS)
def test_a_concat_of_ragged_channels_feeds_every_kind_of_reader(config):
    """Channels that end inside a lane block stay padded segments all the way."""
    rng = np.random.default_rng(3)
    a, b = kind((5, 2, 6, 7)), kind((19, 2, 6, 7))
    both = kind((24, 2, 6, 7))
    concat = Concat(name="cat", inputs=("a", "b"), output="c", axis=0, tables=(None, None))
    dense, dense_type = convolution(
        rng, both, 9, (1, 3, 3), name="dense", inputs=("c",), output="d", pad_begin=(0, 1, 1)
    )
    deep, deep_type = convolution(
        rng, both, 24, (1, 3, 3), name="deep", inputs=("c",), output="e", groups=24
    )
    pool = Pool(
        name="pool",
        inputs=("c",),
        output="f",
        kind=PoolKind.MAX,
        window=Window((1, 2, 2), (1, 2, 2)),
        low=0,
        high=255,
    )
    results = {"c": both, "d": dense_type, "e": deep_type, "f": kind((24, 2, 3, 3))}
    graph = network({"a": a, "b": b}, [concat, dense, deep, pool], results)
    assert execute(graph, CONFIGS[config]).differing() == []


@COMMON
@given(shapes(), st.integers(0, 3), st.data(), NAMES)
def test_slice(shape, axis, data, name):
    start = data.draw(st.integers(0, shape[axis] - 1))
    stop = data.draw(st.integers(start + 1, shape[axis]))
    op = Slice(
        name="slice",
        inputs=("x",),
        output="y",
        axis=axis,
        start=start,
        stop=stop,
        step=data.draw(st.integers(1, 3)),
    )
    x = kind(shape)
    y = kind(op.infer([x]))
    assert execute(network({"x": x}, [op], {"y": y}), CONFIGS[name]).differing() == []


@COMMON
@given(shapes(), st.permutations([2, 3, 4]), st.booleans(), NAMES)
def test_rearrange(shape, order, flatten, name):
    x = kind(shape)
    if flatten:
        seen = x.reshaped((1, shape[0], shape[1] * shape[2], shape[3]))
    else:
        seen = x.transposed((0, 1, *order))
    y = x.with_shape(seen.onnx_shape)
    op = Rearrange(name="move", inputs=("x",), output="y", source=seen.axes, target=y.axes)
    assert execute(network({"x": x}, [op], {"y": y}), CONFIGS[name]).differing() == []


@COMMON
@given(shapes(), NAMES)
def test_table_and_view(shape, name):
    x, y = kind(shape), kind(shape, 0.02, 100)
    table = make_table(x, y, [np.tanh])
    lookup = UnaryTable(name="tanh", inputs=("x",), output="y", table=table, function="tanh")
    c, t, h, w = shape
    view = View(name="view", inputs=("y",), output="z", shape=(c, 1, t * h, w))
    z = y.with_shape((1, c, t * h, w))
    graph = network({"x": x}, [lookup, view], {"y": y, "z": z})
    assert execute(graph, CONFIGS[name]).differing() == []


BROKEN = {
    "elementwise": (
        binary(PairwiseKind.ADD, (5, 2, 6, 7), (5, 2, 6, 7), (5, 2, 6, 7)),
        isa.Elementwise,
        {"shift_k": 0},
    ),
    "residual mean": (residual((5, 3, 6, 7)), isa.Reduce, {"pad": 1}),
    "residual difference": (residual((5, 3, 6, 7)), isa.Elementwise, {"table": 0}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_wrong_field_is_seen(name):
    graph, target, change = BROKEN[name]
    config = CONFIGS["base"]
    program = generate(graph, config)
    code = [
        dataclasses.replace(i, **change) if isinstance(i, target) else i
        for i in program.instructions
    ]
    broken = dataclasses.replace(program, instructions=tuple(code))
    assert execute(graph, config, broken).differing() == ["y"]


def test_a_mean_over_a_map_that_fits_only_once():
    shape = (6, 1, 35, 40)
    bank_rows = CONFIGS["tiny"].memory.activation_rows
    assert bank_rows // 2 < 35 * 40 < bank_rows
    x, y = kind(shape), kind((6, 1, 1, 1))
    op = AxisMean(
        name="mean",
        inputs=("x",),
        output="y",
        axes=(2, 3),
        mean=mean_of(x, y, 35 * 40),
        low=0,
        high=255,
    )
    assert execute(network({"x": x}, [op], {"y": y}), CONFIGS["tiny"]).differing() == []


@pytest.mark.parametrize("config", CONFIGS)
def test_a_constant_operand_lies_in_the_image(config):
    graph = binary(PairwiseKind.ADD, (5, 2, 6, 7), (5, 2, 1, 7), (5, 2, 6, 7))
    codes = np.random.default_rng(0).integers(-128, 128, (5, 2, 1, 7)).astype(np.int8)
    values = {**graph.values, "b": dataclasses.replace(graph.values["b"], constant=codes)}
    graph = dataclasses.replace(graph, inputs=graph.inputs[:1], values=values)
    assert execute(graph, CONFIGS[config]).differing() == []


@pytest.mark.parametrize("config", CONFIGS)
def test_a_tensor_meets_itself(config):
    x, y = kind((9, 2, 6, 7)), kind((9, 2, 6, 7), 0.11)
    op = Pairwise(
        name="double",
        inputs=("x", "x"),
        output="y",
        kind=PairwiseKind.ADD,
        arithmetic=Affine.add(x.scale, 3, x.scale, 3, y.scale, 3),
        low=0,
        high=255,
    )
    assert execute(network({"x": x}, [op], {"y": y}), CONFIGS[config]).differing() == []


def test_a_window_may_begin_before_its_operand():
    shape = (4, 1, 21, 21)
    x, y = kind(shape), kind((4, 1, 6, 6))
    pads = (1, 1, 1)
    op = Pool(
        name="pool",
        inputs=("x",),
        output="y",
        kind=PoolKind.MAX,
        window=Window((3, 3, 3), (1, 4, 4), pads, pads),
        low=0,
        high=255,
    )
    run = execute(network({"x": x}, [op], {"y": y}), CONFIGS["tiny"])
    assert run.differing() == []
    # The field wraps below row 0.
    sources = [
        (i.source + (1 << 15)) % (1 << 16) - (1 << 15)
        for i in run.program.instructions
        if isinstance(i, isa.Reduce)
    ]
    assert min(sources) < min(i.local for i in run.program.instructions if isinstance(i, isa.Load))
