import dataclasses
import json
from itertools import pairwise

import pytest

from reports.trace import trace
from sim.result import StepResult


def tracks(content):
    names = {e["tid"]: e["args"]["name"] for e in content if e["name"] == "thread_name"}
    return {
        unit: [e for e in content if e["ph"] == "X" and e["tid"] == track]
        for track, unit in names.items()
    }


def well_formed(content):
    """Times never run backwards and slices of a track do not overlap."""
    timed = [e for e in content if e["ph"] != "M"]
    ordered = all(a["ts"] <= b["ts"] for a, b in pairwise(timed))
    apart = all(
        a["ts"] + a["dur"] <= b["ts"]
        for slices in tracks(content).values()
        for a, b in pairwise(slices)
    )
    return ordered and apart


def by_unit(content):
    """Slices of all tracks of a unit, in order."""
    found = {}
    for name, slices in tracks(content).items():
        found.setdefault(name.split()[0], []).extend(slices)
    return {u: sorted(s, key=lambda e: (e["ts"], e["dur"])) for u, s in found.items()}


def test_every_instruction_has_a_slice_from_issue_to_its_true_end(report):
    content = json.loads(json.dumps(trace(report)))["traceEvents"]
    found = by_unit(content)
    assert list(found) == ["LOAD", "ARRAY", "DRAIN", "VECTOR", "STORE"]
    for unit, slices in found.items():
        spans = [s for s in report.spans if s.unit == unit]
        assert [(e["ts"], e["ts"] + e["dur"]) for e in slices] == [(s.issue, s.end) for s in spans]
        assert slices[0]["name"] == f"{report.layers[spans[0].layer].label} tile 0"
    assert "ARRAY 2" in tracks(content), "the array takes an instruction while one ends"
    assert "DRAIN 2" not in tracks(content)
    assert well_formed(content)


def test_slices_that_overlap_are_noticed(report):
    content = trace(report)["traceEvents"]
    slices = tracks(content)["LOAD"]
    slices[3]["dur"] = slices[4]["ts"] - slices[3]["ts"] + 1
    assert not well_formed(content)


def test_counters_add_up_to_what_was_moved_and_to_idle_units(report):
    spans = tuple(
        dataclasses.replace(s, bytes=16 * (s.index % 7 + 1)) if s.unit in ("LOAD", "STORE") else s
        for s in report.spans
    )
    content = trace(dataclasses.replace(report, spans=spans))["traceEvents"]
    series = {}
    for event in content:
        if event["ph"] == "C":
            series.setdefault(event["name"], []).append((event["ts"], event["args"]["value"]))
    for unit, name in (("LOAD", "bytes read per cycle"), ("STORE", "bytes written per cycle")):
        points = series[name]
        total = sum(v * (later - at) for (at, v), (later, _) in pairwise(points))
        moved = sum(s.bytes for s in spans if s.unit == unit)
        assert total == pytest.approx(moved, rel=2e-3)
        assert points[-1] == (report.cycles, 0.0)
    idle = series["units with nothing inside"]
    assert all(0 <= value <= 5 for _, value in idle)
    busy = 5 * report.cycles - sum(v * (b - a) for (a, v), (b, _) in pairwise(idle))
    covered = 0
    for unit in report.lanes:
        reached = 0
        for s in (s for s in spans if s.unit == unit):
            covered += max(s.end - max(s.issue, reached), 0)
            reached = max(reached, s.end)
    assert busy == pytest.approx(covered, rel=2e-3)


def test_layers_open_and_close(report):
    content = trace(report)["traceEvents"]
    for index, layer in enumerate(report.layers):
        ends = {e["ph"]: e["ts"] for e in content if e.get("id") == index and e["ph"] in "be"}
        assert ends == {"b": layer.first_cycle, "e": layer.last_cycle}


@pytest.fixture
def clip(report):
    """The same run as three trips between a beginning and an end that are none's."""
    ends = [report.cycles * part // 10 for part in (1, 4, 5, 9)]
    arms = ("b: then", "b: else", "b: then")
    trips = [
        StepResult(None, 0, end - began, 64, 1e-6, 0, ("b?", arm), began)
        for began, end, arm in zip(ends, ends[1:], arms, strict=False)
    ]
    return dataclasses.replace(report, trips=tuple(trips))


def test_trips_have_a_span_and_slices_say_theirs(clip):
    content = trace(clip)["traceEvents"]
    spans = [e for e in content if e.get("cat") == "trip"]
    assert [e["name"] for e in spans if e["ph"] == "b"] == [
        "trip 0: b: then", "trip 1: b: else", "trip 2: b: then",
    ]  # fmt: skip
    edges = [(t.began, t.began + t.cycles) for t in clip.trips]
    found = sorted((e["id"], e["ts"]) for e in spans)
    assert found == [(n, at) for n, each in enumerate(edges) for at in each]
    seen = set()
    for event in (e for e in content if e["ph"] == "X"):
        inside = [n for n, (a, b) in enumerate(edges) if a <= event["ts"] < b]
        assert event["args"].get("trip") == (inside[0] if inside else None)
        assert event["name"].endswith(f", trip {inside[0]}") if inside else True
        seen.add(event["args"].get("trip"))
    assert seen == {None, 0, 1, 2}


def test_a_run_whose_trips_have_no_times_says_none(clip):
    untimed = [dataclasses.replace(trip, began=None) for trip in clip.trips]
    content = trace(dataclasses.replace(clip, trips=tuple(untimed)))["traceEvents"]
    assert not [e for e in content if e.get("cat") == "trip" or "trip" in e.get("args", {})]
