"""Verilator, the C++ compiler and make: where they are, and how they are run.

Makefiles do not understand blanks in paths, whether the project's, the cache's or those of the
Python environment. Tools therefore work in a *bench*: a temporary folder with links to everything
that they name. What they make in its folder ``model`` is taken from there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from sim.errors import SimulatorError

OPTIMISE = "-O3"
"""Of models that are compiled once."""
PROGRAMS = ("g++", "make")
VERILATOR_LOG, BUILD_LOG = "verilator.log", "build.log"


class BuildError(SimulatorError):
    """A tool is missing, or Verilator or the C++ compiler failed; shows the end of its output."""


def verilator() -> Path:
    """Folder of Verilator: its programs are in bin.

    Raises
    ------
    BuildError
        If the package, the C++ compiler or make is missing.
    """
    try:
        folder = Path(str(metadata.distribution("verilator").locate_file("verilator")))
    except metadata.PackageNotFoundError as error:
        raise BuildError("RTL simulation needs the Python package `verilator`") from error
    for program in PROGRAMS:
        if shutil.which(program) is None:
            raise BuildError(f"RTL simulation needs `{program}` on the system")
    return folder


def versions() -> str:
    """Versions of the tools that make a model, as text for a key."""
    compiler = subprocess.run(["g++", "--version"], capture_output=True, text=True).stdout
    return f"verilator {metadata.version('verilator')}\n{compiler}"


@contextlib.contextmanager
def bench(**links: Path) -> Iterator[Path]:
    """A temporary folder with links to others and an empty folder ``model``.

    Verilator is linked as ``verilator``.

    Raises
    ------
    BuildError
        If the system's folder for temporary files has a blank in its path.
    """
    with tempfile.TemporaryDirectory(prefix="rtl-") as name:
        if any(character.isspace() for character in name):
            raise BuildError(f"make cannot work in {name!r}: set TMPDIR to a path without blanks")
        folder = Path(name)
        for link, target in {"verilator": verilator(), **links}.items():
            (folder / link).symlink_to(target.resolve())
        (folder / "model").mkdir()
        yield folder


def run(folder: Path, *command: str, log: str) -> None:
    """Run a tool in a bench; its output goes to a file in the model's folder.

    Raises
    ------
    BuildError
        If it fails.
    """
    environment = {
        **os.environ,
        "VERILATOR_ROOT": str(folder / "verilator"),
        # With gcc the makefile of a split design loses the flag that includes the precompiled
        # header, and it optimises for size unless told otherwise.
        "MAKEFLAGS": f"CFG_CXXFLAGS_PCH_I=-include OPT_FAST={OPTIMISE}",
    }
    result = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)
    text = result.stdout + result.stderr
    (folder / "model" / log).write_text(text)
    if result.returncode:
        raise BuildError(f"building the RTL model failed:\n{text[-3000:]}")


STACK = 'ulimit -s unlimited 2>/dev/null; exec "$0" "$@"'
"""What Verilator's wrapper does before it starts the program."""


def verilate(folder: Path, words: Sequence[str]) -> None:
    """Run Verilator in a bench; without its wrapper, which stumbles over blanks in its own path."""
    program = str(folder / "verilator/bin/verilator_bin")
    run(folder, "sh", "-c", STACK, program, "--Mdir", "model", *words, log=VERILATOR_LOG)


def make(folder: Path, *words: str) -> None:
    """Compile what Verilator wrote."""
    jobs = f"-j{os.cpu_count() or 1}"
    run(folder, "make", "-C", "model", "-f", "Vtop.mk", jobs, *words, log=BUILD_LOG)


def keep(folder: Path, target: Path, *names: str) -> None:
    """Take files and the logs from the model's folder into a new one."""
    target.mkdir()
    for name in (VERILATOR_LOG, BUILD_LOG, *names):
        shutil.copy2(folder / "model" / name, target / name)
