import dataclasses
import itertools

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reports import theme
from reports.drawing import Box, Stairs
from reports.figures import timeline
from reports.report import Span
from reports.timeline import occupied, visible, windows


def brute(spans, edges):
    """Cycle by cycle, one Boolean each."""
    busy = np.zeros(int(edges[-1]), bool)
    for span in spans:
        busy[span.issue : span.end] = True
    return [busy[a:b].mean() for a, b in itertools.pairwise(edges)]


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine draws slowly
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12)), max_size=20),
    st.lists(st.integers(1, 30), min_size=1, max_size=8),
)
def test_occupancy_equals_counting_cycles(steps, widths):
    spans, issue = [], 0
    for gap, length in steps:
        issue += gap
        spans.append(Span("ARRAY", 0, 0, 0, issue, issue + length))
    edges = np.cumsum([0, *widths])
    length = max([edges[-1], *(s.end for s in spans)])
    edges = np.append(edges[edges < length], length) if length > 0 else edges
    np.testing.assert_allclose(occupied(spans, edges), brute(spans, edges), atol=1e-9)


def test_occupancy_notices_a_shifted_instruction():
    spans = [Span("LOAD", 0, 0, 0, 0, 5), Span("LOAD", 0, 1, 1, 8, 10)]
    moved = [spans[0], Span("LOAD", 0, 1, 1, 7, 9)]
    edges = np.array([0, 8, 10])
    assert occupied(spans, edges).tolist() == [5 / 8, 1.0]
    assert occupied(moved, edges).tolist() != occupied(spans, edges).tolist()


def test_window_keeps_what_reaches_into_it():
    spans = [Span("LOAD", 0, i, i, 10 * i, 10 * i + 10) for i in range(5)]
    assert [s.index for s in visible(spans, (15, 30))] == [1, 2]


def test_windows_lie_in_the_run_and_hold_instructions(make):
    report = make(layers=6, tiles=40)
    found = windows(report, instructions=30)
    assert len(found) in (2, 3)
    longest = max(report.layers, key=lambda x: x.cycles)
    for _, (first, last) in found:
        assert 0 <= first < last <= report.cycles
        assert 30 <= len(visible(report.spans, (first, last))) < 200
    (window,) = [w for words, w in found if words.endswith("the longest layer")]
    assert longest.first_cycle < sum(window) / 2 < longest.last_cycle


def test_the_layer_that_loses_most_is_shown(make):
    report = make(layers=6, tiles=40)
    rows = list(report.layers)
    rows[4] = dataclasses.replace(rows[4], roofline_cycles=-(10**9))
    found = windows(dataclasses.replace(report, layers=tuple(rows)))
    (window,) = [w for words, w in found if words.endswith("which exceeds its bound most")]
    assert rows[4].first_cycle < sum(window) / 2 < rows[4].last_cycle


def test_a_window_over_much_of_the_run_hides_nothing(make):
    """A band that covers a curve takes its tooltip; a narrow one lies on top, to be seen."""
    for size, over in (({"layers": 1, "tiles": 1}, False), ({"layers": 9, "tiles": 60}, True)):
        marks = timeline(make(**size)).axes[0].marks
        bands = [i for i, x in enumerate(marks) if isinstance(x, Box) and x.colour == theme.RED]
        curves = [i for i, x in enumerate(marks) if isinstance(x, Stairs)]
        assert bands and (min(bands) > max(curves)) == over
        assert (max(bands) < min(curves)) != over
