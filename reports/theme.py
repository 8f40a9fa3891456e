"""Looks: colours, fonts, and the way a figure becomes a picture file or part of a page.

Colours of data are the Okabe-Ito set, which people with colour-blindness can tell apart. Ink,
muted ink and grid are unusual values on purpose: in the page's SVG they are replaced by CSS
variables, so that one drawing fits a light and a dark page.
"""

from __future__ import annotations

import html
import io
import re
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, MUTED, GRID, SURFACE = "#1b1f26", "#5d6672", "#dfe3e9", "#fefefd"
_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", SURFACE: "--surface"}

BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
SKY, PINK, YELLOW, GREY = "#56b4e9", "#cc79a7", "#f0e442", "#999999"

UNIT_COLOURS = {
    "LOAD": SKY,
    "ARRAY": BLUE,
    "DRAIN": GREEN,
    "VECTOR": PINK,
    "STORE": ORANGE,
}
STATE_COLOURS = {"working": BLUE, "memory": ORANGE, "token": PINK, "idle": GRID}
SERIES = (BLUE, ORANGE, GREEN, PINK, SKY, RED, YELLOW, GREY)
"""For components and operators, in the order in which they appear."""

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "figure.dpi": 150,
    "figure.facecolor": SURFACE,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "none",
    "path.simplify": True,
}


def colours(names: list[str]) -> dict[str, str]:
    """A colour for each name; beyond the palette they repeat."""
    return {name: SERIES[i % len(SERIES)] for i, name in enumerate(names)}


def on(colour: str) -> str:
    """Ink that can be read on a colour of data, in light and dark alike."""
    return "#ffffff" if colour in (BLUE, GREEN, RED) else "#111111"


def tip(words: str) -> str:
    """Group identifier that `inline_svg` turns into a tooltip."""
    return f"tip:{words}"


def settle(figure: Figure) -> None:
    """Lay a figure out once and for all; otherwise every picture made of it does it anew."""
    engine = figure.get_layout_engine()
    if engine is None:
        return
    with rc_context(RC):
        engine.execute(figure)
    figure.set_layout_engine("none")


def save_png(figure: Figure, path: Path) -> None:
    """Write the figure as a PNG on the light surface."""
    # Not by savefig, here and below: it draws twice, to find out what the figure covers.
    with rc_context(RC):
        canvas: Any = FigureCanvasAgg(figure)  # matplotlib types neither of these methods
        canvas.print_png(path, metadata={"Software": None}, pil_kwargs={"compress_level": 3})


def inline_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an `<svg>` element for a page.

    Parameters
    ----------
    figure: drawn under `RC`.
    name: prefix of the element identifiers, unique in the page.
    description: read out instead of the picture.
    """
    stream = io.StringIO()
    patches = [figure.patch, *(axes.patch for axes in figure.axes)]
    opaque = [patch.get_alpha() for patch in patches]
    with rc_context({**RC, "svg.hashsalt": name}):
        for patch in patches:
            patch.set_alpha(0)
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(stream, metadata={"Date": None})
    for patch, alpha in zip(patches, opaque, strict=True):
        patch.set_alpha(alpha)
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="tip:([^"]*)">', r"<g><title>\1</title>", svg)
    svg = _short(_number_identifiers(svg, name))
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    label = html.escape(description, quote=True)
    return re.sub(
        r"<svg [^>]*?viewBox=\"([^\"]+)\"[^>]*>",
        rf'<svg class="figure" viewBox="\1" role="img" aria-label="{label}">',
        svg,
        count=1,
    )


_RECTANGLE = re.compile(r"M(\S+) (\S+)L(\S+) \2L\3 (\S+)L\1 \4z")

_ALONE = re.compile(r"<g>(<(?:path|use)[^>]*/>|<text[^>]*>[^<]*</text>)</g>")


def _short(svg: str) -> str:
    """The same picture in fewer letters: hundredths of a point, no blanks between elements."""
    svg = re.sub(r">\s+<", "><", svg)
    svg = re.sub(r' transform="rotate\(-0 [^)]*\)"', "", svg)
    svg = re.sub(r"-?\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), svg)
    for _ in range(2):  # groups of one element that say nothing
        svg = _ALONE.sub(r"\1", svg)
    return re.sub(r' d="([^"]*)"', lambda m: f' d="{_short_path(m[1])}"', svg)


def _short_path(path: str) -> str:
    path = re.sub(r"\s*([A-Za-z])\s*", r"\1", path.strip())
    return _RECTANGLE.sub(r"M\1 \2H\3V\4H\1z", path)


def _number_identifiers(svg: str, name: str) -> str:
    """Give elements that are referred to the identifiers NAME-0, NAME-1, ...; drop the others.

    Matplotlib's differ from run to run and would clash between the figures of a page.
    """
    used = dict.fromkeys(re.findall(r"(?:url\(|xlink:href=\")#([^)\"]+)", svg))
    number = {old: f"{name}-{index}" for index, old in enumerate(used)}
    svg = re.sub(r"url\(#([^)]+)\)", lambda m: f"url(#{number[m[1]]})", svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', lambda m: f'href="#{number[m[1]]}"', svg)
    return re.sub(
        r'\s\bid="([^"]*)"', lambda m: f' id="{number[m[1]]}"' if m[1] in number else "", svg
    )
