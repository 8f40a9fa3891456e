"""Lowering of what the trips of a Loop stack: each has put its row there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compiler.emit.emitter import Emitter
from compiler.lower.base import Laid, Lanes, Lowering
from compiler.lower.contracts import lanes_differ
from compiler.lower.trip_parts import CHANNELS
from compiler.ops import Stack
from compiler.policy import Policy
from compiler.tensor import TensorType
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import TensorLayout
from hw.arch.program import Tensor
from hw.arch.winograd import Algorithm


class StackLowering(Lowering[Stack]):
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

    def bound(
        self,
        op: Stack,
        sources: Sequence[Laid],
        result: Laid,
        config: AcceleratorConfig,
        algorithms: Sequence[Algorithm],
    ) -> int:
        """Nothing is done."""
        return 0

    def emit(
        self, emitter: Emitter, op: Stack, sources: Sequence[Tensor], target: Tensor
    ) -> dict[str, Any]:
        """Nothing."""
        return {"loop": op.loop}


LOWERING = StackLowering()
