"""The run as a Chrome trace, which ui.perfetto.dev and chrome://tracing open.

Tracks of each unit with a slice per instruction, one asynchronous span per layer, one per trip of
the longest Loop, which says the arms that it took, and counters: bytes per cycle in each direction,
and units with nothing inside. The format counts microseconds; here 1 µs stands for 1 clock cycle.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from reports.paths import decisions
from reports.report import Report, Span
from reports.timeline import occupied

PROCESS = 1
INTERVALS = 1000
"""Points of a counter."""


def trace(report: Report) -> dict[str, Any]:
    """Build the trace object.

    Slices of a track must not overlap. Where a unit accepts an instruction while the one before it
    still ends (the array's pipeline drains, bursts are in flight), the instruction stands on a
    second track of the unit, so that every slice ends where its instruction did.
    """
    events: list[dict[str, Any]] = [
        _name("process_name", 0, f"{report.title} (1 µs = 1 cycle)"),
    ]
    timed = [*_layers(report), *_trips(report), *_counters(report)]
    track = 0
    for unit in report.lanes:
        for number, spans in enumerate(_tracks(s for s in report.spans if s.unit == unit), start=1):
            track += 1
            events.append(_name("thread_name", track, unit if number == 1 else f"{unit} {number}"))
            events.append({**_name("thread_sort_index", track, ""), "args": {"sort_index": track}})
            timed += [_slice(report, track, span) for span in spans]
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


def _tracks(spans: Iterable[Span]) -> list[list[Span]]:
    """Spans in order of issue, on as few tracks as let none overlap."""
    tracks: list[list[Span]] = []
    for span in spans:
        free = next((track for track in tracks if track[-1].end <= span.issue), None)
        if free is None:
            tracks.append([span])
        else:
            free.append(span)
    return tracks


def _name(kind: str, track: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "pid": PROCESS, "tid": track, "name": kind, "args": {"name": name}}


def _slice(report: Report, track: int, span: Span) -> dict[str, Any]:
    trip = report.trip(span.issue)
    arguments = {"instruction": span.index, **({"bytes": span.bytes} if span.bytes else {})}
    if trip is not None:
        arguments["trip"] = trip
    return {
        "ph": "X",
        "pid": PROCESS,
        "tid": track,
        "name": report.span_name(span),
        "cat": span.unit,
        "ts": span.issue,
        "dur": span.end - span.issue,
        "args": arguments,
    }


def _counters(report: Report) -> list[dict[str, Any]]:
    """Bytes per cycle of LOAD and STORE, and how many units have nothing inside, over intervals.

    The bytes of an instruction are spread evenly over the time that it is inside its unit.
    """
    edges = np.linspace(0, report.cycles, min(INTERVALS, report.cycles) + 1)
    events = []
    for unit, name in (("LOAD", "bytes read per cycle"), ("STORE", "bytes written per cycle")):
        spans = [s for s in report.spans if s.unit == unit and s.bytes]
        if spans:
            events += _series(name, edges, _rate(spans, edges))
    idle = np.zeros(len(edges) - 1)
    for unit in report.lanes:
        idle += 1 - occupied([s for s in report.spans if s.unit == unit], edges)
    return events + _series("units with nothing inside", edges, idle)


def _rate(spans: list[Span], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Bytes per cycle in each interval."""
    issue, end, size = np.array([(s.issue, s.end, s.bytes) for s in spans], np.float64).T
    cycle = np.concatenate([issue, end])
    order = np.argsort(cycle, kind="stable")
    rate = np.cumsum(np.concatenate([size, -size])[order] / np.tile(end - issue, 2)[order])
    moved = np.concatenate([[0.0], np.cumsum(rate[:-1] * np.diff(cycle[order]))])
    return np.asarray(np.diff(np.interp(edges, cycle[order], moved)) / np.diff(edges))


def _series(
    name: str, edges: npt.NDArray[np.float64], values: npt.NDArray[np.float64]
) -> list[dict[str, Any]]:
    common = {"ph": "C", "pid": PROCESS, "tid": 0, "name": name}
    return [
        {**common, "ts": round(float(at), 3), "args": {"value": round(float(value), 3)}}
        for at, value in zip(edges, [*values, 0.0], strict=True)
    ]


def _layers(report: Report) -> list[dict[str, Any]]:
    events = []
    for index, layer in enumerate(report.layers):
        common = {"pid": PROCESS, "tid": 0, "cat": "layer", "id": index, "name": layer.name}
        arguments = {"operator": layer.op, "cycles": layer.cycles, "MAC": layer.macs}
        events.append({**common, "ph": "b", "ts": layer.first_cycle, "args": arguments})
        events.append({**common, "ph": "e", "ts": layer.last_cycle})
    return events


def _trips(report: Report) -> list[dict[str, Any]]:
    events = []
    for number, trip in enumerate(report.trips):
        if trip.began is None or trip.cycles is None:
            continue
        name = f"trip {number}: {decisions(trip.path)}"
        common = {"pid": PROCESS, "tid": 0, "cat": "trip", "id": number, "name": name}
        arguments = {"cycles": trip.cycles, "DRAM bytes": trip.dram_bytes}
        events.append({**common, "ph": "b", "ts": trip.began, "args": arguments})
        events.append({**common, "ph": "e", "ts": trip.began + trip.cycles})
    return events
