"""Lowering of what a Loop carries, behind it: it lies where the last trip left it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compiler.lower.base import Lanes, Unmoved
from compiler.ops import Leave
from compiler.policy import Policy
from compiler.tensor import TensorType
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import LaneMap, TensorLayout


class LeaveLowering(Unmoved[Leave]):
    """No instruction; what goes round and what decides is emitted with the trips
    (compiler/flow/blocks.py).
    """  # noqa: D205

    operation = Leave
    limits = ()

    def kind(self, op: Leave, config: AcceleratorConfig) -> str:
        """One kind."""
        return "loop_leave"

    def refusal(
        self,
        op: Leave,
        inputs: Sequence[TensorType],
        output: TensorType,
        config: AcceleratorConfig,
        policy: Policy | None,
    ) -> str | None:
        """Too many elements decide."""
        return None if op.predicate is None else op.predicate.refusal()

    def contract(
        self, op: Leave, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """One map for what is carried."""
        same = sources[0] == sources[1] == result
        return None if same else "what a trip leaves has the lanes of what it finds"

    def lanes(self, op: Leave) -> Lanes:
        """The carried tensor's."""
        return Lanes.MET

    def demands(self, op: Leave, maps: Sequence[LaneMap]) -> list[LaneMap] | None:
        """The carried tensor's for what a trip leaves."""
        return [maps[1], *maps[1:]]

    def keeps_bytes(self, op: Leave) -> bool:
        """The last trip wrote them."""
        return True

    def facts(self, op: Leave) -> dict[str, Any]:
        """Whose it is."""
        return {"loop": op.loop}


LOWERING = LeaveLowering()
