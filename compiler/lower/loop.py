"""Lowering of what passes in and out of a Loop.

What enters is copied to where the carried tensor lies; each trip leaves what it made there
(compiler/flow/loops.py). A trip's part of a tensor is read where it lies if its bytes follow one
another, else copied; a trip's row is copied to its place. Both addresses move with a register
(`Emitter.moving`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from compiler.emit.emitter import Emitter
from compiler.emit.moves import AXIS_OF, move
from compiler.emit.streams import Stream
from compiler.emit.transfers import Strided
from compiler.lower.base import Laid, Lanes, Lowering, Moved
from compiler.lower.contracts import first_of, lanes_differ
from compiler.ops import Enter, Leave, Pick, Put, Stack
from compiler.policy import Policy
from compiler.tensor import TensorType
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Unit
from hw.arch.layout import LaneMap, TensorLayout
from hw.arch.program import Tensor
from hw.arch.winograd import Algorithm

_CHANNELS = "a Loop takes and stacks along time, height or width, not along channels"


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


class LeaveLowering(Lowering[Leave]):
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

    def bound(
        self,
        op: Leave,
        sources: Sequence[Laid],
        result: Laid,
        config: AcceleratorConfig,
        algorithms: Sequence[Algorithm],
    ) -> int:
        """Nothing is done."""
        return 0

    def emit(
        self, emitter: Emitter, op: Leave, sources: Sequence[Tensor], target: Tensor
    ) -> dict[str, Any]:
        """Nothing."""
        return {"loop": op.loop}


class PickLowering(Moved[Pick]):
    """The trip's part, where it lies or as a copy."""

    operation = Pick
    limits = (_CHANNELS,)

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
        return _CHANNELS if op.axis == 0 else super().refusal(op, inputs, output, config, policy)

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


class StackLowering(Lowering[Stack]):
    """No instruction: trips have put their rows there."""

    operation = Stack
    limits = (_CHANNELS,)

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
        return _CHANNELS if op.axis == 0 else None

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


def part_of(tensor: Tensor, axis: int, size: int) -> Strided:
    """The first elements along T, H or W of a tensor."""
    view = Strided.of(tensor)
    place = AXIS_OF[axis]
    sizes = list(view.sizes)
    sizes[place] = size
    return dataclasses.replace(view, sizes=(sizes[0], sizes[1], sizes[2]))


def pace(tensor: Tensor, axis: int, size: int = 1) -> int:
    """Bytes from a trip's part of a tensor to the next one's."""
    return Strided.of(tensor).pitches[AXIS_OF[axis]] * size


def in_place(layout: TensorLayout, axis: int) -> bool:
    """Whether the elements along an axis of a tensor are each a run of bytes."""
    outer = (layout.frames, layout.height, layout.width)[: axis - 1]
    return layout.blocks == 1 and all(n == 1 for n in outer)


ENTER, LEAVE = EnterLowering(), LeaveLowering()
PICK, STACK, PUT = PickLowering(), StackLowering(), PutLowering()
