"""DRAIN: requantized rows against float32 arithmetic, pooling, durations, refusals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Drain, ErrorCode, deltas
from hw.arch.numerics import pack_parameters, split_scale
from hw.arch.timing import ACCUMULATOR_READ_LATENCY, PARAMETER_READ_LATENCY, drain_duration
from hw.compute.drain.unit import DrainUnit
from tests.hw.compute.support import Bench, words

pytestmark = pytest.mark.rtl
TINY = AcceleratorConfig.load("tiny_direct")
# Two scratchpad rows per accumulator row, two steps for each.
WIDE = dataclasses.replace(
    TINY,
    array=dataclasses.replace(TINY.array, cols=8),
    lanes=dataclasses.replace(TINY.lanes, requantize=2),
)
# Circuits with output transforms work the same without one.
TILES = AcceleratorConfig.load("tiny")
TILES_WIDE = dataclasses.replace(
    TILES,
    array=dataclasses.replace(TILES.array, cols=8),
    lanes=dataclasses.replace(TILES.lanes, requantize=2, output_transform=1),
)
CONFIGS = pytest.mark.parametrize(
    "config", [TINY, WIDE, TILES, TILES_WIDE], ids=["4x4", "4x8", "4x4 hfa", "4x8 hfa"]
)


def simulate(config, instructions, accumulators, parameters):
    bench = Bench(DrainUnit, config)
    dut = bench.dut
    bits = config.memory.accumulator_bits
    mask = (1 << bits) - 1

    def accumulator(row: int) -> int:
        return sum((int(v) & mask) << (bits * c) for c, v in enumerate(accumulators[row]))

    row_bytes = config.lanes.requantize * 8
    rows = words(np.frombuffer(parameters, np.uint8).reshape(-1, row_bytes))
    bench.serve(dut.accumulator, ACCUMULATOR_READ_LATENCY, accumulator)
    bench.serve(dut.parameter, PARAMETER_READ_LATENCY, rows.__getitem__)
    bench.record(dut.write)
    return bench.run(instructions)


def make(config, rows: int, co: int, seed: int = 0):
    """Accumulators [rows, cols] and float32 scales, biases [co, cols]."""
    random = np.random.default_rng(seed)
    accumulators = random.integers(-300_000, 300_000, (rows, config.array.cols))
    bias = random.integers(-50_000, 50_000, (co, config.array.cols))
    scale = random.uniform(0.0002, 0.001, (co, config.array.cols)).astype(np.float32)
    split = [split_scale(s) for s in scale.reshape(-1)]
    parameters = pack_parameters(
        bias.reshape(-1).tolist(), [s[0] for s in split], [s[1] for s in split]
    )
    return accumulators, bias, scale, parameters


def codes_of(values, bias, scale, zero_point, low, high):
    product = (values + bias).astype(np.float32) * scale
    return np.clip(np.rint(product).astype(np.int64) + zero_point, low, high)


def written(trace, config) -> dict[int, list[int]]:
    """Rows by address; every address at most once."""
    addresses = [address for _, address, _ in trace.writes]
    assert len(set(addresses)) == len(addresses)
    return {
        address: list(row.to_bytes(config.lane_block, "little")) for _, address, row in trace.writes
    }


def drain(config, counts, window, x_stride, pool_step, destination, **fields) -> Drain:
    """Pool over an image of x_stride pixels per line; outputs block by block."""
    x, y, t, _co = counts
    _wx, _wy, _ = window
    frame = x_stride * 6
    nest = (*window, *counts)
    steps = (1, x_stride, frame, pool_step, pool_step * x_stride, frame, frame * t)
    out = (config.array.blocks_per_row, *counts)
    blocks = config.array.blocks_per_row
    targets = (x * y * t, 1, x, x * y, blocks * x * y * t)
    return Drain(
        counts=counts,
        window=window,
        accumulator_deltas=deltas(nest, steps),
        destination=destination,
        destination_deltas=deltas(out, targets),
        **fields,
    )


@CONFIGS
@pytest.mark.parametrize(
    ("counts", "window", "zero_point", "low", "high"),
    [((6, 6, 1, 1), (1, 1, 1), 5, 0, 255), ((3, 3, 1, 2), (2, 2, 1), -7, -128, 127)],
    ids=["plain", "pooled"],
)
def test_rows_equal_float32(config, counts, window, zero_point, low, high):
    x, y, _t, co = counts
    accumulators, bias, scale, parameters = make(config, 36 * co, co)
    instruction = drain(
        config, counts, window, 6, window[0], 100, zero_point=zero_point, low=low, high=high
    )
    trace = simulate(config, [instruction, instruction], accumulators, parameters)
    half = len(trace.writes) // 2
    assert [w[1:] for w in trace.writes[:half]] == [w[1:] for w in trace.writes[half:]]
    trace.writes = trace.writes[:half]

    values = accumulators.reshape(co, 6, 6, -1)
    codes = codes_of(values, bias[:, None, None, :], scale[:, None, None, :], zero_point, low, high)
    pooled = codes.reshape(co, y, window[1], x, window[0], -1).max(axis=(2, 4))
    blocks = pooled.reshape(co, y * x, config.array.blocks_per_row, config.lane_block)
    expected = blocks.transpose(0, 2, 1, 3).reshape(-1, config.lane_block) & 0xFF
    rows = written(trace, config)
    assert sorted(rows) == list(range(100, 100 + len(expected)))
    np.testing.assert_array_equal([rows[100 + i] for i in range(len(expected))], expected)

    assert trace.error == 0
    duration = drain_duration(instruction, config)
    assert trace.durations == [duration] * 2
    assert trace.gaps == [duration + 1]
    assert trace.writes[-1][0] == trace.done[0]


def test_a_changed_bias_shows():
    accumulators, _, _, parameters = make(TINY, 36, 1)
    instruction = drain(TINY, (6, 6, 1, 1), (1, 1, 1), 6, 1, 0)
    before = simulate(TINY, [instruction], accumulators, parameters)
    damaged = bytearray(parameters)
    damaged[8 * 3 + 1] ^= 0x40
    after = simulate(TINY, [instruction], accumulators, bytes(damaged))
    assert before.writes != after.writes


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"parameter": 1}, ErrorCode.ADDRESS),
        ({"accumulator": 128}, ErrorCode.ADDRESS),
    ],
    ids=lambda value: value.name if isinstance(value, ErrorCode) else next(iter(value)),
)
def test_refusals(change, code):
    instruction = dataclasses.replace(drain(TINY, (1, 1, 1, 1), (1, 1, 1), 6, 1, 0), **change)
    accumulators, _, _, parameters = make(TINY, 130, 1)
    assert simulate(TINY, [instruction], accumulators, parameters).error == code
