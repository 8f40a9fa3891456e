"""Roofline figure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from reports import bounds, roof, theme
from reports.drawing import (
    Axes,
    Axis,
    Dot,
    Key,
    Legend,
    Line,
    Picture,
    Word,
    logarithmic,
)
from reports.drawing.room import Bounds, covered, crossed, meet, wider, within
from reports.figures.common import short, stack
from reports.report import LayerRow, Report
from reports.units import count, ratio, share

HEIGHT = 255.0
"""Points."""
NAMED_LAYERS = 8
"""Layers with their names; those of the others show when the pointer is held over them."""
NAME_SIZE, NOTE_SIZE = 8.0, 8.5
PLACES = (
    ((1, 0), 4, "start", "middle"),
    ((-1, 0), 4, "end", "middle"),
    ((0, 1), 4, "middle", "bottom"),
    ((0, -1), 4, "middle", "top"),
    ((0.7, 0.7), 4, "start", "bottom"),
    ((0.7, -0.7), 4, "start", "top"),
    ((-0.7, 0.7), 4, "end", "bottom"),
    ((-0.7, -0.7), 4, "end", "top"),
    ((0, 1), 16, "middle", "bottom"),
    ((0, -1), 16, "middle", "top"),
    ((0.7, 0.7), 16, "start", "bottom"),
    ((0.7, -0.7), 16, "start", "top"),
    ((-0.7, 0.7), 16, "end", "bottom"),
    ((-0.7, -0.7), 16, "end", "top"),
    ((0, 1), 28, "middle", "bottom"),
    ((0, -1), 28, "middle", "top"),
)
"""Directions of a name from its dot and points from the dot's edge, in the order of trying."""
APART = 2.0
"""Points between a name and a roof, which would strike it out."""
LED = 8
"""Points from a dot from which on a line leads to its name."""
SLOPE_PLACES = (0.5, 0.35, 0.65, 0.2, 0.8)
"""Of the words on the slope: shares of its length, in the order in which they are tried."""
NONE = "no layer has both multiplications and DRAM traffic"


