"""What colours stand for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from reports import theme
from reports.drawing import letters
from reports.drawing.marks import Disc, Path, Rectangle, Shape, Text

SIZE = 8.5
LINE = 13.0
"""Points from a line to the next."""
SWATCH, GAP = 17.0, 6.0
"""Points of a field of colour, and between it and its words."""
APART = 20.0
"""Points between columns."""


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """A colour and what it stands for; `shape` as of a `Dot`, or ``box``."""

    colour: str
    words: str
    shape: str = "box"


class Legend:
    """Keys in columns, filled downwards.

    Parameters
    ----------
    keys: in order.
    columns: how many; as many as there are keys make one line.

    Attributes
    ----------
    width, height: in points.
    """

    def __init__(self, keys: Sequence[Key], columns: int = 1):
        self.keys = list(keys)
        self._lines = -(-len(keys) // max(columns, 1)) if keys else 0
        starts = range(0, len(keys), max(self._lines, 1))
        self._columns = [self.keys[at : at + self._lines] for at in starts]
        self._widths = [
            SWATCH + GAP + letters.widest([key.words for key in column], SIZE)
            for column in self._columns
        ]
        self.width = sum(self._widths) + APART * max(len(self._columns) - 1, 0)
        self.height = LINE * self._lines

    def shapes(self, left: float, top: float) -> list[Shape]:
        """Everything to draw, with the upper left corner there."""
        found: list[Shape] = []
        for column, width in zip(self._columns, self._widths, strict=True):
            for line, key in enumerate(column):
                middle = top + LINE * (line + 0.5)
                found.append(sign(key, left + SWATCH / 2, middle))
                base = middle + letters.MIDDLE * SIZE
                found.append(Text(left + SWATCH + GAP, base, key.words, theme.INK, SIZE))
            left += width + APART
        return found


def sign(key: Key, x: float, y: float) -> Shape:
    """The sign of a key around a point."""
    if key.shape == "box":
        return Rectangle(x - SWATCH / 2, y - 3, SWATCH, 6, key.colour)
    if key.shape == "D":
        return diamond(x, y, 9, key.colour)
    return Disc(x, y, 3.2, key.colour)


def diamond(x: float, y: float, size: float, colour: str, tip: str = "") -> Path:
    """The outline of a square on its corner, of `size` points from side to side."""
    half = size * 0.7071
    corners = ((x - half, y), (x, y - half), (x + half, y), (x, y + half), (x - half, y))
    return Path(corners, stroke=colour, width=1.6, tip=tip)
