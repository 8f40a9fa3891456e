"""Lowering of what a Loop takes: a copy to where the carried tensor lies.

Each trip leaves what it made there (compiler/flow/loops.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from compiler.emit.moves import move
from compiler.emit.streams import Stream
from compiler.emit.transfers import Strided
from compiler.lower.base import Lanes, Moved
from compiler.lower.contracts import lanes_differ
from compiler.ops import Enter
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import LaneMap, TensorLayout
from hw.arch.program import Tensor


class EnterLowering(Moved[Enter]):
    """A copy."""

    operation = Enter
    limits = ()

    def kind(self, op: Enter, config: AcceleratorConfig) -> str:
        """One kind."""
        return "loop_enter"

    def contract(
        self, op: Enter, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """The operand's lanes."""
        return lanes_differ(sources[0], result)

    def lanes(self, op: Enter) -> Lanes:
        """The operand's."""
        return Lanes.MET

    def demands(self, op: Enter, maps: Sequence[LaneMap]) -> list[LaneMap] | None:
        """Dense: what a trip leaves has the same lanes."""
        return [LaneMap.dense(maps[0].channels, maps[0].lanes)]

    def streams(
        self,
        op: Enter,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
        tables: Sequence[int],
    ) -> Iterable[Stream]:
        """One copy."""
        view, to = Strided.of(sources[0]), Strided.of(target)
        return [move(view, to, view.whole, config)]


LOWERING = EnterLowering()
