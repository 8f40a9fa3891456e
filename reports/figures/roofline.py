"""Roofline figure."""

from __future__ import annotations

import math

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from reports import theme
from reports.figures.common import one, prefixed
from reports.report import Report
from reports.units import count, ratio, share


def roofline(report: Report) -> Figure:
    """Each layer against the machine's bound: intensity across, MAC per cycle up."""
    with rc_context(theme.RC):
        figure, axes = one(4.6)
        shown = [x for x in report.layers if x.macs and x.dram_bytes and x.cycles]
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
                f"{share(layer.roofline_share)} of its bound"
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
        _whole_run(axes, report)
        _name_points(axes, report, points, (low, high, floor, top))
        axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(floor, top))
        _roofline_labels(axes, report, (low, high))
        handles: list[Artist] = [Patch(color=colour[op], label=op) for op in ops]
        handles += axes.get_legend_handles_labels()[0]
        axes.legend(handles=handles, loc="lower right", ncols=1 + len(ops) // 9)
    return figure


def _name_points(
    axes: Axes,
    report: Report,
    points: list[tuple[float, float]],
    limits: tuple[float, float, float, float],
    most: int = 12,
) -> None:
    """Name the layers that take most of the run, where there is room for the name.

    On the slope names stand to the right, on the flat part they rise from the point.
    """
    shown = [x for x in report.layers if x.macs and x.dram_bytes and x.cycles]
    low, high, floor, top = limits
    taken: list[tuple[float, float]] = []
    for i in sorted(range(len(shown)), key=lambda i: -shown[i].cycles)[:most]:
        x = math.log(points[i][0] / low) / math.log(high / low)
        y = math.log(points[i][1] / floor) / math.log(top / floor)
        if any(abs(y - v) < 0.05 and abs(x - u) < 0.026 for u, v in taken):
            continue
        taken.append((x, y))
        steep = report.roof.limit(points[i][0]) == "multipliers"
        axes.annotate(
            shown[i].label,
            points[i],
            xytext=(2, 9) if steep else (10, -3),
            textcoords="offset points",
            rotation=45 if steep else 0,
            rotation_mode="anchor",
            fontsize=8,
            zorder=4,
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
