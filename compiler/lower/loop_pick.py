"""Lowering of a trip's part of a tensor: read where it lies if that is a run of bytes, else copied.

Its address moves with a register (`Emitter.moving`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from compiler.emit.emitter import Emitter
from compiler.emit.moves import move
from compiler.emit.streams import Stream
from compiler.emit.transfers import Strided
from compiler.lower.base import Lanes, Moved
from compiler.lower.contracts import lanes_differ
from compiler.lower.trip_parts import CHANNELS, part_of
from compiler.ops import Pick
from compiler.policy import Policy
from compiler.tensor import TensorType
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Unit
from hw.arch.layout import TensorLayout
from hw.arch.program import Tensor


class PickLowering(Moved[Pick]):
    """The trip's part, where it lies or as a copy."""

    operation = Pick
    limits = (CHANNELS,)

    def kind(self, op: Pick, config: AcceleratorConfig) -> str:
        """One kind."""
        return "loop_pick"

    def refusal(
        self,
        op: Pick,
        inputs: Sequence[TensorType],
        output: TensorType,
        config: AcceleratorConfig,
        policy: Policy | None,
    ) -> str | None:
        """Along channels, or no tile fits."""
        return CHANNELS if op.axis == 0 else super().refusal(op, inputs, output, config, policy)

    def contract(
        self, op: Pick, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """The operand's lanes."""
        return lanes_differ(sources[0], result)

    def lanes(self, op: Pick) -> Lanes:
        """The operand's."""
        return Lanes.MET

    def streams(
        self,
        op: Pick,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
        tables: Sequence[int],
    ) -> Iterable[Stream]:
        """One copy; the source is that of trip 0, which a register moves."""
        view, to = part_of(sources[0], op.axis, 1), Strided.of(target)
        return [move(view, to, view.whole, config)]

    def emit(
        self, emitter: Emitter, op: Pick, sources: Sequence[Tensor], target: Tensor
    ) -> dict[str, Any]:
        """Nothing where it is read in place."""
        if op.output in emitter.in_place:
            return {"loop": op.loop, "in_place": True}
        with emitter.moved(op.output, Unit.LOAD):
            super().emit(emitter, op, sources, target)
        return {"loop": op.loop, "in_place": False}


LOWERING = PickLowering()
