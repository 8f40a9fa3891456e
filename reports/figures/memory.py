"""What lies in DRAM, and how full the scratchpads are, over the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from reports import theme
from reports.drawing import Axes, Axis, Box, Key, Legend, Line, Picture, Stairs, linear
from reports.figures.common import stack
from reports.report import LayerRow, Live, Region, Report
from reports.units import count, share, si

KINDS = {
    "code": (theme.GREY, "instructions"),
    "image": (theme.SKY, "weights, parameters, tables"),
    "input": (theme.GREEN, "inputs"),
    "tensor": (theme.BLUE, "stored tensors"),
}
MAP, PAD = 215.0, 44.0
"""Points: height of the map of DRAM, and of a scratchpad with the room above it."""
STRIP = 0.84
"""Height of a full scratchpad; strips lie at distances of 1."""
NEAR = 4096
"""Bytes between regions that are drawn as one: less than alignment to a page leaves."""
OUTPUT = -2
"""`Region.last` of what no layer reads."""


def dram(report: Report) -> Picture:
    """A field per region: its addresses up, the cycles during which it is needed across."""
    end = max((r.address + r.bytes for r in report.regions), default=1)
    axes = Axes(
        linear(0, report.cycles, "cycle"),
        linear(0, end, "address", "B", most=7),
        "DRAM: what lies where, while it is needed",
    )
    axes.add(*(_field(report, region) for region in joined(report.regions)))
    present = [kind for kind in KINDS if any(r.kind == kind for r in report.regions)]
    keys = [Key(*KINDS[kind]) for kind in present]
    return stack([axes], [MAP], Legend(keys, len(keys)))


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


def _field(report: Report, region: Region) -> Box:
    layers = report.layers
    begin = layers[region.first].first_cycle if region.first >= 0 else 0
    kept = region.last == OUTPUT or region.last >= len(layers)
    end = report.cycles if kept else max(layers[region.last].last_cycle, begin)
    words = (
        f"{region.name}: {si(region.bytes, 'B')} from {region.address:#x}, cycles {count(begin)} "
        f"to {count(end)}"
    )
    colour = KINDS[region.kind][0]
    size = end - begin, region.bytes
    return Box(begin, region.address, *size, colour, words, edge=theme.SURFACE, line=0.4)


def scratchpads(report: Report) -> Picture:
    """A strip per scratchpad: rows that live over time, on those that each layer addresses."""
    names = list(report.capacity)[::-1]
    labels = [(row + STRIP / 2, _label(report, name)) for row, name in enumerate(names)]
    axes = Axes(
        linear(0, report.cycles, "cycle"),
        Axis(-0.05, len(names), tuple(labels), marks=False),
        "Scratchpads: how full they are; the line is all of their rows",
    )
    for row, name in enumerate(names):
        for layer, used in zip(report.layers, report.used, strict=True):
            if used[name] and layer.cycles:
                axes.add(_addressed(report, layer, name, used[name], row))
        if report.live:
            axes.add(_alive(report, report.live, name, row))
        full = row + STRIP
        axes.add(Line(((0, full), (report.cycles, full)), theme.MUTED, 0.7))
    keys = [Key(theme.GRID, "rows that a layer addresses")]
    if report.live:
        keys.append(Key(theme.BLUE, "rows that something still reads"))
    return stack([axes], [PAD * len(names)], Legend(keys, len(keys)))


def _label(report: Report, name: str) -> str:
    return f"{name}\n{count(report.capacity[name])}"


def _addressed(report: Report, layer: LayerRow, name: str, used: int, row: int) -> Box:
    part = used / report.capacity[name]
    words = (
        f"{layer.label}: addresses {count(used)} of {count(report.capacity[name])} rows of {name}, "
        f"{share(part)}"
    )
    begin = layer.last_cycle - layer.cycles
    size = layer.cycles, STRIP * part
    return Box(begin, row, *size, theme.GRID, words, edge=theme.SURFACE, line=0.3)


def _alive(report: Report, live: Live, name: str, row: int) -> Stairs:
    values = live.rows[name]
    edges = [min(i * live.interval, report.cycles) for i in range(len(values) + 1)]
    most = max(values)
    words = f"{name}: up to {count(round(most))} rows alive, {share(most / report.capacity[name])}"
    heights = [row + STRIP * value / report.capacity[name] for value in values]
    return Stairs(heights, edges, row, theme.BLUE, words)
