"""Lowering of what the trips of a Loop stack: each has put its row there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compiler.lower.base import Lanes, Unmoved
from compiler.lower.contracts import lanes_differ
from compiler.lower.trip_parts import CHANNELS
from compiler.ops import Stack
from compiler.policy import Policy
from compiler.tensor import TensorType
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import TensorLayout


class StackLowering(Unmoved[Stack]):
    """No instruction: trips have put their rows there."""

    operation = Stack
    limits = (CHANNELS,)

    def kind(self, op: Stack, config: AcceleratorConfig) -> str:
        """One kind."""
        return "loop_stack"

    def refusal(
        self,
        op: Stack,
        inputs: Sequence[TensorType],
        output: TensorType,
        config: AcceleratorConfig,
        policy: Policy | None,
    ) -> str | None:
        """Along channels."""
        return CHANNELS if op.axis == 0 else None

    def contract(
        self, op: Stack, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """The rows' lanes."""
        return lanes_differ(sources[0], result)

    def lanes(self, op: Stack) -> Lanes:
        """The rows'."""
        return Lanes.MET

    def facts(self, op: Stack) -> dict[str, Any]:
        """Whose it is."""
        return {"loop": op.loop}


LOWERING = StackLowering()
