"""Build the native model: Verilator over the core's Verilog, the C++ harness compiled in.

A cycle of a large core is half a megabyte of straight code, and what it costs is fetching that. For
whole networks the model is therefore compiled twice: a first one counts which way branches go while
it runs the beginning of the network, then the compiler lays out the code along those ways
(profile-guided optimisation). Both times at -O1: together little longer than -O3 once.

Models are kept under ``.cache/verilator/<key>/`` (store.py); the key holds the configuration's
fingerprint, the Verilog, the harness sources and the tool versions, so that a stale model cannot
be run.
"""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from hw.arch.config import AcceleratorConfig
from sim.backend import silent
from sim.cosim import store, toolchain
from sim.cosim.headers import parameters_header
from sim.cosim.rtl import TOP, verilog_file
from sim.cosim.toolchain import OPTIMISE, BuildError

KEPT = 12
"""Models kept under the cache; a new one pushes out those that were used longest ago."""

NATIVE = Path(__file__).resolve().parent / "native"
PROGRAM = "harness"

Waves = Literal["none", "vcd", "fst"]

FLAGS = (
    "--cc",
    "--exe",
    "--top-module",
    TOP,
    "--prefix",
    "Vtop",
    "-O3",
    "--x-assign",
    "fast",
    "--x-initial",
    "fast",
    "--noassert",
    "-Wno-fatal",
    "-Wno-lint",
    "-Wno-style",
    "--output-split",
    "20000",
)

COUNT = "-O1 -fprofile-arcs"
"""Flags of the model that counts. Those of the final one must not change what the compiler does
before it counts, or the counts fit nothing; it reports that as an error."""
USE_COUNTS = (
    "-O1 -fbranch-probabilities -freorder-blocks -freorder-blocks-and-partition"
    " -freorder-functions -fprofile-partial-training"
)

Training = Callable[[Path], None]
"""Runs a model for a while."""


def waveform_kind() -> Waves:
    """Return "fst" where the headers it needs (zlib, lz4) are installed, else "vcd"."""
    headers = b"#include <zlib.h>\n#include <lz4.h>\n"
    probe = subprocess.run(["g++", "-E", "-x", "c++", "-"], input=headers, capture_output=True)
    return "fst" if probe.returncode == 0 else "vcd"


def build(
    config: AcceleratorConfig,
    *,
    waves: Waves = "none",
    threads: int = 1,
    verilog: Path | None = None,
    training: Training | None = None,
    optimise: str = OPTIMISE,
    say: Callable[[str], None] = silent,
) -> Path:
    """Return the program that simulates a configuration, built if it is not there yet.

    Parameters
    ----------
    config: the accelerator.
    waves: kind of waveform the model can write (slower, therefore a separate model).
    threads: threads of the simulation.
    verilog: another circuit with the core's ports, e.g. a netlist after synthesis.
    training: what the model is optimised for; any training gives the same results, and a model
        that was trained with another one is as good.
    optimise: the compiler's flag without training.
    say: told each step of a compilation before it starts, with the seconds gone by.

    Raises
    ------
    BuildError
        If a tool is missing or fails.
    """
    start = time.perf_counter()

    def tell(step: str) -> None:
        say(f"rtl, first run of {config.name}: {step} ({time.perf_counter() - start:.0f} s)")

    circuit = verilog or verilog_file(config, lambda: tell("write the Verilog"))
    flags = list(FLAGS)
    if threads > 1:
        flags += ["--threads", str(threads)]
    defines = ""
    if waves != "none":
        flags += [f"--trace-{waves}"]
        defines = f" -DWAVES_{waves.upper()}"
    compiler = [optimise] if training is None else [COUNT, USE_COUNTS]

    def make(partial: Path) -> None:
        _build(config, circuit, flags, defines, partial, training, optimise, tell)

    folder = store.entry(
        "verilator", _key(config, circuit, [*flags, *compiler]), make, kept=KEPT, busy=_runs
    )
    return folder / PROGRAM


def _build(
    config: AcceleratorConfig,
    verilog: Path,
    flags: list[str],
    defines: str,
    partial: Path,
    training: Training | None,
    optimise: str,
    tell: Callable[[str], None],
) -> None:
    with toolchain.bench(native=NATIVE) as bench:
        model = bench / "model"
        (model / "parameters.hpp").write_text(parameters_header(config))
        (bench / "top.v").symlink_to(verilog.resolve())
        words = (
            *flags,
            *("-CFLAGS", f"-std=c++17 -I{bench}/native -I{model}{defines}"),
            *("-o", PROGRAM, f"{bench}/top.v", f"{bench}/native/main.cpp"),
        )
        tell("translate it with Verilator")
        toolchain.verilate(bench, words)
        if training is None:
            tell("compile the model")
            toolchain.make(bench, f"OPT_FAST={optimise}")
        else:
            tell("compile a model that counts branches")
            toolchain.make(bench, f"OPT_FAST={COUNT}", "LDFLAGS=--coverage")
            tell("run it for a while")
            training(model / PROGRAM)
            _forget_counting(model)
            tell("compile the model along the counts")
            toolchain.make(bench, f"OPT_FAST={USE_COUNTS}")
        tell("compiled")
        toolchain.keep(bench, partial, PROGRAM, "parameters.hpp")


def _forget_counting(model: Path) -> None:
    """Remove everything compiled with counters; what was not is kept for the next compilation."""
    counts = list(model.glob("*.gcda"))
    if not counts:
        raise BuildError("the training left no counts: it did not run the model to an end")
    for path in counts:
        path.with_suffix(".o").unlink()
    for pattern in ("*.gch", "*.a", PROGRAM):
        for path in model.glob(pattern):
            path.unlink()


def _runs(folder: Path) -> bool:
    return (folder / PROGRAM).resolve() in _running()


def _running() -> set[Path]:
    """Programs that run on this machine now, as far as the system tells (Linux)."""
    programs = set()
    for link in Path("/proc").glob("[0-9]*/exe"):
        with contextlib.suppress(OSError):  # it has ended, or belongs to someone else
            programs.add(link.readlink())
    return programs


def _key(config: AcceleratorConfig, verilog: Path, flags: list[str]) -> str:
    digest = hashlib.sha256(verilog.read_bytes())
    digest.update(parameters_header(config).encode())
    digest.update("\0".join([*flags, toolchain.versions()]).encode())
    for path in sorted(NATIVE.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return f"{config.name}-{config.fingerprint:016x}-{digest.hexdigest()[:16]}"
