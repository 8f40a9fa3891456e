"""Which run a user means, and where its report goes."""

from __future__ import annotations

from pathlib import Path

from reports.report import ReportError

RESULT = "run.json"
RUNS = "runs"
TIMED = ("rtl-", "cycle-")
"""Names of runs with times begin so; functional ones have nothing to report."""
NAMED = 8
"""Runs that a message names."""


def runs(build: Path) -> list[Path]:
    """Results of a build folder, the newest first; those of a folder's images lie a level lower."""
    place = build / RUNS
    found = [*place.glob(f"*/{RESULT}"), *place.glob(f"*/*/{RESULT}")]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def name(build: Path, result: Path) -> str:
    """What `--run` calls a result of a build."""
    return str(result.parent.relative_to(build / RUNS))


def names(build: Path, results: list[Path]) -> str:
    """The first of them, for people."""
    words = [name(build, result) for result in results[:NAMED]]
    more = len(results) - len(words)
    return ", ".join(words) + (f" and {more} more" if more else "")


def find(place: Path, run: str | None = None) -> tuple[Path, list[Path]]:
    """The result that is meant.

    Parameters
    ----------
    place: a build folder, the folder of a run, or a result.
    run: a run of the build by name (``cycle-recorded``), or the path of a result.

    Returns
    -------
    The result; and other runs with times of the build that could have been meant.

    Raises
    ------
    ReportError
        There is none; names those that there are.
    """
    if run is not None:
        return _named(place, run), []
    if place.is_file():
        return place, []
    if (place / RESULT).is_file():
        return place / RESULT, []
    found = runs(place)
    timed = [path for path in found if name(place, path).startswith(TIMED)]
    if timed:
        return timed[0], timed[1:]
    raise ReportError(
        f"no run with cycles in {place}"
        + (f" (only {names(place, found)})" if found else "")
        + f"; make one with: python -m sim run {place} --on cycle"
    )


def _named(place: Path, run: str) -> Path:
    for path in (Path(run), Path(run) / RESULT, place / RUNS / run / RESULT):
        if path.is_file():
            return path
    found = runs(place)
    raise ReportError(f"no run {run}" + (f"; {place} has {names(place, found)}" if found else ""))


def folder(result: Path) -> Path:
    """Where the report of a result goes: beside it, apart from those of others."""
    return result.parent / ("report" if result.name == RESULT else f"{result.stem}-report")
