"""What the accelerator decided, step by step of a clip."""

from __future__ import annotations

import itertools

from reports import paths, theme
from reports.drawing import Axes, Box, Key, Legend, Picture, linear
from reports.figures.common import beside
from reports.report import Report
from reports.units import count, share

COLOURS = (theme.RED, theme.MUTED, *theme.UNIT_COLOURS.values())
"""By path, the one with the most cycles first."""
HEIGHT = 150.0
"""Points."""
WITHIN = 4
"""Columns of the legend."""


def decisions(report: Report) -> Picture:
    """Two parts: cycles of every step by the way that it took; how many steps took how long."""
    steps = paths.taken(report)
    kinds = sorted(
        paths.kinds(report), key=lambda kind: -max(s.cycles or 0 for s in steps if s.path == kind)
    )
    colour = {kind: COLOURS[n % len(COLOURS)] for n, kind in enumerate(kinds)}
    letters = paths.letters(paths.kinds(report))
    mine = {kind: [s.cycles or 0 for s in steps if s.path == kind] for kind in kinds}
    legend = Legend(
        [
            Key(
                colour[kind], f"{letters[kind]}: {share(len(mine[kind]) / len(steps))} of the steps"
            )
            for kind in kinds
        ],
        WITHIN,
    )
    most = max(s.cycles or 1 for s in steps)
    changes = sum(a.path != b.path for a, b in itertools.pairwise(steps))
    times = "once" if changes == 1 else f"{count(changes)} times"
    up = linear(0, 1.05 * most, "cycles", most=6)
    left = Axes(
        linear(-0.7, len(steps) - 0.3, "step of the clip", shown=count),
        up,
        f"Cycles of each step; the way changes {times}",
        above=legend.height + 8,
    )
    for number, step in enumerate(steps):
        words = f"step {number}: {paths.decisions(step.path)}, {count(step.cycles or 0)} cycles"
        left.add(Box(number - 0.45, 0, 0.9, step.cycles or 0, colour[step.path], words))
    longest = max(map(len, mine.values()))
    right = Axes(
        linear(0, 1.05 * longest, "steps", most=3, shown=count),
        up.without_words(),
        "How often",
        above=legend.height + 8,
    )
    for kind in kinds:
        low, high = min(mine[kind]), max(mine[kind])
        height = max(high - low, 0.02 * most)
        words = f"{len(mine[kind])} steps of {count(low)} to {count(high)} cycles"
        base = (low + high - height) / 2
        right.add(Box(0, base, len(mine[kind]), height, colour[kind], words))
    picture = beside([left, right], (4, 1), HEIGHT)
    picture.extra += legend.shapes(left.left, left.top - legend.height - 4)
    return picture
