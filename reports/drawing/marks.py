"""What can be seen: marks in the units of the data, and shapes in points.

`tip` of a mark shows when the pointer is held over it. `name` says what it stands for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Box:
    """A rectangle from (x, y), in data units; what lies outside of the axes is cut off.

    `edge` is the colour of a line around it, `line` its width in points.
    """

    x: float
    y: float
    width: float
    height: float
    colour: str
    tip: str = ""
    alpha: float = 1.0
    edge: str = ""
    line: float = 0.6


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """Straight lines between points in data units; with `fill`, the area that they surround."""

    points: Sequence[tuple[float, float]]
    colour: str
    width: float = 1.0
    dash: str = ""
    tip: str = ""
    name: str = ""
    fill: bool = False
    alpha: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Stairs:
    """A filled curve of steps: values [n] between edges [n + 1], above a base; in data units."""

    values: Sequence[float]
    edges: Sequence[float]
    base: float
    colour: str
    tip: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Dot:
    """A sign at a point in data units; `size` is its diameter in points.

    Shapes: ``o`` a disc, ``D`` the outline of a diamond, ``|`` an upright line.
    """

    x: float
    y: float
    size: float
    colour: str
    shape: str = "o"
    tip: str = ""
    name: str = ""
    edge: str = ""
    alpha: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Word:
    """Words at a point in data units, moved by `shift` in points (right and up).

    `align` is ``start``, ``middle`` or ``end``; `level` says what of the letters is at that height:
    ``base``, ``middle``, ``top`` or ``bottom``. `turn` is in degrees, against the clock.
    """

    x: float
    y: float
    words: str
    colour: str
    size: float = 9.0
    shift: tuple[float, float] = (0.0, 0.0)
    align: str = "start"
    level: str = "base"
    turn: float = 0.0
    name: str = ""


Mark = Box | Line | Stairs | Dot | Word


@dataclasses.dataclass(frozen=True, slots=True)
class Rectangle:
    """In points, (x, y) is its upper left corner."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    alpha: float = 1.0
    edge: str = ""
    line: float = 0.6
    tip: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Path:
    """Straight lines in points; an area where `fill` is a colour, lines where `stroke` is one."""

    points: Sequence[tuple[float, float]]
    fill: str = ""
    stroke: str = ""
    width: float = 1.0
    dash: str = ""
    alpha: float = 1.0
    tip: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Disc:
    """In points."""

    x: float
    y: float
    radius: float
    fill: str
    alpha: float = 1.0
    edge: str = ""
    tip: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """A line of words in points: (x, y) is on the line that the letters stand on."""

    x: float
    y: float
    words: str
    colour: str
    size: float = 9.0
    align: str = "start"
    turn: float = 0.0
    bold: bool = False


Shape = Rectangle | Path | Disc | Text
