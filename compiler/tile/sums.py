"""What the units do for a layer, summed up: by that tilings are ranked.

Sums do not know who waits for whom. That is the business of the core's event model, with which all
that may be best is timed (compiler/ranking.py, compiler/emit/trial.py); sums choose what that is.
"""

from __future__ import annotations

import dataclasses

from hw.arch.timing import FOLD_LATENCY, TOKEN_LATENCY, VECTOR_START

# What an instruction costs beside its streaming, in cycles: issue, pipeline, token.
ARRAY_OVERHEAD = 6
TRANSFORMED_OVERHEAD = 12
"""Of an ARRAY in mode HFA, between its slots and those of the next one."""
DRAIN_OVERHEAD = 28
FOLD_OVERHEAD = VECTOR_START + FOLD_LATENCY + TOKEN_LATENCY
LOAD_OVERHEAD = 48
STORE_OVERHEAD = 32


@dataclasses.dataclass(frozen=True, slots=True)
class Sums:
    """Cycles of a layer.

    Attributes
    ----------
    array, drain, vector, port: in which each of them works; they do so at the same time.
    turns: of loads that the array takes turns with, for want of a second slot.
    fill: that nothing hides, of the first and the last tile above all.
    """

    array: int = 0
    drain: int = 0
    vector: int = 0
    port: int = 0
    turns: int = 0
    fill: int = 0

    @property
    def cycles(self) -> int:
        """Those of the unit that works longest, and what is not hidden behind it."""
        return max(self.array, self.drain, self.vector, self.port) + self.turns + self.fill

    def describe(self) -> dict[str, int]:
        """For the report."""
        return dataclasses.asdict(self)
