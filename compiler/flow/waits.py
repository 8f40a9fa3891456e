"""Waits of a program: of every block, for whichever path leads to it.

Nothing stops at a decision, a join or the start of a trip: a block begins with what may be in
flight there (compiler/emit/flight.py), which at the start of a Loop's body depends on the body's
own end. So blocks are followed again until nothing is added. Only SCALAR stops the sequencer, until
it has its byte.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from compiler.emit.dependencies import DependencyTracker
from compiler.emit.flight import Flight
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Branch, Fence, Instruction, Scalar, UnitInstruction
from hw.arch.program import Block


def filled(
    instructions: Sequence[Instruction],
    blocks: Sequence[Block],
    reaches: Mapping[int, int],
    config: AcceleratorConfig,
) -> list[Instruction]:
    """The same instructions with their waits.

    Parameters
    ----------
    blocks: the first one that of the program's start; none of a program without control flow.
    reaches: by index of an instruction, how many bytes of DRAM a register may move it on.
    """
    made = list(instructions)
    size = len(made)
    blocks = [dataclasses.replace(block, last=min(block.last, size)) for block in blocks]
    blocks = blocks or [Block(0, size, "")]
    # An arm without instructions has its place where the join begins, and is passed through.
    starts = {block.first: block for block in blocks if block.first < block.last}
    begins: dict[int, Flight] = {blocks[0].first: Flight()}
    pending = [blocks[0].first]
    while pending:
        first = min(pending)  # in program order: most of what meets is there when it is needed
        pending.remove(first)
        block = starts[first]
        end = _follow(made, block, begins[first], reaches, config)
        for following in block.following:
            if following not in starts:
                continue  # nothing is left there but HALT, which waits for all
            known = begins.get(following)
            met = end if known is None else known.joined(end)
            if met != known:
                begins[following] = met
                if following not in pending:
                    pending.append(following)
    return made


def _follow(
    made: list[Instruction],
    block: Block,
    flight: Flight,
    reaches: Mapping[int, int],
    config: AcceleratorConfig,
) -> Flight:
    """Fill in the waits of a block; what may be in flight where it is left."""
    tracker = DependencyTracker(config, flight)
    left: list[Flight] = []
    for index in range(block.first, block.last):
        match made[index]:
            case Scalar() as instruction:
                made[index] = tracker.scalar(instruction)
            case Fence(units=units):
                tracker.fence(units)
            case Branch():  # a decision may jump before it has read all of its bytes
                left.append(tracker.flight())
            case instruction if isinstance(instruction, UnitInstruction):
                made[index] = tracker.add(instruction, reaches.get(index, 0))
    return _met([*left, tracker.flight()])


def _met(ends: Iterable[Flight]) -> Flight:
    first, *others = ends
    for other in others:
        first = first.joined(other)
    return first
