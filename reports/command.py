"""Report on a run: what `python -m reports` is thin over."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from reports import hfa
from reports.bundle import write
from reports.collect import read
from reports.find import find, folder
from reports.report import CLOCK_HZ, Report, ReportError


@dataclasses.dataclass(frozen=True, slots=True)
class Reported:
    """What was written.

    Attributes
    ----------
    report: the run, as tables and figures see it.
    direct: the run that it was compared with, if there was one.
    page: the HTML page.
    files: everything, the page last.
    run: the result that the report is on.
    others: further runs of the build that could have been meant.
    """

    report: Report
    direct: Report | None
    page: Path
    files: tuple[Path, ...]
    run: Path
    others: tuple[Path, ...]


def report(
    place: Path,
    output: Path | None = None,
    *,
    run: str | None = None,
    direct: Path | None = None,
    clock_hz: float = CLOCK_HZ,
    png: bool = False,
) -> Reported:
    """Write page, figures, tables and trace of a run.

    Parameters
    ----------
    place: a build folder (its newest run with cycles), the folder of a run, or a run.json.
    output: folder of the report; default: ``report`` beside the run.
    run: a run of the build by name, or its path.
    direct: a run of the same network built with ``hfa="off"``, to compare energy with.
    clock_hz: frequency for times and frames per second.
    png: write the figures as PNG, too, besides SVG.

    Raises
    ------
    ReportError
        There is no such run, it has no cycles, or the folder cannot be written.
    """
    result, others = find(place, run)
    target = output or folder(result)
    found = read(result, clock_hz)
    other = None if direct is None else _direct(direct, found)
    files = write(found, target, other, png=png)
    return Reported(found, other, target / "index.html", tuple(files), result, tuple(others))


def _direct(path: Path, report: Report) -> Report:
    """The run to compare with."""
    found = read(find(path)[0])
    why = hfa.mismatch(report, found)
    if why:
        raise ReportError(f"{path} cannot be compared with: {why}")
    return found
