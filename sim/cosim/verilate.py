"""Build the native model: Verilator over the core's Verilog, the C++ harness compiled in.

A cycle of a large core is half a megabyte of straight code, and what it costs is fetching that. For
whole networks the model is therefore compiled twice: a first one counts which way branches go while
it runs the beginning of the network, then the compiler lays out the code along those ways
(profile-guided optimisation). Both times at -O1: together little longer than -O3 once.

Models are kept under ``.cache/verilator/<key>/``; the key holds the configuration's fingerprint,
the Verilog, the harness sources and the tool versions, so that a stale model cannot be run. A
model's time of change is that of its last use: after a build, all but the KEPT latest go.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Literal

from hw.arch.config import AcceleratorConfig
from sim.cosim.headers import parameters_header
from sim.cosim.rtl import CACHE, TOP, alone, verilog_file
from sim.errors import SimulatorError

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

OPTIMISE = "-O3"
"""Of models that are compiled once."""
COUNT = "-O1 -fprofile-arcs"
"""Flags of the model that counts. Those of the final one must not change what the compiler does
before it counts, or the counts fit nothing; it reports that as an error."""
USE_COUNTS = (
    "-O1 -fbranch-probabilities -freorder-blocks -freorder-blocks-and-partition"
    " -freorder-functions -fprofile-partial-training"
)

Training = Callable[[Path], None]
"""Runs a model for a while."""


class BuildError(SimulatorError):
    """A tool is missing, or Verilator or the C++ compiler failed; shows the end of its output."""


def tools() -> Path:
    """Folder of Verilator's programs.

    Raises
    ------
    BuildError
        If the package, the C++ compiler, make or perl is missing.
    """
    try:
        folder = Path(str(metadata.distribution("verilator").locate_file("verilator/bin")))
    except metadata.PackageNotFoundError as error:
        raise BuildError("RTL simulation needs the Python package `verilator`") from error
    for program in ("g++", "make", "perl"):
        if shutil.which(program) is None:
            raise BuildError(f"RTL simulation needs `{program}` on the system")
    return folder


def environment() -> dict[str, str]:
    """Environment in which Verilator and its generated makefile run."""
    return {
        **os.environ,
        "PATH": f"{tools()}{os.pathsep}{os.environ['PATH']}",
        # With gcc the makefile of a split design loses the flag that includes the precompiled
        # header, and it optimises for size unless told otherwise.
        "MAKEFLAGS": f"CFG_CXXFLAGS_PCH_I=-include OPT_FAST={OPTIMISE}",
    }


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

    Raises
    ------
    BuildError
        If a tool is missing or fails.
    """
    verilog = verilog or verilog_file(config)
    flags = list(FLAGS)
    if threads > 1:
        flags += ["--threads", str(threads)]
    defines = ""
    if waves != "none":
        flags += [f"--trace-{waves}"]
        defines = f" -DWAVES_{waves.upper()}"
    compiler = [OPTIMISE] if training is None else [COUNT, USE_COUNTS]
    folder = CACHE / "verilator" / _key(config, verilog, [*flags, *compiler])
    program = folder / PROGRAM
    folder.parent.mkdir(parents=True, exist_ok=True)
    with alone(folder.name):
        if program.is_file():
            os.utime(folder)
        else:
            _build(config, verilog, flags, defines, folder, training)
    return program


def _build(
    config: AcceleratorConfig,
    verilog: Path,
    flags: list[str],
    defines: str,
    folder: Path,
    training: Training | None,
) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a build that was stopped
    partial.mkdir()
    (partial / "parameters.hpp").write_text(parameters_header(config))
    words = (
        str(tools() / "verilator"),
        *flags,
        *("-CFLAGS", f"-std=c++17 -I{NATIVE} -I{partial}{defines}"),
        *("--Mdir", str(partial)),
        *("-o", PROGRAM),
        str(verilog),
        str(NATIVE / "main.cpp"),
    )
    try:
        _run(*words, log=partial / "verilator.log")
        if training is None:
            _compile(partial, OPTIMISE)
        else:
            _compile(partial, COUNT, "LDFLAGS=--coverage")
            training(partial / PROGRAM)
            _forget_counting(partial)
            _compile(partial, USE_COUNTS)
    except BaseException:
        shutil.rmtree(partial)
        raise
    _keep(partial, folder)
    prune(folder.parent)


def _compile(partial: Path, optimise: str, *more: str) -> None:
    jobs = f"-j{os.cpu_count() or 1}"
    words = ("make", "-C", str(partial), "-f", "Vtop.mk", jobs, f"OPT_FAST={optimise}", *more)
    _run(*words, log=partial / "build.log")


def _run(*command: str, log: Path) -> None:
    result = subprocess.run(command, env=environment(), capture_output=True, text=True)
    text = result.stdout + result.stderr
    log.write_text(text)
    if result.returncode:
        raise BuildError(f"building the RTL model failed:\n{text[-3000:]}")


def _forget_counting(partial: Path) -> None:
    """Remove everything compiled with counters; what was not is kept for the next compilation."""
    counts = list(partial.glob("*.gcda"))
    if not counts:
        raise BuildError("the training left no counts: it did not run the model to an end")
    for path in counts:
        path.with_suffix(".o").unlink()
    for pattern in ("*.gch", "*.a", PROGRAM):
        for path in partial.glob(pattern):
            path.unlink()


def prune(cache: Path, kept: int = KEPT) -> None:
    """Remove the models that were used longest ago, but none that runs and no unfinished build."""
    finished = (path for path in cache.iterdir() if path.suffix != ".partial")
    models = [path for path in finished if (path / PROGRAM).is_file()]
    models.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    running = _running()
    for path in models[kept:]:
        if (path / PROGRAM).resolve() not in running:
            shutil.rmtree(path, ignore_errors=True)


def _running() -> set[Path]:
    """Programs that run on this machine now, as far as the system tells (Linux)."""
    programs = set()
    for link in Path("/proc").glob("[0-9]*/exe"):
        with contextlib.suppress(OSError):  # it has ended, or belongs to someone else
            programs.add(link.readlink())
    return programs


def _keep(partial: Path, folder: Path) -> None:
    """Publish a finished build: only what runs and what explains it."""
    for path in partial.iterdir():
        if path.name not in (PROGRAM, "verilator.log", "build.log", "parameters.hpp"):
            path.unlink()
    partial.rename(folder)


def _key(config: AcceleratorConfig, verilog: Path, flags: list[str]) -> str:
    digest = hashlib.sha256(verilog.read_bytes())
    digest.update(parameters_header(config).encode())
    digest.update(" ".join([*flags, metadata.version("verilator")]).encode())
    digest.update(subprocess.run(["g++", "--version"], capture_output=True).stdout)
    for path in sorted(NATIVE.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return f"{config.name}-{config.fingerprint:016x}-{digest.hexdigest()[:16]}"
