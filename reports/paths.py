"""Which way runs took through a program with branches: consecutive ones, and a Loop's trips."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from reports.report import Report
from reports.tables import Cell, Column, Table, number, text
from reports.units import count, share, si
from sim.result import StepResult

COLUMNS = (
    Column("path", meaning="a letter for each way through the program", numeric=False),
    Column("blocks", meaning="that ran, in order", numeric=False),
    Column("steps", meaning="consecutive runs, or trips of a Loop, that took it"),
    Column("share", "%", "of all steps"),
    Column("cycles", meaning="of one such step, the median"),
    Column("least", meaning="cycles of the shortest such step"),
    Column("most", meaning="cycles of the longest such step"),
    Column("energy", "J", "of one such step, the median"),
)


def taken(report: Report) -> tuple[StepResult, ...]:
    """Consecutive runs, or else the trips of a run's longest loop."""
    return report.steps or report.trips


def kinds(report: Report) -> list[tuple[str, ...]]:
    """Paths in the order in which they were taken first."""
    return list(dict.fromkeys(tuple(step.path) for step in taken(report)))


def letters(kinds: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """A name for every path: A to Z, then A1 and so on."""
    return {
        kind: chr(65 + i % 26) + (str(i // 26) if i >= 26 else "") for i, kind in enumerate(kinds)
    }


def decisions(path: Sequence[str]) -> str:
    """The arms of a path, without the blocks between them."""
    arms = [name for name in path if name.endswith((": then", ": else"))]
    return ", ".join(arms) or "no branch"


def sequence(report: Report) -> str:
    """The path of every step as its letter."""
    names = letters(kinds(report))
    return " ".join(names[tuple(step.path)] for step in taken(report))


def paths(report: Report) -> Table:
    """A row for each path that steps took, and all steps together."""
    steps, rows = taken(report), []
    names = letters(kinds(report))
    for kind in kinds(report):
        mine = [step for step in steps if tuple(step.path) == kind]
        energies = [step.energy_j for step in mine if step.energy_j is not None]
        rows.append(
            (
                text(names[kind]),
                text(decisions(kind)),
                number(len(mine), count(len(mine))),
                number(len(mine) / len(steps), share(len(mine) / len(steps))),
                *_spread([step.cycles for step in mine if step.cycles is not None]),
                _energy(statistics.median(energies) if energies else None),
            )
        )
    cycles = sum(step.cycles or 0 for step in steps)
    whole = (
        text("all"),
        text(sequence(report)),
        number(len(steps), count(len(steps))),
        number(1.0, share(1.0)),
        number(cycles, count(cycles)),
        text(""),
        text(""),
        _energy(sum(step.energy_j or 0.0 for step in steps)),
    )
    return Table("Paths", COLUMNS, tuple(rows), whole)


def _spread(cycles: Sequence[int]) -> list[Cell]:
    """Median, least and most."""
    if not cycles:
        return [text("")] * 3
    found = (round(statistics.median(cycles)), min(cycles), max(cycles))
    return [number(each, count(each)) for each in found]


def _energy(joules: float | None) -> Cell:
    return number(joules, "" if joules is None else si(joules, "J"))
