"""Operands and results of products that lie on chip whole, row for row as in DRAM."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeAlias

from compiler.array.matrices import Grid, Index, runs
from compiler.tile.geometry import Range
from compiler.tile.regions import Region
from hw.arch.program import Tensor

Place: TypeAlias = tuple[int, int, int, int]
"""First row of a tile, and rows between its positions, blocks and matrices."""


@dataclasses.dataclass(frozen=True, slots=True)
class Whole:
    """A tensor in a region of the scratchpad.

    Attributes
    ----------
    row: of the tensor's first one.
    grid: where its matrices lie.
    """

    row: int
    grid: Grid

    @classmethod
    def of(
        cls,
        tensor: Tensor,
        grid: Grid,
        batch: Sequence[Range],
        positions: Sequence[Range],
        region: Region,
    ) -> Whole | None:
        """A tensor that fits and whose tiles are evenly spaced; None for any other.

        Parameters
        ----------
        tensor, grid: an operand or the result.
        batch, positions: matrices and positions of every tile.
        region: what it has on chip.
        """
        even = all(_even(grid.base, part) for part in batch)
        even &= all(_even(grid.along, part) for part in positions)
        return cls(region.row, grid) if even and tensor.layout.rows <= region.rows else None

    def place(self, matrices: Range, positions: Range, blocks: Range) -> Place:
        """Where a tile lies, told first and count of each."""
        base, along, pitch = self.grid.base, self.grid.along, self.grid.pitch
        row = self.row + int(base[matrices[0]]) + int(along[positions[0]]) + blocks[0] * pitch
        return row, _step(along, positions), pitch, _step(base, matrices)


def _even(index: Index, part: Range) -> bool:
    first, count = part
    return len(list(runs(index[first : first + count]))) == 1


def _step(index: Index, part: Range) -> int:
    """Rows between neighbours; 0 where there are none."""
    first, count = part
    return int(index[first + 1] - index[first]) if count > 1 else 0
