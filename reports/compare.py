"""Runs side by side: `python -m reports compare A B [C ...]`.

Runs of other backends, configurations, networks or versions of the compiler. The first is what the
others are compared with; layers are paired by name.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports import tables
from reports.collect import read
from reports.find import find
from reports.markup import escape, table_html
from reports.page import document
from reports.report import CLOCK_HZ, LayerRow, Report, ReportError
from reports.tables import Cell, Column, Table, number, text
from reports.units import NO_VALUE, count, ratio, share, si

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
Resources = Mapping[str, Mapping[str, Any]]
"""What `python -m hw synth --json` printed, by configuration."""


def difference(value: float | None, first: float | None) -> Cell:
    """Change against the first run; nothing where one of the two is missing."""
    if value is None or not first:
        return number(None, "")
    change = value / first - 1
    return number(change, "the same" if value == first else f"{100 * change:+.1f} %")


def whole(reports: Sequence[Report], resources: Resources) -> Table:
    """A row per figure, a column per run, and its change against the first where it has one."""
    columns = [Column("figure", numeric=False), Column("A")]
    for letter in LETTERS[1 : len(reports)]:
        columns += [Column(letter), Column(f"{letter} / A - 1", "%")]
    rows = []
    for name, values, shown in _figures(reports, resources):
        cells = [text(name)]
        for i, (value, words) in enumerate(zip(values, shown, strict=True)):
            cells.append(Cell(value, words))
            if i:
                known = isinstance(value, (int, float)) and isinstance(values[0], (int, float))
                cells.append(difference(value, values[0]) if known else number(None, ""))
        rows.append(tuple(cells))
    return Table("Whole runs", tuple(columns), tuple(rows))


def _figures(
    reports: Sequence[Report], resources: Resources
) -> list[tuple[str, list[Any], list[str]]]:
    """Name, values and their texts of every figure that a run knows."""
    known = [resources.get(r.config, {}) for r in reports]
    found: list[tuple[str, list[Any], list[str]]] = [
        ("network", [r.network for r in reports], [r.network for r in reports]),
        ("configuration", [r.config for r in reports], [r.config for r in reports]),
        ("backend", [r.backend for r in reports], [r.backend for r in reports]),
        ("result", [r.verdict for r in reports], [r.verdict for r in reports]),
    ]

    def add(name: str, values: list[Any], shown: Any) -> None:
        if any(value is not None for value in values):
            texts = [NO_VALUE if value is None else shown(value) for value in values]
            found.append((name, values, texts))

    add("cycles", [r.cycles for r in reports], count)
    add("seconds", [r.seconds for r in reports], lambda v: si(v, "s"))
    add("clock", [r.clock_hz for r in reports], lambda v: si(v, "Hz"))
    add("MAC", [r.macs for r in reports], lambda v: si(v, "MAC"))
    add("multipliers", [r.multipliers for r in reports], count)
    add("MAC per multiplier and cycle", [r.rate for r in reports], lambda v: ratio(v, 3))
    add("roofline", [r.roofline_cycles for r in reports], count)
    add("DRAM traffic", [r.dram_bytes for r in reports], lambda v: si(v, "B"))
    add("energy", [r.energy_j or None for r in reports], lambda v: si(v, "J"))
    for key, name in (
        ("lut", "LUTs"),
        ("ff", "flip-flops"),
        ("bram", "block RAMs"),
        ("dsp", "DSPs"),
    ):
        add(name, [k[key]["used"] if k else None for k in known], count)
    add("fmax", [_fmax(k) for k in known], lambda v: si(v, "Hz"))
    return found


def _fmax(synthesis: Mapping[str, Any]) -> float | None:
    """The slowest of the routed seeds, in hertz."""
    routed = synthesis.get("fmax_mhz", ())
    return 1e6 * min(routed) if routed else None


def layers(reports: Sequence[Report]) -> Table:
    """A row per layer name: cycles in each run, and the change against the first."""
    columns = [Column("layer", numeric=False), Column("operator", numeric=False), Column("A")]
    for letter in LETTERS[1 : len(reports)]:
        columns += [
            Column(letter, meaning="cycles"),
            Column(f"{letter} - A", meaning="cycles"),
            Column(f"{letter} / A - 1", "%"),
        ]
    by_name = [{layer.name: layer for layer in report.layers} for report in reports]
    names = list(dict.fromkeys(layer.name for report in reports for layer in report.layers))
    rows = []
    for name in names:
        found: list[LayerRow | None] = [layers.get(name) for layers in by_name]
        present = [layer for layer in found if layer is not None]
        ops = dict.fromkeys(layer.op for layer in present)
        ways = dict.fromkeys(layer.algorithm for layer in present if layer.algorithm)
        cells = [text(present[0].label), text(" → ".join(ops) + _ways(list(ways)))]
        cells += _cycles([None if layer is None else layer.cycles for layer in found])
        rows.append(tuple(cells))
    total = (text("whole run"), text(""), *_cycles([report.cycles for report in reports]))
    return Table("Cycles of layers", tuple(columns), tuple(rows), total)


def _ways(names: list[str]) -> str:
    return f" ({' → '.join(names)})" if names else ""


def _cycles(values: Sequence[int | None]) -> list[Cell]:
    cells = []
    for i, value in enumerate(values):
        cells.append(number(value, count(value or 0)))
        if i:
            both = value is not None and values[0] is not None
            apart = (value or 0) - (values[0] or 0)
            cells.append(number(apart if both else None, f"{apart:+,}"))
            cells.append(difference(value, values[0]))
    return cells


def energy(reports: Sequence[Report]) -> Table:
    """A row per component: joules in each run."""
    columns = [Column("component", numeric=False)]
    columns += [Column(letter, "J") for letter in LETTERS[: len(reports)]]
    names = list(dict.fromkeys(name for report in reports for name in report.energy))
    rows = []
    for name in names:
        values = [report.energy.get(name) for report in reports]
        rows.append((text(name), *(number(v, si(v or 0, "J")) for v in values)))
    return Table("Energy by component", tuple(columns), tuple(rows))


def page(reports: Sequence[Report], resources: Resources, sources: Sequence[Path]) -> str:
    """The comparison as a page."""
    names = "".join(
        f"<li><b>{letter}</b>: {escape(report.title)} <code>{escape(str(source))}</code></li>"
        for letter, report, source in zip(LETTERS, reports, sources, strict=False)
    )
    parts = [("whole", whole(reports, resources)), ("layers", layers(reports))]
    if any(report.energy for report in reports):
        parts.append(("energy", energy(reports)))
    body = "".join(
        f'<section id="{key}"><h2>{table.title}</h2>{table_html(table, sortable=key != "whole")}'
        "</section>"
        for key, table in parts
    )
    best = min(range(len(reports)), key=lambda i: reports[i].seconds)
    lead = f"{LETTERS[best]} takes the least time: {si(reports[best].seconds, 's')}."
    if best:
        gain = reports[0].seconds / reports[best].seconds
        lead += f" That is {ratio(gain)} times as fast as A, {share(1 - 1 / gain)} less."
    header = f"<header><h1>{len(reports)} runs</h1></header><ul>{names}</ul>"
    return document("Runs side by side", f'{header}<p class="lead">{escape(lead)}</p>{body}')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reports compare", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "run", type=Path, nargs="+", help="build folders, folders of runs/, or run.json files"
    )
    parser.add_argument(
        "--clock",
        type=float,
        nargs="+",
        default=[],
        metavar="MHZ",
        help="one for all, or one for each run; default: 100",
    )
    parser.add_argument(
        "--resources", type=Path, nargs="+", default=[], help="outputs of python -m hw synth --json"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("build/compare.html"), help="the page"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    form.add_argument("--csv", action="store_true", help="print the table of layers as CSV instead")
    return parser


def _read(args: argparse.Namespace) -> tuple[list[Report], list[Path], Resources]:
    if not 2 <= len(args.run) <= len(LETTERS):
        raise ReportError(f"{len(args.run)} run to compare; at least two, at most {len(LETTERS)}")
    clocks = args.clock if len(args.clock) > 1 else args.clock * len(args.run)
    if clocks and len(clocks) != len(args.run):
        raise ReportError(f"{len(clocks)} clocks for {len(args.run)} runs")
    if any(not clock > 0 for clock in clocks):
        raise ReportError("a clock must be positive")
    places = [find(place)[0] for place in args.run]
    hertz = [1e6 * clock for clock in clocks] or [CLOCK_HZ] * len(places)
    reports = [read(place, clock) for place, clock in zip(places, hertz, strict=True)]
    resources = {}
    for path in args.resources:
        try:
            content = json.loads(path.read_text())
            for key in ("lut", "ff", "bram", "dsp"):
                int(content[key]["used"])
            resources[content["config"]] = content
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ReportError(f"{path} is no output of hw synth --json: {error}") from error
    return reports, places, resources


def main(arguments: Sequence[str]) -> int:
    """Compare; the exit code is 0, or 2 if a run cannot be read."""
    args = _parser().parse_args(arguments)
    try:
        reports, places, resources = _read(args)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(page(reports, resources, places), encoding="utf-8")
    except ReportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: cannot write {args.output}: {error.strerror}", file=sys.stderr)
        return 2
    shown = [whole(reports, resources), layers(reports)]
    if args.json:
        content = {table.title: tables.records(table) for table in shown}
        print(json.dumps({**content, "page": str(args.output)}))
    elif args.csv:
        print(tables.csv(shown[1]), end="")
    else:
        for letter, report, place in zip(LETTERS, reports, places, strict=False):
            print(f"{letter}: {report.title}  {place}")
        print("\n" + "\n\n".join(tables.plain(table) for table in shown))
        print(f"\n{args.output}")
    return 0
