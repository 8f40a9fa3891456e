"""Banks and slots of the activation scratchpad."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hw.arch.config import AcceleratorConfig
from hw.arch.layout import ceil_div


@dataclasses.dataclass(frozen=True, slots=True)
class Region:
    """Whole banks of the activation scratchpad: one unit writes them, one unit reads them.

    That is why two units never meet on a port of the region's banks.

    Attributes
    ----------
    row: first row.
    rows: size.
    """

    row: int
    rows: int

    def slot(self, index: int, slots: int) -> int:
        """First row of one of several equal parts."""
        return self.row + index * (self.rows // slots)


def banks_needed(rows: int, config: AcceleratorConfig) -> int:
    """Banks that hold so many rows."""
    return ceil_div(rows, config.memory.activation_bank_rows)


def last_banks(rows: Sequence[int], config: AcceleratorConfig) -> list[Region] | None:
    """As `split_banks`, from the last bank on downwards; banks that are left over go to none.

    Layers that are computed at the same time meet on no port where one takes the first banks and
    the other one the last.
    """
    bank = config.memory.activation_bank_rows
    place = config.memory.activation_banks
    regions = []
    for needed in (banks_needed(r, config) for r in rows):
        place -= needed
        if place < 0:
            return None
        regions.append(Region(place * bank, needed * bank))
    return regions


def split_banks(rows: Sequence[int], config: AcceleratorConfig) -> list[Region] | None:
    """Regions of at least the given sizes on disjoint banks, in order; None if they do not fit.

    Banks that are left over go to the last region.
    """
    bank = config.memory.activation_bank_rows
    needed = [banks_needed(r, config) for r in rows]
    spare = config.memory.activation_banks - sum(needed)
    if spare < 0:
        return None
    needed[-1] += spare
    regions = []
    first = 0
    for count in needed:
        regions.append(Region(first * bank, count * bank))
        first += count
    return regions
