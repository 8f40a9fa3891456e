"""A picture as PNG. Only this needs Matplotlib, and takes as long as all the rest of a report."""

from __future__ import annotations

from pathlib import Path as File
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, PathPatch
from matplotlib.patches import Rectangle as Field
from matplotlib.path import Path as Route
from matplotlib.text import Text as Words

from reports import theme
from reports.drawing.marks import Disc, Path, Rectangle, Shape, Text
from reports.drawing.picture import Picture

DPI = 150
POINTS = 72
"""Of an inch."""
SIDES: dict[str, Literal["left", "center", "right"]] = {
    "start": "left",
    "middle": "center",
    "end": "right",
}


def save(picture: Picture, path: File) -> None:
    """Write the picture on the light surface, `DPI` pixels to an inch."""
    with rc_context({"font.family": "DejaVu Sans", "path.simplify": True}):
        size = picture.width / POINTS, picture.height / POINTS
        figure = Figure(figsize=size, dpi=DPI, facecolor=theme.SURFACE)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set(xlim=(0, picture.width), ylim=(picture.height, 0))
        for order, shape in enumerate(picture.shapes()):
            artist = _artist(shape)
            artist.set_zorder(order)
            axes.add_artist(artist)
        canvas: Any = FigureCanvasAgg(figure)  # Matplotlib types none of its methods
        canvas.print_png(path, metadata={"Software": None}, pil_kwargs={"compress_level": 3})


def _artist(shape: Shape) -> Artist:
    if isinstance(shape, Text):
        return Words(
            shape.x,
            shape.y,
            shape.words,
            color=shape.colour,
            fontsize=shape.size,
            horizontalalignment=SIDES[shape.align],
            verticalalignment="baseline",
            rotation=shape.turn,
            rotation_mode="anchor",
            fontweight="bold" if shape.bold else "normal",
        )
    if isinstance(shape, Rectangle):
        look = _look(shape.fill, shape.edge, shape.line, shape.alpha)
        return Field((shape.x, shape.y), shape.width, shape.height, **look)
    if isinstance(shape, Disc):
        return Circle(
            (shape.x, shape.y), shape.radius, **_look(shape.fill, shape.edge, 1.0, shape.alpha)
        )
    return _path(shape)


def _path(path: Path) -> PathPatch:
    route = Route([*path.points, *path.points[:1]] if path.fill else list(path.points))
    look = _look(path.fill, path.stroke, path.width, path.alpha)
    if path.dash:
        look["linestyle"] = (0, [float(part) for part in path.dash.split()])
    return PathPatch(route, capstyle="butt", joinstyle="miter", **look)


def _look(fill: str, edge: str, line: float, alpha: float) -> dict[str, Any]:
    return {
        "facecolor": (fill, alpha) if fill else "none",
        "edgecolor": (edge, 1.0 if fill else alpha) if edge else "none",
        "linewidth": line if edge else 0.0,
    }
