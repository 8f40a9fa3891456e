"""DRAIN: requantization, pooling, addressing, against float32 and torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hw.arch.isa import Drain, ErrorCode, deltas
from hw.arch.numerics import split_scale
from sim.functional import MachineError


def oracle(acc, bias, scale, zero_point, low, high):
    """ONNX Runtime's rule in float32; acc [..., channels]."""
    scaled = np.float32(acc + bias) * np.float32(scale)
    return np.clip(np.rint(scaled).astype(np.int64) + zero_point, low, high)


def drain(window=(1, 1, 1), counts=(1, 1, 1, 1), places=(0, 0, 0, 1, 0, 0, 0), out=None, **fields):
    nest = (*window, *counts)
    target = (1, *counts)
    return Drain(
        counts=counts,
        window=window,
        accumulator_deltas=deltas(nest, places),
        destination_deltas=deltas(target, (0, *(out or (1, 0, 0, 0)))),
        **fields,
    )


def fill(bench, rows, seed=3, limit=1 << 20):
    rng = np.random.default_rng(seed)
    acc = rng.integers(-limit, limit, (rows, 4))
    bench.machine.state.accumulator.write(np.arange(rows), acc)
    return acc


def parameters(bench, channels, seed=4):
    rng = np.random.default_rng(seed)
    bias = rng.integers(-(1 << 18), 1 << 18, channels)
    scale = np.float32(rng.uniform(1e-4, 4e-4, channels))
    pairs = [split_scale(s) for s in scale]
    bench.put_parameters(0, bias.tolist(), [m for m, _ in pairs], [n for _, n in pairs])
    return bias, scale


def test_requantizes_like_float32(bench):
    acc = fill(bench, 64)
    bias, scale = parameters(bench, 4)
    outcome = bench.run(drain(counts=(64, 1, 1, 1), zero_point=12, low=12, high=255))
    expected = oracle(acc, bias, scale, 12, 12, 255)
    assert np.array_equal(bench.rows(0, 64), expected)
    assert outcome.requantized == 256
    assert outcome.saturated == np.count_nonzero((expected == 12) | (expected == 255)) > 0


def test_output_blocks_take_their_own_parameters(bench):
    acc = fill(bench, 12)
    bias, scale = parameters(bench, 8)
    bench.run(
        drain(
            counts=(3, 2, 1, 2),
            places=(0, 0, 0, 1, 3, 0, 6),
            out=(1, 10, 0, 100),
            destination=7,
            zero_point=-3,
            low=-128,
            high=127,
        )
    )
    for block in range(2):
        part = slice(4 * block, 4 * block + 4)
        expected = oracle(
            acc[6 * block : 6 * block + 6], bias[part], scale[part], -3, -128, 127
        ).reshape(2, 3, 4)
        for y in range(2):
            got = bench.rows(7 + 100 * block + 10 * y, 3).view(np.int8)
            assert np.array_equal(got, expected[y])


def test_pools_like_torch(bench):
    acc = fill(bench, 4 * 6)
    bias, scale = parameters(bench, 4)
    bench.run(drain((2, 2, 1), (3, 2, 1, 1), (1, 6, 0, 2, 12, 0, 0), (1, 3, 0, 0)))
    codes = oracle(acc, bias, scale, 0, 0, 255).reshape(4, 6, 4)
    pooled = torch.nn.functional.max_pool2d(
        torch.from_numpy(codes.transpose(2, 0, 1).astype(np.float64)), 2
    ).numpy()
    got = bench.rows(0, 6).reshape(2, 3, 4).transpose(2, 0, 1)
    assert np.array_equal(got, pooled)


def test_refuses_rows_and_parameters_that_do_not_exist(bench):
    rows = 2 * bench.config.memory.accumulator_rows
    fill(bench, rows)
    parameters(bench, 4)
    with pytest.raises(MachineError, match=f"accumulator row {rows}; there are {rows}") as error:
        bench.run(drain(counts=(2, 1, 1, 1), accumulator=rows - 1))
    assert error.value.code is ErrorCode.ADDRESS
    with pytest.raises(MachineError, match="not a multiple of 8"):
        bench.run(drain(parameter=4))
    with pytest.raises(MachineError, match="parameter beat 8, which nothing has written"):
        bench.run(drain(parameter=8))
