"""Occupancy of the units over the run, and windows in which single instructions show."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from reports import theme
from reports.drawing import Axes, Axis, Box, Picture, Stairs, Word, letters, linear
from reports.figures.common import EDGE, WIDTH, short, stack
from reports.report import LayerRow, Report, Span
from reports.timeline import occupied, visible, windows
from reports.units import count, share

BINS = 480
"""Intervals of the overview."""
NAME = 26
"""Letters of a layer's name, which stands aslant above the run."""
SLANT = math.sqrt(0.5)
NAME_SIZE, NUMBER_SIZE = 7.5, 7.0
TICKS = 7
"""Numbers along a window: more would print over each other."""
LANE = 23.0
"""Points."""
WIDE = 0.05
"""Share of the run."""
LEAST, STEP = 0.012, 0.024
"""Shares of the run: a field with a name, and the distance of names."""


def timeline(report: Report) -> Picture:
    """Occupancy of the units over the run, and windows in which single instructions show."""
    zooms = windows(report)
    marks = [window for _, window in zooms]
    parts = [_overview(report, marks), *(_zoom(report, *zoom) for zoom in zooms)]
    lanes = LANE * len(report.lanes)
    return stack(parts, [lanes + 0.4 * LANE, *(lanes for _ in zooms)])


def _overview(report: Report, marks: Sequence[tuple[int, int]]) -> Axes:
    lanes = len(report.lanes)
    named = list(_named(report))
    longest = max((letters.width(words, NAME_SIZE) for _, words in named), default=0.0)
    axes = Axes(
        linear(0, report.cycles, "cycle"),
        _lanes(report, lanes + 0.36),
        "Whole run: share of time with an instruction inside, per unit",
        above=12 + SLANT * longest,
    )
    axes.add(*(_band(axes, window) for window in marks if _wide(report, window)))
    edges = np.linspace(0, report.cycles, BINS + 1)
    for row, unit in enumerate(report.lanes):
        values = occupied([s for s in report.spans if s.unit == unit], edges)
        base = lanes - 1 - row
        words = f"{unit}: an instruction inside for {share(float(values.mean()))}"
        heights = (base + 0.86 * values).tolist()
        axes.add(Stairs(heights, edges.tolist(), base, _colour(unit), words))
    axes.add(*(_band(axes, window) for window in marks if not _wide(report, window)))
    axes.add(*_strip(report))
    for middle, words in named:
        axes.add(Word(middle, lanes + 0.36, words, theme.MUTED, NAME_SIZE, (-2, 1), turn=45))
    room = WIDTH - 2 * EDGE - axes.margins.left
    for middle, words in named:
        beside = room - SLANT * letters.width(words, NAME_SIZE)
        axes.right = max(axes.right, room - beside / max(axes.x.share(middle), 0.01))
    return axes


def _wide(report: Report, window: tuple[int, int]) -> bool:
    """Whether a window's band would cover much of the run; such ones lie behind."""
    return window[1] - window[0] > WIDE * report.cycles


def _band(axes: Axes, window: tuple[int, int]) -> Box:
    """Where a window lies."""
    size = window[1] - window[0], axes.y.high - axes.y.low
    return Box(window[0], axes.y.low, *size, theme.RED, alpha=0.25, edge=theme.RED, line=0.3)


def _fields(report: Report) -> Iterator[tuple[LayerRow, float]]:
    """Every layer with the cycles until the next one begins."""
    for index, layer in enumerate(report.layers):
        following = report.layers[index + 1 :][:1]
        end = min([layer.last_cycle, *(x.first_cycle for x in following)])
        yield layer, max(end - layer.first_cycle, 0)


def _strip(report: Report) -> Iterator[Box]:
    """A strip over the lanes: one field per layer."""
    top = len(report.lanes) + 0.05
    for index, (layer, width) in enumerate(_fields(report)):
        yield Box(
            layer.first_cycle,
            top,
            width,
            0.28,
            theme.MUTED,
            f"{layer.label} ({layer.op}): {count(layer.cycles)} cycles",
            alpha=0.75 if index % 2 else 0.4,
        )


def _named(report: Report) -> Iterator[tuple[float, str]]:
    """Middle and name of the layers that have room for one."""
    reached = 0.0
    for layer, width in _fields(report):
        middle = layer.first_cycle + width / 2
        if width >= LEAST * report.cycles and middle >= reached:
            yield middle, short(layer.label, NAME)
            reached = middle + STEP * report.cycles


def _zoom(report: Report, words: str, window: tuple[int, int]) -> Axes:
    across = linear(*window, "cycle", most=TICKS, shown=count)
    axes = Axes(across, _lanes(report, len(report.lanes)), f"Zoom: {words}")
    per_cycle = 0.9 * WIDTH / max(window[1] - window[0], 1)
    for base, unit in enumerate(reversed(report.lanes)):
        inside = visible([s for s in report.spans if s.unit == unit], window)
        after = [*(span.issue for span in inside[1:]), window[1]][: len(inside)]
        numbers = []
        reached = window[0]
        for span, following in zip(inside, after, strict=True):
            axes.add(_slice(report, span, base))
            free = max(span.issue, reached), min(span.end, following)
            numbers += _number(report, span, base, per_cycle, free)
            reached = max(reached, span.end)
        axes.add(*numbers)
    return axes


def _slice(report: Report, span: Span, base: int) -> Box:
    """A field for an instruction."""
    words = (
        f"{span.unit} {report.span_name(span)}, instruction {span.index}: {count(span.issue)} to "
        f"{count(span.end)}"
    )
    return Box(
        span.issue,
        base + 0.04,
        span.end - span.issue,
        0.78,
        _colour(span.unit),
        words,
        alpha=1.0 if span.number % 2 == 0 else 0.72,
        edge=theme.SURFACE,
    )


def _number(
    report: Report, span: Span, base: int, per_cycle: float, free: tuple[int, int]
) -> list[Word]:
    """Name or number of an instruction, where it fits between its neighbours, in `free`."""
    first, last = free
    room = (last - first) * per_cycle - 4
    for words in (report.span_name(span), str(span.number)):
        if letters.width(words, NUMBER_SIZE) <= room:
            ink = theme.on(_colour(span.unit))
            place = (first + last) / 2, base + 0.43
            return [Word(*place, words, ink, NUMBER_SIZE, align="middle", level="middle")]
    return []


def _colour(unit: str) -> str:
    return theme.UNIT_COLOURS.get(unit, theme.GREY)


def _lanes(report: Report, high: float) -> Axis:
    """A lane for each unit, the first on top."""
    lanes = len(report.lanes)
    names = tuple((lanes - 1 - row + 0.43, unit) for row, unit in enumerate(report.lanes))
    return Axis(-0.05, high, names, marks=False)
