"""ARRAY in mode HFA against its definition and torch convolutions; times against the rules."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from amaranth.hdl import Value

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ArrayMode, ErrorCode
from hw.arch.timing import (
    ACTIVATION_READ_LATENCY,
    TOKEN_LATENCY,
    TRANSFORM_SHARED,
    WEIGHT_READ_LATENCY,
    array_duration,
    array_latency,
    array_occupancy,
    array_outputs,
    array_sets,
)
from hw.arch.transform_timing import ArrayTimes, array_times
from hw.arch.winograd import Algorithm
from hw.compute.array.control import ArrayControl
from hw.compute.array.unit import ArrayUnit
from tests.hw.compute.array.test_array import (
    Convolution,
    Depthwise,
    depthwise_case,
    gemm_instruction,
    make,
    torch_convolution,
)
from tests.hw.compute.hfa import Case, Layer
from tests.hw.compute.support import Bench, read_accumulators, words
from tests.marks import large

pytestmark = pytest.mark.rtl
TINY = AcceleratorConfig.load("tiny")
TEMPORAL, SQUARE, WIDE = Algorithm(2, 0), Algorithm(0, 1), Algorithm(0, 2)


def simulate(
    instructions, codes, groups, rows, config=TINY, first_row=0, before=None, drained=None
):
    """Run; return (accumulators [rows, cols], trace).

    Parameters
    ----------
    drained: of each instruction, in which cycle behind its issue its accumulators are free.
    """
    bench = Bench(ArrayUnit, config)
    dut = bench.dut
    scratchpad = words(codes.reshape(-1, config.lane_block))
    size = config.array.weight_rows_per_cycle * config.array.cols
    weights = words(groups.reshape(-1, size))
    # An address outside the tensor is an error here: clipped positions must not read.
    bench.serve(dut.activation, ACTIVATION_READ_LATENCY, scratchpad.__getitem__)
    bench.serve(dut.weight, WEIGHT_READ_LATENCY, weights.__getitem__)
    if drained is not None:
        bench.drains(drained)
    bits = config.memory.accumulator_bits
    result = np.zeros((rows, config.array.cols), np.int64)

    async def read_back(ctx) -> None:
        await read_accumulators(ctx, dut, first_row, result, bits)

    ahead = None if before is None else lambda ctx: before(ctx, bench)
    trace = bench.run(instructions, after=read_back, before=ahead)
    return result, trace


def predicted(first_issue, instructions, config, drained=None):
    """Cycles of issue and done of instructions that are offered back to back."""
    issues, dones = [], []
    issue, before, times = first_issue, None, None
    for place, instruction in enumerate(instructions):
        hfa = instruction.mode == ArrayMode.HFA
        if before is not None:
            same = hfa and before.mode == ArrayMode.HFA
            same &= before.transform_t == instruction.transform_t
            same &= before.transform_s == instruction.transform_s
            issue = times.end - 1
            issue = min(issue, times.free + TRANSFORM_SHARED) if same else issue
        if hfa:
            late = None if drained is None else issue + drained[place] - TOKEN_LATENCY
            times = array_times(instruction, config, issue, times, late)
        else:
            end = issue + array_occupancy(instruction, config) + 1
            done = issue + array_duration(instruction, config)
            assert done == end - 1 + array_latency(config)
            times = ArrayTimes(issue, end, done, times.paced if times else 0, end)
        issues.append(issue)
        dones.append(times.done)
        before = instruction
    return issues, dones


def check_times(trace, instructions, config=TINY, drained=None) -> None:
    assert trace.error == 0
    assert (trace.issue, trace.done) == predicted(trace.issue[0], instructions, config, drained)
    assert trace.vectors == sum(array_outputs(i) * array_sets(i) for i in instructions)


def placed(cases, config=TINY, **fields):
    """Instructions of several layers one after another, and their memories and sums joined."""
    instructions, codes, groups, sums = [], [], [], []
    row = beat = accumulator = 0
    for case in cases:
        instruction = case.instruction(weight=beat, accumulator=accumulator, **fields)
        instructions.append(
            dataclasses.replace(instruction, activation=(instruction.activation + row) & 0xFFFF)
        )
        codes.append(case.codes.reshape(-1, config.lane_block))
        groups.append(case.groups())
        sums.append(case.accumulators())
        row += len(codes[-1])
        beat += groups[-1].size // config.port.bytes
        accumulator += len(sums[-1])
    return instructions, *(np.concatenate(part) for part in (codes, groups, sums))


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


@pytest.mark.parametrize("name", [large(n) if "cube" in n else n for n in LAYERS])
def test_accumulators_and_results(name):
    """What is accumulated, what it means, and when."""
    case = Case.random(LAYERS[name], TINY)
    instruction = case.instruction()
    expected = case.accumulators()
    np.testing.assert_array_equal(case.results(expected), case.direct())
    result, trace = simulate([instruction], case.codes, case.groups(), len(expected))
    np.testing.assert_array_equal(result, expected)
    check_times(trace, [instruction])


SEQUENCES = {
    # The feed of the second waits for the first's set; then one with less and one with more tiles.
    "ragged": [
        Layer(SQUARE, (1, 4, 8), (0, 1, 1), ci=2),
        Layer(SQUARE, (1, 4, 4), (0, 1, 1), ci=3),
        Layer(SQUARE, (1, 2, 2), (0, 1, 1)),
        Layer(SQUARE, (1, 4, 8), (0, 1, 1)),
    ],
    # Sets of one tile: several of them are in the pipeline at once, weights bound the rate.
    "single tiles": [
        Layer(TEMPORAL, (4, 1, 1), (1, 0, 0), ci=5),
        Layer(TEMPORAL, (4, 1, 1), (1, 0, 0)),
        Layer(TEMPORAL, (4, 1, 1), (1, 0, 0)),
        Layer(TEMPORAL, (4, 3, 1), (1, 0, 0), ci=2, co=3),
        Layer(TEMPORAL, (4, 1, 1), (1, 0, 0), ci=2),
    ],
    "nested": [
        Layer(Algorithm(1, 1), (2, 2, 4), (1, 1, 1), ci=2),
        Layer(Algorithm(1, 1), (2, 2, 2), (1, 1, 1), ci=3),
        Layer(Algorithm(1, 1), (2, 2, 4), (1, 1, 1)),
    ],
    "other transforms": [
        Layer(SQUARE, (1, 4, 4), (0, 1, 1), ci=2),
        Layer(TEMPORAL, (4, 2, 2), (1, 0, 0), ci=2),
        Layer(WIDE, (1, 4, 4), (0, 1, 1), ci=2),
    ],
}


@pytest.mark.parametrize("name", [large(n) if n == "nested" else n for n in SEQUENCES])
def test_instructions_overlap(name):
    """Back to back: the transform of the next runs under the stream of the one before."""
    cases = [Case.random(layer, TINY, seed) for seed, layer in enumerate(SEQUENCES[name])]
    instructions, codes, groups, sums = placed(cases)
    result, trace = simulate(instructions, codes, groups, len(sums))
    np.testing.assert_array_equal(result, sums)
    check_times(trace, instructions)


@pytest.mark.parametrize("name", [large(n) if n == "nested" else n for n in SEQUENCES])
def test_accumulators_that_are_free_late(name):
    """The feed runs while accumulators are awaited, the stream and the next instruction wait."""
    cases = [Case.random(layer, TINY, seed) for seed, layer in enumerate(SEQUENCES[name])]
    instructions, codes, groups, sums = placed(cases)
    draw = random.Random(name)
    for most in (40, 200, 600):
        drained = [draw.choice([2, draw.randint(2, most)]) for _ in instructions]
        result, trace = simulate(instructions, codes, groups, len(sums), drained=drained)
        np.testing.assert_array_equal(result, sums)
        check_times(trace, instructions, drained=drained)
    plain = predicted(trace.issue[0], instructions, TINY)
    assert plain != predicted(trace.issue[0], instructions, TINY, drained), "none was awaited"


def test_modes_follow_one_another():
    """GEMM, HFA, depthwise, HFA, GEMM: each begins where the one before has ended."""
    shape = Convolution((5, 4, 1), (3, 1, 1), padding=(1, 0, 0), signed=1, zero_point=250)
    gemm_codes, gemm_weights = make(shape, TINY)
    depthwise, codes, weights, window_sums = depthwise_case(Depthwise((5, 4, 1)), TINY)
    case = Case.random(Layer(SQUARE, (1, 4, 4), (0, 1, 1), ci=2), TINY)
    hfa_sums, gemm_sums = case.accumulators(), torch_convolution(gemm_codes, gemm_weights, shape)
    parts = [
        (gemm_instruction(shape), gemm_codes, gemm_weights.view(np.uint8), gemm_sums),
        (case.instruction(), case.codes, case.groups(), hfa_sums),
        (depthwise, codes, np.ascontiguousarray(weights).view(np.uint8), window_sums),
    ]
    rows = np.cumsum([0, *(p[1].size // TINY.lane_block for p in parts)])
    beats = np.cumsum([0, *(p[2].size // TINY.port.bytes for p in parts)])
    instructions, sums, accumulator = [], [], 0
    for part in (0, 1, 2, 1, 0):
        instruction = parts[part][0]
        instructions.append(
            dataclasses.replace(
                instruction,
                activation=(instruction.activation + int(rows[part])) & 0xFFFF,
                weight=int(beats[part]),
                accumulator=accumulator,
            )
        )
        sums.append(parts[part][3])
        accumulator += len(sums[-1])
    all_codes = np.concatenate([p[1].reshape(-1, TINY.lane_block) for p in parts])
    all_weights = np.concatenate([p[2].reshape(-1) for p in parts])
    result, trace = simulate(instructions, all_codes, all_weights, accumulator)
    np.testing.assert_array_equal(result, np.concatenate(sums))
    assert trace.error == 0
    assert (trace.issue, trace.done) == predicted(trace.issue[0], instructions, TINY)


def test_instructions_accumulate_back_to_back():
    """Two halves of the input blocks in the second bank."""
    layer = Layer(WIDE, (1, 6, 4), (0, 1, 1), ci=2, signed=1)
    whole = Case.random(layer, TINY)
    half = dataclasses.replace(layer, ci=1)
    parts = [Case(half, TINY, whole.codes[k : k + 1], whole.weights[k : k + 1]) for k in range(2)]
    instructions, codes, groups, _ = placed(parts)
    bank = TINY.memory.accumulator_rows
    instructions = [
        dataclasses.replace(i, accumulator=bank, accumulate=k) for k, i in enumerate(instructions)
    ]
    expected = whole.accumulators()
    result, trace = simulate(instructions, codes, groups, len(expected), first_row=bank)
    np.testing.assert_array_equal(result, expected)
    check_times(trace, instructions)


def test_a_flipped_weight_bit_shows():
    case = Case.random(LAYERS["wide"], TINY)
    expected = case.accumulators()
    groups = case.groups().copy()
    groups[5] ^= 0x10  # column 1
    result, _ = simulate([case.instruction()], case.codes, groups, len(expected))
    wrong = (result != expected).any(axis=0)
    assert wrong.tolist() == [False, True, False, False]


def test_abort_ends_everything():
    """In the feed, the transform and the stream; nothing is left over for what comes next."""
    case = Case.random(Layer(SQUARE, (1, 4, 8), (0, 1, 1), ci=3), TINY)
    instruction, expected = case.instruction(), case.accumulators()
    seen = []

    async def abort(ctx, bench) -> None:
        unit = bench.dut.unit
        for after in (3, 30, 75, 120):
            ctx.set(Value.cast(unit.instruction.payload), bench.payload(instruction))
            ctx.set(unit.instruction.valid, 1)
            await ctx.tick()
            ctx.set(unit.instruction.valid, 0)
            await ctx.tick().repeat(after)
            seen.append(ctx.get(unit.busy))
            ctx.set(unit.abort, 1)
            await ctx.tick().repeat(10)
            seen.append(ctx.get(unit.busy))
            ctx.set(unit.abort, 0)
            await ctx.tick()

    result, trace = simulate([instruction], case.codes, case.groups(), len(expected), before=abort)
    assert seen == [1, 0] * 4
    assert trace.error == 0
    np.testing.assert_array_equal(result, expected)
    assert trace.done == [array_times(instruction, TINY, trace.issue[-1]).done]


PLAIN = Case.random(LAYERS["wide"], TINY).instruction()
LINE = Case.random(LAYERS["line"], TINY).instruction()


def changed(instruction, **fields):
    """Fields replaced; `counts_<n>` one count, `steps_<n>` one step."""
    for name in [n for n in fields if "_" in n and n[-1].isdigit()]:
        field, index = name.rsplit("_", 1)
        values = list(getattr(instruction, field))
        values[int(index)] = fields.pop(name)
        instruction = dataclasses.replace(instruction, **{field: tuple(values)})
    return dataclasses.replace(instruction, **fields)


REFUSED = {
    "tiles": (changed(PLAIN, counts_0=4), ErrorCode.ADDRESS),
    "very many tiles": (
        changed(PLAIN, counts_0=4095, counts_1=4095, counts_2=4095),
        ErrorCode.ADDRESS,
    ),
    "multiple of rows": (changed(PLAIN, counts_2=2, counts_0=2048), ErrorCode.ADDRESS),
}


def test_refusals():
    """One after another in the controller alone; each is followed by an abort."""
    bench = Bench(ArrayControl, TINY)
    dut = bench.dut
    found = {}

    async def offer(ctx) -> None:
        for name, (instruction, _) in {"right": (PLAIN, 0), **REFUSED}.items():
            ctx.set(Value.cast(dut.unit.instruction.payload), bench.payload(instruction))
            ctx.set(dut.unit.instruction.valid, 1)
            await ctx.tick()
            ctx.set(dut.unit.instruction.valid, 0)
            found[name] = 0
            for _ in range(12):
                found[name] = found[name] or ctx.get(dut.unit.error)
                await ctx.tick()
            ctx.set(dut.unit.abort, 1)
            await ctx.tick().repeat(12)
            ctx.set(dut.unit.abort, 0)
            await ctx.tick()
            assert not ctx.get(dut.unit.busy)

    bench.run([], before=offer)
    assert found == {"right": 0, **{name: code for name, (_, code) in REFUSED.items()}}


def test_accumulators_end():
    case = Case.random(LAYERS["wide"], TINY)
    instruction = case.instruction(accumulator=510)
    trace = simulate([instruction], case.codes, case.groups(), 1)[1]
    assert trace.error == ErrorCode.ADDRESS


def test_a_circuit_without_nested_algorithms():
    config = dataclasses.replace(TINY, features=("depthwise", "vector", "hfa"))
    case = Case.random(LAYERS["wide"], config)
    expected = case.accumulators()
    instruction = case.instruction()
    result, trace = simulate([instruction], case.codes, case.groups(), len(expected), config)
    np.testing.assert_array_equal(result, expected)
    check_times(trace, [instruction], config)


@pytest.mark.large
def test_two_rows_per_group_and_eight_columns():
    array = dataclasses.replace(TINY.array, cols=8, weight_rows_per_cycle=2)
    config = dataclasses.replace(TINY, array=array)
    cases = [Case.random(layer, config, s) for s, layer in enumerate(SEQUENCES["ragged"][:2])]
    instructions, codes, groups, sums = placed(cases, config)
    result, trace = simulate(instructions, codes, groups, len(sums), config)
    np.testing.assert_array_equal(result, sums)
    check_times(trace, instructions, config)
