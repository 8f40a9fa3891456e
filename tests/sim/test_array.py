"""ARRAY against torch convolutions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, ErrorCode, deltas
from hw.arch.layout import TensorLayout
from sim.functional import MachineError


def conv(x, w, zero, **options):
    """Exact convolution of [C, T, H, W] codes with zero padding at the zero point."""
    centred = torch.from_numpy(x.astype(np.float64) - zero)[None]
    return torch.nn.functional.conv3d(centred, torch.from_numpy(w.astype(np.float64)), **options)[
        0
    ].numpy()


def gemm_weights(w, rows, cols):
    """[N, C, kt, ky, kx] to blocks in the nest's order: ci, kt, ky, kx, co, row, col."""
    n, c, kt, ky, kx = w.shape
    blocks = w.reshape(n // cols, cols, c // rows, rows, kt, ky, kx)
    return np.ascontiguousarray(blocks.transpose(2, 4, 5, 6, 0, 3, 1))


def gemm_instruction(shape, out, kernel, stride, pad, dilation, blocks, **fields):
    """ARRAY for a convolution over a whole tensor [ci, T, H, W] at row 0."""
    t, h, w = shape
    co, ci = blocks
    steps = tuple(reversed(stride))
    counts = (*reversed(out), co, *reversed(kernel), ci)
    dx, dy, dt = tuple(reversed(dilation))
    place = (steps[0], steps[1] * w, steps[2] * h * w, 0, dx, dy * w, dt * h * w, t * h * w)
    starts = tuple(-p for p in reversed(pad))
    first = starts[0] + starts[1] * w + starts[2] * h * w
    return Array(
        mode=ArrayMode.GEMM,
        activation=first & 0xFFFF,
        counts=counts,
        deltas=deltas(counts, place),
        starts=starts,
        steps=steps,
        dilations=(dx, dy, dt),
        bounds=(w, h, t),
        **fields,
    )


CASES = [
    # C, N, (T, H, W), kernel, stride, pad, dilation
    (4, 4, (1, 5, 7), (1, 3, 3), (1, 1, 1), (0, 1, 1), (1, 1, 1)),
    (8, 4, (3, 4, 4), (3, 1, 1), (1, 1, 1), (1, 0, 0), (1, 1, 1)),
    (4, 8, (2, 5, 5), (1, 3, 3), (1, 2, 2), (0, 1, 1), (1, 1, 1)),
    (8, 8, (2, 4, 4), (1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1)),
    (4, 4, (1, 6, 6), (1, 3, 3), (1, 1, 1), (0, 2, 2), (1, 2, 2)),
    (4, 4, (3, 4, 4), (3, 3, 3), (2, 1, 1), (1, 1, 1), (1, 1, 1)),
    (4, 4, (1, 25, 17), (1, 8, 8), (1, 8, 8), (0, 0, 4), (1, 1, 1)),
    (4, 4, (9, 9, 24), (1, 2, 2), (8, 8, 15), (0, 1, 1), (1, 1, 9)),
]


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gemm_equals_torch(make_bench, tiny, case, signed):
    c, n, shape, kernel, stride, pad, dilation = case
    # More accumulators than `tiny` has: whole layers in one instruction.
    config = dataclasses.replace(
        tiny, memory=dataclasses.replace(tiny.memory, accumulator_rows=256)
    )
    bench = make_bench(config)
    rng = np.random.default_rng(1)
    dtype = np.int8 if signed else np.uint8
    limits = np.iinfo(dtype)
    x = rng.integers(limits.min, limits.max + 1, (c, *shape)).astype(dtype)
    w = rng.integers(-128, 128, (n, c, *kernel)).astype(np.int8)
    zero = -77 if signed else 131
    expected = conv(x, w, zero, stride=stride, padding=pad, dilation=dilation)
    out = expected.shape[1:]
    bench.put_rows(0, TensorLayout.dense((c, *shape), 4).pack(x))
    bench.put_weights(0, gemm_weights(w, 4, 4))
    instruction = gemm_instruction(
        shape,
        out,
        kernel,
        stride,
        pad,
        dilation,
        (n // 4, c // 4),
        signed=signed,
        zero_point=zero & 0xFF,
    )
    bench.run(instruction)
    rows = bench.accumulators(0, n // 4 * int(np.prod(out)))
    got = rows.reshape(n // 4, *out, 4).transpose(0, 4, 1, 2, 3).reshape(expected.shape)
    assert np.array_equal(got, expected)

    bench.run(dataclasses.replace(instruction, accumulate=1))
    assert np.array_equal(bench.accumulators(0, len(rows)), 2 * rows)


def depthwise_weights(w, rows, cols, passes):
    """[C, kt, ky, kx] to blocks kt, pass, co, row (tap), col."""
    c, kt, ky, kx = w.shape
    taps = np.zeros((c, kt, passes * rows), np.int8)
    taps[:, :, : ky * kx] = w.reshape(c, kt, ky * kx)
    blocks = taps.reshape(c // cols, cols, kt, passes, rows)
    return np.ascontiguousarray(blocks.transpose(2, 3, 0, 4, 1))


@pytest.mark.parametrize("kernel", [(1, 3, 3), (3, 1, 1), (3, 3, 3), (1, 2, 3)], ids=str)
@pytest.mark.parametrize("emit", [(1, 1), (2, 2), (1, 2)], ids=str)
@pytest.mark.parametrize("preset", ["tiny", "base"])
def test_depthwise_equals_torch(make_bench, preset, kernel, emit):
    config = AcceleratorConfig.load(preset)
    rows = config.array.rows
    config = dataclasses.replace(
        config, memory=dataclasses.replace(config.memory, accumulator_rows=1024)
    )
    bench = make_bench(config)
    rng = np.random.default_rng(2)
    t, h, w = 3, 5, 6
    c = 2 * rows
    kt, ky, kx = kernel
    pad = (kt // 2, ky // 2, kx // 2)
    x = rng.integers(0, 256, (c, t, h, w)).astype(np.uint8)
    weight = rng.integers(-128, 128, (c, *kernel)).astype(np.int8)
    expected = conv(x, weight[:, None], 9, padding=pad, stride=(1, *emit), groups=c)
    passes = -(-ky * kx // rows)
    bench.put_rows(0, TensorLayout.dense((c, t, h, w), rows).pack(x))
    bench.put_weights(0, depthwise_weights(weight, rows, rows, passes))
    counts = (w + 2 * pad[2], h + 2 * pad[1], t, 2, 1, passes, kt, 1)
    starts = tuple(-p for p in reversed(pad))
    place = (1, w, h * w, t * h * w, 0, 0, h * w, 0)
    bench.run(
        Array(
            mode=ArrayMode.DEPTHWISE,
            zero_point=9,
            activation=(starts[0] + starts[1] * w + starts[2] * h * w) & 0xFFFF,
            counts=counts,
            deltas=deltas(counts, place),
            starts=starts,
            bounds=(w, h, t),
            window_x=kx,
            window_y=ky,
            emit_x=emit[1],
            emit_y=emit[0],
        )
    )
    out = expected.shape[1:]
    got = bench.accumulators(0, 2 * int(np.prod(out))).reshape(2, *out, rows)
    assert np.array_equal(got.transpose(0, 4, 1, 2, 3).reshape(expected.shape), expected)


def test_accumulators_wrap(bench):
    bits = bench.config.memory.accumulator_bits
    top = (1 << (bits - 1)) - 1
    bench.machine.state.accumulator.write(np.array([0]), np.full((1, 4), top))
    bench.put_rows(0, np.ones((1, 4), np.uint8))
    bench.put_weights(0, np.eye(4, dtype=np.int8))
    bench.run(Array(accumulate=1, counts=(1,) * 8, bounds=(1, 1, 1)))
    assert (bench.accumulators(0, 1) == -(1 << (bits - 1))).all()


def test_reads_outside_are_refused(bench):
    bench.put_weights(0, np.zeros((2, 4, 4), np.int8))
    rows = bench.config.memory.activation_rows
    with pytest.raises(MachineError, match=rf"activation row {rows}; there are {rows}") as error:
        bench.run(Array(activation=rows))
    assert (error.value.code, error.value.pc) == (ErrorCode.ADDRESS, 1)
    with pytest.raises(MachineError, match="weight beat") as error:
        bench.run(Array(weight=bench.config.weight_beats))
    assert error.value.code is ErrorCode.ADDRESS


def test_unwritten_reads_are_refused(bench):
    bench.put_weights(0, np.zeros((1, 4, 4), np.int8))
    with pytest.raises(MachineError, match="activation row 3, which nothing has written"):
        bench.run(Array(activation=3))
    bench.put_rows(3, np.zeros((1, 4), np.uint8))
    bench.run(Array(activation=3))
    with pytest.raises(MachineError, match="weight beat 4, which nothing has written"):
        bench.run(Array(activation=3, weight=4))


def test_missing_feature_is_refused(make_bench, tiny_direct):
    bench = make_bench(dataclasses.replace(tiny_direct, features=("vector",)))
    with pytest.raises(MachineError, match="feature `depthwise`") as error:
        bench.run(Array(mode=ArrayMode.DEPTHWISE))
    assert error.value.code is ErrorCode.UNSUPPORTED


@pytest.mark.parametrize("x", [2, 1025])
def test_lines_fit_the_line_buffer(bench, x):
    counts = (x, 3, 1, 1, 1, 1, 1, 1)
    instruction = Array(
        mode=ArrayMode.DEPTHWISE, counts=counts, bounds=(x, 3, 1), window_x=2, window_y=2
    )
    message = rf"a line has 3 to memory.line_pixels pixels; .* counts = \({x}, 3,"
    with pytest.raises(MachineError, match=message) as error:
        bench.run(instruction)
    assert error.value.code is ErrorCode.FIELD
    with pytest.raises(MachineError, match=r"at least the window's pixels; .*window_x = 3"):
        bench.run(dataclasses.replace(instruction, counts=(2, *counts[1:]), window_x=3))


def test_windows_need_enough_passes(bench):
    counts = (4, 4, 1, 1, 1, 1, 1, 1)
    with pytest.raises(MachineError, match="taps fit in the rows of the array") as error:
        bench.run(Array(mode=ArrayMode.DEPTHWISE, counts=counts, window_x=3, window_y=3))
    assert error.value.code is ErrorCode.FIELD


def test_passes_of_a_window_stay_on_their_pixels(bench):
    """What no rule on fields says, the functional simulator does."""
    counts = (4, 4, 1, 1, 1, 3, 1, 1)
    fields = {"mode": ArrayMode.DEPTHWISE, "counts": counts, "window_x": 3, "window_y": 3}
    with pytest.raises(MachineError, match="3 passes of a window with a stride of 2 rows"):
        bench.run(Array(deltas=deltas(counts, (1, 4, 0, 0, 0, 2, 0, 0)), **fields))
