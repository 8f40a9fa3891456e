"""FOLDs of a softmax."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

from compiler.ops import Softmax
from hw.arch.isa import Fold, FoldOp, deltas

Counts: TypeAlias = tuple[int, int, int, int]
"""Of a nest's levels, innermost first."""


@dataclasses.dataclass(frozen=True, slots=True)
class Passes:
    """The three FOLDs that a softmax of some groups takes.

    Attributes
    ----------
    op: the softmax.
    signed: whether codes are s8, operand and result alike.
    table: the instructions' field of the exponentials' tables.
    elements: of a group.
    zero_point: of the result.
    """

    op: Softmax
    signed: bool
    table: int
    elements: int
    zero_point: int

    def _fields(
        self, counts: Counts, source: int, pitches: Counts, valid: int, maxima: int | None = None
    ) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "signed": (int(self.signed), int(self.signed)),
            "counts": counts,
            "source0": source,
            "source0_deltas": deltas(counts, pitches),
            "valid": valid,
        }
        if maxima is None:
            return fields
        return fields | {
            "source1": maxima,
            "source1_deltas": deltas(counts, (0, 0, 1, counts[2])),
            "elements": self.elements,
            "table": self.table,
        }

    def maximum(
        self, counts: Counts, source: int, pitches: Counts, valid: int, maxima: int
    ) -> Fold:
        """A row of each group's greatest code; groups are n2 and n3."""
        low, high = (-128, 127) if self.signed else (0, 255)
        return Fold(
            op=FoldOp.MAX,
            destination=maxima,
            destination_deltas=deltas((1, 1, *counts[2:]), (0, 0, 1, counts[2])),
            low=low,
            high=high,
            **self._fields(counts, source, pitches, valid),
        )

    def collect(
        self, counts: Counts, source: int, pitches: Counts, valid: int, maxima: int
    ) -> Fold:
        """The sums of exponentials."""
        return Fold(
            op=FoldOp.SOFTMAX_COLLECT,
            first=1,
            last=1,
            multiplier=self.op.constants.numerator,
            **self._fields(counts, source, pitches, valid, maxima),
        )

    def apply(
        self,
        counts: Counts,
        source: int,
        pitches: Counts,
        valid: int,
        maxima: int,
        result: int,
    ) -> Fold:
        """The results, which lie as their operands do."""
        return Fold(
            op=FoldOp.SOFTMAX_APPLY,
            destination=result,
            destination_deltas=deltas(counts, pitches),
            zero_point=self.zero_point,
            low=self.op.low,
            high=self.op.high,
            **self._fields(counts, source, pitches, valid, maxima),
        )
