"""Occupancy of units over time: exact shares per interval, and windows worth a closer look."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from reports.report import Report, Span

Shares = npt.NDArray[np.float64]


Covered = Callable[[Shares], Shares]
"""How many cycles before each of some cycle numbers a unit had an instruction inside."""


def coverage(spans: Sequence[Span]) -> Covered:
    """Cycles with an instruction inside a unit, as a function of the cycle.

    Parameters
    ----------
    spans: of one unit, in order of issue. Overlaps (a unit takes an instruction while the one
        before it still ends) count once.
    """
    if not spans:
        return lambda edges: np.zeros(len(edges))
    start = np.array([s.issue for s in spans], np.float64)
    end = np.maximum.accumulate(np.array([s.end for s in spans], np.float64))
    start[1:] = np.minimum(np.maximum(start[1:], end[:-1]), end[1:])
    total = np.cumsum(end - start)
    cycle = np.stack([start, end], axis=1).ravel()
    covered = np.stack([total - (end - start), total], axis=1).ravel()
    return lambda edges: np.interp(edges, cycle, covered, left=0.0, right=float(total[-1]))


def occupied(spans: Sequence[Span], edges: Shares) -> Shares:
    """Share of each interval in which a unit has an instruction inside.

    Parameters
    ----------
    spans: as in `coverage`.
    edges: ascending cycle numbers [n + 1].

    Returns
    -------
    Shares 0..1, [n].
    """
    edges = np.asarray(edges, np.float64)
    return np.asarray(np.diff(coverage(spans)(edges)) / np.diff(edges))


def visible(spans: Sequence[Span], window: tuple[int, int]) -> list[Span]:
    """Spans that reach into a window of cycles, in their order."""
    first, last = window
    return [s for s in spans if s.end > first and s.issue < last]


def windows(report: Report, instructions: int = 60) -> list[tuple[str, tuple[int, int]]]:
    """Windows to zoom into: the start, the layer furthest above its bound, the longest layer.

    The start is where the first result is made: from the last transfer before the first instruction
    of a unit that computes. Layers are shown in their middle; a window is so long that
    `instructions` instructions end; one of which most is shown already is left out.

    Returns
    -------
    (description, (first cycle, past-the-end cycle)) pairs; empty if there is no timeline.
    """
    spans = sorted(report.spans, key=lambda s: (s.end, s.issue))
    if not spans:
        return []
    start = _start(spans, instructions)
    result = [("where the first results are made", start)]
    if len(spans) <= instructions:
        return result
    worst = max(report.layers, key=lambda layer: layer.cycles - layer.roofline_cycles)
    longest = max(report.layers, key=lambda layer: layer.cycles)
    chosen = {
        worst.label: (worst, "which exceeds its bound most"),
        longest.label: (longest, "the longest layer"),
    }
    for layer, why in sorted(chosen.values(), key=lambda choice: choice[0].first_cycle):
        window = _around((layer.first_cycle + layer.last_cycle) / 2, spans, instructions)
        trip = report.trip(window[0])
        where = "" if trip is None else f" in trip {trip}"
        if all(_apart(window, shown) for _, shown in result):
            result.append((f"the middle of {layer.label}{where}, {why}", window))
    return result


def _apart(window: tuple[int, int], shown: tuple[int, int]) -> bool:
    """Whether most of a window is not in another one."""
    common = min(window[1], shown[1]) - max(window[0], shown[0])
    return common < (window[1] - window[0]) / 2


def _start(spans: Sequence[Span], instructions: int) -> tuple[int, int]:
    """From the transfer before the first computation, until `instructions` instructions end."""
    computing = [span.issue for span in spans if span.unit not in ("LOAD", "STORE")]
    first = min(computing, default=0)
    before = [span.issue for span in spans if span.unit == "LOAD" and span.issue < first]
    begin = max(before, default=0)
    after = [span.end for span in spans if span.end > first]
    return begin, after[min(instructions, len(after)) - 1]


def _around(cycle: float, spans: Sequence[Span], instructions: int) -> tuple[int, int]:
    """Window around a cycle in which `instructions` instructions end."""
    nearest = int(np.argmin([abs(s.end - cycle) for s in spans]))
    low = max(nearest - instructions // 2, 0)
    high = min(nearest + instructions // 2, len(spans) - 1)
    return spans[low].issue, spans[high].end
