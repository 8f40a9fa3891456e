"""What the figures share: size, and how axes lie on a picture."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence

from reports.drawing import Axes, Box, Legend, Picture
from reports.report import LayerRow

WIDTH = 676.8
"""Points; at the page's text width the letters come out at their nominal size."""
EDGE = 4.0
"""Points between the picture's edge and what is drawn."""
APART = 10.0
"""Points between axes with their words."""
BAR = 0.68
"""Thickness of a bar, by the distance of rows."""
LETTERS = 34
"""Of a name beside a row; its end says more than its beginning."""
MOST_ROWS = 48
"""Layers of a figure with a row for each; the table beside it has them all."""


def stack(parts: Sequence[Axes], heights: Sequence[float], legend: Legend | None = None) -> Picture:
    """Axes one below the other, their left sides in line; a legend below, in the middle.

    Parameters
    ----------
    heights: of the areas between the axes, in points.
    """
    left = EDGE + max(axes.margins.left for axes in parts)
    top = EDGE
    for axes, height in zip(parts, heights, strict=True):
        axes.width = WIDTH - left - EDGE
        margins = axes.margins
        top += margins.top
        axes.place(left, top, axes.width - margins.right, height)
        top += height + margins.bottom + APART
    return _finished(parts, top - APART + EDGE, legend)


def beside(
    parts: Sequence[Axes], widths: Sequence[float], height: float, legend: Legend | None = None
) -> Picture:
    """Axes side by side, the areas between them equally high; a legend below, in the middle.

    Parameters
    ----------
    widths: of the areas between the axes, relative to one another.
    height: of the areas, in points.
    """
    rest = WIDTH - 2 * EDGE - APART * (len(parts) - 1)
    for axes, width in zip(parts, widths, strict=True):  # near enough to know what reaches out
        axes.width = 0.8 * rest * width / sum(widths)
    margins = [axes.margins for axes in parts]
    rest -= sum(each.left + each.right for each in margins)
    top = EDGE + max(each.top for each in margins)
    left = EDGE
    for axes, each, width in zip(parts, margins, widths, strict=True):
        left += each.left
        axes.place(left, top, rest * width / sum(widths), height)
        left += axes.width + each.right + APART
    return _finished(parts, top + height + max(each.bottom for each in margins) + EDGE, legend)


def _finished(parts: Sequence[Axes], height: float, legend: Legend | None) -> Picture:
    if legend is None or not legend.keys:
        return Picture(WIDTH, height, list(parts), [])
    shapes = legend.shapes((WIDTH - legend.width) / 2, height + EDGE)
    return Picture(WIDTH, height + legend.height + 2 * EDGE, list(parts), shapes)


def bar(row: float, start: float, length: float, colour: str, tip: str = "") -> Box:
    """A level bar in a row."""
    return Box(start, row - BAR / 2, length, BAR, colour, tip)


def short(name: str, letters: int = LETTERS) -> str:
    """A name that leaves room for what it names; tables have it whole."""
    return name if len(name) <= letters else f"…{name[1 - letters :]}"


def largest(rows: Sequence[LayerRow], size: Callable[[LayerRow], float]) -> list[LayerRow]:
    """Layers in program order; of more than `MOST_ROWS` the largest, and the others as one row."""
    if len(rows) <= MOST_ROWS:
        return list(rows)
    order = sorted(range(len(rows)), key=lambda i: -size(rows[i]))
    kept = set(order[: MOST_ROWS - 1])
    rest = [row for i, row in enumerate(rows) if i not in kept]
    cycles = sum(row.cycles for row in rest)
    busy = sum((row.utilization or 0.0) * row.cycles for row in rest)
    energy: Counter[str] = Counter()
    for row in rest:
        energy.update(row.energy)
    others = dataclasses.replace(
        rest[0],
        name="",
        label=f"{len(rest)} others",
        cycles=cycles,
        roofline_cycles=sum(row.roofline_cycles for row in rest),
        utilization=busy / cycles if cycles else None,
        energy=dict(energy),
    )
    return [*(rows[i] for i in sorted(kept)), others]
