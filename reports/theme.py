"""Colours.

Those of data are the Okabe-Ito set, which people with colour-blindness can tell apart. Ink, muted
ink, grid and surface are variables of the page's CSS, so that one drawing fits light and dark.
"""

from __future__ import annotations

INK, MUTED, GRID, SURFACE = "#1b1f26", "#5d6672", "#dfe3e9", "#fefefd"
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    SURFACE: "var(--surface)",
}

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


def colours(names: list[str]) -> dict[str, str]:
    """A colour for each name; beyond the palette they repeat."""
    return {name: SERIES[i % len(SERIES)] for i, name in enumerate(names)}


def on(colour: str) -> str:
    """Ink that can be read on a colour of data, in light and dark alike."""
    return "#ffffff" if colour in (BLUE, GREEN, RED) else "#111111"


def variable(colour: str) -> str:
    """What a colour is called in a page, whose CSS gives ink and grid their shade for the theme."""
    return _VARIABLES.get(colour, colour)
