"""Roofline figure."""

from __future__ import annotations

import itertools
import math

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import NullFormatter
from matplotlib.transforms import Bbox

from reports import bounds, roof, theme
from reports.figures.common import one, prefixed, short
from reports.report import LayerRow, Report
from reports.units import count, ratio, share

ROOF_STEPS = 400
"""Places on each piece of a roof that names keep away from."""
NAMED_LAYERS = 8
"""Layers with their names; those of the others show when the pointer is held over them."""
PLACES = (
    ((9, 0), "left", "center"),
    ((-9, 0), "right", "center"),
    ((0, 9), "center", "bottom"),
    ((0, -9), "center", "top"),
    ((7, 7), "left", "bottom"),
    ((7, -7), "left", "top"),
    ((-7, 7), "right", "bottom"),
    ((-7, -7), "right", "top"),
    ((0, 21), "center", "bottom"),
    ((0, -21), "center", "top"),
    ((0, 33), "center", "bottom"),
    ((0, -33), "center", "top"),
)
"""Offsets of a name from its point, in points, in the order in which they are tried."""


def roofline(report: Report) -> Figure:
    """Each layer against the machine's bound: intensity across, MAC per cycle up."""
    with rc_context(theme.RC):
        figure, axes = one(4.6)
        shown = drawn_layers(report)
        if not shown:
            axes.set_axis_off()
            axes.text(0.5, 0.5, "no layer has both multiplications and DRAM traffic", ha="center")
            return figure
        ops = list(dict.fromkeys(layer.op for layer in shown))
        colour = theme.colours(ops)
        points = [(x.intensity, x.macs / x.cycles) for x in shown]
        low = min(0.5 * report.roof.ridge, *(x for x, _ in points)) / 1.8
        high = max(2.0 * report.roof.ridge, *(x for x, _ in points)) * 2.2
        knee = report.roof.ridge
        line = [(x, report.roof.bound(x)) for x in (low, knee, high)]
        axes.plot(*zip(*line, strict=True), color=theme.INK, linewidth=1.6, zorder=2, gid="roof")
        floor = min(min(y for _, y in points), report.roof.bound(low)) / 1.8
        axes.fill_between(
            [low, knee, high], floor, [y for _, y in line], color=theme.GRID, alpha=0.35, zorder=0
        )
        for layer, (x, y) in zip(shown, points, strict=True):
            words = (
                f"{layer.label} ({layer.op}): {ratio(x)} MAC/B, {ratio(y, 1)} MAC/cycle, "
                f"{share(layer.roofline_share)} of its bound{above(report, layer)}"
            )
            axes.plot(
                [x],
                [y],
                "o",
                markersize=5 + 22 * math.sqrt(layer.cycles / report.cycles),
                color=colour[layer.op],
                markeredgecolor=theme.SURFACE,
                alpha=0.85,
                gid=theme.tip(words),
                zorder=3,
            )
        top = max(*(y for _, y in points), float(report.multipliers)) * 4
        _second_roof(axes, report, low, high)
        _whole_run(axes, report)
        axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(floor, top))
        _roofline_labels(axes, report, (low, high))
        handles: list[Artist] = [Patch(color=colour[op], label=op) for op in ops]
        handles += axes.get_legend_handles_labels()[0]
        axes.legend(handles=handles, loc="lower right", ncols=1 + len(ops) // 9)
        _name_points(axes, report, points)
    return figure


def above(report: Report, layer: LayerRow) -> str:
    """Why a layer lies above the roof, for its tooltip; empty for one that does not.

    The roof counts every byte that the layer moved. A bound counts those that it must move, so
    that a layer may keep within its bound and still lie above the roof.
    """
    rate, allowed = layer.macs / layer.cycles, report.roof.bound(layer.intensity)
    if rate <= roof.OVER * allowed:
        return ""
    if rate > roof.OVER * report.roof.port_bytes * layer.intensity:
        moved = share(rate / allowed - 1)
        return f"; {moved} above the roof: bytes of it moved ahead, under an earlier layer"
    if bounds.gain(layer.choice) > 1:
        return f"; above the roof: {layer.algorithm} needs fewer products than MAC"
    return "; above the roof: a part of its work was done ahead, under an earlier layer"


def _name_points(axes: Axes, report: Report, points: list[tuple[float, float]]) -> None:
    """Name the layers that take most of the run, each where its name meets nothing.

    A name that finds no room is left to the tooltip, as those of shorter layers are.
    """
    shown = drawn_layers(report)
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    theme.settle(figure)  # where things are is known only after a layout
    legend = axes.get_legend()
    taken = [axes.transData.transform(point) for point in points]
    boxes = [Bbox.from_bounds(x - 3, y - 3, 6, 6) for x, y in taken]
    for line in axes.lines:
        corners = np.asarray(line.get_xydata())
        if len(corners) > 1:  # a roof: a name across it would be struck through
            ends = axes.transData.transform(corners)
            along = [np.linspace(a, b, ROOF_STEPS) for a, b in itertools.pairwise(ends)]
            boxes += [Bbox.from_bounds(x - 2, y - 2, 4, 4) for x, y in np.concatenate(along)]
    boxes += [text.get_window_extent() for text in axes.texts]
    boxes += [legend.get_window_extent()] if legend is not None else []
    inside = axes.get_window_extent()
    for i in sorted(range(len(shown)), key=lambda i: -shown[i].cycles)[:NAMED_LAYERS]:
        label = axes.annotate(
            short(shown[i].label),
            points[i],
            xytext=(0, 0),
            textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": theme.MUTED, "linewidth": 0.6, "shrinkB": 3},
            fontsize=8,
            zorder=4,
            gid="name",
        )
        for (x, y), horizontal, vertical in PLACES:
            label.set_position((x, y))
            label.set(ha=horizontal, va=vertical)
            label.get_window_extent()  # places it; what it returns holds the line, too
            box = Text.get_window_extent(label).expanded(1.02, 1.05)
            fits = box.x0 >= inside.x0 and box.x1 <= inside.x1
            fits &= box.y0 >= inside.y0 and box.y1 <= inside.y1
            if fits and not any(box.overlaps(other) for other in boxes):
                boxes.append(box)
                break
        else:
            label.remove()


def drawn_layers(report: Report) -> list[LayerRow]:
    """Layers that have a place in the figure."""
    return [x for x in report.layers if x.macs and x.dram_bytes and x.cycles]


def _second_roof(axes: Axes, report: Report, low: float, high: float) -> None:
    """What the multipliers allow a layer of the best algorithm of the run, dashed."""
    found = [(bounds.gain(x.choice), x.algorithm) for x in report.layers]
    gain, name = max(found, default=(1.0, ""))
    if gain <= 1:
        return
    peak = gain * report.multipliers
    ridge = peak / report.roof.port_bytes
    line = [(x, min(peak, report.roof.port_bytes * x)) for x in (low, ridge, max(high, ridge))]
    axes.plot(
        *zip(*line, strict=True),
        color=theme.MUTED,
        linewidth=1.2,
        linestyle="--",
        zorder=1,
        gid="second roof",
    )
    axes.annotate(
        f"{count(report.multipliers)} multipliers, {name}: {ratio(gain)} MAC a product",
        (ridge, peak),
        xytext=(-4, 0),
        textcoords="offset points",
        ha="right",
        fontsize=8.5,
        color=theme.MUTED,
    )


def _roofline_labels(axes: Axes, report: Report, limits: tuple[float, float]) -> None:
    low, high = limits
    axes.set_xlabel("arithmetic intensity  [MAC per DRAM byte]")
    axes.set_ylabel("performance  [MAC per cycle]")
    axes.set_title("Roofline: how close each layer comes to what the machine allows")
    axes.grid(True, which="major")
    for axis in (axes.xaxis, axes.yaxis):
        prefixed(axis)
        axis.set_minor_formatter(NullFormatter())
    axes.annotate(
        f"{count(report.multipliers)} multipliers",
        (high, report.multipliers),
        xytext=(-4, -12),
        textcoords="offset points",
        ha="right",
        fontsize=8.5,
        color=theme.MUTED,
    )
    middle = math.sqrt(low * report.roof.ridge)
    axes.text(
        middle,
        1.12 * report.roof.bound(middle),
        f"{report.roof.port_bytes} B per cycle",
        rotation=math.degrees(math.atan(report.roof.port_bytes)),
        rotation_mode="anchor",
        transform_rotates_text=True,
        ha="center",
        va="bottom",
        fontsize=8.5,
        color=theme.MUTED,
    )


def _whole_run(axes: Axes, report: Report) -> None:
    if not report.dram_bytes:
        return
    place = (report.macs / report.dram_bytes, report.macs / report.cycles)
    axes.plot(
        *([value] for value in place),
        "D",
        label="whole run",
        markersize=9,
        markerfacecolor="none",
        markeredgecolor=theme.INK,
        markeredgewidth=1.6,
        zorder=5,
        gid=theme.tip(f"whole run: {ratio(place[0])} MAC/B, {ratio(place[1], 1)} MAC/cycle"),
    )
