"""A picture of a placed design: the device's tiles in the colours of the units that lie there."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from hw.boards.ecp5 import LOGIC_AREA

__all__ = ["draw", "placed_cells", "tiles_of"]

Tile = tuple[int, int]
NAME = re.compile(r'^        "((?:[^"\\]|\\.)*)": \{')
"""A cell in the JSON that nextpnr writes, by its indentation."""
PLACE = re.compile(r'"NEXTPNR_BEL": "X(\d+)/Y(\d+)/')
FEW = 12
"""Units that have a colour of their own; others share grey."""


def placed_cells(netlist: Path) -> Iterator[tuple[str, Tile]]:
    """Name, column and row of each cell of a design that nextpnr wrote with `--write`.

    The file is read line by line: with its routing it has hundreds of megabytes.
    """
    name = ""
    with netlist.open() as lines:
        for line in lines:
            found = NAME.match(line)
            if found:
                name = found[1]
                continue
            place = PLACE.search(line)
            if place and name:
                yield name, (int(place[1]), int(place[2]))


def tiles_of(
    cells: Iterator[tuple[str, Tile]], unit_of: Callable[[str], str]
) -> dict[Tile, Counter[str]]:
    """Cells of each unit in each tile."""
    tiles: dict[Tile, Counter[str]] = defaultdict(Counter)
    for name, tile in cells:
        tiles[tile][unit_of(name)] += 1
    return dict(tiles)


def draw(tiles: Mapping[Tile, Counter[str]], path: Path) -> None:
    """Write the picture (PNG): each tile in the colour of the unit with most cells in it.

    Raises
    ------
    ValueError
        If there is no cell.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    sizes: Counter[str] = Counter()
    for units in tiles.values():
        sizes.update(units)
    if not sizes:
        raise ValueError("a picture of no cells")
    shown = [name for name, _ in sizes.most_common(FEW)]
    colours = {name: colormaps["tab20"](k)[:3] for k, name in enumerate(shown)}
    _, _, right, top = LOGIC_AREA
    width = 1 + max(right, *(x for x, _ in tiles))
    height = 1 + max(top, *(y for _, y in tiles))
    image = np.ones((height, width, 3))
    for (x, y), units in tiles.items():
        name = max(units, key=lambda unit: (units[unit], unit))
        image[y, x] = colours.get(name, (0.6, 0.6, 0.6))
    figure = Figure(figsize=(9, 6))
    axes = figure.add_subplot()
    axes.imshow(image, interpolation="nearest")
    axes.set_xlabel("column")
    axes.set_ylabel("row")
    labels = [Patch(color=colours[name], label=name) for name in shown]
    if len(sizes) > FEW:
        labels.append(Patch(color=(0.6, 0.6, 0.6), label="others"))
    axes.legend(handles=labels, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.tight_layout()
    FigureCanvasAgg(figure).print_png(str(path))
