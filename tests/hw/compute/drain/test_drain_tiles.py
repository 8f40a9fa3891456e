"""DRAIN with output transforms: rows against the contract's matrices and float32, durations."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Drain, ErrorCode, deltas
from hw.arch.numerics import pack_parameters, split_scale
from hw.arch.timing import ACCUMULATOR_READ_LATENCY, PARAMETER_READ_LATENCY, drain_duration
from hw.arch.winograd import Algorithm
from hw.compute.drain.unit import DrainUnit
from tests.hw.compute.support import Bench, words

pytestmark = pytest.mark.rtl
TINY = AcceleratorConfig.load("tiny")


def variant(name: str, *, rows: int, cols: int, requantize: int, output_transform: int):
    """An array of another shape; nested algorithms stay."""
    return dataclasses.replace(
        TINY,
        name=name,
        array=dataclasses.replace(TINY.array, rows=rows, cols=cols),
        memory=dataclasses.replace(TINY.memory, accumulator_rows=512),
        port=dataclasses.replace(TINY.port, bytes=rows),
        lanes=dataclasses.replace(
            TINY.lanes, requantize=requantize, output_transform=output_transform
        ),
    )


FLAT = dataclasses.replace(TINY, name="flat", features=("depthwise", "vector", "hfa"))
HALF_ROW = variant("8x8", rows=8, cols=8, requantize=4, output_transform=4)
PARTS = variant("8x8-narrow", rows=8, cols=8, requantize=4, output_transform=2)
TWO_BLOCKS = variant("4x8", rows=4, cols=8, requantize=4, output_transform=4)
SHAPES = (TINY, HALF_ROW, PARTS, TWO_BLOCKS)


@dataclasses.dataclass(frozen=True)
class Case:
    """A map of `size` results (x, y, t) before pooling; `window` pools."""

    transforms: tuple[int, int]
    size: tuple[int, int, int]
    window: tuple[int, int, int] = (1, 1, 1)
    co: int = 1

    @property
    def algorithm(self) -> Algorithm:
        return Algorithm(*self.transforms)

    @property
    def counts(self) -> tuple[int, int, int, int]:
        x, y, t = (s // w for s, w in zip(self.size, self.window, strict=True))
        return x, y, t, self.co

    @property
    def tiles(self) -> tuple[int, int, int]:
        """Along x, y, t."""
        x, y, t = (
            -(-count * w // m)
            for count, w, m in zip(
                self.counts[:3], self.window, self.algorithm.outputs[::-1], strict=True
            )
        )
        return x, y, t


CASES = (
    Case((1, 0), (3, 1, 5), co=2),
    Case((2, 0), (2, 2, 7)),
    Case((2, 0), (3, 1, 8), (1, 1, 4)),
    Case((2, 0), (2, 1, 8), (1, 1, 2), co=2),
    Case((0, 1), (5, 4, 1), co=2),
    Case((0, 1), (6, 4, 2), (2, 2, 1)),
    Case((0, 2), (7, 5, 1), co=2),
    Case((0, 2), (8, 6, 1), (2, 2, 1), co=2),
    Case((0, 2), (8, 8, 1), (4, 4, 1)),
    Case((0, 2), (4, 8, 1), (1, 2, 1)),
    Case((1, 1), (3, 2, 3)),
    Case((2, 1), (2, 2, 8), (2, 1, 4)),
    Case((1, 2), (3, 4, 1)),
    Case((1, 2), (4, 4, 2), (2, 2, 2)),
)


@dataclasses.dataclass
class Problem:
    """Accumulators, parameters and the rows that must come out."""

    instruction: Drain
    accumulators: dict[int, np.ndarray]
    parameters: bytes
    expected: dict[int, list[int]]


def build(case: Case, config, *, accumulator: int = 0, destination: int = 40, parameter: int = 0):
    random = np.random.default_rng(math.prod(case.size) + sum(case.transforms))
    algorithm, cols = case.algorithm, config.array.cols
    tx, ty, tt = case.tiles
    mt, my, mx = algorithm.outputs
    tiles = (case.co, tt, ty, tx)
    pixels = random.integers(-128, 128, (*tiles, 1, 4, *algorithm.points))
    taps = random.integers(-128, 128, (case.co, 1, 1, 1, cols, 4, *algorithm.kernel))
    summed = (algorithm.transform_input(pixels) * algorithm.transform_weights(taps)).sum(axis=5)
    # [co, tt, ty, tx, cols, pt, py, px]; row (co·P + p)·N + n.
    count, points = tt * ty * tx, math.prod(algorithm.points)
    rows = summed.reshape(case.co, count, cols, points).transpose(0, 3, 1, 2).reshape(-1, cols)
    accumulators = {accumulator + index: row for index, row in enumerate(rows)}

    result = algorithm.transform_output(summed, config.memory.accumulator_bits)
    # [co, tt, mt, ty, my, tx, mx, cols]
    result = result.transpose(0, 1, 5, 2, 6, 3, 7, 4).reshape(
        case.co, tt * mt, ty * my, tx * mx, cols
    )
    bias = random.integers(-5_000, 5_000, (case.co, cols))
    scale = random.uniform(0.0008, 0.002, (case.co, cols)).astype(np.float32)
    split = [split_scale(s) for s in scale.reshape(-1)]
    parameters = pack_parameters(
        bias.reshape(-1).tolist(), [s[0] for s in split], [s[1] for s in split]
    )
    total = (result + bias[:, None, None, None]).astype(np.float32)
    codes = np.rint(total * scale[:, None, None, None]).astype(np.int64) + 3
    codes = np.clip(codes, -128, 127)
    x, y, t, _ = case.counts
    wx, wy, wt = case.window
    codes = codes[:, : t * wt, : y * wy, : x * wx]
    codes = codes.reshape(case.co, t, wt, y, wy, x, wx, cols).max(axis=(2, 4, 6))

    blocks = config.array.blocks_per_row
    strides = (x * y * t, 1, x + 1, (x + 1) * (y + 1), (x + 1) * (y + 1) * t * blocks + 3)
    strides = (strides[3] * t + 1, *strides[1:])
    expected = {}
    for c, f, j, i, b in itertools.product(*map(range, (case.co, t, y, x, blocks))):
        steps = (b, i, j, f, c)
        row = destination + sum(n * s for n, s in zip(steps, strides, strict=True))
        lanes = codes[c, f, j, i].reshape(blocks, -1)[b]
        expected[row] = (lanes & 0xFF).tolist()
    assert len(expected) == codes.size // config.lane_block
    px, py, pt = algorithm.points[::-1]
    nest = (px, py, pt, tx, ty, tt, case.co)
    inner = (count, count * px, count * px * py, 1, tx, tx * ty, count * points)
    instruction = Drain(
        accumulator=accumulator,
        counts=case.counts,
        window=case.window,
        accumulator_deltas=deltas(nest, inner),
        destination=destination,
        destination_deltas=strides,
        parameter=parameter * config.parameter_row_beats,
        zero_point=3,
        low=-128,
        high=127,
        transform_t=case.transforms[0],
        transform_s=case.transforms[1],
    )
    return Problem(instruction, accumulators, parameters, expected)


def bench_of(config, problems) -> Bench:
    bench = Bench(DrainUnit, config)
    dut = bench.dut
    bits = config.memory.accumulator_bits
    mask = (1 << bits) - 1
    accumulators = {row: v for p in problems for row, v in p.accumulators.items()}
    blank = np.zeros(config.array.cols, np.int64)

    def accumulator(row: int) -> int:
        values = accumulators.get(row, blank)
        return sum((int(v) & mask) << (bits * c) for c, v in enumerate(values))

    row_bytes = config.lanes.requantize * 8
    content = b"".join(p.parameters for p in problems)
    rows = words(np.frombuffer(content, np.uint8).reshape(-1, row_bytes))
    bench.serve(dut.accumulator, ACCUMULATOR_READ_LATENCY, accumulator)
    bench.serve(dut.parameter, PARAMETER_READ_LATENCY, rows.__getitem__)
    bench.record(dut.write)
    return bench


def written(writes, config) -> dict[int, list[int]]:
    """Rows by address; every address at most once."""
    assert len({address for _, address, _ in writes}) == len(writes)
    return {address: list(row.to_bytes(config.lane_block, "little")) for _, address, row in writes}


def check(config, case: Case) -> None:
    problem = build(case, config)
    trace = bench_of(config, [problem]).run([problem.instruction] * 2)
    assert trace.error == 0
    half = len(trace.writes) // 2
    assert [w[1:] for w in trace.writes[:half]] == [w[1:] for w in trace.writes[half:]]
    assert written(trace.writes[:half], config) == problem.expected
    duration = drain_duration(problem.instruction, config)
    assert trace.durations == [duration] * 2
    assert trace.gaps == [duration + 1]
    whole = all(
        count * w % m == 0
        for count, w, m in zip(
            case.counts[:3], case.window, case.algorithm.outputs[::-1], strict=True
        )
    )
    assert (trace.writes[-1][0] == trace.done[-1]) == whole


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.algorithm.name}-{case.window}")
def test_rows_and_durations(case):
    check(TINY, case)


@pytest.mark.large
@pytest.mark.parametrize("config", SHAPES[1:], ids=lambda config: config.name)
@pytest.mark.parametrize("case", CASES[3:9:2] + CASES[11:12], ids=lambda case: case.algorithm.name)
def test_other_shapes(config, case):
    check(config, case)


@pytest.mark.parametrize("case", [CASES[0], CASES[6]], ids=lambda case: case.algorithm.name)
def test_circuit_without_nesting(case):
    check(FLAT, case)


def test_different_instructions_follow_one_another():
    problems, row, parameter = [], 0, 0
    chosen = (CASES[0], CASES[5], CASES[8], CASES[11], CASES[0])
    for index, case in enumerate(chosen):
        problem = build(
            case, HALF_ROW, accumulator=row, destination=500 * index, parameter=parameter
        )
        problems.append(problem)
        row += len(problem.accumulators)
        parameter += case.co * HALF_ROW.requantize_steps
    assert row <= 2 * HALF_ROW.memory.accumulator_rows
    trace = bench_of(HALF_ROW, problems).run([p.instruction for p in problems])
    assert trace.error == 0
    expected = {row: lanes for p in problems for row, lanes in p.expected.items()}
    assert written(trace.writes, HALF_ROW) == expected
    assert trace.durations == [drain_duration(p.instruction, HALF_ROW) for p in problems]


def test_a_changed_accumulator_shows():
    """The other points of the tile stay, so that the results are not multiples of L any more."""
    problem = build(CASES[6], TINY)
    problem.accumulators[3][1] += 576 << 8
    trace = bench_of(TINY, [problem]).run([problem.instruction])
    assert written(trace.writes, TINY) != problem.expected


@pytest.mark.parametrize("cycles", [9, 83])
def test_abort_leaves_nothing_behind(cycles):
    problem = build(CASES[7], TINY)
    bench = bench_of(TINY, [problem])
    unit = bench.dut.unit
    aborted: list[int] = []

    async def before(ctx):
        ctx.set(unit.instruction.payload.as_value(), bench.payload(problem.instruction))
        ctx.set(unit.instruction.valid, 1)
        await ctx.tick()
        ctx.set(unit.instruction.valid, 0)
        await ctx.tick().repeat(cycles)
        ctx.set(unit.abort, 1)
        await ctx.tick().repeat(2)
        assert not ctx.get(unit.busy)
        aborted.append(len(bench.trace.writes))
        ctx.set(unit.abort, 0)

    trace = bench.run([problem.instruction], before=before)
    # The first issue is the aborted one; its rows are part of the whole.
    assert trace.error == 0
    assert len(trace.done) == 1
    assert written(trace.writes[aborted[0] :], TINY) == problem.expected
    assert trace.done[0] - trace.issue[1] == drain_duration(problem.instruction, TINY)


@pytest.mark.parametrize(
    ("config", "change", "code"),
    [
        (HALF_ROW, {"parameter": 1}, ErrorCode.ADDRESS),
        (TINY, {"accumulator": 511}, ErrorCode.ADDRESS),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_refusals(config, change, code):
    problem = build(Case((0, 2), (4, 4, 1)), config)
    instruction = dataclasses.replace(problem.instruction, **change)
    assert bench_of(config, [problem]).run([instruction]).error == code
