"""Synthesis with Yosys (pyosys) and place and route with nextpnr (YoWASP), from the package index.

`synthesise` maps the core alone and counts cells. `route` takes it in a harness with a
handful of pins (inputs from a shift register, outputs folded into one bit), so that timing is the
core's own and no pin limit interferes.
"""

from __future__ import annotations

import dataclasses
import json
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from amaranth.hdl import Shape
from amaranth.lib.wiring import Out

from hw.arch.config import AcceleratorConfig
from hw.boards.harness import FlatPort, scan_harness
from hw.boards.mapping import SynthesisError, map_netlist
from hw.boards.nextpnr import NEXTPNR, Job, place_and_route, program_of

__all__ = [
    "CACHE",
    "ECP5_85F",
    "FULL",
    "Resources",
    "SynthesisError",
    "SynthesisReport",
    "count_cells",
    "report",
    "resources_of",
    "route",
    "summary",
    "synthesise",
]


@dataclasses.dataclass(frozen=True, slots=True)
class Resources:
    """Cells of a design or of a device.

    Attributes
    ----------
    lut: 4-input tables; a carry cell (CCU2C) counts two, a 16×4 RAM cell four.
    ff: flip-flops.
    bram: 18-kbit block RAMs (DP16KD).
    dsp: 18×18 multipliers (MULT18X18D).
    """

    lut: int
    ff: int
    bram: int
    dsp: int


TOP = "accelerator"
CACHE = Path(".cache/netlists")
"""Mapped units, by content."""
PACKAGE = "CABGA381"
CLOCK_SITE = "G2"
"""A clock pin of the package."""
FULL = 0.8
"""Share of a resource up to which routing is easy."""
TINY = 10
"""Cells below which a unit has no row of its own."""
ECP5_85F = Resources(lut=83_640, ff=83_640, bram=208, dsp=156)


def resources_of(cells: Mapping[str, int]) -> Resources:
    """Cells of a netlist, from their number by type."""
    return Resources(
        lut=cells.get("LUT4", 0) + 2 * cells.get("CCU2C", 0) + 4 * cells.get("TRELLIS_DPR16X4", 0),
        ff=cells.get("TRELLIS_FF", 0),
        bram=cells.get("DP16KD", 0),
        dsp=cells.get("MULT18X18D", 0),
    )


def is_unit(name: str) -> bool:
    """Whether a module is mapped on its own: control, the core's units, and their larger parts.

    And copies of registers (hw/common/register_copy.py), which would be merged otherwise.
    """
    parts = re.sub(r"\$\d+", "", name).split(".")
    if parts[1:2] == ["registers"]:
        return len(parts) <= 3
    if parts[1:2] != ["core"]:
        return len(parts) == 2
    if len(parts) == 4:
        return parts[2] in ("array", "drain", "vector") and not parts[3].startswith("product")
    return len(parts) <= 3


