"""What lies in DRAM, and how full the scratchpads are, over the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from reports import theme
from reports.figures.common import WIDTH, prefixed
from reports.report import LayerRow, Region, Report
from reports.units import count, share, si

KINDS = {
    "code": (theme.GREY, "instructions"),
    "image": (theme.SKY, "weights, parameters, tables"),
    "input": (theme.GREEN, "inputs"),
    "tensor": (theme.BLUE, "stored tensors"),
}
STRIP = 0.84
"""Height of a full scratchpad; strips lie at distances of 1."""
NEAR = 4096
"""Bytes between regions that are drawn as one: less than alignment to a page leaves."""
OUTPUT = -2
"""`Region.last` of what no layer reads."""


def dram(report: Report) -> Figure:
    """A field per region: its addresses up, the cycles during which it is needed across."""
    with rc_context(theme.RC):
        figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
        axes = figure.subplots()
        for region in joined(report.regions):
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


def joined(regions: Sequence[Region]) -> list[Region]:
    """Regions by address, neighbours of one kind that are needed equally long as one."""
    found: list[Region] = []
    counts: list[int] = []
    for region in sorted(regions, key=lambda region: region.address):
        last = found[-1] if found else None
        kept = (region.kind, region.first, region.last)
        gap = 0 if last is None else region.address - last.address - last.bytes
        if last is None or kept != (last.kind, last.first, last.last) or not 0 <= gap <= NEAR:
            found.append(region)
            counts.append(1)
            continue
        size = region.address + region.bytes - last.address
        counts[-1] += 1
        name = f"{KINDS[region.kind][1]}, {counts[-1]} regions"
        found[-1] = dataclasses.replace(last, name=name, bytes=size)
    return found


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
    """A strip per scratchpad: rows that live over time, on those that each layer addresses."""
    names = list(report.capacity)
    with rc_context(theme.RC):
        figure = Figure(figsize=(WIDTH, 1.5 + 0.6 * len(names)), layout="constrained")
        axes = figure.subplots()
        for row, name in enumerate(reversed(names)):
            for layer, used in zip(report.layers, report.used, strict=True):
                if used[name] and layer.cycles:
                    _addressed(axes, report, layer, name, used[name], row)
            if report.live:
                _alive(axes, report, name, row)
            axes.axhline(row + STRIP, color=theme.MUTED, linewidth=0.7)
        axes.set(xlim=(0, report.cycles), ylim=(-0.05, len(names)), xlabel="cycle")
        labels = [f"{name}\n{count(report.capacity[name])}" for name in reversed(names)]
        axes.set_yticks([row + STRIP / 2 for row in range(len(names))], labels)
        axes.tick_params(axis="y", length=0)
        axes.set_title("Scratchpads: how full they are; the line is all of their rows")
        prefixed(axes.xaxis)
        handles = [Patch(color=theme.GRID, label="rows that a layer addresses")]
        if report.live:
            handles.append(Patch(color=theme.BLUE, label="rows that something still reads"))
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _addressed(axes: Axes, report: Report, layer: LayerRow, name: str, used: int, row: int) -> None:
    part = used / report.capacity[name]
    words = (
        f"{layer.label}: addresses {count(used)} of {count(report.capacity[name])} rows of {name}, "
        f"{share(part)}"
    )
    axes.add_patch(
        Rectangle(
            (layer.last_cycle - layer.cycles, row),
            layer.cycles,
            STRIP * part,
            facecolor=theme.GRID,
            edgecolor=theme.SURFACE,
            linewidth=0.3,
            gid=theme.tip(words),
        )
    )


def _alive(axes: Axes, report: Report, name: str, row: int) -> None:
    assert report.live is not None
    values = report.live.rows[name]
    edges = [min(i * report.live.interval, report.cycles) for i in range(len(values) + 1)]
    most = max(values)
    words = f"{name}: up to {count(round(most))} rows alive, {share(most / report.capacity[name])}"
    axes.stairs(
        [row + STRIP * value / report.capacity[name] for value in values],
        edges,
        baseline=row,
        fill=True,
        color=theme.BLUE,
        linewidth=0,
        gid=theme.tip(words),
    )
