"""Pictures of a few kinds of marks, written as SVG without a plotting library.

A figure puts marks into `Axes` in the units of its data; `Axes.place` says where on the picture
the axes lie, and `Picture` writes everything as SVG. Margins come from the widths of the words that
stand in them (`letters`), so nothing is drawn twice to find out where it goes. All lengths are in
points, from the upper left corner.
"""

from reports.drawing.axes import Axes
from reports.drawing.axis import Axis, linear, logarithmic, rows
from reports.drawing.legend import Key, Legend
from reports.drawing.marks import Box, Dot, Line, Stairs, Word
from reports.drawing.picture import Picture

__all__ = [
    "Axes",
    "Axis",
    "Box",
    "Dot",
    "Key",
    "Legend",
    "Line",
    "Picture",
    "Stairs",
    "Word",
    "linear",
    "logarithmic",
    "rows",
]
