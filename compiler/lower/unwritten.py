"""A lowering that is not written yet: its operators are refused by node, as any other refusal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compiler.emit.emitter import Emitter, RefusedError
from compiler.lower.base import Lanes, Lowering, Op
from compiler.policy import Policy
from compiler.tensor import TensorType
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import LaneMap, TensorLayout
from hw.arch.program import Tensor


class Unwritten(Lowering[Op]):
    """What the back end knows of operators that it cannot emit.

    Members
    -------
    reason: why not, for people.
    """

    reason: str
    limits = ()

    def refusal(
        self,
        op: Op,
        inputs: Sequence[TensorType],
        output: TensorType,
        config: AcceleratorConfig,
        policy: Policy | None,
    ) -> str | None:
        """Always."""
        return self.reason

    def contract(self, op: Op, sources: Sequence[TensorLayout], result: TensorLayout) -> str | None:
        """Nothing is demanded: nothing is emitted."""
        return None

    def lanes(self, op: Op) -> Lanes:
        """Its own."""
        return Lanes.OWN

    def result(self, op: Op, maps: Sequence[LaneMap], channels: int) -> LaneMap:
        """Dense."""
        return LaneMap.dense(channels, maps[0].lanes)

    def emit(
        self, emitter: Emitter, op: Op, sources: Sequence[Tensor], target: Tensor
    ) -> dict[str, Any]:
        """Refused."""
        raise RefusedError(self.reason)
