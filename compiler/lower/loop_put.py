"""Lowering of a trip's row of a stacked tensor: a copy to its place; a register moves it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from compiler.emit.emitter import Emitter
from compiler.emit.moves import AXIS_OF, move
from compiler.emit.streams import Stream
from compiler.emit.transfers import Strided
from compiler.lower.base import Lanes, Moved
from compiler.lower.contracts import first_of, lanes_differ
from compiler.lower.trip_parts import part_of
from compiler.ops import Put
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Unit
from hw.arch.layout import TensorLayout
from hw.arch.program import Tensor


class PutLowering(Moved[Put]):
    """A copy of a row to its place in the stacked tensor."""

    operation = Put
    limits = ()

    def kind(self, op: Put, config: AcceleratorConfig) -> str:
        """One kind."""
        return "loop_put"

    def contract(
        self, op: Put, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """The row's lanes."""
        return first_of([lanes_differ(sources[0], result), lanes_differ(result, sources[0])])

    def lanes(self, op: Put) -> Lanes:
        """The row's."""
        return Lanes.MET

    def streams(
        self,
        op: Put,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
        tables: Sequence[int],
    ) -> Iterable[Stream]:
        """One copy; the target is the place of trip 0, which a register moves."""
        view = Strided.of(sources[0])
        return [
            move(view, part_of(target, op.axis, view.sizes[AXIS_OF[op.axis]]), view.whole, config)
        ]

    def emit(
        self, emitter: Emitter, op: Put, sources: Sequence[Tensor], target: Tensor
    ) -> dict[str, Any]:
        """The copy."""
        with emitter.moved(op.output, Unit.STORE):
            super().emit(emitter, op, sources, emitter.tensors[op.stack])
        return {"loop": op.loop}


LOWERING = PutLowering()
