"""Command line: turn build/<net>/run.json into a page, figures, a trace and a summary.

`python -m reports table1` prints Table 1 of the hFA paper instead (reports/table1.py).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from reports import tables
from reports.bundle import write
from reports.collect import Report, ReportError, read
from reports.summary import headline


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reports",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("build", type=Path, help="folder of a build, e.g. build/fsb_c3d")
    parser.add_argument("--run", type=Path, help="the run (default: BUILD/run.json)")
    parser.add_argument(
        "-o", "--output", type=Path, help="where the report goes (default: BUILD/report)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    return parser


def _show(report: Report, page: Path) -> None:
    print(tables.plain(tables.layers(report)))
    print()
    print(tables.plain(tables.headline([report])))
    print()
    print(page)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code is 0, or 2 if there is no run that can be reported on."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["table1"]:
        # The models' figures need torch, which no other report does.
        from reports import table1

        return table1.main(words[1:])
    args = _parser().parse_args(words)
    run = args.run or args.build / "run.json"
    output = args.output or args.build / "report"
    try:
        report = read(run)
        files = write(report, output)
    except ReportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    page = output / "index.html"
    if args.json:
        paths = {"page": str(page), "files": [str(path) for path in files]}
        print(json.dumps({**headline(report), **paths}))
    else:
        _show(report, page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
