"""Lowering of joins: the arms have written where the result lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compiler.lower.base import Lanes, Unmoved
from compiler.ops import Join
from compiler.ops.join import MOST_READ
from compiler.policy import Policy
from compiler.tensor import TensorType
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import LaneMap, TensorLayout


class JoinLowering(Unmoved[Join]):
    """No instruction; what decides is emitted before the arms (compiler/flow/blocks.py)."""

    operation = Join
    limits = (f"a decision compares at most {MOST_READ} elements",)

    def kind(self, op: Join, config: AcceleratorConfig) -> str:
        """One kind."""
        return "join"

    def refusal(
        self,
        op: Join,
        inputs: Sequence[TensorType],
        output: TensorType,
        config: AcceleratorConfig,
        policy: Policy | None,
    ) -> str | None:
        """Too many elements."""
        return op.predicate.refusal()

    def contract(
        self, op: Join, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """One map for both arms and the result."""
        same = all(source == result for source in sources[:2])
        return None if same else "the arms of a branch have their result's lanes"

    def lanes(self, op: Join) -> Lanes:
        """Those of its arms."""
        return Lanes.MET

    def demands(self, op: Join, maps: Sequence[LaneMap]) -> list[LaneMap] | None:
        """The first arm's where both agree, else dense ones."""
        first, second, tested = maps
        if first != second:
            first = LaneMap.dense(first.channels, first.lanes)
        return [first, first, tested]

    def keeps_bytes(self, op: Join) -> bool:
        """An arm wrote them."""
        return True

    def scattered(self, op: Join, number: int) -> bool:
        """Both arms write to one place; of what is tested, rows are read one by one."""
        return number == 2

    def facts(self, op: Join) -> dict[str, Any]:
        """Whose it is."""
        return {"branch": op.branch}


LOWERING = JoinLowering()
