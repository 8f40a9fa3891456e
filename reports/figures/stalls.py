"""Where the cycles of each unit went."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from reports import theme
from reports.figures.common import one
from reports.report import Report, UnitTime

STATES: tuple[tuple[str, str, Callable[[UnitTime], int]], ...] = (
    ("working", "working", lambda unit: unit.working),
    ("memory", "waiting on memory", lambda unit: unit.memory),
    ("token", "waiting on a token", lambda unit: unit.token),
    ("idle", "idle", lambda unit: unit.idle),
)


def stalls(report: Report) -> Figure:
    """Draw a bar per unit: working, waiting on memory, waiting on a token, idle."""
    with rc_context(theme.RC):
        figure, axes = one(1.3 + 0.32 * len(report.units))
        at = np.arange(len(report.units))
        base = np.zeros(len(report.units))
        for key, label, pick in STATES:
            values = np.array([100 * pick(u) / report.cycles for u in report.units])
            bars = axes.barh(at, values, 0.66, base, color=theme.STATE_COLOURS[key], label=label)
            for bar, unit, value in zip(bars, report.units, values, strict=True):
                bar.set_gid(theme.tip(f"{unit.name} {label}: {value:.1f} % of the run"))
                if value >= 7:
                    axes.annotate(
                        f"{value:.0f} %",
                        (bar.get_x() + value / 2, bar.get_y() + bar.get_height() / 2),
                        ha="center",
                        va="center",
                        fontsize=8,
                        color=theme.INK if key == "idle" else theme.on(theme.STATE_COLOURS[key]),
                    )
            base += values
        axes.set_yticks(at, [u.name for u in report.units])
        axes.set_ylim(len(report.units) - 0.4, -0.6)
        axes.set(xlim=(0, 100), xlabel="share of the run's cycles  [%]")
        axes.tick_params(axis="y", length=0)
        axes.set_title("What each unit did", pad=24)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, borderaxespad=0.2)
    return figure
