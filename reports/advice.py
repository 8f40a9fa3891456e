"""What a user could change, and what it would gain at most: from the run's own figures.

Every gain is a difference of cycles that the run tells: of work in idle lanes, of a port that was
busy, of units that waited for each other. It is an upper bound, since what is then the next limit
is not looked at.
"""

from __future__ import annotations

import dataclasses

from reports.bounds import LATENCY
from reports.report import LayerRow, Report
from reports.units import count, share

LEAST = 0.01
"""Share of the run's cycles below which nothing is said."""
MOST = 6


@dataclasses.dataclass(frozen=True, slots=True)
class Advice:
    """One thing to change.

    Attributes
    ----------
    layer: label.
    words: what holds it up, and what would help.
    cycles: that it could save at most.
    """

    layer: str
    words: str
    cycles: int


def advice(report: Report) -> tuple[Advice, ...]:
    """What would gain most, first."""
    found = [each for layer in report.layers for each in _of(report, layer)]
    found = [each for each in found if each.cycles >= LEAST * report.cycles]
    return tuple(sorted(found, key=lambda each: -each.cycles)[:MOST])


def _of(report: Report, layer: LayerRow) -> list[Advice]:
    if layer.bound == "array" and layer.filled is not None and layer.filled < 0.75:
        lost = layer.busy["array"] * layer.cycles * (1 - layer.filled)
        words = f"the array is busy, and {share(1 - layer.filled, 0)} of its multipliers are idle: "
        words += _fuller(layer.op)
        return [Advice(layer.label, words, round(lost))]
    if layer.bound == "memory":
        rest = max(v for name, v in layer.busy.items() if name != "memory")
        words = (
            f"it waits for the memory port ({share(layer.busy['memory'], 0)} busy). A wider port, "
            "or larger scratchpads so that less is loaded twice, would help"
        )
        return [Advice(layer.label, words, round((layer.busy["memory"] - rest) * layer.cycles))]
    if layer.bound == "vector":
        words = "an operator of its own on the vector unit" + _cheaper(layer.op)
        return [Advice(layer.label, words, round(layer.busy["vector"] * layer.cycles))]
    if layer.bound == LATENCY and layer.busy:
        words = (
            "no unit is busy for long: tiles are small, and units wait for each other. Larger "
            "batches or maps, or joining it with its neighbours, would fill the gaps"
        )
        return [Advice(layer.label, words, round((1 - max(layer.busy.values())) * layer.cycles))]
    return []


def _fuller(op: str) -> str:
    """What uses more of the array's multipliers."""
    if op in ("conv_grouped", "conv_depthwise"):
        return (
            "a group's channels meet no others. Larger groups fill it; depthwise windows of stride "
            "1 between a temporal and a pointwise convolution take none of its time, in a chain"
        )
    return (
        "channels fill no whole lanes. Channels in multiples of the array's rows and columns "
        "(space to depth in front of the first layer), or a narrower array, would use them"
    )


def _cheaper(op: str) -> str:
    """What costs less than an operator of the vector unit; by its kind in the program."""
    if op == "max_pool":
        return (
            ". A pool is free right behind its convolution where it tiles (kernel = stride, no "
            "padding)"
        )
    if op[:1].isupper() or "(" in op:  # a function, by the name that the file gives it
        return ". A function behind a convolution is free as a ReLU or a clip"
    return ", whose pace is set by lanes.vector of the configuration"


def lines(report: Report) -> list[str]:
    """For people."""
    return [
        f"{each.layer}: up to {count(each.cycles)} cycles ({share(each.cycles / report.cycles)}): "
        f"{each.words}"
        for each in advice(report)
    ]
