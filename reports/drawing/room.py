"""Which part of a picture something covers, and what meets there."""

from __future__ import annotations

import math

from reports.drawing import letters
from reports.drawing.marks import Text

Bounds = tuple[float, float, float, float]
"""Left, top, right and bottom of an area, in points."""
Point = tuple[float, float]


def covered(text: Text) -> Bounds:
    """What words cover; around words aslant, the upright area that holds them."""
    wide = letters.width(text.words, text.size, text.bold)
    left = {"start": 0.0, "middle": -wide / 2, "end": -wide}[text.align]
    up, down = letters.ASCENT * text.size, letters.DESCENT * text.size
    angle = math.radians(-text.turn)
    turned = [
        (
            text.x + x * math.cos(angle) - y * math.sin(angle),
            text.y + x * math.sin(angle) + y * math.cos(angle),
        )
        for x in (left, left + wide)
        for y in (-up, down)
    ]
    across, along = zip(*turned, strict=True)
    return min(across), min(along), max(across), max(along)


def wider(area: Bounds, by: float) -> Bounds:
    """An area with a margin."""
    return area[0] - by, area[1] - by, area[2] + by, area[3] + by


def meet(a: Bounds, b: Bounds) -> bool:
    """Whether two areas have a part in common."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def within(a: Bounds, b: Bounds) -> bool:
    """Whether all of `a` lies in `b`."""
    return a[0] >= b[0] and a[1] >= b[1] and a[2] <= b[2] and a[3] <= b[3]


def crossed(area: Bounds, a: Point, b: Point) -> bool:
    """Whether the line from `a` to `b` comes into an area: words there would be struck out."""
    enter, leave = 0.0, 1.0
    for axis in (0, 1):
        start, change = a[axis], b[axis] - a[axis]
        low, high = area[axis], area[axis + 2]
        if change == 0:
            if not low <= start <= high:
                return False
            continue
        first, last = sorted(((low - start) / change, (high - start) / change))
        enter, leave = max(enter, first), min(leave, last)
    return enter <= leave
