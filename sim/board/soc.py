"""The whole SoC of a board as a native model: Verilator over LiteX's Verilog and the shell's.

Models are kept under ``.cache/soc``, by content.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Callable
from pathlib import Path

from hw.arch.board import BOARD_FILE, BoardFile
from hw.arch.config import AcceleratorConfig
from sim.backend import silent
from sim.cosim import store, toolchain

KEPT = 6
"""Models kept under the cache."""
NATIVE = Path(__file__).resolve().parent / "native"
PROGRAM = "soc"
FLAGS = (
    *("--cc", "--exe", "--top-module", "bench", "--prefix", "Vtop", "-O3"),
    *("--x-assign", "fast", "--x-initial", "fast", "--noassert"),
    *("-Wno-fatal", "-Wno-lint", "-Wno-style", "--output-split", "20000"),
)
NANOSECONDS = {"T_RCD": 20, "T_RP": 20, "T_RAS": 44, "T_RFC": 66, "T_WR": 15, "T_REFI": 7812}
"""Of an MT48LC16M16A2-7E, the slowest of what is mounted."""


@dataclasses.dataclass(frozen=True, slots=True)
class SocModel:
    """A model that can be run.

    Attributes
    ----------
    program: the executable; `divisor`: clock cycles of a bit of its line, its argument.
    board: for the host.
    """

    program: Path
    divisor: int
    board: BoardFile


def build(
    config: AcceleratorConfig,
    board: str,
    rate: int | None = None,
    say: Callable[[str], None] = silent,
) -> SocModel:
    """Build the SoC of a board around a configuration, or find it.

    Parameters
    ----------
    config: the accelerator. board: name. rate: clocks of the SDRAM per clock; None: the board's.
    say: told each step that takes long.

    Raises
    ------
    BuildError
        If a tool is missing or fails.
    """
    from hw.arch.boards import BOARDS
    from hw.boards.soc import SIMULATED_DIVISOR, simulated_parts
    from hw.common.verilog import convert

    chosen = BOARDS[board]
    if rate is not None:
        chosen = dataclasses.replace(chosen, sdram_rate=rate)
    parts = simulated_parts(config, chosen)
    shell = convert(parts.shell, name="board_shell")
    clock_ns = 1e9 / (chosen.clock_hz * chosen.sdram_rate)
    chip = {name: math.ceil(time_ns / clock_ns) for name, time_ns in NANOSECONDS.items()}
    chip["ACCESS"] = chosen.sdram_rate - 1
    defines = [f"+define+CHIP={','.join(f'.{name}({value})' for name, value in chip.items())}"]
    defines += ["+define+HALF_RATE", "-CFLAGS", "-DHALF_RATE"] if chosen.sdram_rate == 2 else []
    digest = hashlib.sha256("\0".join([parts.soc, shell, *FLAGS, *defines]).encode())
    digest.update(toolchain.versions().encode())
    for path in sorted(NATIVE.iterdir()):
        digest.update(path.read_bytes())

    def make(partial: Path) -> None:
        began = time.perf_counter()
        say(f"soc, first run of {config.name}: translate and compile it")
        with toolchain.bench(native=NATIVE) as bench:
            (bench / "soc.v").write_text(parts.soc)
            (bench / "shell.v").write_text(shell)
            sources = [f"{bench}/{name}" for name in ("native/bench.v", "native/sdram.v")]
            sources += [f"{bench}/soc.v", f"{bench}/shell.v", f"{bench}/native/main.cpp"]
            words = (*FLAGS, *defines, "-CFLAGS", f"-std=c++17 -I{bench}/model", "-o", PROGRAM)
            toolchain.verilate(bench, (*words, *sources))
            toolchain.make(bench, "OPT_FAST=-O1")  # runs are short: half a minute less to compile
            toolchain.keep(bench, partial, PROGRAM)
        parts.description.save(partial / BOARD_FILE)
        say(f"soc, first run of {config.name}: compiled ({time.perf_counter() - began:.0f} s)")

    key = f"{config.name}-{chosen.name}-{chosen.sdram_rate}-{digest.hexdigest()[:16]}"
    folder = store.entry("soc", key, make, kept=KEPT)
    return SocModel(folder / PROGRAM, SIMULATED_DIVISOR, BoardFile.load(folder / BOARD_FILE))
