"""Where the cycles of each unit went."""

from __future__ import annotations

from collections.abc import Callable

from reports import theme
from reports.drawing import Axes, Key, Legend, Picture, Word, linear, rows
from reports.figures.common import bar, stack
from reports.report import Report, UnitTime

STATES: tuple[tuple[str, str, Callable[[UnitTime], int]], ...] = (
    ("working", "working", lambda unit: unit.working),
    ("memory", "waiting on memory", lambda unit: unit.memory),
    ("token", "waiting on a token", lambda unit: unit.token),
    ("idle", "idle", lambda unit: unit.idle),
)
ROW = 23.0
"""Points."""
ROOM = 7
"""Percent from which on a share stands in its field."""


def stalls(report: Report) -> Picture:
    """Draw a bar per unit: working, waiting on memory, waiting on a token, idle."""
    legend = Legend([Key(theme.STATE_COLOURS[key], label) for key, label, _ in STATES], len(STATES))
    axes = Axes(
        linear(0, 100, "share of the run's cycles [%]", most=5),
        rows([unit.name for unit in report.units], 9),
        "What each unit did",
        above=legend.height + 8,
    )
    base = [0.0] * len(report.units)
    for key, label, pick in STATES:
        colour = theme.STATE_COLOURS[key]
        for row, unit in enumerate(report.units):
            value = 100 * pick(unit) / report.cycles
            words = f"{unit.name} {label}: {value:.1f} % of the run"
            axes.add(bar(row, base[row], value, colour, words))
            if value >= ROOM:
                ink = theme.INK if key == "idle" else theme.on(colour)
                at = base[row] + value / 2
                word = Word(at, row, f"{value:.0f} %", ink, 8, align="middle", level="middle")
                axes.add(word)
            base[row] += value
    picture = stack([axes], [ROW * (len(report.units) + 0.2)])
    picture.extra += legend.shapes(axes.left, axes.top - legend.height - 4)
    return picture
