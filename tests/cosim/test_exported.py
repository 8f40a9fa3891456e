"""The Verilog that `hw verilog` writes runs programs as the models say: values, times, counters."""

from __future__ import annotations

from pathlib import Path

import pytest

from hw.accelerator import Accelerator
from hw.arch.config import AcceleratorConfig
from hw.arch.program import Program
from hw.export import readable_verilog
from sim.backend import Options
from sim.cosim.backend import RtlBackend
from sim.cosim.rtl import TOP
from sim.cycle.backend import CycleBackend
from tests.ladder.compare import differences
from tests.ladder.control import branching, looped
from tests.ladder.programs import RandomProgram
from tests.ladder.transformed_programs import TransformedProgram

pytestmark = pytest.mark.cosim

TINY = AcceleratorConfig.load("tiny")
PROGRAMS = {
    "loops": lambda: looped(TINY, trips=9),
    "branches": lambda: branching(TINY, 3),
    **{f"random {seed}": lambda seed=seed: RandomProgram(TINY, seed).build() for seed in range(6)},
    "long": lambda: RandomProgram(TINY, 1000, steps=300).build(),
    **{
        f"transformed {seed}": lambda seed=seed: TransformedProgram(TINY, seed).build()
        for seed in range(6)
    },
    "long, transformed": lambda: TransformedProgram(TINY, 1000, steps=200).build(),
}


@pytest.fixture(scope="module")
def circuit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All exported modules in one file."""
    path = tmp_path_factory.mktemp("exported") / "top.v"
    path.write_text("\n".join(readable_verilog(Accelerator(TINY), TOP).values()))
    return path


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_run_as_the_model_says(name: str, circuit: Path) -> None:
    program: Program = PROGRAMS[name]()
    memory = program.memory()
    rtl = RtlBackend(max_cycles=1_000_000, verilog=circuit).run(program, TINY, memory, Options())
    model = CycleBackend().run(program, TINY, memory, Options())
    assert differences(rtl, model) == []