def roofline(report: Report) -> Picture:
    """Each layer against the machine's bound: intensity across, MAC per cycle up."""
    shown = drawn_layers(report)
    if not shown:
        axes = Axes(Axis(0, 1), Axis(0, 1), bare=True)
        axes.add(Word(0.5, 0.5, NONE, theme.INK, align="middle", level="middle"))
        return stack([axes], [HEIGHT])
    ops = list(dict.fromkeys(layer.op for layer in shown))
    colour = theme.colours(ops)
    points = [(x.intensity, x.macs / x.cycles) for x in shown]
    axes = _axes(report, points)
    low, high = axes.x.low, axes.x.high
    line = [(x, report.roof.bound(x)) for x in (low, report.roof.ridge, high)]
    under = [*line, (high, axes.y.low), (low, axes.y.low)]
    axes.add(Line(under, theme.GRID, fill=True, alpha=0.35))
    _second_roof(axes, report)
    axes.add(Line(line, theme.INK, 1.6, name="roof"))
    dots = _dots(report, shown, points, colour)
    axes.add(*sorted(dots, key=lambda dot: -dot.size))  # a small one is not covered
    keys = [Key(colour[op], op) for op in ops]
    keys += _whole_run(axes, report)
    picture = stack([axes], [HEIGHT])
    _roof_notes(axes, report)
    legend = Legend(keys, columns=1 + len(ops) // 9)
    right, bottom = axes.left + axes.width - 6, axes.top + axes.height - 4
    corner = right - legend.width, bottom - legend.height
    picture.extra += legend.shapes(*corner)
    _name_points(axes, shown, dots, (*corner, right, bottom))
    return picture


def _axes(report: Report, points: Sequence[tuple[float, float]]) -> Axes:
    low = min(0.5 * report.roof.ridge, *(x for x, _ in points)) / 1.8
    high = max(2.0 * report.roof.ridge, *(x for x, _ in points)) * 2.2
    floor = min(min(y for _, y in points), report.roof.bound(low)) / 1.8
    top = max(*(y for _, y in points), float(report.multipliers)) * 4
    return Axes(
        logarithmic(low, high, "arithmetic intensity [MAC per DRAM byte]"),
        logarithmic(floor, max(top, 1.5 * _peak(report)[0]), "performance [MAC per cycle]"),
        "Roofline: how close each layer comes to what the machine allows",
        grid="xy",
    )


def _dots(
    report: Report,
    shown: Sequence[LayerRow],
    points: Sequence[tuple[float, float]],
    colour: dict[str, str],
) -> list[Dot]:
    found = []
    for layer, (x, y) in zip(shown, points, strict=True):
        words = (
            f"{layer.label} ({layer.op}): {ratio(x)} MAC/B, {ratio(y, 1)} MAC/cycle, "
            f"{share(layer.roofline_share)} of its bound{above(report, layer)}"
        )
        size = 5 + 22 * math.sqrt(layer.cycles / report.cycles)
        look = {"edge": theme.SURFACE, "tip": words, "name": layer.label}
        found.append(Dot(x, y, size, colour[layer.op], alpha=0.85, **look))
    return found


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


def _name_points(
    axes: Axes, shown: Sequence[LayerRow], dots: Sequence[Dot], legend: Bounds
) -> None:
    """Name the layers that take most of the run, each where its name meets nothing.

    A name that finds no room is left to the tooltip, as those of shorter layers are.
    """
    dotted = [_around(axes, dot) for dot in axes.dots]
    words = [wider(covered(axes.text(word)), 1) for word in axes.words]
    words.append(legend)
    roofs = [
        (axes.at(*a), axes.at(*b))
        for line in axes.lines
        if not line.fill
        for a, b in itertools.pairwise(line.points)
    ]
    inside = (axes.left, axes.top, axes.left + axes.width, axes.top + axes.height)
    for i in sorted(range(len(shown)), key=lambda i: -shown[i].cycles)[:NAMED_LAYERS]:
        dot, label = dots[i], short(shown[i].label)
        for (right, up), apart, align, level in PLACES:
            away = dot.size / 2 + apart
            shift = right * away, up * away
            name = Word(dot.x, dot.y, label, theme.INK, NAME_SIZE, shift, align, level, name="name")
            box = wider(covered(axes.text(name)), 1)
            leader = [_leader(axes, dot, name)] if apart > LED else []
            ends = [(axes.at(*line.points[0]), axes.at(*line.points[1])) for line in leader]
            if (
                within(box, inside)
                and not any(meet(box, other) for other in (*words, *dotted))
                and not any(crossed(wider(box, APART), *roof) for roof in roofs)
                and not any(crossed(word, *end) for end in ends for word in words)
            ):
                words.append(box)
                axes.add(*leader, name)
                break


def _leader(axes: Axes, dot: Dot, name: Word) -> Line:
    """A thin line from the edge of a dot to its name."""
    x, y = axes.at(dot.x, dot.y)
    right, up = name.shift
    part = dot.size / 2 / math.hypot(right, up)
    begin = axes.value(x + part * right, y - part * up)
    return Line((begin, axes.value(x + right, y - up)), theme.MUTED, 0.6, name="leader")


def _around(axes: Axes, dot: Dot) -> Bounds:
    """What a dot covers: the square in its circle."""
    x, y = axes.at(dot.x, dot.y)
    half = 0.36 * dot.size
    return x - half, y - half, x + half, y + half


def drawn_layers(report: Report) -> list[LayerRow]:
    """Layers that have a place in the figure."""
    return [x for x in report.layers if x.macs and x.dram_bytes and x.cycles]


def _peak(report: Report) -> tuple[float, float, str]:
    """MAC per cycle of the multipliers by the best algorithm of the run, its gain and name."""
    found = [(bounds.gain(x.choice), x.algorithm) for x in report.layers]
    gain, name = max(found, default=(1.0, ""))
    return gain * report.multipliers, gain, name


def _second_roof(axes: Axes, report: Report) -> None:
    """What the multipliers allow a layer of the best algorithm of the run, dashed."""
    peak, gain, name = _peak(report)
    if gain <= 1:
        return
    ridge = peak / report.roof.port_bytes
    high = max(axes.x.high, ridge)
    line = [(x, min(peak, report.roof.port_bytes * x)) for x in (axes.x.low, ridge, high)]
    words = f"{count(report.multipliers)} multipliers, {name}: {ratio(gain)} MAC a product"
    axes.add(
        Line(line, theme.MUTED, 1.2, dash="4.4 1.9", name="second roof"),
        Word(ridge, peak, words, theme.MUTED, NOTE_SIZE, (-4, 0), align="end"),
    )


def _roof_notes(axes: Axes, report: Report) -> None:
    """What the lines stand for, beside them."""
    words = f"{count(report.multipliers)} multipliers"
    axes.add(
        Word(
            axes.x.high,
            report.multipliers,
            words,
            theme.MUTED,
            NOTE_SIZE,
            (-4, -12),
            align="end",
        )
    )
    axes.add(_slope_note(axes, report))


def _slope_note(axes: Axes, report: Report) -> Word:
    """What the slope stands for, along it, where no dot lies if there is such a place."""
    low, ridge = axes.x.low, report.roof.ridge
    first, last = (axes.at(x, report.roof.bound(x)) for x in (low, ridge))
    turn = math.atan2(first[1] - last[1], last[0] - first[0])
    shift = (-4 * math.sin(turn), 4 * math.cos(turn))
    words = f"{report.roof.port_bytes} B per cycle"
    dots = [_around(axes, dot) for dot in axes.dots]
    found = []
    for place in SLOPE_PLACES:
        x = low * (ridge / low) ** place
        note = Word(
            x,
            report.roof.bound(x),
            words,
            theme.MUTED,
            NOTE_SIZE,
            shift,
            align="middle",
            turn=math.degrees(turn),
        )
        box = covered(axes.text(note))
        found.append((sum(meet(box, dot) for dot in dots), note))
    return min(found, key=lambda each: each[0])[1]


def _whole_run(axes: Axes, report: Report) -> list[Key]:
    """The diamond of the whole run, and its key."""
    if not report.dram_bytes:
        return []
    x, y = report.macs / report.dram_bytes, report.macs / report.cycles
    words = f"whole run: {ratio(x)} MAC/B, {ratio(y, 1)} MAC/cycle"
    axes.add(Dot(x, y, 9, theme.INK, "D", tip=words, name="whole run"))
    return [Key(theme.INK, "whole run", "D")]
