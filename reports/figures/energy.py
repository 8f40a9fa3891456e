"""Energy by component and by layer."""

from __future__ import annotations

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import theme
from reports.figures.common import WIDTH, largest, prefixed, short
from reports.report import LayerRow, Report
from reports.units import share, si


def energy(report: Report) -> Figure:
    """Energy by component (with its uncertainty) and by layer."""
    rows = _rows(report)
    parts = sorted(report.energy, key=lambda name: -report.energy[name])
    colour = theme.colours(parts)
    with rc_context(theme.RC):
        height = 1.5 + 0.27 * len(parts) + 0.235 * max(len(rows), 1)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        ratios = (0.7 + 0.27 * len(parts), 0.8 + 0.235 * max(len(rows), 1))
        top, bottom = figure.subplots(2, 1, height_ratios=ratios)
        at = np.arange(len(parts))
        joules = [report.energy[name] for name in parts]
        bars = top.barh(at, joules, 0.68, color=[colour[name] for name in parts])
        for bar, name, value in zip(bars, parts, joules, strict=True):
            portion = share(value / report.energy_j) if report.energy_j else ""
            bar.set_gid(theme.tip(f"{name}: {si(value, 'J')}, {portion}"))
            top.annotate(
                f"{si(value, 'J')}  {portion}",
                (value, bar.get_y() + bar.get_height() / 2),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=theme.MUTED,
            )
        top.set_yticks(at, parts, fontsize=8)
        top.set_ylim(len(parts) - 0.4, -0.6)
        top.margins(x=0.18)
        top.set_xlabel("energy")
        top.set_title("Energy by component")
        _energy_of_layers(bottom, rows, parts, colour)
        for axes in (top, bottom):
            axes.grid(True, axis="x")
            axes.tick_params(axis="y", length=0)
            prefixed(axes.xaxis, "J")
    return figure


def _rows(report: Report) -> list[LayerRow]:
    return largest([x for x in report.layers if x.energy_j], lambda row: row.energy_j)


def _energy_of_layers(
    axes: Axes, rows: list[LayerRow], parts: list[str], colour: dict[str, str]
) -> None:
    at = np.arange(len(rows))
    base = np.zeros(len(rows))
    for name in parts:
        values = np.array([layer.energy.get(name, 0.0) for layer in rows])
        if not values.any():
            continue
        bars = axes.barh(at, values, 0.68, base, color=colour[name], label=name)
        for bar, layer, value in zip(bars, rows, values, strict=True):
            bar.set_gid(theme.tip(f"{layer.label}, {name}: {si(float(value), 'J')}"))
        base += values
    axes.set_yticks(at, [short(layer.label) for layer in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("energy")
    axes.set_title("Energy by layer (colours as above)")
