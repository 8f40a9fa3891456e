"""Command line: turn a run of build/<net> into a page, figures, a trace and a summary.

`python -m reports compare A B [C ...]` sets runs side by side (reports/compare.py),
`python -m reports table1` prints Table 1 of the hFA paper (reports/table1.py).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from reports import advice, compare, find, hfa, hfa_tables, hfa_words, paths, tables
from reports.command import report
from reports.report import CLOCK_HZ, Report, ReportError
from reports.summary import headline, layer_summary
from shell import leave


def _megahertz(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e5:
        raise argparse.ArgumentTypeError(f"{text!r} is no frequency in MHz")
    return value * 1e6


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reports",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "build",
        type=Path,
        help="a build folder (its newest run with cycles), a folder of runs/, or a run.json",
    )
    parser.add_argument("--run", help="a run of the build by name, e.g. rtl-recorded, or its path")
    parser.add_argument(
        "-o", "--output", type=Path, help="where the report goes (default: report beside the run)"
    )
    parser.add_argument(
        "--direct",
        type=Path,
        metavar="RUN",
        help="run of the same network built with --hfa off, to compare energy with",
    )
    parser.add_argument(
        "--clock", type=_megahertz, default=CLOCK_HZ, metavar="MHZ", help="for times; default: 100"
    )
    parser.add_argument(
        "--png", action="store_true", help="write the figures as PNG, too, besides SVG"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    form.add_argument("--csv", action="store_true", help="print the table of layers as CSV instead")
    return parser


def _show(found: Report, direct: Report | None, page: Path) -> None:
    print(tables.plain(tables.layers(found)))
    print()
    print(tables.plain(tables.headline([found])))
    if found.path and paths.taken(found):
        print()
        print(tables.plain(paths.paths(found)))
    if hfa.recorded(found):
        print()
        print(tables.plain(hfa_tables.brief(found)))
    for line in advice.lines(found):
        print(f"\n{line}")
    if direct is not None:
        print()
        print(hfa_words.against(found, direct))
    print()
    print(page)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code is 0, or 2 if there is no run that can be reported on."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["table1"]:
        # The models' figures need torch, which no other report does.
        from reports import table1

        return table1.main(words[1:])
    if words[:1] == ["compare"]:
        return compare.main(words[1:])
    args = _parser().parse_args(words)
    try:
        done = report(
            args.build,
            args.output,
            run=args.run,
            direct=args.direct,
            clock_hz=args.clock,
            png=args.png,
        )
    except ReportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.json:
        paths = {"page": str(done.page), "files": [str(path) for path in done.files]}
        layers = [layer_summary(x, done.report.multipliers) for x in done.report.layers]
        print(json.dumps({**headline(done.report), "layers": layers, **paths}))
        return 0
    if args.csv:
        print(tables.csv(tables.layers(done.report)), end="")
        return 0
    if done.others:
        newest = find.name(args.build, done.run)
        others = find.names(args.build, list(done.others))
        print(f"{newest} is the newest run; --run takes one of {others}", file=sys.stderr)
    _show(done.report, done.direct, done.page)
    return 0


if __name__ == "__main__":
    leave(main)
