"""The cycle model with a board's memory, against the board's whole SoC under Verilator, by layer.

Networks at size tiny are run in both, every tensor compared. The difference of a network's cycles
may be `MOST`; beyond it the exit code is 1. Layers are printed as they are: a short one that waits
for the memory may be further off.

    python -m proof.board_memory [--networks a,b] [--config NAME] [--board NAME]
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from hw.arch.boards import BOARDS
from models.export import export
from proof.build import build
from shell import leave
from sim.backend import Backend, Options
from sim.build import Build
from sim.energy import EnergyTable
from sim.result import RunResult
from sim.run import run_build

FOLDER = Path("build/board_memory")
NETWORKS = "vtn_decoder,fsb_c3d,liteeval"
MOST = 0.03


@dataclasses.dataclass(frozen=True, slots=True)
class Compared:
    """A network in both.

    Attributes
    ----------
    soc, model: cycles of each layer, in order, and of the run last.
    names: of the layers.
    """

    names: tuple[str, ...]
    soc: tuple[int, ...]
    model: tuple[int, ...]

    @property
    def error(self) -> float:
        """Of the run."""
        return self.model[-1] / self.soc[-1] - 1

    def text(self) -> str:
        """A line for each layer, and one for the run."""
        width = max(map(len, (*self.names, "the run")))
        lines = [f"  {'layer':{width}} {'SoC':>11} {'model':>11}"]
        for name, soc, model in zip((*self.names, "the run"), self.soc, self.model, strict=True):
            share = f"{model / soc - 1:+8.2%}" if soc else "       –"
            lines.append(f"  {name:{width}} {soc:>11,} {model:>11,} {share}")
        return "\n".join(lines)


def made(network: str, config: str) -> Build:
    """A network at size tiny, all of whose tensors are there when a run ends."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    source, target = FOLDER / f"{network}.onnx", FOLDER / f"{network}-{config}"
    export(network, source, "tiny")
    build(source, config, target, dram="all")
    return Build.load(target)


def compared(built: Build, soc: Backend, model: Backend) -> Compared:
    """Run a build in both.

    Raises
    ------
    AssertionError
        If a tensor differs from the recorded run.
    """
    inputs = {port.name: built.golden[f"input:{port.name}"] for port in built.program.inputs}
    table = EnergyTable.load("asic_45nm")
    results: list[RunResult] = []
    for backend in (soc, model):
        result = run_build(built, backend, inputs, Options(), table).result
        if not result.equal:
            raise AssertionError(f"{backend.name}: {result.first_difference}")
        results.append(result)
    names = tuple(layer.name for layer in results[0].layers)
    columns = [(*(layer.cycles or 0 for layer in r.layers), r.cycles or 0) for r in results]
    return Compared(names, *columns)


def main(words: Sequence[str] | None = None) -> int:
    """Print the tables; exit code 1 if a network's cycles are further off than `MOST`."""
    from sim.board.backend import SocBackend
    from sim.cycle.backend import CycleBackend

    parser = argparse.ArgumentParser(prog="python -m proof.board_memory", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--networks", default=NETWORKS)
    parser.add_argument("--config", default="tiny")
    parser.add_argument("--board", default="ulx3s_85f", choices=sorted(BOARDS))
    options = parser.parse_args(words)
    soc, far = SocBackend(options.board), []
    try:
        for network in options.networks.split(","):
            built = made(network, options.config)
            found = compared(built, soc, CycleBackend(BOARDS[options.board]))
            print(f"{network} on {options.config}, {options.board}: {found.error:+.2%}", flush=True)
            print(found.text(), flush=True)
            if abs(found.error) > MOST:
                far.append(network)
    finally:
        soc.close()
    if far:
        print(f"error: off by more than {MOST:.0%}: {', '.join(far)}", file=sys.stderr)
    return 1 if far else 0


if __name__ == "__main__":
    leave(main)
