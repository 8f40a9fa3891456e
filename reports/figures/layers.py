"""Cycles and utilization of each layer."""

from __future__ import annotations

from reports import theme
from reports.drawing import Axes, Dot, Key, Legend, Picture, linear, rows
from reports.figures.common import bar, beside, largest, short
from reports.report import Report
from reports.units import count

ROW = 17.0
"""Points."""


def layers(report: Report) -> Picture:
    """Cycles of each layer with its bound, and how full the array was."""
    shown = largest(report.ran, lambda row: row.cycles)
    names = rows([short(layer.label) for layer in shown])
    most = max((max(x.cycles, x.roofline_cycles) for x in shown), default=1)
    left = Axes(linear(0, 1.05 * most, "cycles", most=6), names, "Cycles per layer", grid="x")
    right = Axes(
        linear(0, 100, "of its cycles [%]", most=5),
        names.without_words(),
        "Array in use",
        grid="x",
    )
    for row, layer in enumerate(shown):
        words = f"{layer.label}: {count(layer.cycles)} cycles, bound {count(layer.roofline_cycles)}"
        left.add(bar(row, 0, layer.cycles, theme.BLUE, words))
        right.add(bar(row, 0, 100 * (layer.utilization or 0.0), theme.GREEN))
    left.add(
        *(
            Dot(x.roofline_cycles, row, 12, theme.ORANGE, "|", name="bound")
            for row, x in enumerate(shown)
        )
    )
    picture = beside([left, right], (2.1, 1), ROW * (len(shown) + 0.2))
    legend = Legend([Key(theme.BLUE, "cycles"), Key(theme.ORANGE, "roofline bound")], columns=2)
    beginning = left.left + left.width - legend.width
    picture.extra += legend.shapes(beginning, left.top - left.margins.top)
    return picture
