"""docs/boards.md: frames per second and energy of the networks on a board, as predictions.

    python -m scripts.boards [--routed build/bitstreams/BOARD/report.json] [NETWORK ...]

Every figure comes from the public commands: export at paper size, build for the board's
configuration and memory, `sim run --on cycle --memory BOARD --check`. What was measured is kept in
scripts/boards.json, so that networks can be measured one by one and the page be written again;
without NETWORK it is only written.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hw.arch.boards import BOARDS
from scripts.bench import command
from sim.build import Build
from sim.energy import EnergyTable

ROOT = Path(__file__).resolve().parents[1]
PAGE, SOURCE = ROOT / "docs/boards.md", ROOT / "docs/boards.in.md"
FIGURES = ROOT / "scripts/boards.json"
WORK = Path("build/boards")
CONFIG, ENERGY = "ecp5_85k", "fpga_ecp5"
TABLE = EnergyTable.load(ENERGY).values
STATIC_W, TABLE_HZ = TABLE["static_w"], TABLE["clock_hz"]
BOARD = BOARDS["ulx3s_85f"]
NETWORKS = {
    "vtn_mobilenetv2": ("VTN online, MobileNetV2", "part=encoder", "vtn_decoder"),
    "vtn_resnet34": ("VTN online, ResNet-34", "part=encoder", "vtn_decoder"),
    "vtn_resnet50": ("VTN online, ResNet-50", "part=encoder", "vtn_decoder"),
    "fsb_c3d": ("FSB-C3D", "", ""),
    "c3d": ("C3D", "", ""),
    "fasttrg": ("FastTRG, R4", "", ""),
    "xwisenet": ("XwiseNet with SS", "", ""),
    "r3d18_x": ("3D-ResNet-18 of X-convolutions", "", ""),
    "eacnet_r50": ("EAC-Net, ResNet-50", "", ""),
    "liteeval_coarse": ("LiteEval, coarse encoder", "", ""),
    "liteeval_fine": ("LiteEval, fine encoder (ResNet-101)", "", ""),
}
"""Title, --variant, and a network that runs after it for every frame."""


@dataclasses.dataclass(frozen=True)
class Clock:
    """A clock of the board and where it comes from."""

    hertz: float
    source: str


def clock_of(report: Path | None) -> Clock:
    """The clock that a routed bitstream's report has (median of its seeds), or the board's.

    Raises
    ------
    SystemExit
        If the report is one of another board or configuration.
    """
    if report is None:
        text = "the board's; routed at 63.3 MHz, median of 3 seeds: decision 0020"
        return Clock(BOARD.clock_hz, text)
    content = json.loads(report.read_text())
    if (content["board"], content["config"]) != (BOARD.name, CONFIG):
        raise SystemExit(f"{report} is about {content['config']} on {content['board']}")
    fmax = statistics.median(content["fmax_mhz"].values())
    seeds = len(content["fmax_mhz"])
    source = f"median of {seeds} seeds" if seeds > 1 else f"seed {next(iter(content['fmax_mhz']))}"
    text = f"routed at {fmax:.1f} MHz, {source}: decision 0020"
    if fmax < content["clock_mhz"]:
        return Clock(1e6 * fmax, text)
    return Clock(1e6 * content["clock_mhz"], f"the board's; {text}")


def part(name: str, variant: str) -> dict[str, Any]:
    """Export, build and run a network: frames, bytes of DRAM, cycles, joules of its actions."""
    build = WORK / name
    wanted = ["--variant", variant] if variant else []
    command("models", "export", name, *wanted, "-o", f"{build}.onnx")
    command(
        *("compiler", "build", f"{build}.onnx", "--config", CONFIG, "-o", str(build)),
        *("--memory", BOARD.name, "--no-verify"),
    )
    built = Build.load(build)
    shape = built.program.inputs[0].shape
    result = {"frames": shape[2] if len(shape) == 5 else 1, "bytes": built.program.memory_bytes}
    if result["bytes"] > BOARD.memory_bytes:
        return result
    run, _, _ = command(
        *("sim", "run", str(build), "--on", "cycle", "--memory", BOARD.name, "--check"),
        *("--energy", ENERGY),
    )
    if not run["equal"]:
        raise SystemExit(f"{name} differs from the reference: {run['first_difference']}")
    return result | {
        "cycles": run["cycles"],
        # What it takes for standing there depends on the clock: `rows` adds that.
        "joules": run["energy_j"] - STATIC_W * run["cycles"] / TABLE_HZ,
        "tensors": run["tensors_compared"],
    }


def measure(name: str) -> dict[str, Any]:
    """Figures of a network with what runs after it, for all of its frames."""
    _, variant, after = NETWORKS[name]
    parts = [part(name, variant), *([part(after, "")] if after else [])]
    total: dict[str, Any] = {"frames": parts[0]["frames"], "bytes": sum(p["bytes"] for p in parts)}
    if all("cycles" in p for p in parts):
        total |= {key: sum(p[key] for p in parts) for key in ("cycles", "joules", "tensors")}
    return total


def rows(figures: Mapping[str, Mapping[str, Any]], clock: Clock) -> list[str]:
    """The table's lines."""
    lines = []
    for name, (title, _, after) in NETWORKS.items():
        found = figures.get(name)
        label = f"{title} (+ `{after}`)" if after else title
        if found is None:
            continue
        size = f"{found['bytes'] / (1 << 20):.1f} MiB"
        if "cycles" not in found or found["bytes"] > BOARD.memory_bytes:
            lines.append(f"| {label} | {found['frames']} | {size} | does not fit | | |")
            continue
        frames = found["frames"]
        rate = clock.hertz * frames / found["cycles"]
        energy = 1e3 * (found["joules"] + STATIC_W * found["cycles"] / clock.hertz) / frames
        lines.append(
            f"| {label} | {frames} | {size} | {found['cycles']:,} | {rate:.2f} | {energy:.1f} |"
        )
    return lines


def page(figures: Mapping[str, Mapping[str, Any]], clock: Clock) -> str:
    """Text of docs/boards.md."""
    table = [
        "| network | frames of a run | DRAM | cycles of a run | frames per second | mJ per frame |",
        "|---|---|---|---|---|---|",
        *rows(figures, clock),
    ]
    missing = ", ".join(NETWORKS[n][0] for n in NETWORKS if n not in figures)
    text = SOURCE.read_text()
    for mark, content in (
        ("<!-- CLOCK -->", f"{clock.hertz / 1e6:.1f} MHz ({clock.source})"),
        ("<!-- TABLE -->", "\n".join(table)),
        ("<!-- CONFIG -->", CONFIG),
        ("<!-- MISSING -->", f" Not measured so far:\n{missing}." if missing else ""),
    ):
        assert text.count(mark) == 1, mark
        text = text.replace(mark, content)
    return text


def main(words: Sequence[str] | None = None) -> int:
    """Measure what is named, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--routed", type=Path, help="report.json of `hw bitstream`")
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(NETWORKS))
    options = parser.parse_args(words)
    unknown = sorted(set(options.networks) - set(NETWORKS))
    if unknown:
        parser.error(f"no network {unknown[0]}; there are {', '.join(NETWORKS)}")
    WORK.mkdir(parents=True, exist_ok=True)
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    clock = clock_of(options.routed)
    for name in options.networks:
        figures[name] = measure(name)
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    PAGE.write_text(page(figures, clock))
    return 0


if __name__ == "__main__":
    sys.exit(main())
