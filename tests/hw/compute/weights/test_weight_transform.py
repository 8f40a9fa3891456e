"""Weight transform: blocks against winograd.py and against plain correlations; pace; abort."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from hw.arch.config import AcceleratorConfig
from hw.arch.timing import ACCUMULATE_HAZARD, WEIGHT_LAG
from hw.arch.transform_timing import weight_slab_cycles, weight_transform_fill
from hw.arch.winograd import Algorithm
from hw.compute.weights.loader import WeightLoader
from hw.compute.weights.taps import points_of
from hw.compute.weights.transform import WeightTransform
from tests.hw.compute.support import words
from tests.hw.simulation import compiled

pytestmark = pytest.mark.rtl
TINY = AcceleratorConfig.load("tiny")
WIDE = dataclasses.replace(
    TINY, array=dataclasses.replace(TINY.array, rows=4, cols=8, weight_rows_per_cycle=2)
)
FLAT = dataclasses.replace(
    TINY, array=dataclasses.replace(TINY.array, weight_rows_per_cycle=TINY.array.rows)
)
SINGLE = dataclasses.replace(TINY, features=("depthwise", "vector", "hfa"))
EIGHT = dataclasses.replace(
    SINGLE,
    array=dataclasses.replace(SINGLE.array, rows=8, cols=8),
    port=dataclasses.replace(SINGLE.port, bytes=8),
)
CONFIGS = {"eight": EIGHT, "tiny": TINY, "wide": WIDE, "flat": FLAT, "single": SINGLE}
ALGORITHMS = [(1, 0), (2, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 1)]


@dataclasses.dataclass(frozen=True)
class Job:
    """One HFA instruction.

    counts: co, kt_out, ci. taps: [pair, group, kt, ky, kx, LW·cols].
    """

    algorithm: Algorithm
    counts: tuple[int, int, int]
    taps: np.ndarray
    base: int

    @property
    def blocks(self) -> int:
        return len(self.taps) * int(np.prod(self.algorithm.points))

    def expected(self) -> np.ndarray:
        """[block, h, LW·cols]: points x fastest, then y, t, of one pair after the other."""
        values = self.algorithm.transform_weights(
            np.moveaxis(self.taps.astype(np.int64), -1, 2)
        )  # pair, h, lane, t, y, x
        pairs, groups, lanes = values.shape[:3]
        points = values.reshape(pairs, groups, lanes, -1)
        return points.transpose(0, 3, 1, 2).reshape(-1, groups, lanes)


def make(config, choice, counts, base=0, seed=0, extreme=False) -> Job:
    algorithm = Algorithm(*choice)
    shape = (
        int(np.prod(counts)),
        config.weight_block_groups,
        *algorithm.kernel,
        config.array.weight_rows_per_cycle * config.array.cols,
    )
    random = np.random.default_rng(seed)
    taps = random.choice([-128, 127], shape) if extreme else random.integers(-128, 128, shape)
    return Job(algorithm, counts, taps.astype(np.int8), base)


def image(jobs) -> dict[int, int]:
    """Group address to word; anything else must not be read."""
    result = {}
    for job in jobs:
        groups = words(job.taps.reshape(-1, job.taps.shape[-1]))
        result.update((job.base + k, group) for k, group in enumerate(groups))
    return result


class Harness:
    """A weight scratchpad, and an array controller that takes a block every `pace` cycles."""

    def __init__(self, config, memory, unit=WeightTransform):
        self._simulation = compiled(unit, config)
        self.dut = self._simulation.dut
        self.config, self.memory = config, memory
        self.rows: list[list[int]] = []
        self.row_cycles: list[int] = []
        self.loaded: list[int] = []
        self.reads: list[int] = []
        self.cycle = 0

    async def tick(self, ctx) -> None:
        dut = self.dut
        enable, address = ctx.get(dut.weight.enable), ctx.get(dut.weight.address)
        if ctx.get(dut.valid) and isinstance(dut, WeightTransform):
            self.rows.append([ctx.get(word) for word in dut.data])
            self.row_cycles.append(self.cycle)
        if enable:
            self.reads.append(self.cycle)
        await ctx.tick()
        self.cycle += 1
        junk = int("a5" * 64, 16) & ((1 << len(dut.weight.data)) - 1)
        ctx.set(dut.weight.data, self.memory[address] if enable else junk)

    async def start(self, ctx, job: Job) -> None:
        dut = self.dut
        ctx.set(dut.start, 1)
        ctx.set(dut.transform, 1)
        ctx.set(dut.temporal, job.algorithm.temporal)
        ctx.set(dut.spatial, job.algorithm.spatial)
        ctx.set(dut.base, job.base)
        for port, count in zip(dut.counts, job.counts, strict=True):
            ctx.set(port, count)
        await self.tick(ctx)
        ctx.set(dut.start, 0)

    async def take(self, ctx, blocks: int, pace: int, limit: int = 2000) -> None:
        """Take blocks as soon as they are loaded, `pace` cycles apart at least."""
        earliest = self.cycle
        for _ in range(blocks):
            for _ in range(limit):
                if ctx.get(self.dut.loaded) and self.cycle >= earliest:
                    break
                await self.tick(ctx)
            else:
                raise AssertionError(f"no block within {limit} cycles")
            self.loaded.append(self.cycle)
            earliest = self.cycle + pace
            ctx.set(self.dut.next, 1)
            await self.tick(ctx)
            ctx.set(self.dut.next, 0)

    def run(self, scenario) -> None:
        self._simulation.run(scenario)

    def blocks(self) -> np.ndarray:
        """[block, h, LW·cols] from the rows that came."""
        array = self.config.array
        bits = array.weight_bits
        fields = np.array(
            [
                [word >> (bits * c) & ((1 << bits) - 1) for word in row for c in range(array.cols)]
                for row in self.rows
            ]
        )
        signed = (fields + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))
        return signed.reshape(-1, self.config.weight_block_groups, fields.shape[-1])


def run_jobs(config, jobs, pace=1) -> Harness:
    """Every instruction is started as soon as the one before has got its first block."""
    harness = Harness(config, image(jobs))

    async def scenario(ctx):
        await harness.start(ctx, jobs[0])
        for job, following in itertools.zip_longest(jobs, jobs[1:]):
            await harness.take(ctx, 1, pace)
            if following is not None:
                await harness.start(ctx, following)
            await harness.take(ctx, job.blocks - 1, pace)
        for _ in range(WEIGHT_LAG + config.weight_block_groups + 4):
            await harness.tick(ctx)

    harness.run(scenario)
    return harness


@pytest.mark.parametrize(
    ("name", "choice"),
    [
        *itertools.product(["flat"], ALGORITHMS),
        *itertools.product(["single", "eight"], [(1, 0), (0, 2)]),
        *itertools.product(["tiny", "wide"], [(2, 0), (0, 1), (2, 1)]),
    ],
    ids=str,
)
def test_blocks_are_the_transformed_taps(name, choice):
    config = CONFIGS[name]
    job = make(config, choice, (2, 1, 1), seed=len(name), extreme=name == "flat")
    got = run_jobs(config, [job]).blocks()
    wanted = job.expected()
    assert got.shape == wanted.shape
    np.testing.assert_array_equal(got, wanted)
    # The comparison sees a single wrong tap.
    damaged = job.taps.copy()
    damaged[-1, -1, -1, -1, 1 if choice[1] else 0, -1] ^= 1
    assert (dataclasses.replace(job, taps=damaged).expected() != got).any()


@pytest.mark.parametrize("choice", ALGORITHMS, ids=str)
def test_blocks_multiply_to_a_plain_correlation(choice):
    """Oracle without G: output transform of products of blocks and transformed pixels."""
    job = make(FLAT, choice, (1, 1, 1), seed=5)
    blocks = run_jobs(FLAT, [job]).blocks()
    algorithm = job.algorithm
    pixels = np.random.default_rng(6).integers(-128, 128, algorithm.points)
    weights = np.moveaxis(blocks, 0, -1).reshape(-1, *algorithm.points)
    results = algorithm.transform_output(weights * algorithm.transform_input(pixels), 48)
    taps = np.moveaxis(job.taps[0].astype(np.int64), -1, 1).reshape(-1, *algorithm.kernel)
    for position in np.ndindex(*algorithm.outputs):
        window = tuple(slice(p, p + k) for p, k in zip(position, algorithm.kernel, strict=True))
        wanted = (taps * pixels[window]).sum(axis=(1, 2, 3))
        np.testing.assert_array_equal(results[(slice(None), *position)], wanted)


@pytest.mark.parametrize("seed", range(2))
def test_instructions_follow_one_another(seed):
    """Same and other algorithms, several sets, at random paces; the ring wraps many times."""
    random = np.random.default_rng(seed)
    jobs, base, choice = [], 3, ALGORITHMS[0]
    for k in range(4):
        if k % 2 == 0:
            choice = ALGORITHMS[random.integers(len(ALGORITHMS))]
        counts = tuple(int(c) for c in random.integers(1, 3, 3))
        jobs.append(make(TINY, choice, counts, base, seed=10 * seed + k))
        base += jobs[-1].taps.size // jobs[-1].taps.shape[-1]
    harness = run_jobs(TINY, jobs, pace=int(random.integers(1, 8)))
    wanted = np.concatenate([job.expected() for job in jobs])
    np.testing.assert_array_equal(harness.blocks(), wanted)


@pytest.mark.parametrize("choice", [(0, 1), (1, 2)], ids=str)
def test_abort_drops_everything(choice):
    """An instruction after an abort, anywhere in the one before, is as if it were the first."""
    job = make(TINY, choice, (1, 1, 1), seed=1)
    clean = run_jobs(TINY, [job])
    for cycles in (7, 40, 90):
        other = make(TINY, (2, 0), (1, 1, 2), base=500, seed=2)
        harness = Harness(TINY, image([job, other]))

        async def scenario(ctx, cycles=cycles, other=other, harness=harness):
            await harness.start(ctx, other)
            for _ in range(cycles):
                await harness.tick(ctx)
            ctx.set(harness.dut.abort, 1)
            await harness.tick(ctx)
            ctx.set(harness.dut.abort, 0)
            await harness.tick(ctx)
            assert not ctx.get(harness.dut.busy)
            harness.rows.clear()
            harness.cycle = 0
            await harness.start(ctx, job)
            await harness.take(ctx, job.blocks, 1)
            for _ in range(WEIGHT_LAG + TINY.weight_block_groups + 4):
                await harness.tick(ctx)

        harness.run(scenario)
        np.testing.assert_array_equal(harness.blocks(), clean.blocks())
        assert harness.loaded == clean.loaded, "an abort leaves no delay either"


@pytest.mark.parametrize("name", ["wide", "flat"])
def test_plain_instructions_keep_their_time(name):
    """Side by side with the plain loader, behind an HFA instruction: same reads, same bytes."""
    config = CONFIGS[name]
    job = make(config, (0, 1), (1, 1, 1), base=64)
    lanes = job.taps.shape[-1]
    codes = np.random.default_rng(3).integers(-128, 128, (64, lanes)).astype(np.int8)
    memory = image([job]) | dict(enumerate(words(codes)))
    traces = []
    for unit in (WeightLoader, WeightTransform):
        harness, trace = Harness(config, memory, unit), []

        async def scenario(ctx, harness=harness, trace=trace):
            dut = harness.dut
            if isinstance(dut, WeightTransform):
                await harness.start(ctx, job)
                await harness.take(ctx, job.blocks, 4)
                for _ in range(20):
                    await harness.tick(ctx)
                ctx.set(dut.transform, 0)
                harness.rows.clear()
            ctx.set(dut.base, 5)
            for cycle in range(60):
                ctx.set(dut.start, cycle in (1, 30))
                ctx.set(dut.next, cycle in (5, 12, 20, 36))
                enable = ctx.get(dut.weight.enable)
                address = ctx.get(dut.weight.address) if enable else None
                trace.append((enable, address, ctx.get(dut.valid)))
                await harness.tick(ctx)

        harness.run(scenario)
        traces.append(trace)
    assert traces[0] == traces[1]
    read = [address for _, address, _ in traces[0] if address is not None]
    wanted = codes[read].reshape(-1, config.weight_block_groups, lanes)
    np.testing.assert_array_equal(harness.blocks(), wanted)
    assert (harness.blocks() != np.roll(wanted, 1, axis=1)).any() or name == "flat"


@pytest.mark.parametrize(
    ("name", "choice"),
    [
        *itertools.product(["flat"], ALGORITHMS),
        *itertools.product(["single", "eight"], [(2, 0), (0, 1)]),
        *itertools.product(["tiny", "wide"], [(1, 0), (2, 1)]),
    ],
    ids=str,
)
def test_weights_keep_pace_with_the_stream(name, choice):
    """A slab follows the other after its own time or its stream's; the first one's is `fill`."""
    config = CONFIGS[name]
    job = make(config, choice, (1, 1, 3))
    floor = max(config.weight_block_groups, ACCUMULATE_HAZARD)
    loaded = run_jobs(config, [job], floor).loaded
    slabs = loaded[:: points_of(*choice)]
    pace = max(weight_slab_cycles(*choice, config), points_of(*choice) * floor)
    assert set(np.diff(slabs)) == {pace}
    assert loaded[0] == weight_transform_fill(*choice, config)


@pytest.mark.parametrize("choice", [(1, 0), (0, 1), (1, 1)], ids=str)
def test_instructions_of_one_algorithm_follow_without_a_gap(choice):
    """Reads of a second instruction that is there in time continue the pattern of the first."""
    first = make(FLAT, choice, (2, 1, 1), seed=1)
    second = make(FLAT, choice, (2, 1, 1), base=first.taps.size // first.taps.shape[-1])
    whole = run_jobs(FLAT, [make(FLAT, choice, (2, 1, 2))])
    harness = Harness(FLAT, image([first, second]))

    async def scenario(ctx):
        await harness.start(ctx, first)
        for _ in range(3):
            await harness.tick(ctx)
        await harness.start(ctx, second)
        await harness.take(ctx, first.blocks + second.blocks, 1)

    harness.run(scenario)
    assert harness.reads == whole.reads
    assert harness.loaded == whole.loaded
