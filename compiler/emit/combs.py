"""Which bytes of DRAM a transfer touches, as combs: equal spans at equal distances.

Lines of a map with several lane blocks are a span in every block. As intervals, the first lines and
the last ones overlap; as combs they do not, and whoever reads the first need not wait for the last.
"""

from __future__ import annotations

import dataclasses

from hw.arch.isa import Load, Store, strides
from hw.arch.nest import interval


@dataclasses.dataclass(frozen=True, slots=True)
class Comb:
    """What a transfer touches, seen in several ways, each of which covers all of it.

    Attributes
    ----------
    low, high: first and last byte.
    spans: bytes of a span by the distance from one to the next, in which the span fits; the first
        one begins at `low`.
    """

    low: int
    high: int
    spans: dict[int, int]

    @classmethod
    def of(cls, transfer: Load | Store, beat: int) -> Comb:
        """What a transfer touches.

        Parameters
        ----------
        transfer: its register counts as zero.
        beat: bytes of a beat.
        """
        step = strides(transfer.counts, transfer.dram_deltas)
        first, last = interval(transfer.dram, transfer.counts, step)
        levels = sorted(
            (abs(stride), count)
            for count, stride in zip(transfer.counts, step, strict=True)
            if count > 1
        )
        span, spans = transfer.beats * beat, {}
        for number, (stride, count) in enumerate(levels):
            if stride >= span and not any(outer % stride for outer, _ in levels[number:]):
                spans[stride] = span
            span += (count - 1) * stride
        return cls(first, last + transfer.beats * beat - 1, spans)

    def meets(self, other: Comb) -> bool:
        """Whether they may have a byte in common; False only if they have none."""
        if self.low > other.high or other.low > self.high:
            return False
        for distance in {*self.spans, *other.spans}:
            mine, others = self._span(distance), other._span(distance)
            if mine is None or others is None:
                continue
            offset = (other.low - self.low) % distance
            if mine <= offset and others <= distance - offset:
                return False
        return True

    def _span(self, distance: int) -> int | None:
        """Bytes of a span where they repeat at a distance, or lie in one; None where neither."""
        if distance in self.spans:
            return self.spans[distance]
        whole = self.high - self.low + 1
        return whole if whole <= distance else None
