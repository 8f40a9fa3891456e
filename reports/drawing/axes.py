"""A pair of axes with marks in the units of the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from reports import theme
from reports.drawing import letters
from reports.drawing.axis import Axis
from reports.drawing.legend import diamond
from reports.drawing.marks import (
    Box,
    Disc,
    Dot,
    Line,
    Mark,
    Path,
    Rectangle,
    Shape,
    Stairs,
    Text,
    Word,
)

MARK, MINOR = 3.5, 2.0
"""Length of the lines at numbers, and between them."""
TITLE = 10.0
BESIDE = 4.0
"""Between a line at a number, or the axes where there is none, and the words."""
LINE = 1.2
"""Distance of lines of text, by their size."""
LABEL = 9.0
"""Size of an axis's name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Margins:
    """Points that the words around axes take."""

    left: float
    top: float
    right: float
    bottom: float


class Axes:
    """Two directions, and marks between them in the order in which they are drawn.

    Parameters
    ----------
    x, y: the directions.
    title: above the upper left corner; "" for none.
    grid: directions with lines at their numbers, of ``x``, ``y`` and ``xy``.
    above: points between title and axes, for what stands there.
    right: points beside them, at least, for what reaches out there.
    bare: without lines and words around; for words alone.
    """

    def __init__(
        self,
        x: Axis,
        y: Axis,
        title: str = "",
        *,
        grid: str = "",
        above: float = 6.0,
        right: float = 2.0,
        bare: bool = False,
    ):
        self.x, self.y, self.title = x, y, title
        self.grid, self.above, self.right, self.bare = grid, above, right, bare
        self.marks: list[Mark] = []
        self.left = self.top = 0.0
        self.width = self.height = 1.0

    def add(self, *marks: Mark) -> None:
        """Draw these on what is there."""
        self.marks += marks

    @property
    def boxes(self) -> list[Box]:
        """The rectangles among the marks."""
        return [mark for mark in self.marks if isinstance(mark, Box)]

    @property
    def lines(self) -> list[Line]:
        """The lines among the marks."""
        return [mark for mark in self.marks if isinstance(mark, Line)]

    @property
    def dots(self) -> list[Dot]:
        """The signs among the marks."""
        return [mark for mark in self.marks if isinstance(mark, Dot)]

    @property
    def words(self) -> list[Word]:
        """The words among the marks."""
        return [mark for mark in self.marks if isinstance(mark, Word)]

    @property
    def margins(self) -> Margins:
        """What the words around take, but for marks that reach out."""
        if self.bare:
            return Margins(0, 0, 0, 0)
        left = letters.widest([words for _, words in self.y.ticks], self.y.size) + BESIDE
        left += MARK * self.y.marks + (LINE * LABEL + BESIDE) * bool(self.y.label)
        bottom = MARK * self.x.marks + BESIDE + self.x.size * bool(self.x.ticks)
        bottom += (LINE * LABEL + BESIDE) * bool(self.x.label)
        top = LINE * TITLE + self.above if self.title else BESIDE
        last = self.x.ticks[-1:]
        over = sum(
            letters.width(words, self.x.size) / 2 - (1 - self.x.share(at)) * self.width
            for at, words in last
        )
        return Margins(left, top, max(over, self.right), bottom)

    def place(self, left: float, top: float, width: float, height: float) -> None:
        """Say where the area between the axes lies, in points."""
        self.left, self.top, self.width, self.height = left, top, width, height

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Data to points."""
        across = self.left + self.x.share(x) * self.width
        return across, self.top + (1 - self.y.share(y)) * self.height

    def value(self, x: float, y: float) -> tuple[float, float]:
        """Points to data: the inverse of `at`."""
        across, up = (x - self.left) / self.width, 1 - (y - self.top) / self.height
        return self.x.value(across), self.y.value(up)

    def shapes(self) -> Iterator[Shape]:
        """Everything to draw, in order."""
        if not self.bare:
            yield from self._grid()
        for mark in self.marks:
            yield from self._drawn(mark)
        if not self.bare:
            yield from self._frame()
            yield from self._names()

    def _drawn(self, mark: Mark) -> Iterator[Shape]:
        if isinstance(mark, Box):
            yield from self._box(mark)
        elif isinstance(mark, Line):
            points = [self.at(self.x.clip(x), self.y.clip(y)) for x, y in mark.points]
            inked = {"fill": mark.colour} if mark.fill else {"stroke": mark.colour}
            yield Path(
                points, **inked, width=mark.width, dash=mark.dash, alpha=mark.alpha, tip=mark.tip
            )
        elif isinstance(mark, Stairs):
            yield Path(self._steps(mark), fill=mark.colour, tip=mark.tip)
        elif isinstance(mark, Word):
            yield self.text(mark)
        else:
            yield self._dot(mark)

    def _box(self, box: Box) -> Iterator[Shape]:
        left, bottom = self.at(self.x.clip(box.x), self.y.clip(box.y))
        right, top = self.at(self.x.clip(box.x + box.width), self.y.clip(box.y + box.height))
        left, right = min(left, right), max(left, right)
        top, bottom = min(top, bottom), max(top, bottom)
        if right > left and bottom > top:
            yield Rectangle(
                left,
                top,
                right - left,
                bottom - top,
                box.colour,
                box.alpha,
                box.edge,
                box.line,
                box.tip,
            )

    def _steps(self, stairs: Stairs) -> list[tuple[float, float]]:
        """Corners of a curve of steps; neighbours that look alike become one."""
        left, floor = self.at(self.x.clip(stairs.edges[0]), stairs.base)
        corners = [(left, floor)]
        reached, height = left, floor
        for edge, value in zip(stairs.edges[1:], stairs.values, strict=True):
            right, up = self.at(edge, self.y.clip(value))
            up = floor - round(floor - up, 1)  # nothing is exactly nothing, not a thin line
            if up != height:
                corners += [(reached, height), (reached, up)]
                height = up
            reached = right
        return [*corners, (reached, height), (reached, floor)]

    def _dot(self, dot: Dot) -> Shape:
        x, y = self.at(dot.x, dot.y)
        if dot.shape == "|":
            ends = ((x, y - dot.size / 2), (x, y + dot.size / 2))
            return Path(ends, stroke=dot.colour, width=2.0, tip=dot.tip)
        if dot.shape == "D":
            return diamond(x, y, dot.size, dot.colour, dot.tip)
        return Disc(x, y, dot.size / 2, dot.colour, dot.alpha, dot.edge, dot.tip)

    def text(self, word: Word) -> Text:
        """Where words come to stand."""
        x, y = self.at(word.x, word.y)
        down = {
            "base": 0.0,
            "middle": letters.MIDDLE,
            "top": letters.ASCENT,
            "bottom": -letters.DESCENT,
        }[word.level]
        right, up = word.shift
        place = x + right, y - up + down * word.size
        return Text(*place, word.words, word.colour, word.size, word.align, word.turn)

    def _grid(self) -> Iterator[Shape]:
        right, bottom = self.left + self.width, self.top + self.height
        if "x" in self.grid:
            for value, _ in self.x.ticks:
                x = self.left + self.x.share(value) * self.width
                yield Path(((x, self.top), (x, bottom)), stroke=theme.GRID, width=0.7)
        if "y" in self.grid:
            for value, _ in self.y.ticks:
                y = self.top + (1 - self.y.share(value)) * self.height
                yield Path(((self.left, y), (right, y)), stroke=theme.GRID, width=0.7)

    def _frame(self) -> Iterator[Shape]:
        """Lines at the left and below, and the short ones at the numbers."""
        right, bottom = self.left + self.width, self.top + self.height
        corner = ((self.left, self.top), (self.left, bottom), (right, bottom))
        yield Path(corner, stroke=theme.MUTED, width=0.8)
        for axis, down in ((self.x, True), (self.y, False)):
            if not axis.marks:
                continue
            lengths = [(value, MARK) for value, _ in axis.ticks]
            for value, length in lengths + [(value, MINOR) for value in axis.minor]:
                at = axis.share(value)
                x = self.left + at * self.width if down else self.left
                y = bottom if down else bottom - at * self.height
                end = (x, y + length) if down else (x - length, y)
                yield Path(((x, y), end), stroke=theme.MUTED, width=0.8)

    def _names(self) -> Iterator[Shape]:
        """Numbers, names of the axes, title."""
        bottom = self.top + self.height
        under = bottom + MARK * self.x.marks + BESIDE + letters.ASCENT * self.x.size
        for value, words in self.x.ticks:
            x = self.left + self.x.share(value) * self.width
            yield Text(x, under, words, theme.INK, self.x.size, "middle")
        beside = self.left - MARK * self.y.marks - BESIDE
        for value, words in self.y.ticks:
            lines = words.split("\n")
            y = self.top + (1 - self.y.share(value)) * self.height + letters.MIDDLE * self.y.size
            y -= (len(lines) - 1) / 2 * LINE * self.y.size
            for number, line in enumerate(lines):
                at = y + number * LINE * self.y.size
                yield Text(beside, at, line, theme.INK, self.y.size, "end")
        if self.x.label:
            middle = self.left + self.width / 2
            below = under + BESIDE + LINE * LABEL * bool(self.x.ticks)
            yield Text(middle, below, self.x.label, theme.INK, LABEL, "middle")
        if self.y.label:
            x = self.left - self.margins.left + letters.ASCENT * LABEL
            y = self.top + self.height / 2
            yield Text(x, y, self.y.label, theme.INK, LABEL, "middle", turn=90)
        if self.title:
            up = self.top - self.above - letters.DESCENT * TITLE
            yield Text(self.left, up, self.title, theme.INK, TITLE, bold=True)
