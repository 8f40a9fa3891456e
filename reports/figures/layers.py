"""Cycles and utilization of each layer."""

from __future__ import annotations

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from reports import theme
from reports.figures.common import WIDTH, largest, prefixed, short
from reports.report import Report
from reports.units import count


def layers(report: Report) -> Figure:
    """Cycles of each layer with its bound, and how full the array was."""
    ran = [row for row in report.layers if row.executions]
    rows = largest(ran, lambda row: row.cycles)
    with rc_context(theme.RC):
        figure = Figure(figsize=(WIDTH, 1.1 + 0.235 * len(rows)), layout="constrained")
        figure.set_layout_engine("constrained", wspace=0.06)  # numbers at both ends stay apart
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2.1, 1))
        at = np.arange(len(rows))
        bars = left.barh(at, [x.cycles for x in rows], 0.68, color=theme.BLUE)
        for bar, layer in zip(bars, rows, strict=True):
            bar.set_gid(
                theme.tip(
                    f"{layer.label}: {count(layer.cycles)} cycles, bound "
                    f"{count(layer.roofline_cycles)}"
                )
            )
        bound = [x.roofline_cycles for x in rows]
        left.scatter(
            bound, at, marker="|", s=130, linewidths=2, color=theme.ORANGE, zorder=3, gid="bound"
        )
        left.set_yticks(at, [short(x.label) for x in rows], fontsize=8)
        left.set_xlabel("cycles")
        left.set_title("Cycles per layer")
        prefixed(left.xaxis)
        left.legend(
            handles=[
                Patch(color=theme.BLUE, label="cycles"),
                Patch(color=theme.ORANGE, label="roofline bound"),
            ],
            loc="lower right",
        )
        right.barh(at, [100 * (x.utilization or 0.0) for x in rows], 0.68, color=theme.GREEN)
        right.set(xlim=(0, 100), xlabel="of its cycles  [%]")
        right.set_title("Array in use")
        for axes in (left, right):
            axes.grid(True, axis="x")
            axes.tick_params(axis="y", length=0)
        left.set_ylim(len(rows) - 0.4, -0.6)
    return figure
