"""What lies in DRAM, and how full the scratchpads are, over the run."""

from __future__ import annotations

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from reports import theme
from reports.figures.common import WIDTH, prefixed
from reports.report import Region, Report
from reports.units import count, share, si

KINDS = {
    "code": (theme.GREY, "instructions"),
    "image": (theme.SKY, "weights, parameters, tables"),
    "input": (theme.GREEN, "inputs"),
    "tensor": (theme.BLUE, "stored tensors"),
}
OUTPUT = -2
"""`Region.last` of what no layer reads."""


def dram(report: Report) -> Figure:
    """A field per region: its addresses up, the cycles during which it is needed across."""
    with rc_context(theme.RC):
        figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
        axes = figure.subplots()
        for region in report.regions:
            _field(axes, report, region)
        end = max((r.address + r.bytes for r in report.regions), default=1)
        axes.set(xlim=(0, report.cycles), ylim=(0, end), xlabel="cycle", ylabel="address")
        axes.set_title("DRAM: what lies where, while it is needed")
        prefixed(axes.xaxis)
        prefixed(axes.yaxis, "B")
        present = [kind for kind in KINDS if any(r.kind == kind for r in report.regions)]
        handles = [Patch(color=KINDS[kind][0], label=KINDS[kind][1]) for kind in present]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles) or 1)
    return figure


def _field(axes: Axes, report: Report, region: Region) -> None:
    colour = KINDS[region.kind][0]
    layers = report.layers
    begin = layers[region.first].first_cycle if region.first >= 0 else 0
    kept = region.last == OUTPUT or region.last >= len(layers)
    end = report.cycles if kept else max(layers[region.last].last_cycle, begin)
    words = (
        f"{region.name}: {si(region.bytes, 'B')} from {region.address:#x}, cycles {count(begin)} "
        f"to {count(end)}"
    )
    axes.add_patch(
        Rectangle(
            (begin, region.address),
            end - begin,
            region.bytes,
            facecolor=colour,
            edgecolor=theme.SURFACE,
            linewidth=0.4,
            gid=theme.tip(words),
        )
    )


def scratchpads(report: Report) -> Figure:
    """A strip per scratchpad: the share of its rows that each layer addresses."""
    names = list(report.capacity)
    with rc_context(theme.RC):
        figure = Figure(figsize=(WIDTH, 1.1 + 0.55 * len(names)), layout="constrained")
        axes = figure.subplots()
        for row, name in enumerate(reversed(names)):
            for layer, used in zip(report.layers, report.used, strict=True):
                part = used[name] / report.capacity[name]
                words = (
                    f"{layer.label}: {count(used[name])} of {count(report.capacity[name])} rows "
                    f"of {name}, {share(part)}"
                )
                axes.add_patch(
                    Rectangle(
                        (layer.last_cycle - layer.cycles, row),
                        layer.cycles,
                        0.84 * part,
                        facecolor=theme.BLUE,
                        edgecolor=theme.SURFACE,
                        linewidth=0.3,
                        gid=theme.tip(words),
                    )
                )
            axes.axhline(row + 0.84, color=theme.GRID, linewidth=0.7)
        axes.set(xlim=(0, report.cycles), ylim=(-0.05, len(names)), xlabel="cycle")
        axes.set_yticks([row + 0.42 for row in range(len(names))], names[::-1])
        axes.tick_params(axis="y", length=0)
        axes.set_title("Scratchpads: rows that each layer addresses; the line is all of them")
        prefixed(axes.xaxis)
    return figure
