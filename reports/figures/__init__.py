"""Figures of a run. Each function draws one `Report` and returns a picture.

Nothing is computed here but positions: the numbers come from the report, from `reports.roof`
and from `reports.timeline`.
"""

from __future__ import annotations

from collections.abc import Callable

from reports import paths
from reports.drawing import Picture
from reports.figures.decisions import decisions
from reports.figures.energy import energy
from reports.figures.hfa import compared, hfa
from reports.figures.layers import layers
from reports.figures.memory import dram, scratchpads
from reports.figures.roofline import roofline
from reports.figures.stalls import stalls
from reports.figures.timeline import timeline
from reports.report import Report

FIGURES: dict[str, tuple[Callable[[Report], Picture], str]] = {
    "roofline": (roofline, "Roofline: performance of each layer over its arithmetic intensity"),
    "layers": (layers, "Cycles, bound and array utilization of each layer"),
    "timeline": (timeline, "Timeline of the units: the whole run, then two windows"),
    "stalls": (stalls, "Shares of working, waiting and idle cycles of each unit"),
    "energy": (energy, "Energy by component and by layer"),
}
"""Name → (drawing, description); each becomes NAME.svg and a part of the page."""

HFA = (hfa, "Direct against chosen way: cycles, multiplications and energy of each layer")


DECISIONS = (decisions, "What each step of a clip decided, and how long it took")
DRAM = (dram, "Map of DRAM: regions by address and time")
SCRATCHPADS = (scratchpads, "Occupancy of the scratchpads over time, and by layer")


NAMES = (*FIGURES, "hfa", "decisions", "dram", "scratchpads")
"""Of every figure that a report may have."""


def drawn(report: Report) -> dict[str, tuple[Callable[[Report], Picture], str]]:
    """The figures of a run: some only where it tells what they show."""
    found = dict(FIGURES)
    if paths.taken(report):
        found["decisions"] = DECISIONS
    if compared(report):
        found["hfa"] = HFA
    if report.regions:
        found["dram"] = DRAM
    if report.capacity:
        found["scratchpads"] = SCRATCHPADS
    return found
