"""What the figures share: size, axes, number formats."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from reports.units import tick

WIDTH = 9.4
"""Inches; at the page's text width the letters come out at their nominal size."""


def one(height: float) -> tuple[Figure, Axes]:
    """A figure of one pair of axes, `height` in inches."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def prefixed(axis: Axis, unit: str = "") -> None:
    """Tick labels with SI prefixes."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value, unit)))
