"""What the accelerator decided, step by step of a clip."""

from __future__ import annotations

import itertools

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from reports import paths, theme
from reports.figures.common import WIDTH, prefixed
from reports.report import Report
from reports.units import count, share

COLOURS = (theme.RED, theme.MUTED, *theme.UNIT_COLOURS.values())
"""By path, the one with the most cycles first."""


def decisions(report: Report) -> Figure:
    """Two parts: cycles of every step by the way that it took; how many steps took how long."""
    steps = paths.taken(report)
    kinds = sorted(
        paths.kinds(report), key=lambda kind: -max(s.cycles or 0 for s in steps if s.path == kind)
    )
    colour = {kind: COLOURS[n % len(COLOURS)] for n, kind in enumerate(kinds)}
    letters = paths.letters(paths.kinds(report))
    with rc_context(theme.RC):
        figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(4, 1), sharey=True)
        for number, step in enumerate(steps):
            words = f"step {number}: {paths.decisions(step.path)}, {count(step.cycles or 0)} cycles"
            bar = left.bar(number, step.cycles or 0, 0.9, color=colour[step.path])
            bar[0].set_gid(theme.tip(words))
        left.set(xlabel="step of the clip", xlim=(-0.7, len(steps) - 0.3), ylabel="cycles")
        prefixed(left.yaxis)
        changes = sum(a.path != b.path for a, b in itertools.pairwise(steps))
        times = "once" if changes == 1 else f"{count(changes)} times"
        left.set_title(f"Cycles of each step; the way changes {times}", pad=24)
        handles = []
        for kind in kinds:
            mine = [s.cycles or 0 for s in steps if s.path == kind]
            words = f"{letters[kind]}: {share(len(mine) / len(steps))} of the steps"
            handles.append(Patch(color=colour[kind], label=words))
            low, high = min(mine), max(mine)
            height = max(high - low, 0.02 * max(s.cycles or 1 for s in steps))
            right.barh(
                (low + high) / 2,
                len(mine),
                height,
                color=colour[kind],
                gid=theme.tip(f"{len(mine)} steps of {count(low)} to {count(high)} cycles"),
            )
        left.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4)
        right.set(xlabel="steps")
        right.set_title("How often", pad=24)
    return figure
