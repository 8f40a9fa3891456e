"""ARRAY HFA and DRAIN with transforms: against torch, against GEMM, and what they refuse."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import deltas, strides
from hw.arch.timing import drain_nest
from hw.arch.winograd import ALGORITHMS
from hw.arch.winograd_matrices import F4
from tests.ladder.hfa_layer import Shape, direct, functional, make

TINY = AcceleratorConfig.load("tiny")
WIDE = dataclasses.replace(
    TINY, array=dataclasses.replace(TINY.array, cols=8, weight_rows_per_cycle=2)
)
FITTING = tuple(a for a in ALGORITHMS if (a.temporal, a.spatial) != (2, 2))

ONE = {"before": (1, 1, 1), "after": (1, 1, 1)}
SHAPES = {
    "F(4×4)": Shape(),
    "F(4×4), ragged": Shape(size=(1, 7, 9), channels=9, filters=6, before=(0, 1, 1)),
    "F(2×2), s8": Shape(spatial=1, size=(1, 5, 6), signed=1, zero_point=-77, channels=7),
    "pads 2 and 0": Shape(size=(1, 4, 7), before=(0, 2, 0), after=(0, 0, 2)),
    "small map": Shape(size=(1, 2, 3)),
    "F(4,3)": Shape(2, 0, (5, 2, 3), before=(1, 0, 0), after=(1, 0, 0), channels=6),
    "F(2,3)": Shape(1, 0, (2, 2, 3), before=(1, 0, 0), after=(1, 0, 0), filters=7),
    "dilated, phase 1": Shape(
        2, 0, (9, 2, 2), before=(2, 0, 0), after=(2, 0, 0), dilation=(2, 1, 1), first=(1, 0, 0)
    ),
    "dilated F(2,3), phase 2": Shape(
        1, 0, (11, 1, 3), before=(3, 0, 0), after=(3, 0, 0), dilation=(3, 1, 1), first=(2, 0, 0)
    ),
    "dilated rows": Shape(
        0, 1, (1, 9, 8), before=(0, 2, 3), after=(0, 2, 3), dilation=(1, 2, 3), first=(0, 1, 0)
    ),
    "three temporal taps": Shape(0, 2, (3, 4, 5), taps=3, **ONE, channels=5, filters=4),
    "temporal stride": Shape(0, 1, (5, 4, 2), taps=3, stride=2, **ONE),
    "nested 2, 4×4": Shape(1, 2, (3, 4, 4), **ONE, count=(2, 4, 3)),
    "nested 2, 2×2": Shape(1, 1, (3, 3, 2), **ONE, signed=1, zero_point=5),
    "nested 4, 2×2": Shape(2, 1, (6, 2, 2), **ONE, channels=5),
    "two instructions": Shape(size=(1, 6, 8), channels=12, parts=3),
    "a box inside": Shape(size=(1, 15, 15), first=(0, 4, 8), count=(0, 4, 7)),
    "pooled": Shape(size=(1, 8, 12), window=(1, 2, 2)),
    "pooled, ragged": Shape(size=(1, 6, 10), window=(1, 2, 4)),
    "pooled in time": Shape(1, 1, (4, 4, 4), **ONE, window=(2, 2, 2), count=(2, 4, 4)),
}


@pytest.mark.parametrize("config", [TINY, WIDE], ids=["4×4", "4×8"])
@pytest.mark.parametrize("name", SHAPES)
def test_results_equal_torch(name, config):
    case = make(SHAPES[name], config, seed=3)
    accumulators, rows = functional(case)
    assert len(accumulators) == case.points
    assert np.array_equal(rows, case.expected)
    assert np.unique(rows).size > min(20, rows.size // 3)


def corrupted(case, field):
    """The case with one thing wrong that the results must show."""
    array, drain = case.arrays[0], case.drain
    if field == "activations":
        return dataclasses.replace(case, activations=case.activations ^ 0x10)
    if field == "weights":
        wrong = bytes(b ^ (0x20 if i % 16 == 5 else 0) for i, b in enumerate(case.weights))
        return dataclasses.replace(case, weights=wrong)
    if field == "parameters":
        return dataclasses.replace(case, parameters=case.centred_parameters)
    changes = {
        "zero_point": {"zero_point": array.zero_point ^ 0x40},
        "signed": {"signed": array.signed ^ 1},
        "starts": {"starts": tuple(s - 1 for s in array.starts)},
        "bounds": {"bounds": tuple(b - 1 for b in array.bounds)},
    }
    if field in changes:
        wrong = dataclasses.replace(array, **changes[field])
        return dataclasses.replace(case, arrays=(wrong, *case.arrays[1:]))
    nest = drain_nest(drain)
    px, py, *rest = strides(nest, drain.accumulator_deltas)
    swapped = deltas(nest, (py, px, *rest))
    wrong = dataclasses.replace(drain, accumulator_deltas=swapped)
    return dataclasses.replace(case, drain=wrong)


@pytest.mark.parametrize(
    "field",
    [
        "activations",
        "weights",
        "parameters",
        "zero_point",
        "signed",
        "starts",
        "bounds",
        "points",
    ],
)
def test_results_show_a_wrong_field(field):
    case = make(SHAPES["pads 2 and 0"], TINY, seed=3)
    _, rows = functional(corrupted(case, field))
    assert not np.array_equal(rows, case.expected)


def naive_accumulators(case):
    """Rows (co·P + p)·N + n, tile by tile with the matrices of winograd.py."""
    shape, config = case.shape, case.config
    chosen, rows = shape.algorithm, config.array.rows
    values = case.activations.reshape(-1, *shape.size, rows).transpose(0, 4, 1, 2, 3)
    values = values.reshape(-1, *shape.size).astype(np.int64)
    values = values - 128 if not shape.signed else (values ^ 128) - 128
    padding = shape.zero_point if shape.signed else shape.zero_point - 128
    pads = [(0, 0), *((b, a + 8) for b, a in zip(shape.before, shape.after, strict=True))]
    padded = np.pad(values, pads, constant_values=padding)
    taps = case.taps.astype(np.int64)
    n, p = math.prod(shape.tiles), math.prod(chosen.points)
    result = np.zeros((len(taps) // config.array.cols, p, n, config.array.cols), np.int64)
    outside = shape.taps if not shape.temporal else 1
    for number, tile in enumerate(itertools.product(*(range(t) for t in shape.tiles))):
        origin = [i * m + f for i, m, f in zip(tile, chosen.outputs, shape.first, strict=True)]
        for k in range(outside):
            t, y, x = origin[0] + k, *origin[1:]
            pt, py, px = chosen.points
            pixels = padded[:, t : t + pt, y : y + py, x : x + px]
            kernel = taps if shape.temporal else taps[:, :, k : k + 1]
            u = chosen.transform_input(pixels).reshape(len(values), p)
            v = chosen.transform_weights(kernel).reshape(len(taps), len(values), p)
            sums = np.einsum("cp,fcp->fp", u, v)
            result[:, :, number] += sums.reshape(-1, config.array.cols, p).transpose(0, 2, 1)
    return result.reshape(-1, config.array.cols)


@pytest.mark.parametrize(
    "name", ["F(4×4), ragged", "F(4,3)", "three temporal taps", "nested 2, 4×4", "pads 2 and 0"]
)
def test_accumulators_hold_points_of_tiles_in_order(name):
    case = make(SHAPES[name], TINY, seed=5)
    accumulators, _ = functional(case)
    expected = naive_accumulators(case)
    assert np.array_equal(accumulators, expected)
    assert not np.array_equal(accumulators, np.roll(expected, 1, axis=0))


def test_weights_lie_as_taps_inside_row_groups():
    case = make(dataclasses.replace(SHAPES["three temporal taps"], filters=13), WIDE, seed=1)
    rows, cols, lw = WIDE.array.rows, WIDE.array.cols, WIDE.array.weight_rows_per_cycle
    g = case.drain.counts[3]
    data = np.frombuffer(case.weights, np.int8).reshape(-1, lw, cols)  # weight groups
    sizes = (2, 3, g, rows // lw, 3, 3)
    for ci, kt, co, h, ky, kx in np.ndindex(*sizes):
        pair = (kt + 3 * ci) * g + co
        group = (pair * (rows // lw) + h) * 9 + kx + 3 * ky
        first = ci * rows + h * lw
        expected = case.taps[co * cols : (co + 1) * cols, first : first + lw, kt, ky, kx].T
        assert np.array_equal(data[group], expected)
    assert len(data) == 2 * 3 * g * (rows // lw) * 9


def test_wrapped_accumulators_still_give_exact_results():
    """Pixels and weights that make one point as large as it can be: it leaves 32 bits."""
    memory = dataclasses.replace(TINY.memory, accumulator_bits=32)
    config = dataclasses.replace(TINY, memory=memory)
    shape = Shape(size=(1, 6, 6), before=(0, 0, 0), after=(0, 0, 0), channels=80)
    row, taps = F4.input_rows[3], F4.weight_rows[3]
    pixels = np.where(np.outer(row, row) > 0, 255, 0).astype(np.uint8)
    kernel = np.where(np.outer(taps, taps) > 0, 127, -128).astype(np.int8)
    data = np.tile(pixels, (80, 1, 1, 1)), np.tile(kernel, (4, 80, 1, 1, 1))
    case = make(shape, config, seed=2, data=data)
    accumulators, rows = functional(case)
    assert np.array_equal(rows, case.expected)
    assert np.abs(naive_accumulators(case)).max() > 1 << 31
    assert not np.array_equal(accumulators, naive_accumulators(case))


# The same layer in mode GEMM.


@st.composite
def shapes(draw):
    """Any algorithm, map, box, padding, dilation, pool; small enough for `tiny`."""
    chosen = draw(st.sampled_from(FITTING))
    room = TINY.memory.transformed_rows // math.prod(chosen.points)
    axes = []
    taps = draw(st.sampled_from([1, 3])) if not chosen.temporal else 1
    stride = draw(st.integers(1, 2)) if taps == 3 else 1
    for axis in (2, 1, 0):
        m, kernel = chosen.outputs[axis], chosen.kernel[axis]
        tiles = draw(st.integers(1, max(1, min(room, 3))))
        room //= tiles
        window = draw(st.sampled_from([w for w in (1, 1, 2, 4) if m % w == 0]))
        count = draw(st.integers(max(window, (tiles - 1) * m + 1), tiles * m))
        kernel = taps if axis == 0 and not chosen.temporal else kernel
        dilation = draw(st.integers(1, 3)) if kernel == 3 else 1
        spacing = dilation if m > 1 else stride if axis == 0 else 1
        first, extra = draw(st.integers(0, 2)), draw(st.integers(0, 1))
        least = first + (count // window * window - 1) * spacing + 1 + extra
        before, after = draw(st.integers(0, 2)), draw(st.integers(0, 2))
        size = least + dilation * (kernel - 1) - before - after
        if size < 1:
            before = after = 0
            size = least + dilation * (kernel - 1)
        axes.append((size, before, after, dilation, first, count // window * window, window))
    names = ("size", "before", "after", "dilation", "first", "count", "window")
    fields = {n: v[::-1] for n, v in zip(names, zip(*axes, strict=True), strict=True)}
    channels = draw(st.integers(1, 12 if math.prod(chosen.kernel) * taps < 27 else 8))
    signed = draw(st.integers(0, 1))
    return Shape(
        chosen.temporal,
        chosen.spatial,
        taps=taps,
        stride=stride,
        channels=channels,
        filters=draw(st.integers(1, 8 if math.prod(chosen.kernel) * taps < 27 else 4)),
        signed=signed,
        zero_point=draw(st.integers(-128, 127) if signed else st.integers(0, 255)),
        parts=draw(st.integers(1, -(-channels // 4))),
        **fields,
    )


def fits(case):
    """Whether both forms of a case fit the memories of its configuration."""
    memory = case.config.memory
    rows = 2 * memory.accumulator_rows
    return (
        case.points <= rows
        and direct(case).points <= rows
        and len(case.weights) <= memory.weight_bytes
        and case.target[-1] < memory.activation_rows
    )


def equal_both_ways(shape, seed):
    case = make(shape, TINY, seed)
    assume(fits(case))
    _, transformed = functional(case)
    _, plain = functional(direct(case))
    assert np.array_equal(transformed, plain)
    assert np.array_equal(transformed, case.expected)


@settings(max_examples=120, deadline=None)
@given(shapes(), st.integers(0, 1 << 20))
def test_random_shapes_are_equal_in_both_modes(shape, seed):
    equal_both_ways(shape, seed)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(shapes(), st.integers(0, 1 << 20))
def test_a_thousand_random_shapes_are_equal_in_both_modes(shape, seed):
    equal_both_ways(shape, seed)
