"""Energy by component and by layer."""

from __future__ import annotations

from reports import theme
from reports.drawing import Axes, Picture, Word, linear, rows
from reports.figures.common import bar, largest, short, stack
from reports.report import LayerRow, Report
from reports.units import share, si

PART, ROW = 19.5, 17.0
"""Points of a row: a component, a layer."""


def energy(report: Report) -> Picture:
    """Energy by component (with its share) and by layer."""
    layers = largest([x for x in report.layers if x.energy_j], lambda row: row.energy_j)
    parts = sorted(report.energy, key=lambda name: -report.energy[name])
    colour = theme.colours(parts)
    most = max(report.energy.values(), default=0.0)
    top = Axes(linear(0, 1.18 * most, "energy", "J"), rows(parts), "Energy by component", grid="x")
    for row, name in enumerate(parts):
        value = report.energy[name]
        portion = share(value / report.energy_j) if report.energy_j else ""
        words = f"{si(value, 'J')}, {portion}".rstrip(", ")
        top.add(
            bar(row, 0, value, colour[name], f"{name}: {words}"),
            Word(
                value,
                row,
                words,
                theme.MUTED,
                8,
                shift=(5, 0),
                level="middle",
            ),
        )
    bottom = _by_layer(layers, parts, colour)
    return stack([top, bottom], [PART * (len(parts) + 0.2), ROW * (max(len(layers), 1) + 0.2)])


def _by_layer(layers: list[LayerRow], parts: list[str], colour: dict[str, str]) -> Axes:
    most = max((layer.energy_j for layer in layers), default=0.0)
    axes = Axes(
        linear(0, 1.05 * most, "energy", "J"),
        rows([short(layer.label) for layer in layers]),
        "Energy by layer (colours as above)",
        grid="x",
    )
    base = [0.0] * len(layers)
    for name in parts:
        for row, layer in enumerate(layers):
            value = layer.energy.get(name, 0.0)
            if value:
                words = f"{layer.label}, {name}: {si(value, 'J')}"
                axes.add(bar(row, base[row], value, colour[name], words))
                base[row] += value
    return axes
