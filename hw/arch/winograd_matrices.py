"""The 1-D transforms of Winograd's minimal filtering that the circuit knows: integer matrices."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Transform:
    """One 1-D transform; `points` products give `outputs` results of a `taps`-tap correlation.

    Attributes
    ----------
    name: as written in reports.
    input_rows: Bᵀ, points × points.
    weight_rows: G with scaled rows, points × taps.
    output_rows: Aᵀ with scaled columns, outputs × points.
    scale: L, by which the results come out too large.
    """

    name: str
    input_rows: tuple[tuple[int, ...], ...]
    weight_rows: tuple[tuple[int, ...], ...]
    output_rows: tuple[tuple[int, ...], ...]
    scale: int

    @property
    def points(self) -> int:
        """Multiplications per tile; also the pixels that a tile reads."""
        return len(self.input_rows)

    @property
    def taps(self) -> int:
        """Kernel taps."""
        return len(self.weight_rows[0])

    @property
    def outputs(self) -> int:
        """Results per tile (m)."""
        return len(self.output_rows)


DIRECT = Transform("1", ((1,),), ((1,),), ((1,),), 1)
"""An axis that is not transformed: one pixel, one tap, one product."""

F2 = Transform(
    "F(2,3)",
    input_rows=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    weight_rows=((1, 0, 0), (1, 1, 1), (1, -1, 1), (0, 0, 1)),
    output_rows=((2, 1, 1, 0), (0, 1, -1, -2)),
    scale=2,
)
"""Points 0, 1, −1, ∞; the middle rows of G are doubled."""

F4 = Transform(
    "F(4,3)",
    input_rows=(
        (4, 0, -5, 0, 1, 0),
        (0, 4, 4, -1, -1, 0),
        (0, -4, 4, 1, -1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
    weight_rows=((1, 0, 0), (1, 1, 1), (1, -1, 1), (1, 2, 4), (1, -2, 4), (0, 0, 1)),
    output_rows=(
        (6, 4, 4, 1, 1, 0),
        (0, 4, -4, 2, -2, 0),
        (0, 4, 4, 4, 4, 0),
        (0, 4, -4, 8, -8, 24),
    ),
    scale=24,
)
"""Points 0, 1, −1, 2, −2, ∞; the rows of G are scaled by 4, 6, 6, 24, 24, 1."""

TRANSFORMS = (DIRECT, F2, F4)
"""Indexed by the instruction fields `transform_t` and `transform_s`."""
