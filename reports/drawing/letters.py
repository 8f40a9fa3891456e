"""How much room words take.

Widths are those of DejaVu Sans, which is wider than the other fonts that a page may be shown in:
what fits by them fits.
"""

from __future__ import annotations

FIRST = 32
"""Code of the first character of the tables."""
# fmt: off
REGULAR = (
    318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337, 636, 636, 636,
    636, 636, 636, 636, 636, 636, 636, 337, 337, 838, 838, 838, 531, 1000, 684, 686, 698, 770, 632,
    575, 775, 752, 295, 295, 656, 557, 863, 748, 787, 603, 787, 695, 635, 611, 732, 684, 989, 685,
    611, 685, 390, 337, 390, 838, 500, 500, 613, 635, 550, 635, 615, 352, 635, 634, 278, 278, 579,
    278, 974, 634, 612, 635, 635, 411, 521, 392, 634, 592, 818, 592, 592, 525, 636, 337, 636, 838,
)
"""Thousandths of the font's size, of the characters from the blank to the tilde."""
# fmt: on
OTHER = 850
"""Of any other character, likewise: arrows, signs; a dash and µ are narrower."""
BOLD = 1.14
"""Of bold letters to regular ones, at most, over a word."""
ASCENT, DESCENT = 0.76, 0.24
"""Of the font's size, above and below the line that letters stand on."""
MIDDLE = 0.36
"""Of the font's size: half the height of a digit, and of a capital."""


def width(words: str, size: float, bold: bool = False) -> float:
    """Points that words take in one line, in letters of this size."""
    total = 0
    for character in words:
        place = ord(character) - FIRST
        total += REGULAR[place] if 0 <= place < len(REGULAR) else OTHER
    return total * size / 1000 * (BOLD if bold else 1.0)


def widest(words: list[str], size: float) -> float:
    """Points that the longest of some words takes; 0 without any. Lines are apart by a newline."""
    return max((width(line, size) for each in words for line in each.split("\n")), default=0.0)
