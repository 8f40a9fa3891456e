"""The run as a Chrome trace, which ui.perfetto.dev and chrome://tracing open.

One track per unit with a slice per instruction, and one asynchronous span per layer. The format
counts microseconds; here 1 µs stands for 1 clock cycle.
"""

from __future__ import annotations

from typing import Any

from reports.report import Report

PROCESS = 1


def trace(report: Report) -> dict[str, Any]:
    """Build the trace object.

    Slices of a track must not overlap. Some units accept an instruction while the one before it
    still ends (the array's pipeline drains, bursts are in flight); such a slice is cut where the
    next one begins, and its arguments carry the true end.
    """
    events: list[dict[str, Any]] = [
        _name("process_name", 0, f"{report.title} (1 µs = 1 cycle)"),
    ]
    for track, unit in enumerate(report.lanes, start=1):
        events.append(_name("thread_name", track, unit))
        events.append({**_name("thread_sort_index", track, ""), "args": {"sort_index": track}})
    timed = [*_layers(report)]
    for track, unit in enumerate(report.lanes, start=1):
        timed += _slices(report, track, unit)
    timed.sort(key=lambda event: (event["ts"], event["tid"]))
    return {
        "traceEvents": events + timed,
        "otherData": {
            "network": report.network,
            "config": report.config,
            "backend": report.backend,
            "time unit": "1 µs = 1 clock cycle",
        },
    }


def _name(kind: str, track: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "pid": PROCESS, "tid": track, "name": kind, "args": {"name": name}}


def _slices(report: Report, track: int, unit: str) -> list[dict[str, Any]]:
    spans = [span for span in report.spans if span.unit == unit]
    following = [span.issue for span in spans[1:]] + [report.cycles]
    return [
        {
            "ph": "X",
            "pid": PROCESS,
            "tid": track,
            "name": report.span_name(span),
            "cat": unit,
            "ts": span.issue,
            "dur": max(min(span.end, next_issue) - span.issue, 0),
            "args": {"instruction": span.index, "end": span.end},
        }
        for span, next_issue in zip(spans, following, strict=True)
    ]


def _layers(report: Report) -> list[dict[str, Any]]:
    events = []
    for index, layer in enumerate(report.layers):
        common = {"pid": PROCESS, "tid": 0, "cat": "layer", "id": index, "name": layer.name}
        arguments = {"operator": layer.op, "cycles": layer.cycles, "MAC": layer.macs}
        events.append({**common, "ph": "b", "ts": layer.first_cycle, "args": arguments})
        events.append({**common, "ph": "e", "ts": layer.last_cycle})
    return events
