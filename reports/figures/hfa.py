"""Direct against chosen: cycles, multiplications and energy of each layer."""

from __future__ import annotations

from reports import theme
from reports.choice import Choice
from reports.drawing import Axes, Axis, Dot, Key, Legend, Line, Picture, Word, rows
from reports.figures.common import MOST_ROWS, beside, short
from reports.report import LayerRow, Report
from reports.units import si

PANELS = (
    ("cycles", "Cycles", ""),
    ("multiplications", "Multiplications", ""),
    ("energy_j", "Energy", "J"),
)
ROW = 24.0
"""Points."""


def compared(report: Report) -> list[tuple[LayerRow, Choice]]:
    """Layers of which both the direct and the chosen way were estimated."""
    found = [(x, x.choice) for x in report.layers if x.choice is not None]
    return [(layer, made) for layer, made in found if made.pair is not None]


def hfa(report: Report) -> Picture:
    """A line per layer, from direct (100 %) to chosen: leftward is saved, rightward is spent."""
    every = compared(report)
    order = sorted(range(len(every)), key=lambda i: -every[i][0].cycles)
    shown = [every[i] for i in sorted(order[:MOST_ROWS])]
    names = rows([f"{short(layer.label)}, {made.chosen}" for layer, made in shown])
    parts: list[Axes] = []
    for name, title, unit in PANELS:
        panel = _panel(shown, name, unit, names if not parts else names.without_words())
        panel.title = title
        parts.append(panel)
    legend = Legend(
        [
            Key(theme.GREY, "direct, or the same", "o"),
            Key(theme.BLUE, "transformed, saves", "o"),
            Key(theme.RED, "transformed, costs more", "o"),
        ],
        columns=3,
    )
    return beside(parts, [1] * len(parts), ROW * max(len(shown), 1), legend)


def _panel(shown: list[tuple[LayerRow, Choice]], name: str, unit: str, names: Axis) -> Axes:
    ticks = tuple((value, f"{value}") for value in (0, 25, 50, 75, 100))
    found = [_pair(made, name) for _, made in shown]
    most = max((100 * after / before for before, after in filter(None, found)), default=100)
    across = Axis(-38, max(most * 1.04, 108), ticks, "chosen / direct [%]")
    axes = Axes(across, names, grid="x")
    axes.add(Line(((100, names.low), (100, names.high)), theme.GREY))
    for at, ((layer, made), pair) in enumerate(zip(shown, found, strict=True)):
        if pair is None:
            axes.add(_note(at, 100, "not estimated", theme.MUTED))
            continue
        before, after = pair
        if not made.transformed:
            axes.add(
                Dot(100, at, 6, theme.GREY, name="direct"),
                _note(at, 100, si(before, unit), theme.MUTED),
            )
            continue
        percent = 100 * after / before
        same = si(before, unit) == si(after, unit)
        colour = theme.GREY if same else theme.BLUE if after < before else theme.RED
        words = f"{si(before, unit)} → {si(after, unit)}"
        tip = f"{layer.label}, {made.chosen}: {words}"
        axes.add(
            Line(((100, at), (percent, at)), colour, 5, tip=tip),
            Dot(percent, at, 7, colour, name="chosen", tip=tip),
            _note(at, min(percent, 100), words, colour),
        )
    return axes


def _pair(made: Choice, name: str) -> tuple[float, float] | None:
    """A figure of the direct and of the chosen way, if both were estimated."""
    assert made.pair is not None
    before, after = (getattr(way, name) for way in made.pair)
    return None if not before or after is None else (before, after)


def _note(at: int, percent: float, words: str, colour: str) -> Word:
    """Words to the left of a dot."""
    return Word(percent, at, words, colour, 7.5, (-8, 0), align="end", level="middle")
