"""A bitstream for a board: SoC, netlist, floorplan, place and route, packing; kept by content.

Seeds are placed, and routed in the order of their estimates (nextpnr.py); the first in it whose
clocks are all met wins. A build that misses its clock is an error: it would compute something else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from hw.arch.board import BOARD_FILE
from hw.arch.boards import Board
from hw.arch.config import AcceleratorConfig
from hw.boards.floorplan_image import draw, placed_cells, tiles_of
from hw.boards.mapping import SynthesisError
from hw.boards.nextpnr import (
    NEXTPNR,
    Job,
    config_of,
    place_and_route,
    placement_of,
    program_of,
    report_of,
)
from hw.boards.soc import SHELL, Parts, board_parts
from hw.boards.soc_netlist import map_soc, soc_rtlil
from hw.synthesis import ECP5_85F, Resources, count_cells, units_of

__all__ = ["BIT", "IMAGE", "REPORT", "BitstreamReport", "ClockError", "make_bitstream"]

BIT, REPORT, IMAGE = "design.bit", "report.json", "floorplan.png"
MADE = (BIT, REPORT, BOARD_FILE, IMAGE)
"""What is kept."""
PACK = "yowasp-ecppack"
KEPT = Path(".cache/bitstreams")
"""Finished ones, by content."""


class ClockError(SynthesisError):
    """No seed meets the clocks."""


@dataclasses.dataclass(frozen=True, slots=True)
class BitstreamReport:
    """What a build gave; as `report.json` holds it.

    Attributes
    ----------
    board, config: names. clock_mhz: asked for.
    seed: that won. fmax_mhz: of each finished seed, the slowest clock's share of its target times
        `clock_mhz`.
    used: cells of all. units: of each part.
    critical: stations of the longest path: units it passes, and nanoseconds in each.
    bit_sha256: of the bitstream. seconds: that it took.
    """

    board: str
    config: str
    clock_mhz: float
    seed: int
    fmax_mhz: dict[str, float]
    used: Resources
    units: dict[str, Resources]
    critical: list[tuple[str, float]]
    bit_sha256: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)

    def summary(self) -> str:
        """Lines for a person."""
        seeds = ", ".join(f"seed {s}: {f:.1f} MHz" for s, f in sorted(self.fmax_mhz.items()))
        if len(self.fmax_mhz) > 1:
            seeds += f"; median {statistics.median(self.fmax_mhz.values()):.1f}"
        target = f"{self.clock_mhz:g} MHz met by seed {self.seed}"
        lines = [f"{self.config} on {self.board}: {target} ({seeds})"]
        kinds = ("lut", "ff", "bram", "dsp")
        for kind in kinds:
            used, there = getattr(self.used, kind), getattr(ECP5_85F, kind)
            lines.append(f"  {kind:<5}{used:>7,} of {there:>7,}  {used / there:6.1%}")
        lines.append(f"\n  {'unit':<20}" + "".join(f"{kind:>8}" for kind in kinds))
        for name, cells in self.units.items():
            values = "".join(f"{getattr(cells, kind):>8,}" for kind in kinds)
            lines.append(f"  {name:<20}{values}")
        path = ", ".join(f"{name} {ns:.1f} ns" for name, ns in self.critical)
        lines.append(f"\n  longest path: {path}")
        lines.append(f"  units on the device: {IMAGE}")
        return "\n".join(lines)


def make_bitstream(
    config: AcceleratorConfig,
    board: Board,
    directory: Path,
    *,
    seeds: Sequence[int],
    every: bool = False,
    frequency: float | None = None,
    nextpnr: str = NEXTPNR,
    say: Callable[[str], None] = lambda line: None,
) -> BitstreamReport:
    """Make `design.bit`, `board.json`, `report.json` and `floorplan.png` in a directory.

    Parameters
    ----------
    config: the accelerator. board: where it goes.
    directory: also gets netlists and logs.
    seeds: of floorplan and placer.
    every: route them all, for their median, instead of stopping at the first that meets the clocks.
    frequency: of core and bus in MHz; None: the board's.
    nextpnr: the packaged one or another one's name or path.
    say: told what is done.

    Raises
    ------
    ConfigError, ValueError
        If core, link or clock cannot be built.
    ClockError
        If no seed meets the clocks.
    SynthesisError
        If a tool fails.
    """
    start = time.monotonic()
    clock_hz = board.clock_hz if frequency is None else round(frequency * 1e6)
    directory.mkdir(parents=True, exist_ok=True)
    parts = board_parts(config, board, clock_hz)
    rtlil = soc_rtlil(parts, directory)
    key = _key(rtlil, parts, (*seeds, every), nextpnr)
    kept = KEPT / key
    if not (kept / REPORT).exists():
        say("map the SoC to cells")
        map_soc(rtlil, parts.top, config, directory, say)
        (directory / "soc.lpf").write_text(parts.constraints)
        job = Job(program_of(nextpnr), directory, board.package, "soc.lpf", clock_hz / 1e6)
        seed, fmax = _route(job, seeds, every, say)
        _pack(directory, seed)
        draw(tiles_of(placed_cells(directory / placement_of(seed)), unit_of), directory / IMAGE)
        result = _report(config, board, directory, clock_hz, seed, fmax, time.monotonic() - start)
        (directory / REPORT).write_text(json.dumps(result.as_dict(), indent=1) + "\n")
        parts.description.save(directory / BOARD_FILE)
        _keep(directory, kept)
    else:
        say(f"as it was made before: {kept}")
        for name in MADE:
            shutil.copy2(kept / name, directory / name)
    return _loaded(directory / REPORT)


def _key(rtlil: str, parts: Parts, seeds: Sequence[int], nextpnr: str) -> str:
    """Hash of all that the bitstream depends on."""
    digest = hashlib.sha256(rtlil.encode())
    digest.update(parts.constraints.encode() + repr((parts.description, list(seeds))).encode())
    versions = [f"{name} {metadata.version(name)}" for name in ("pyosys", NEXTPNR)]
    if nextpnr != NEXTPNR:
        said = subprocess.run([program_of(nextpnr), "--version"], capture_output=True, text=True)
        versions.append(said.stdout + said.stderr)
    digest.update("\n".join(versions).encode())
    here = Path(__file__).parent
    names = (
        "bitstream",
        "soc_netlist",
        "mapping",
        "floorplan",
        "floorplan_image",
        "ecp5",
        "nextpnr",
    )
    for name in names:
        digest.update((here / f"{name}.py").read_bytes())
    return digest.hexdigest()[:24]


def _route(
    job: Job, seeds: Sequence[int], every: bool, say: Callable[[str], None]
) -> tuple[int, dict[str, float]]:
    """Place and route seeds until one meets the clocks; it and what each finished one reached."""
    shares = place_and_route(job, seeds, every=every, say=say)
    fmax = {str(seed): share * job.frequency for seed, share in shares.items()}
    for seed, share in shares.items():
        if share >= 1:
            return seed, fmax
    reached = ", ".join(f"seed {seed}: {value:.1f}" for seed, value in fmax.items())
    raise ClockError(f"no seed reaches {job.frequency:g} MHz ({reached}); see {job.directory}")


def _pack(directory: Path, seed: int) -> None:
    log = directory / "ecppack.log"
    words = [program_of(PACK), "--compress", config_of(seed), BIT]
    with log.open("w") as stream:
        code = subprocess.run(words, cwd=directory, stdout=stream, stderr=stream).returncode
    if code:
        raise SynthesisError(f"ecppack failed ({code}), see {log}:\n{log.read_text()[-2000:]}")


def _report(
    config: AcceleratorConfig,
    board: Board,
    directory: Path,
    clock_hz: int,
    seed: int,
    fmax: dict[str, float],
    seconds: float,
) -> BitstreamReport:
    shell = units_of(directory, SHELL, inner=False)
    core = units_of(directory, f"{SHELL}.accelerator", inner=True)
    shell.pop("accelerator", None)
    routed = json.loads((directory / report_of(seed)).read_text())
    return BitstreamReport(
        board=board.name,
        config=config.name,
        clock_mhz=clock_hz / 1e6,
        seed=seed,
        fmax_mhz=fmax,
        used=count_cells(directory / "cells.json"),
        units=core | shell,
        critical=critical_path(routed),
        bit_sha256=hashlib.sha256((directory / BIT).read_bytes()).hexdigest(),
        seconds=round(seconds, 1),
    )


def critical_path(report: dict[str, Any]) -> list[tuple[str, float]]:
    """Units that the longest path within a clock passes, with nanoseconds in each, in order."""
    clocked = [p for p in report["critical_paths"] if p["from"] == p["to"]]
    if not clocked:
        return []
    longest = max(clocked, key=lambda path: sum(step["delay"] for step in path["path"]))
    stations: list[tuple[str, float]] = []
    for step in longest["path"]:
        unit = unit_of(step["to"]["cell"])
        if stations and stations[-1][0] == unit:
            stations[-1] = unit, stations[-1][1] + step["delay"]
        else:
            stations.append((unit, step["delay"]))
    return [(unit, round(delay, 2)) for unit, delay in stations]


def unit_of(cell: str) -> str:
    """Part of the SoC that a cell of the flat netlist belongs to, by its name."""
    names = cell.split(".")
    if SHELL not in names:
        return "soc"
    inner = names[names.index(SHELL) + 1 :]
    if inner[:2] == ["accelerator", "core"] and len(inner) > 3:
        return inner[2]
    if inner[:1] == ["accelerator"] and len(inner) > 2:
        return inner[1]
    return inner[0] if len(inner) > 1 else SHELL


def _keep(directory: Path, kept: Path) -> None:
    partial = kept.with_name(f"{kept.name}.{os.getpid()}")
    partial.mkdir(parents=True, exist_ok=True)
    for name in MADE:
        shutil.copy2(directory / name, partial / name)
    shutil.rmtree(kept, ignore_errors=True)
    partial.rename(kept)


def _loaded(path: Path) -> BitstreamReport:
    content = json.loads(path.read_text())
    content["used"] = Resources(**content["used"])
    content["units"] = {name: Resources(**cells) for name, cells in content["units"].items()}
    content["critical"] = [(name, ns) for name, ns in content["critical"]]
    return BitstreamReport(**content)
