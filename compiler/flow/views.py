"""Values that are bytes of other values: nothing is copied, whoever reads them knows the places.

Concats and slices of channels are blocks of their operands, and so is a slice of frames, whose
blocks begin later; views and rearrangements that keep the order of rows rename axes and channels.
What no transfer brings block by block, what the host reads, and what is written at another value's
place has to lie in one piece: the concats and slices behind it copy. In programs with Loops all do.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from compiler.flow.places import Settled
from compiler.ir import AnyOperation, Concat, Enter, Join, LoopEnd, Rearrange, Slice
from compiler.layout.assign import Assigned
from compiler.lower import lowering
from hw.arch.layout import TensorLayout

Origin: TypeAlias = tuple[str, int]
"""A value that an operator, the host or the image stores, and a row of it, counted through."""
Where: TypeAlias = tuple[Origin, ...]
"""The first row of every block."""


def share(settled: Settled) -> Settled:
    """Let concats and slices share their operands' bytes wherever all readers can do with that."""
    views = _Views(settled)
    copied: set[str] = set()
    while True:
        where, needed = views.trace(copied)
        if not needed:
            break
        copied |= needed
    graph = settled.assigned.graph
    ops = [
        dataclasses.replace(op, shared=True)
        if isinstance(op, Concat | Slice) and views.candidate(op) and op.output not in copied
        else op
        for op in graph.ops
    ]
    assigned = Assigned(graph.replaced(ops), settled.assigned.layouts)
    return dataclasses.replace(settled, assigned=assigned, views=where)


def contiguous(where: Where, positions: int) -> bool:
    """Whether blocks lie one after another."""
    (name, first), *_ = where
    return all(each == (name, first + n * positions) for n, each in enumerate(where))


class _Views:
    """Which values can be bytes of others."""

    def __init__(self, settled: Settled):
        self.graph, self.layouts = settled.assigned.graph, settled.assigned.layouts
        self.makers = self.graph.producers()
        # What lies at another one's place, and what the next run finds there.
        self.placed = {*settled.places, *settled.places.values()}
        self.placed |= {name for s in self.graph.states for name in (s.target, s.source)}
        # Every arm of a branch stores what it is for.
        joins = [op for op in self.graph.ops if isinstance(op, Join)]
        self.placed |= {name for join in joins for name in join.inputs[:2]}
        self.whole = {*self.graph.kept(), *self.placed}
        # What a trip reads in place is told by its address alone, which no part of it may have.
        self.loops = any(isinstance(op, Enter | LoopEnd) for op in self.graph.ops)

    def candidate(self, op: AnyOperation) -> bool:
        """Whether an operator only selects blocks, and frames from the first or a later one on."""
        if self.loops or op.output in self.placed or any(n in self.placed for n in op.inputs):
            return False
        match op:
            case Concat():
                return op.axis == 0 and not any(op.tables)
            case Slice():
                outside = self.layouts[op.inputs[0]].shape[1 : op.axis]
                return op.axis == 0 or (op.step == 1 and math.prod(outside) == 1)
            case _:
                return False

    def trace(self, copied: set[str]) -> tuple[Mapping[str, Where], set[str]]:
        """Where all values lie that are bytes of others, and what else has to be copied for it.

        Parameters
        ----------
        copied: results of concats and slices that are copies.
        """
        where: dict[str, Where] = {}
        needed: set[str] = set()
        # The copies that bring a value into one piece.
        behind: dict[str, set[str]] = {}
        for op in self.graph.ops:
            sources = [where.get(name) or self._own(name) for name in op.inputs]
            pieces = [
                not contiguous(each, self.layouts[name].positions)
                for each, name in zip(sources, op.inputs, strict=True)
            ]
            known = lowering(op)
            shared = self.candidate(op) and op.output not in copied
            if not shared and not known.keeps_bytes(op):
                for number, name in enumerate(op.inputs):
                    if pieces[number] and not known.scattered(op, number):
                        needed |= behind[name]
                continue
            found = self._where(op, sources)
            if found is None:
                needed |= {each for name in op.inputs for each in behind.get(name, ())}
                continue
            where[op.output] = found
            behind[op.output] = {each for name in op.inputs for each in behind.get(name, ())}
            if shared:
                behind[op.output].add(op.output)
        for name in self.whole & where.keys():
            if not contiguous(where[name], self.layouts[name].positions):
                needed |= behind[name]
        return where, needed

    def _own(self, name: str) -> Where:
        layout = self.layouts[name]
        return tuple((name, n * layout.positions) for n in range(layout.blocks))

    def _where(self, op: AnyOperation, sources: Sequence[Where]) -> Where | None:
        """Of the result of an operator that keeps bytes; None where an operand lies in pieces."""
        layout, before = self.layouts[op.output], self.layouts[op.inputs[0]]
        match op:
            case Concat():
                return tuple(block for source in sources for block in source)
            case Slice():
                return _sliced(op, sources[0], before)
            case Join():
                return sources[0] if contiguous(sources[0], before.positions) else None
            case Rearrange() if layout.positions != before.positions:
                return _recut(sources[0], before.positions, layout)
            case _:
                return sources[0]


def _sliced(op: Slice, source: Where, before: TensorLayout) -> Where:
    if op.axis == 0:
        _, blocks = before.lane_map.taken(range(op.start, op.stop, op.step))
        return tuple(source[block] for block in blocks)
    skipped = op.start * math.prod(before.shape[op.axis + 1 :])
    return tuple((name, row + skipped) for name, row in source)


def _recut(source: Where, positions: int, layout: TensorLayout) -> Where | None:
    """Blocks that became positions, or positions that became blocks, where they lie in order."""
    if layout.positions > positions:
        parts = layout.positions // positions
        groups = [source[n : n + parts] for n in range(0, len(source), parts)]
        if any(not contiguous(group, positions) for group in groups):
            return None
        return tuple(group[0] for group in groups)
    parts = positions // layout.positions
    return tuple((name, row + n * layout.positions) for name, row in source for n in range(parts))
