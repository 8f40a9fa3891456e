"""Which way runs took through a program with branches: one run, and consecutive ones."""

from __future__ import annotations

from collections.abc import Sequence

from reports.report import Report
from reports.tables import Column, Table, number, text
from reports.units import count, share, si

COLUMNS = (
    Column("path", meaning="a letter for each way through the program", numeric=False),
    Column("blocks", meaning="that ran, in order", numeric=False),
    Column("steps", meaning="consecutive runs that took it"),
    Column("share", "%", "of all steps"),
    Column("cycles", meaning="of one such step; time depends on the path alone"),
    Column("energy", "J", "of one such step"),
)


def _kinds(report: Report) -> list[tuple[str, ...]]:
    """Paths in the order in which they were taken first."""
    return list(dict.fromkeys(tuple(step.path) for step in report.steps))


def _letters(kinds: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
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
    letters = _letters(_kinds(report))
    return " ".join(letters[tuple(step.path)] for step in report.steps)


def paths(report: Report) -> Table:
    """A row for each path that steps took, and all steps together."""
    kinds, rows, total = _kinds(report), [], len(report.steps)
    letters = _letters(kinds)
    for kind in kinds:
        steps = [step for step in report.steps if tuple(step.path) == kind]
        cycles, energy = steps[0].cycles, steps[0].energy_j
        rows.append(
            (
                text(letters[kind]),
                text(decisions(kind)),
                number(len(steps), count(len(steps))),
                number(len(steps) / total, share(len(steps) / total)),
                number(cycles, "" if cycles is None else count(cycles)),
                number(energy, "" if energy is None else si(energy, "J")),
            )
        )
    cycles = sum(step.cycles or 0 for step in report.steps)
    energy = sum(step.energy_j or 0.0 for step in report.steps)
    whole = (
        text("all"),
        text(sequence(report)),
        number(total, count(total)),
        number(1.0, share(1.0)),
        number(cycles, count(cycles)),
        number(energy, si(energy, "J")),
    )
    return Table("Paths", COLUMNS, tuple(rows), whole)
