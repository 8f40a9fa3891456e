"""What the figures share: size, axes, number formats."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from reports.report import LayerRow
from reports.units import tick

WIDTH = 9.4
"""Inches; at the page's text width the letters come out at their nominal size."""
LETTERS = 34
"""Of a name beside a row; its end says more than its beginning."""
MOST_ROWS = 48
"""Layers of a figure with a row for each; the table beside it has them all."""


def one(height: float) -> tuple[Figure, Axes]:
    """A figure of one pair of axes, `height` in inches."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def prefixed(axis: Axis, unit: str = "") -> None:
    """Tick labels with SI prefixes."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value, unit)))


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
