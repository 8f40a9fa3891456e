"""A whole picture, and its SVG: inside of a page, and as a file of its own."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator

from reports import theme
from reports.drawing.axes import Axes
from reports.drawing.marks import Disc, Path, Rectangle, Shape, Text

FONTS = "'DejaVu Sans',Verdana,Arial,sans-serif"
SIZE = 9.0
"""Of letters that say no other size."""


class Picture:
    """Axes, and shapes beside them (legends).

    Parameters
    ----------
    width, height: in points.
    axes: pairs of axes, placed.
    shapes: in points, drawn last.
    """

    def __init__(self, width: float, height: float, axes: list[Axes], shapes: list[Shape]):
        self.width, self.height, self.axes, self.extra = width, height, axes, shapes

    def shapes(self) -> Iterator[Shape]:
        """Everything to draw, in order."""
        for axes in self.axes:
            yield from axes.shapes()
        yield from self.extra

    def inline(self, description: str) -> str:
        """An ``<svg>`` for a page, whose CSS has the colours that fit its theme.

        Parameters
        ----------
        description: read out instead of the picture.
        """
        body = "".join(map(_Writer(theme.variable).element, self.shapes()))
        label = html.escape(description, quote=True)
        return (
            f'<svg class="figure" viewBox="{self._view}" role="img" aria-label="{label}" '
            f'font-size="{number(SIZE)}">{body}</svg>'
        )

    def file(self, description: str) -> str:
        """The text of an SVG file, on the light surface."""
        whole = Rectangle(0, 0, self.width, self.height, theme.SURFACE)
        writer = _Writer(lambda colour: colour)
        body = "\n".join(map(writer.element, (whole, *self.shapes())))
        size = f'width="{number(self.width)}pt" height="{number(self.height)}pt"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="{self._view}" '
            f'font-family="{FONTS}" font-size="{number(SIZE)}">\n'
            f"<title>{html.escape(description)}</title>\n{body}\n</svg>\n"
        )

    @property
    def _view(self) -> str:
        return f"0 0 {number(self.width)} {number(self.height)}"


def number(value: float) -> str:
    """Hundredths of a point, without zeros that say nothing."""
    words = f"{value:.2f}"
    if words.endswith("00"):
        words = words[:-3]
    elif words.endswith("0"):
        words = words[:-1]
    return "0" if words == "-0" else words


class _Writer:
    """Shapes to elements; `colour` gives the name of a colour where the picture stands."""

    def __init__(self, colour: Callable[[str], str]):
        self._colour = colour

    def element(self, shape: Shape) -> str:
        """The shape as SVG."""
        if isinstance(shape, Text):
            return self._text(shape)
        if isinstance(shape, Rectangle):
            size = f'width="{number(shape.width)}" height="{number(shape.height)}"'
            start = f'<rect x="{number(shape.x)}" y="{number(shape.y)}" {size}'
            look = self._fill(shape.fill, shape.alpha) + self._edge(shape.edge, shape.line)
            return _closed(f"{start}{look}", "rect", shape.tip)
        if isinstance(shape, Disc):
            start = f'<circle cx="{number(shape.x)}" cy="{number(shape.y)}"'
            look = self._fill(shape.fill, shape.alpha) + self._edge(shape.edge, 1.0)
            return _closed(f'{start} r="{number(shape.radius)}"{look}', "circle", shape.tip)
        return self._path(shape)

    def _path(self, path: Path) -> str:
        look = self._fill(path.fill or "none", path.alpha if path.fill else 1.0)
        look += self._edge(path.stroke, path.width)
        if path.stroke and path.alpha != 1:
            look += f' stroke-opacity="{number(path.alpha)}"'
        if path.dash:
            look += f' stroke-dasharray="{path.dash}"'
        return _closed(f'<path d="{_route(path)}"{look}', "path", path.tip)

    def _text(self, text: Text) -> str:
        look = "" if text.size == SIZE else f' font-size="{number(text.size)}"'
        look += "" if text.align == "start" else f' text-anchor="{text.align}"'
        look += ' font-weight="700"' if text.bold else ""
        x, y = number(text.x), number(text.y)
        look += f' transform="rotate({number(-text.turn)} {x} {y})"' if text.turn else ""
        words = html.escape(text.words, quote=False)
        return f'<text x="{x}" y="{y}" fill="{self._colour(text.colour)}"{look}>{words}</text>'

    def _fill(self, colour: str, alpha: float) -> str:
        look = f' fill="{self._colour(colour)}"'
        return look if alpha == 1 else f'{look} fill-opacity="{number(alpha)}"'

    def _edge(self, colour: str, width: float) -> str:
        if not colour:
            return ""
        return f' stroke="{self._colour(colour)}" stroke-width="{number(width)}"'


def _route(path: Path) -> str:
    """The points of a path; H and V where a line is level or upright."""
    words: list[str] = []
    before = ("", "")
    for x, y in path.points:
        place = number(x), number(y)
        if not words:
            words.append(f"M{place[0]} {place[1]}")
        elif place[1] == before[1]:
            if place[0] != before[0]:
                words.append(f"H{place[0]}")
        elif place[0] == before[0]:
            words.append(f"V{place[1]}")
        else:
            words.append(f"L{place[0]} {place[1]}")
        before = place
    return "".join(words) + "z" * bool(path.fill)


def _closed(start: str, tag: str, tip: str) -> str:
    if not tip:
        return f"{start}/>"
    return f"{start}><title>{html.escape(tip, quote=False)}</title></{tag}>"
