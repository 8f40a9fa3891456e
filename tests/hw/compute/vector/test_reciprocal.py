"""The engine against Python's integers: every edge, fixed times, jobs as close as they may be."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest
from amaranth.sim import Simulator

from hw.arch.fold_timing import NORM_ENGINE, SOFTMAX_ENGINE
from hw.compute.vector.reciprocal import NORM_INTERVAL, SOFTMAX_INTERVAL, ReciprocalEngine

pytestmark = pytest.mark.rtl


@dataclasses.dataclass(frozen=True)
class Softmax:
    """S and k."""

    total: int
    factor: int
    elements: int = 0
    elements_total: int = 0
    epsilon: int = 0
    norm: bool = False

    def expected(self) -> tuple[int, int]:
        length = self.total.bit_length()
        if not self.total:
            return (1 << 22) - 1, 31
        quotient = (self.factor << length) // (4 * self.total)
        return min(quotient, (1 << 22) - 1), 31 - length


@dataclasses.dataclass(frozen=True)
class Norm:
    """S2, E1, n, S1, E0."""

    total: int
    factor: int
    elements: int
    elements_total: int
    epsilon: int
    norm: bool = True

    @classmethod
    def of(cls, codes: list[int], epsilon: int = 0, added: int = 0) -> Norm:
        return cls(sum(x * x for x in codes), added, len(codes), sum(codes), epsilon)

    def expected(self) -> tuple[int, int]:
        variance = self.elements * self.total - self.elements_total**2
        d = max(variance + self.epsilon, 1)
        half = (48 - d.bit_length()) // 2
        root = math.isqrt(d << 2 * half) + ((self.factor << half) >> 8)
        excess = max(root.bit_length() - 24, 0)
        reciprocal = min((1 << 47) // (root >> excess), (1 << 24) - 1)
        return reciprocal, half - 3 - excess


Job = Softmax | Norm
Found = tuple[tuple[int, int], int, int]
"""(reciprocal, shift), sum, and cycles from `start` to `done`."""


def simulate(jobs: list[Job], interval: int) -> list[Found]:
    """Run jobs of one kind, `interval` cycles apart."""
    dut = ReciprocalEngine()
    found: list[Found] = []
    starts: list[int] = []
    cycle = 0

    async def tick(ctx) -> None:
        nonlocal cycle
        if ctx.get(dut.done):
            result = ctx.get(dut.reciprocal), ctx.get(dut.shift)
            found.append((result, ctx.get(dut.sum), cycle - starts[len(found)]))
        await ctx.tick()
        cycle += 1

    async def drive(ctx) -> None:
        for job in jobs:
            ctx.set(dut.norm, job.norm)
            # Constants of an instruction: they stay for the last job's time.
            for name in ("factor", "epsilon", "elements"):
                ctx.set(getattr(dut, name), getattr(job, name))
            ctx.set(dut.total, job.total)
            ctx.set(dut.elements_total, job.elements_total)
            ctx.set(dut.start, 1)
            starts.append(cycle)
            await tick(ctx)
            ctx.set(dut.start, 0)
            ctx.set(dut.total, 0x5A5A5A5A)
            for _ in range(interval - 1):
                await tick(ctx)
        while len(found) < len(jobs):
            await tick(ctx)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(drive)
    simulator.run()
    return found


def check(jobs: list[Job], interval: int) -> None:
    found = simulate(jobs, interval)
    latency = ReciprocalEngine.latency(jobs[0].norm)
    for job, (result, total, cycles) in zip(jobs, found, strict=True):
        assert (result, total, cycles) == (job.expected(), job.elements_total, latency), job


def test_intervals_are_those_of_the_timing_rules():
    assert (SOFTMAX_INTERVAL, NORM_INTERVAL) == (SOFTMAX_ENGINE, NORM_ENGINE)


SUMS = (0, 1, 2, 3, 1 << 20, (1 << 20) + 1, (1 << 21) - 1, 1 << 30, (1 << 31) - 1)
FACTORS = (1, 1 << 15, 8355840, (1 << 23) - 1, 1 << 23, (1 << 24) - 1)


def test_softmax_at_the_edges():
    check([Softmax(s, k) for s in SUMS for k in FACTORS], ReciprocalEngine.latency(False) + 1)


def test_softmax_of_random_sums():
    draw = random.Random(1)
    jobs: list[Job] = [
        Softmax(draw.randrange(1 << draw.randint(20, 31)), draw.randrange(1 << 24))
        for _ in range(150)
    ]
    check(jobs, ReciprocalEngine.latency(False) + 1)


@pytest.mark.parametrize("factor", [8355840, 1 << 23])
def test_softmax_jobs_follow_each_other_closely(factor):
    draw = random.Random(2)
    jobs: list[Job] = [Softmax(draw.randrange(1 << 20, 1 << 31), factor) for _ in range(12)]
    check(jobs, SOFTMAX_INTERVAL)


GROUPS = {
    "constant": lambda n: [7] * n,
    "least": lambda n: [-128] * n,
    "halves": lambda n: [255] * (n // 2) + [0] * (n - n // 2),
    "one": lambda n: [1] + [0] * (n - 1),
}


@pytest.mark.parametrize("group", GROUPS)
def test_norm_at_the_edges(group):
    """D = 1 to its longest, without and with E1, which raises r to 40 bits."""
    jobs: list[Job] = [
        Norm.of(GROUPS[group](n), epsilon, added)
        for n in (1, 2, 512, 1024)
        for epsilon in (0, 1, (1 << 34) - 1)
        for added in (0, 1, 255, (1 << 24) - 1)
    ]
    check(jobs, ReciprocalEngine.latency(True) + 1)


def test_norms_of_random_groups_follow_each_other_closely():
    draw = random.Random(3)
    for added in (0, 97, 1 << 20):
        jobs: list[Job] = [
            Norm.of([draw.randint(-128, 127) // draw.choice((1, 9)) for _ in range(48)], 811, added)
            for _ in range(10)
        ]
        check(jobs, NORM_INTERVAL)


def test_what_is_no_variance_counts_as_one():
    """n too small for the sums: V would be negative."""
    check([Norm(64, 0, 1, 640, 0), Norm(0, 3, 9, 200, 5)], ReciprocalEngine.latency(True) + 1)


def test_twin_jobs_that_follow_too_closely_spoil_each_other():
    jobs: list[Job] = [Softmax(s, 1 << 23) for s in (1 << 20, (1 << 31) - 5, 1 << 25)]
    found = simulate_close(jobs, SOFTMAX_INTERVAL - 1)
    assert found != [job.expected() for job in jobs]


def simulate_close(jobs: list[Job], interval: int) -> list[tuple[int, int]]:
    """Results of jobs that may be lost; as many as came within the time of all."""
    dut = ReciprocalEngine()
    found: list[tuple[int, int]] = []

    async def drive(ctx) -> None:
        ctx.set(dut.factor, jobs[0].factor)
        for cycle in range(interval * len(jobs) + 100):
            number, phase = divmod(cycle, interval)
            starts = phase == 0 and number < len(jobs)
            ctx.set(dut.start, starts)
            if starts:
                ctx.set(dut.total, jobs[number].total)
            if ctx.get(dut.done):
                found.append((ctx.get(dut.reciprocal), ctx.get(dut.shift)))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(drive)
    simulator.run()
    return found


def test_a_changed_sum_shows():
    ((result, _, _),) = simulate([Softmax(1 << 25, 1 << 23)], 80)
    assert result == Softmax(1 << 25, 1 << 23).expected()
    assert result != Softmax((1 << 25) + (1 << 8), 1 << 23).expected()
