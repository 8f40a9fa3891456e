"""What holds a layer up, and how well the array is filled while it works: from the run itself."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from reports.choice import NAMED, Choice
from reports.timeline import Covered

BUSY = 0.75
"""Share of a layer's cycles from which on a unit is what holds the layer up."""
LATENCY = "latency"
NAMES = {"ARRAY": "array", "DRAIN": "drain", "VECTOR": "vector"}
MIXED = "chain"
"""Operator whose array works direct and transformed, dense and depthwise, in turns."""


def shares(
    units: Mapping[str, Covered], first: int, last: int, moved: int, port_bytes: int
) -> dict[str, float]:
    """Share of a layer's cycles in which each part of the machine had work.

    Parameters
    ----------
    units: `reports.timeline.coverage` by unit.
    first, last: the cycles that are the layer's, the last one exclusive.
    moved: bytes of the layer's transfers. port_bytes: of the memory port, a cycle.
    """
    if last <= first:
        return {}
    edges = np.array([first, last], np.float64)
    found = dict.fromkeys(NAMES.values(), 0.0)
    for unit, name in NAMES.items():
        if unit in units:
            begin, end = units[unit](edges)
            found[name] = float(end - begin) / (last - first)
    return {**found, "memory": moved / (port_bytes * (last - first))}


def bound(busy: Mapping[str, float]) -> str:
    """The part that was busy most, or `LATENCY` where none was busy for long.

    Latency: units wait for each other's results, or for the memory's first answer.
    """
    if not busy:
        return ""
    name = max(busy, key=lambda key: busy[key])
    return name if busy[name] >= BUSY else LATENCY


def filled(
    op: str, macs: int, vectors: int, multipliers: int, choice: Choice | None
) -> float | None:
    """Share of the multipliers that do useful work when the array takes a vector.

    A transformed layer needs fewer products than multiply-accumulates; its share is of those.
    None without multiplications, and for a chain, whose array works in several ways.
    """
    if not macs or not vectors or op.startswith(MIXED):
        return None
    return macs / (vectors * multipliers * gain(choice))


def gain(choice: Choice | None) -> float:
    """Multiply-accumulates for which an algorithm needs one product; 1 where it is direct."""
    algorithm = None if choice is None else NAMED.get(choice.chosen)
    if algorithm is None:
        return 1.0
    return math.prod(axis.outputs * axis.taps / axis.points for axis in algorithm.axes)
