import dataclasses
import json
from itertools import pairwise

from reports.trace import trace


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


def test_every_instruction_has_a_slice(report):
    content = json.loads(json.dumps(trace(report)))["traceEvents"]
    found = tracks(content)
    assert list(found) == ["LOAD", "ARRAY", "DRAIN", "VECTOR", "STORE"]
    for unit, slices in found.items():
        spans = [s for s in report.spans if s.unit == unit]
        assert [e["ts"] for e in slices] == [s.issue for s in spans]
        assert [e["args"]["end"] for e in slices] == [s.end for s in spans]
        assert slices[0]["name"] == f"{report.layers[spans[0].layer].label} tile 0"
    assert well_formed(content)


def test_a_slice_lasts_until_its_end_or_the_next(report):
    for slices in tracks(trace(report)["traceEvents"]).values():
        for event, following in pairwise(slices):
            assert event["ts"] + event["dur"] == min(event["args"]["end"], following["ts"])


def test_swapped_instructions_are_noticed(report):
    spans = list(report.spans)
    spans[0], spans[5] = spans[5], spans[0]
    content = trace(dataclasses.replace(report, spans=tuple(spans)))["traceEvents"]
    assert not well_formed(content)


def test_layers_open_and_close(report):
    content = trace(report)["traceEvents"]
    for index, layer in enumerate(report.layers):
        ends = {e["ph"]: e["ts"] for e in content if e.get("id") == index and e["ph"] in "be"}
        assert ends == {"b": layer.first_cycle, "e": layer.last_cycle}
