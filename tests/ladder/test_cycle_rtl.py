"""The ladder's upper rungs: functional values = RTL values, cycle times = RTL times. Exactly."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ErrorCode
from hw.arch.program import Program
from hw.arch.timing import MemoryTiming
from hw.timeline import model as cycle_model
from hw.timeline.step import Step
from sim.backend import BackendResult, Options
from sim.cosim import job, verilate
from sim.cosim.backend import RtlBackend, job_of
from sim.cycle.backend import CycleBackend
from tests.ladder.compare import differences
from tests.ladder.control import branching, looped
from tests.ladder.programs import RandomProgram
from tests.machines import folding

pytestmark = pytest.mark.cosim

TINY = AcceleratorConfig.load("tiny")
BASE = AcceleratorConfig.load("base")
FOLDING = folding("tiny_direct", weight_bits=9)
"""FOLD, PERMUTE and weights written on chip; a row in a step."""
STEPPED = dataclasses.replace(
    FOLDING, name="stepped", lanes=dataclasses.replace(FOLDING.lanes, vector=2)
)
"""The same with two steps to a row."""


def both(program: Program, config: AcceleratorConfig) -> tuple[BackendResult, BackendResult]:
    memory = program.memory()
    rtl = RtlBackend(max_cycles=1_000_000).run(program, config, memory, Options())
    return rtl, CycleBackend().run(program, config, memory, Options())


@pytest.mark.parametrize("seed", range(40))
def test_random_programs_on_tiny(seed: int) -> None:
    assert differences(*both(RandomProgram(TINY, seed).build(), TINY)) == []


@pytest.mark.parametrize("seed", range(3))
def test_long_programs_on_tiny(seed: int) -> None:
    program = RandomProgram(TINY, 1000 + seed, steps=300).build()
    assert differences(*both(program, TINY)) == []


@pytest.mark.parametrize("config", [FOLDING, STEPPED], ids=["rows", "steps"])
@pytest.mark.parametrize("seed", range(30))
def test_random_programs_with_folds(config: AcceleratorConfig, seed: int) -> None:
    assert differences(*both(RandomProgram(config, seed, steps=40).build(), config)) == []


@pytest.mark.parametrize("base", [0x1000, 0x7FFF_F000, 0xFFF0_0000])
def test_a_program_that_lives_beside_others(base: int) -> None:
    """Code, image, tensors and store window lie from `base` on; the memory answers nowhere else."""
    program = dataclasses.replace(RandomProgram(TINY, 7, steps=60).build(), dram_base=base)
    rtl, model = both(program, TINY)
    assert differences(rtl, model) == []
    unmoved, _ = both(dataclasses.replace(program, dram_base=0), TINY)
    assert differences(unmoved, rtl) == [] and np.array_equal(unmoved.memory, rtl.memory)
    if base == 0x1000:  # twin: the memory lies a page higher, so the core meets what is no memory
        path = verilate.build(TINY)
        moved = job.run(path, job_of(program), program.memory(), memory_base=base + 0x1000)
        assert moved.registers["error_code"] == ErrorCode.AXI_RESPONSE


def test_loops_on_tiny() -> None:
    assert differences(*both(looped(TINY, trips=9), TINY)) == []


@pytest.mark.parametrize("seed", range(12))
def test_scalars_and_branches_on_tiny(seed: int) -> None:
    assert differences(*both(branching(TINY, seed), TINY)) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_random_programs_on_base(seed: int) -> None:
    program = RandomProgram(BASE, seed, steps=60).build()
    assert differences(*both(program, BASE)) == []


def test_stalls_change_times_but_no_values() -> None:
    program = RandomProgram(TINY, 5).build()
    memory = program.memory()
    path = verilate.build(TINY)
    plain = job.run(path, job_of(program), memory)
    for seed, percent in ((1, 20), (2, 60)):
        stalled = job.run(
            path, job_of(program), memory, job.Settings(stall_percent=percent, stall_seed=seed)
        )
        assert (stalled.memory == plain.memory).all()
        assert stalled.counters["cycles"] > plain.counters["cycles"]
        assert stalled.bursts == plain.bursts


def test_twin_one_cycle_of_latency_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison must fail when the model's memory is one cycle slower than the harness's."""
    monkeypatch.setattr(cycle_model, "MemoryTiming", lambda: MemoryTiming(read_latency=41))
    found = differences(*both(looped(TINY), TINY))
    assert any("issue" in line for line in found) and any("cycles" in line for line in found)


def test_twin_a_forgotten_flush_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jumps to the next instruction flush the prefetch; a model that ignores them is wrong."""

    def without(steps: Sequence[Step]) -> Iterator[tuple[Step, int | None]]:
        return ((s, t if t != s.pc + 1 else None) for s, t in jumps(steps))

    jumps = cycle_model._with_jumps
    monkeypatch.setattr(cycle_model, "_with_jumps", without)
    found = [differences(*both(branching(TINY, seed), TINY)) for seed in range(4)]
    assert any("issue" in line for lines in found for line in lines)


def test_twin_one_wrong_byte_is_seen() -> None:
    rtl, model = both(looped(TINY), TINY)
    memory = np.array(model.memory)
    memory[-1] ^= 1
    image = dataclasses.replace(model.image, memory=memory)
    found = differences(rtl, dataclasses.replace(model, image=image))
    assert found == [f"1 bytes of DRAM differ, the first at {memory.size - 1:#x}"]


def test_cycle_limit_is_an_error() -> None:
    program = looped(TINY)
    with pytest.raises(job.RtlError, match="no interrupt after 500 cycles"):
        RtlBackend(max_cycles=500).run(program, TINY, program.memory(), Options())


@pytest.mark.slow
def test_waveforms(tmp_path: Path) -> None:
    program = looped(TINY)
    path = tmp_path / f"run.{verilate.waveform_kind()}"
    options = Options(trace_window=(100, 200), trace_file=path)
    RtlBackend().run(program, TINY, program.memory(), options)
    assert path.stat().st_size > 1000