def synthesise(
    config: AcceleratorConfig,
    directory: Path,
    cache: Path,
    *,
    harness: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Resources:
    """Map the circuit of a configuration to ECP5 cells.

    Parameters
    ----------
    config: the accelerator.
    directory: where `design.json` and the log go.
    cache: where mapped units are kept, by content.
    harness: surround the core with one of four pins (hw/boards/harness.py), and count that too.
    say: told what is done.

    Raises
    ------
    ConfigError
        If the configuration cannot be built.
    SynthesisError
        If Yosys fails.
    """
    from amaranth.back import rtlil

    from hw.accelerator import Accelerator

    core = Accelerator(config)
    ports = [
        FlatPort(name, Shape.cast(member.shape).width, output=member.flow is Out)
        for name, member in core.signature.members.items()
    ]
    map_netlist(
        rtlil.convert(core, name=TOP, emit_src=False),
        TOP,
        directory,
        cache,
        is_unit=is_unit,
        operands=(config.array.activation_bits, config.array.weight_bits),
        wrapper=scan_harness(TOP, ports) if harness else "",
        say=say,
    )
    return count_cells(directory / "cells.json")


def count_cells(statistics: Path) -> Resources:
    """Cells of a flat netlist, from Yosys' statistics."""
    text = statistics.read_text()
    (cells,) = json.loads(text[text.index("{") :])["modules"].values()
    counts = cells["num_cells_by_type"]
    return resources_of({name.lstrip("\\$"): int(_number(count)) for name, count in counts.items()})


def units_of(directory: Path, top: str = TOP, *, inner: bool = True) -> dict[str, Resources]:
    """Cells of each part of the core, and of what stands beside it, by name; with all inside.

    Parameters
    ----------
    directory: where `units.json` of `map_netlist` is.
    top: name of the module whose parts are counted.
    inner: its part `core` is counted by its own parts.
    """
    text = (directory / "units.json").read_text()
    modules = {
        name.lstrip("\\"): {
            kind.lstrip("\\$"): int(_number(count))
            for kind, count in content["num_cells_by_type"].items()
        }
        for name, content in json.loads(text[text.index("{") :])["modules"].items()
    }

    def whole(name: str) -> dict[str, int]:
        total: dict[str, int] = {}
        for kind, count in modules[name].items():
            inside = whole(kind) if kind in modules else {kind: 1}
            for cell, number in inside.items():
                total[cell] = total.get(cell, 0) + count * number
        return total

    depth = top.count(".") + 1
    parts = [m for m in modules if m.startswith(f"{top}.") and m.count(".") == depth]
    if inner:
        core = f"{top}.core"
        parts = [m for m in parts if m != core]
        parts += [m for m in modules if m.startswith(f"{core}.") and m.count(".") == depth + 1]
    rows = {name.rpartition(".")[2]: resources_of(whole(name)) for name in parts}
    return dict(sorted(rows.items(), key=lambda row: -row[1].lut))


def _number(count: Any) -> int:
    return int(count["count"]) if isinstance(count, dict) else int(count)


def route(
    directory: Path,
    *,
    seeds: Sequence[int],
    frequency: float,
    nextpnr: str = NEXTPNR,
    say: Callable[[str], None] = lambda line: None,
) -> list[float]:
    """Place and route `design.json` of a core in its harness, once per seed.

    Parameters
    ----------
    directory: has `design.json`; logs, reports and configurations are written there, per seed.
    seeds: of floorplan and placer.
    frequency: target in MHz.
    nextpnr: the program: the packaged one or another one's name or path.
    say: told what is done.

    Returns
    -------
    fmax in MHz, one per seed; 0 of one that does not route.

    Raises
    ------
    SynthesisError
        If nextpnr is missing or fails.
    """
    # Left to the placer, the clock may land on a pad with no way to the clock network.
    (directory / "harness.lpf").write_text(f'LOCATE COMP "clk" SITE "{CLOCK_SITE}";\n')
    job = Job(
        program_of(nextpnr),
        directory,
        PACKAGE,
        "harness.lpf",
        frequency,
        ("--lpf-allow-unconstrained",),
    )
    shares = place_and_route(job, seeds, every=True, say=say)
    return [frequency * shares[seed] for seed in seeds]


@dataclasses.dataclass(frozen=True, slots=True)
class SynthesisReport:
    """What `python -m hw synth` prints."""

    config: AcceleratorConfig
    used: Resources
    available: Resources
    fmax_mhz: tuple[float, ...]
    units: Mapping[str, Resources] = dataclasses.field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """Whether the part holds it, and with how much room."""
        shares = {
            name: getattr(self.used, name) / getattr(self.available, name)
            for name in ("lut", "ff", "bram", "dsp")
        }
        worst = max(shares, key=lambda name: shares[name])
        words = f"{worst} {shares[worst]:.0%} of the part"
        if shares[worst] > 1:
            return f"does not fit: {words}"
        if shares[worst] > FULL:
            return f"fits, but is hard to route above {FULL:.0%}: {words}"
        return f"fits: {words} at most"

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        result: dict[str, Any] = {"config": self.config.name}
        for name in ("lut", "ff", "bram", "dsp"):
            used, available = getattr(self.used, name), getattr(self.available, name)
            result[name] = {"used": used, "available": available, "share": used / available}
        result["fmax_mhz"] = list(self.fmax_mhz)
        result["verdict"] = self.verdict
        result["units"] = {name: dataclasses.asdict(cells) for name, cells in self.units.items()}
        if self.fmax_mhz:
            result["fmax_median_mhz"] = statistics.median(self.fmax_mhz)
        return result


def report(
    config: AcceleratorConfig,
    directory: Path,
    *,
    seeds: Sequence[int],
    frequency: float,
    nextpnr: str = NEXTPNR,
    say: Callable[[str], None] = lambda line: None,
) -> SynthesisReport:
    """Synthesise a configuration, and route it once per seed (none: synthesis only).

    The cells are the core's own; the harness that carries it through place and route is not
    counted.

    Raises
    ------
    ConfigError
        If the configuration cannot be built.
    SynthesisError
        If a tool fails.
    """
    used = synthesise(config, directory, CACHE, say=say)
    fmax: list[float] = []
    if seeds:
        routed = directory / "routed"
        synthesise(config, routed, CACHE, harness=True, say=say)
        say(f"place and route with seeds {', '.join(map(str, seeds))}: many minutes")
        fmax = route(routed, seeds=seeds, frequency=frequency, nextpnr=nextpnr, say=say)
    return SynthesisReport(config, used, ECP5_85F, tuple(fmax), units_of(directory))


def _rows(result: SynthesisReport) -> list[tuple[str, tuple[int, ...]]]:
    """Units, the tiny ones together; and what is left to the whole."""
    if not result.units:
        return []
    every = {name: dataclasses.astuple(cells) for name, cells in result.units.items()}
    tiny = [name for name, cells in every.items() if max(cells) < TINY]
    rows = [(name, cells) for name, cells in every.items() if name not in tiny]
    if tiny:
        together = tuple(map(sum, zip(*(every[name] for name in tiny), strict=True)))
        rows.append((f"{len(tiny)} of under {TINY} cells", together))
    sums = [sum(column) for column in zip(*every.values(), strict=True)]
    rest = (a - b for a, b in zip(dataclasses.astuple(result.used), sums, strict=True))
    return [*rows, ("between them", tuple(rest))]


def summary(result: SynthesisReport) -> str:
    """Lines for a person.

    The row "between them" makes the units add up to the whole: logic of the top, less what is
    found to be the same in two units when they are joined.
    """
    content = result.as_dict()
    lines = [f"{result.config.name} on an ECP5-85F: {result.verdict}"]
    for name in ("lut", "ff", "bram", "dsp"):
        cells = content[name]
        lines.append(
            f"  {name:<5}{cells['used']:>7,} of {cells['available']:>7,}  {cells['share']:6.1%}"
        )
    if result.units:
        lines.append(f"\n  {'unit':<20}" + "".join(f"{n:>8}" for n in ("lut", "ff", "bram", "dsp")))
    for name, cells in _rows(result):
        lines.append(f"  {name:<20}" + "".join(f"{value:>8,}" for value in cells))
    if result.fmax_mhz:
        each = ", ".join(f"{f:.1f}" for f in result.fmax_mhz)
        lines.append(f"  fmax {each} MHz, median {content['fmax_median_mhz']:.1f} MHz")
    return "\n".join(lines)
