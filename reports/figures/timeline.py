"""Occupancy of the units over the run, and windows in which single instructions show."""

from __future__ import annotations

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reports import theme
from reports.figures.common import WIDTH, prefixed, short
from reports.report import Report, Span
from reports.timeline import occupied, visible, windows
from reports.units import count, share

BINS = 480
"""Intervals of the overview."""
NAME = 26
"""Letters of a layer's name, which stands aslant above the run."""
TICKS = 7
"""Numbers along a window: more would print over each other."""


def timeline(report: Report) -> Figure:
    """Occupancy of the units over the run, and windows in which single instructions show."""
    zooms = windows(report)
    lanes = report.lanes
    with rc_context(theme.RC):
        each = 0.6 + 0.36 * len(lanes)
        figure = Figure(figsize=(WIDTH, 1.4 + (1 + len(zooms)) * each), layout="constrained")
        parts = figure.subplots(1 + len(zooms), 1, squeeze=False)[:, 0]
        _overview(parts[0], report, [window for _, window in zooms])
        for axes, (words, window) in zip(parts[1:], zooms, strict=True):
            _zoom(axes, report, window, words)
    return figure


def _overview(axes: Axes, report: Report, marks: list[tuple[int, int]]) -> None:
    edges = np.linspace(0, report.cycles, BINS + 1)
    for row, unit in enumerate(report.lanes):
        spans = [s for s in report.spans if s.unit == unit]
        values = occupied(spans, edges)
        base = len(report.lanes) - 1 - row
        axes.stairs(
            base + 0.86 * values,
            edges,
            baseline=base,
            fill=True,
            color=theme.UNIT_COLOURS.get(unit, theme.GREY),
            gid=theme.tip(f"{unit}: an instruction inside for {share(float(values.mean()))}"),
        )
    for first, last in marks:
        axes.axvspan(first, last, color=theme.RED, alpha=0.25, linewidth=1)
    _lane_axis(axes, report)
    axes.set_ylim(-0.05, len(report.lanes) + 0.36)
    axes.set(xlim=(0, report.cycles), xlabel="cycle")
    longest = max((len(short(layer.label, NAME)) for layer in report.layers), default=0)
    axes.set_title(
        "Whole run: share of time with an instruction inside, per unit", pad=10 + 3.0 * longest
    )
    prefixed(axes.xaxis)
    _layer_strip(axes, report)


def _layer_strip(axes: Axes, report: Report) -> None:
    """A strip over the lanes: one field per layer, its name where there is room."""
    top = len(report.lanes)
    reached = 0.0
    for index, layer in enumerate(report.layers):
        following = report.layers[index + 1 :]
        end = min([layer.last_cycle, *(x.first_cycle for x in following[:1])])
        width = max(end - layer.first_cycle, 0)
        axes.add_patch(
            Rectangle(
                (layer.first_cycle, top + 0.05),
                width,
                0.28,
                facecolor=theme.MUTED,
                alpha=0.75 if index % 2 else 0.4,
                linewidth=0,
                gid=theme.tip(f"{layer.label} ({layer.op}): {count(layer.cycles)} cycles"),
            )
        )
        middle = layer.first_cycle + width / 2
        if width < 0.012 * report.cycles or middle < reached:
            continue
        axes.annotate(
            short(layer.label, NAME),
            (middle, top + 0.36),
            xytext=(-2, 1),
            textcoords="offset points",
            rotation=45,
            rotation_mode="anchor",
            fontsize=7.5,
            color=theme.MUTED,
            annotation_clip=False,
        )
        reached = middle + 0.024 * report.cycles


def _zoom(axes: Axes, report: Report, window: tuple[int, int], words: str) -> None:
    per_cycle = 72 * WIDTH * 0.9 / max(window[1] - window[0], 1)
    for row, unit in enumerate(report.lanes):
        base = len(report.lanes) - 1 - row
        colour = theme.UNIT_COLOURS.get(unit, theme.GREY)
        inside = visible([s for s in report.spans if s.unit == unit], window)
        after = [*(span.issue for span in inside[1:]), window[1]][: len(inside)]
        reached = window[0]
        for span, following in zip(inside, after, strict=True):
            free = max(span.issue, reached), min(span.end, following)
            _slice(axes, report, span, base, colour, per_cycle, free)
            reached = max(reached, span.end)
    _lane_axis(axes, report)
    axes.set(xlim=window, xlabel="cycle")
    axes.set_title(f"Zoom: {words}")
    axes.xaxis.set_major_locator(MaxNLocator(TICKS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))


def _slice(
    axes: Axes,
    report: Report,
    span: Span,
    base: int,
    colour: str,
    per_cycle: float,
    free: tuple[int, int],
) -> None:
    """A field for an instruction; its number where it fits between its neighbours, in `free`."""
    name = report.span_name(span)
    words = (
        f"{span.unit} {name}, instruction {span.index}: {count(span.issue)} to {count(span.end)}"
    )
    axes.add_patch(
        Rectangle(
            (span.issue, base + 0.04),
            span.end - span.issue,
            0.78,
            facecolor=colour,
            edgecolor=theme.SURFACE,
            linewidth=0.6,
            alpha=1.0 if span.number % 2 == 0 else 0.72,
            gid=theme.tip(words),
        )
    )
    first, last = free
    room = ((last - first) * per_cycle - 4) / 4.6
    label = next((text for text in (name, str(span.number)) if len(text) <= room), "")
    if label:
        axes.text(
            (first + last) / 2,
            base + 0.43,
            label,
            ha="center",
            va="center",
            fontsize=7,
            color=theme.on(colour),
            clip_on=True,
        )


def _lane_axis(axes: Axes, report: Report) -> None:
    lanes = len(report.lanes)
    axes.set_ylim(-0.05, lanes)
    axes.set_yticks([lanes - 1 - row + 0.43 for row in range(lanes)], list(report.lanes))
    axes.tick_params(axis="y", length=0)
