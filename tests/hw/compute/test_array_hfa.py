"""ARRAY in mode HFA against its definition and torch convolutions; times against the rules."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ErrorCode
from hw.arch.timing import array_outputs, array_sets, array_times
from hw.arch.winograd import ALGORITHMS, Algorithm
from hw.compute.array import ArrayUnit
from hw.arch.timing import ACTIVATION_READ_LATENCY, WEIGHT_READ_LATENCY
from tests.hw.compute.hfa import Case, Layer
from tests.hw.compute.support import Bench, signed_field, words

pytestmark = pytest.mark.rtl
TINY = AcceleratorConfig.load("tiny_hfa")
TEMPORAL, SQUARE, WIDE = Algorithm(2, 0), Algorithm(0, 1), Algorithm(0, 2)


def simulate(instructions, codes, groups, rows, config=TINY, first_row=0):
    """Run; return (accumulators [rows, cols], trace)."""
    dut = ArrayUnit(config)
    bench = Bench(dut)
    scratchpad = words(codes.reshape(-1, config.lane_block))
    size = config.array.weight_rows_per_cycle * config.array.cols
    weights = words(groups.reshape(-1, size))
    # An address outside the tensor is an error here: clipped positions must not read.
    bench.serve(dut.activation, ACTIVATION_READ_LATENCY, scratchpad.__getitem__)
    bench.serve(dut.weight, WEIGHT_READ_LATENCY, weights.__getitem__)
    bits = config.memory.accumulator_bits
    result = np.zeros((rows, config.array.cols), np.int64)

    async def read_back(ctx) -> None:
        for row in range(rows):
            ctx.set(dut.drain_read.enable, 1)
            ctx.set(dut.drain_read.address, first_row + row)
            await ctx.tick()
            ctx.set(dut.drain_read.enable, 0)
            await ctx.tick()
            word = ctx.get(dut.drain_read.data)
            for column in range(config.array.cols):
                field = word >> (bits * column) & ((1 << bits) - 1)
                result[row, column] = signed_field(field, bits)

    trace = bench.run(instructions, after=read_back)
    return result, trace


def check_times(trace, instructions, config=TINY) -> None:
    assert trace.error == 0
    end = free = 0
    issues, dones = [], []
    for instruction in instructions:
        issue = max(trace.issue[0], free)
        times = array_times(instruction, config, issue, end)
        end, free = times.end, times.free
        issues.append(issue)
        dones.append(times.done)
    assert trace.done == dones
    assert trace.issue == issues
    vectors = sum(array_outputs(i) * array_sets(i) for i in instructions)
    assert trace.vectors == vectors


LAYERS = {
    "line": Layer(TEMPORAL, (6, 2, 2), (1, 0, 0), ci=2, co=2, signed=1, zero_point=250),
    "short line": Layer(Algorithm(1, 0), (4, 1, 1), (1, 0, 0), ci=3),
    "dilated": Layer(TEMPORAL, (13, 1, 2), (2, 0, 0), dilation_t=2, co=3),
    "square": Layer(SQUARE, (1, 5, 4), (0, 1, 1), ci=2, co=2, zero_point=255),
    "wide": Layer(WIDE, (1, 6, 7), (0, 1, 1), signed=1, zero_point=3),
    "one tile": Layer(WIDE, (1, 4, 4), (0, 1, 1), ci=3, co=2),
    "frames": Layer(SQUARE, (3, 4, 4), (1, 1, 1), kernel_t=3, zero_point=128),
    "stride": Layer(SQUARE, (6, 4, 3), (0, 2, 0), kernel_t=2, stride_t=2, dilation_t=3),
    "nested": Layer(Algorithm(1, 2), (2, 4, 3), (1, 1, 1)),
    "cube": Layer(Algorithm(1, 1), (3, 2, 3), (1, 1, 1), ci=2, co=2),
    "long cube": Layer(Algorithm(2, 1), (4, 2, 3), (1, 1, 1), ci=2, co=2, signed=1),
}


@pytest.mark.parametrize("name", LAYERS)
def test_accumulators_and_results(name):
    """What is accumulated, what it means, and when."""
    case = Case.random(LAYERS[name], TINY)
    instruction = case.instruction()
    expected = case.accumulators()
    np.testing.assert_array_equal(case.results(expected), case.direct())
    result, trace = simulate([instruction], case.codes, case.groups(), len(expected))
    np.testing.assert_array_equal(result, expected)
    check_times(trace, [instruction])
