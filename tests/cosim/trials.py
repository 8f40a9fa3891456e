"""Runs in which something goes wrong, thousands of them in one process: native/trials.cpp."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hw.arch.config import AcceleratorConfig
from hw.arch.program import Program
from sim.backend import Options
from sim.cosim import store, toolchain, verilate
from sim.cosim.headers import parameters_header
from sim.cosim.rtl import verilog_file
from sim.functional.backend import FunctionalBackend

SOURCE = Path(__file__).parent / "native"
COMPILE = "-O1"
"""What runs for seconds is compiled in as little time."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """What is done to a run; see native/trials.cpp."""

    kind: str
    place: int = 0
    value: int = 0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of it, and of the run after it (`again_...`), to which nothing was done."""

    interrupt: bool
    cycles: int
    status: int
    code: int
    unit: int
    pc: int
    halt: int
    idle: bool
    outside: bool
    failed: bool
    address: int
    again_interrupt: bool
    again_cycles: int
    again_code: int
    again_equal: bool


def program_for(config: AcceleratorConfig, verilog: Path | None = None) -> Path:
    """The trials' program for a configuration, built if it is not there yet."""
    circuit = verilog or verilog_file(config)
    digest = hashlib.sha256(circuit.read_bytes() + parameters_header(config).encode())
    digest.update("\0".join((*verilate.FLAGS, COMPILE, toolchain.versions())).encode())
    for path in (SOURCE / "trials.cpp", verilate.NATIVE / "axi_memory.hpp"):
        digest.update(path.read_bytes())

    def make(partial: Path) -> None:
        with toolchain.bench(native=verilate.NATIVE, trials=SOURCE) as bench:
            model = bench / "model"
            (model / "parameters.hpp").write_text(parameters_header(config))
            (bench / "top.v").symlink_to(circuit.resolve())
            include = f"-std=c++17 -I{bench}/native -I{model}"
            words = ("-CFLAGS", include, "-o", "trials", f"{bench}/top.v")
            toolchain.verilate(bench, (*verilate.FLAGS, *words, f"{bench}/trials/trials.cpp"))
            toolchain.make(bench, f"OPT_FAST={COMPILE}")
            toolchain.keep(bench, partial, "trials")

    key = f"{config.name}-{digest.hexdigest()[:16]}"
    return store.entry("trials", key, make, kept=4) / "trials"


def expected(config: AcceleratorConfig, program: Program) -> npt.NDArray[np.uint8]:
    """DRAM after a run of the functional simulator."""
    done = FunctionalBackend().run(program, config, program.memory(), Options())
    return np.array(done.memory)


def run(
    config: AcceleratorConfig,
    program: Program,
    trials: Sequence[Trial],
    folder: Path,
    *,
    watchdog: int = 50_000,
    stalls: int = 0,
    verilog: Path | None = None,
) -> list[Outcome]:
    """Try a program; the memory after each second run is compared with the functional simulator's.

    Parameters
    ----------
    stalls: percent of cycles in which a channel of the memory pauses.
    verilog: another circuit with the core's ports.
    """
    program.memory().tofile(folder / "memory.bin")
    expected(config, program).tofile(folder / "expected.bin")
    words = [
        program_for(config, verilog),
        folder / "memory.bin",
        folder / "expected.bin",
        program.code_address,
        len(program.instructions),
        *program.store_window,
        watchdog,
        stalls,
    ]
    lines = "".join(f"{t.kind} {t.place} {t.value}\n" for t in trials)
    done = subprocess.run(map(str, words), input=lines, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
    assert len(rows) == len(trials), done.stderr
    kinds = [field.type for field in dataclasses.fields(Outcome)]
    return [
        Outcome(*(bool(v) if k == "bool" else v for k, v in zip(kinds, row, strict=True)))
        for row in rows
    ]
