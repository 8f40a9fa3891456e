"""Which way a run took through a program with branches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from hw.arch.program import Layer, Program
from hw.timeline.step import Step


def visited(program: Program, trace: Sequence[Step]) -> list[int]:
    """Blocks in the order in which they were entered; [0] where the program has none."""
    if not program.blocks:
        return [0]
    owner = np.full(len(program.instructions), -1, np.int64)
    for index, block in enumerate(program.blocks):
        owner[block.first : block.last] = index
    firsts = {block.first for block in program.blocks}
    order: list[int] = []
    for step in trace:
        index = int(owner[step.pc])
        if not order or step.pc in firsts or order[-1] != index:
            order.append(index)
    return order


def names(program: Program, trace: Sequence[Step]) -> tuple[str, ...]:
    """Names of the blocks that were entered, in order; () where the program has none."""
    if not program.blocks:
        return ()
    return tuple(program.blocks[index].name for index in visited(program, trace))


def executions(program: Program, trace: Sequence[Step]) -> list[int]:
    """How often each layer ran."""
    blocks, starts = Counter(visited(program, trace)), Counter(step.pc for step in trace)
    return [
        blocks[layer.block] if layer.first == layer.last else starts[layer.first]
        for layer in program.layers
    ]


def executed(program: Program, trace: Sequence[Step] | None) -> list[Layer]:
    """Layers that ran, in program order; all of them without a trace."""
    if trace is None:
        return list(program.layers)
    counts = executions(program, trace)
    return [layer for layer, count in zip(program.layers, counts, strict=True) if count]


def unmade(program: Program, trace: Sequence[Step] | None) -> set[str]:
    """Tensors that only layers store which did not run."""
    made = {name for layer in executed(program, trace) for name in layer.tensors}
    return {name for layer in program.layers for name in layer.tensors} - made
