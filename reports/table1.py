"""Table 1 of "Temporal Residual, Fully Separable Block, and Fast Algorithm" (Wang, Lin, Wang).

Three tables: the paper's figures in its own counting convention, the same networks with whole
tiles on their real maps, and what runs of this accelerator multiplied, from its counters.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from models import fsb, slowfast, whole_tiles
from models.table import figures
from reports.find import find
from reports.report import ReportError
from reports.tables import Cell, Column, Table, number, plain, records, text
from reports.units import count, ratio, si
from sim.result import ResultError, RunResult

NETWORKS: tuple[tuple[str, fsb.C3dConfig | slowfast.SlowFastConfig], ...] = (
    ("C3D, 16 frames", fsb.C3D),
    ("C3D, 64 frames", replace(fsb.C3D, frames=64)),
    ("FSB-C3D, 16 frames", fsb.FSB_C3D),
    ("FSB-C3D, 64 frames", replace(fsb.FSB_C3D, frames=64)),
    ("SlowFast (E2), 64 frames", slowfast.E2),
    ("FastTRG (E2), 64 frames", slowfast.E2_FASTTRG),
)


def convention() -> Table:
    """The paper's multiplications beside ours, counted as the paper counts."""
    columns = (
        Column("network", numeric=False),
        Column("multiplications", numeric=False),
        Column("paper"),
        Column("here"),
        Column("difference", "%"),
    )
    rows = []
    for row in figures(("fsb",)):
        quantity = row["quantity"]
        if not quantity.startswith("multiplications") or row["paper"] is None:
            continue
        off = row["relative_difference"]
        rows.append(
            (
                text(row["network"]),
                text(quantity.removeprefix("multiplications, ")),
                number(row["paper"], f"{row['paper']:.1f} G"),
                number(row["ours"], f"{row['ours']:.2f} G"),
                number(off, f"{off:+.2%}"),
            )
        )
    return Table("Table 1 in the paper's convention", columns, tuple(rows))


def whole() -> Table:
    """Multiplications with whole tiles on the real maps."""
    columns = (
        Column("network", numeric=False),
        Column("direct", meaning="multiply-accumulates, zero padding counted"),
        Column("3D Winograd", meaning="F(4×4×4,3×3×3) where it applies"),
        Column("hFA of the paper", meaning="F(6,3) along time, F(4×4,3×3)"),
        Column("exact hFA", meaning="F(4,3), F(4×4,3×3), F(2,3)⊗F(4×4,3×3): what int8 allows"),
        Column("direct / exact hFA"),
    )
    choices: tuple[Mapping[whole_tiles.Kernel, whole_tiles.Algorithm], ...] = (
        {},
        whole_tiles.CUBE,
        whole_tiles.PAPER,
        whole_tiles.EXACT,
    )
    rows = []
    for name, config in NETWORKS:
        counts = [whole_tiles.total(config, choice) for choice in choices]
        gain = counts[0] / counts[-1]
        cells = [number(value, si(value)) for value in counts]
        rows.append((text(name), *cells, number(gain, ratio(gain))))
    return Table("With whole tiles on real maps", columns, tuple(rows))


def _performed(run: RunResult) -> int:
    """Products of the array: a count of them, or of rows × cols of them at once."""
    if "multiplications" in run.counters:
        return run.counters["multiplications"]
    return run.counters["array_products"] * run.multipliers


def performed(runs: Sequence[RunResult]) -> Table:
    """What runs multiplied, from the accelerator's own counter."""
    columns = (
        Column("run", numeric=False),
        Column("backend", numeric=False),
        Column("MAC", meaning="of the network"),
        Column("multiplications", meaning="counter array_products × multipliers"),
        Column("MAC / multiplication"),
        Column("cycles"),
        Column("MAC / mult / cycle", meaning="MAC per multiplier and cycle"),
    )
    rows: list[tuple[Cell, ...]] = []
    for run in runs:
        products = _performed(run)
        gain, rate = run.macs / products, run.mac_per_multiplier_cycle
        rows.append(
            (
                text(f"{run.network} on {run.config}"),
                text(run.backend),
                number(run.macs, si(run.macs)),
                number(products, si(products)),
                number(gain, ratio(gain)),
                number(run.cycles, count(run.cycles) if run.cycles else ""),
                number(rate, ratio(rate) if rate else ""),
            )
        )
    return Table("Performed by the accelerator", columns, tuple(rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reports table1", description=__doc__)
    parser.add_argument(
        "build", type=Path, nargs="*", help="folders of builds that were run, or run.json files"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Print the tables; the exit code is 0, or 2 if a run cannot be read."""
    args = _parser().parse_args(arguments)
    try:
        runs = [RunResult.load(find(path)[0]) for path in args.build]
        bare = [run.network for run in runs if not run.counters.get("array_products")]
        if bare:
            raise ResultError(
                f"the run of {bare[0]} has no count of array products: run it on cycle or rtl"
            )
    except (ReportError, ResultError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    tables = [convention(), whole(), *([performed(runs)] if runs else [])]
    if args.json:
        print(json.dumps({table.title: records(table) for table in tables}))
    else:
        print("\n\n".join(f"{table.title}\n\n{plain(table)}" for table in tables))
    return 0
