"""The least cycles that layers can take: of their tensors, what crosses the port counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from compiler.array.hfa import possible
from compiler.backend.unread import computed, holds
from compiler.emit.emitter import Emitter
from compiler.emit.touches import registered
from compiler.flow.settle import Settled
from compiler.ir import AnyOperation
from compiler.lower import roofline_cycles
from hw.arch.isa import Load, Store, UnitInstruction
from hw.arch.program import Layer, Tensor
from hw.arch.timing import transfer_beats


def bounded(layers: Sequence[Layer], settled: Settled, emitter: Emitter) -> list[Layer]:
    """The layers of a program with their bounds.

    Where a register moves a transfer, tensors count whole.
    """
    graph = settled.assigned.graph

    def least(layer: Layer) -> int:
        ops = computed(layer, settled)
        if not ops or layer.first == layer.last:
            return 0
        own = emitter.instructions[layer.first : layer.last]
        transfers = None
        if not any(registered(i) for i in own if isinstance(i, UnitInstruction)):
            transfers = [(i.dram, transfer_beats(i)) for i in own if isinstance(i, Load | Store)]
        # The record is the first one's; what is computed with it is never transformed.
        algorithms = possible(layer.tiling, emitter.policy)
        return max(
            roofline_cycles(
                each,
                {name: graph.type(name) for name in (*each.inputs, each.output)},
                {n: emitter.tensors[n].layout for n in (*each.inputs, each.output)},
                emitter.config,
                algorithms if each is ops[0] else (),
                {} if transfers is None else dict(_moved(each, emitter.tensors, transfers)),
            )
            for each in ops
        )

    return [dataclasses.replace(layer, roofline_cycles=least(layer)) for layer in layers]


def _moved(
    op: AnyOperation, tensors: Mapping[str, Tensor], transfers: Sequence[tuple[int, int]]
) -> Iterator[tuple[str, int]]:
    """Beats of each of an operator's tensors that some transfers bring or take."""
    for name in (*op.inputs, op.output):
        yield name, sum(beats for dram, beats in transfers if holds(tensors[name], dram))
