"""Direct against chosen: cycles, multiplications and energy of each layer."""

from __future__ import annotations

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports import theme
from reports.choice import Choice
from reports.figures.common import MOST_ROWS, WIDTH, short
from reports.report import LayerRow, Report
from reports.units import si

PANELS = (
    ("cycles", "Cycles", ""),
    ("multiplications", "Multiplications", ""),
    ("energy_j", "Energy", "J"),
)


def compared(report: Report) -> list[tuple[LayerRow, Choice]]:
    """Layers of which both the direct and the chosen way were estimated."""
    found = [(x, x.choice) for x in report.layers if x.choice is not None]
    return [(layer, made) for layer, made in found if made.pair is not None]


def hfa(report: Report) -> Figure:
    """A line per layer, from direct (100 %) to chosen: leftward is saved, rightward is spent."""
    every = compared(report)
    order = sorted(range(len(every)), key=lambda i: -every[i][0].cycles)
    rows = [every[i] for i in sorted(order[:MOST_ROWS])]
    with rc_context(theme.RC):
        figure = Figure(figsize=(WIDTH, 1.25 + 0.34 * max(len(rows), 1)), layout="constrained")
        for axes, (name, title, unit) in zip(
            figure.subplots(1, len(PANELS), sharey=True), PANELS, strict=True
        ):
            _panel(axes, rows, name, unit)
            axes.set_title(title)
            axes.set_yticks(
                range(len(rows)),
                [f"{short(x.label)}  {made.chosen}" for x, made in rows],
                fontsize=8,
            )
            axes.tick_params(axis="y", length=0)
            axes.set_ylim(max(len(rows), 1) - 0.4, -0.6)
        figure.legend(
            handles=[
                _dot(theme.GREY, "direct, or the same"),
                _dot(theme.BLUE, "transformed, saves"),
                _dot(theme.RED, "transformed, costs more"),
            ],
            loc="outside lower center",
            ncols=3,
        )
    return figure


def _dot(colour: str, label: str) -> Line2D:
    return Line2D([], [], marker="o", linestyle="", color=colour, label=label)


def _panel(axes: Axes, rows: list[tuple[LayerRow, Choice]], name: str, unit: str) -> None:
    axes.axvline(100, color=theme.GREY, lw=1)
    most = 100.0
    for at, (layer, made) in enumerate(rows):
        assert made.pair is not None
        before, after = (getattr(way, name) for way in made.pair)
        if not before or after is None:
            _note(axes, at, 100, "not estimated", theme.MUTED)
            continue
        percent = 100 * after / before
        most = max(most, percent)
        if not made.transformed:
            axes.plot([100], [at], "o", color=theme.GREY, ms=6, gid="direct")
            _note(axes, at, 100, si(before, unit), theme.MUTED)
            continue
        same = si(before, unit) == si(after, unit)
        colour = theme.GREY if same else theme.BLUE if after < before else theme.RED
        words = f"{si(before, unit)} → {si(after, unit)}"
        (line,) = axes.plot([100, percent], [at, at], color=colour, lw=5, solid_capstyle="butt")
        line.set_gid(theme.tip(f"{layer.label}, {made.chosen}: {words}"))
        axes.plot([percent], [at], "o", color=colour, ms=7, gid="chosen")
        _note(axes, at, min(percent, 100), words, colour)
    axes.set_xlim(-38, max(most * 1.04, 108))
    axes.set_xticks([0, 25, 50, 75, 100])
    axes.set_xlabel("chosen / direct  [%]")
    axes.grid(True, axis="x")


def _note(axes: Axes, at: int, percent: float, words: str, colour: str) -> None:
    """Words to the left of a dot."""
    axes.annotate(
        words,
        (percent, at),
        xytext=(-8, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=7.5,
        color=colour,
    )
