"""Rows that an instruction of VECTOR both reads and writes.

The unit streams: what it reads behind the step that wrote it is old or new by the depth of its
pipeline. The functional units read all of an instruction first, so that they cannot see it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from hw.arch.config import AcceleratorConfig
from hw.arch.fold_walk import fold_second, permute_wants_second
from hw.arch.isa import ADDRESS_BITS, Elementwise, Fold, Permute, Reduce
from hw.arch.nest import walked
from hw.arch.walk import Memory, accesses, two_sources, vector_produced
from sim.functional.errors import OrderError
from sim.functional.vector import windows_inside

Rows = npt.NDArray[np.int64]
Vector = Elementwise | Reduce | Fold | Permute


def check_order(instruction: Vector, config: AcceleratorConfig) -> None:
    """Refuse an instruction that reads a row behind the step that writes it.

    A row may be read up to the step whose result takes its place, as in place. Where an
    instruction writes more rows than it reads, or another number that no whole number of reads
    belongs to, what it reads and what it writes must lie apart.

    Raises
    ------
    OrderError
        Names the row.
    """
    own = [a for a in accesses(instruction, config) if a.memory is Memory.ACTIVATION]
    reads, writes = ([a for a in own if a.write == write] for write in (False, True))
    if not any(w.low <= r.high and r.low <= w.high for w in writes for r in reads):
        return
    out = vector_produced(instruction, config)
    assert out is not None, "it writes rows"
    target = walked(instruction.destination, out, instruction.destination_deltas).ravel()
    for source in _read(instruction, config):
        row = _late(source, target)
        if row is not None:
            raise OrderError(f"reads activation row {row} behind the step that writes it")


def _read(instruction: Vector, config: AcceleratorConfig) -> Iterator[Rows]:
    """Rows of each source in the order in which they are read; -1 where nothing is."""
    counts: tuple[int, ...] = instruction.counts
    if isinstance(instruction, Reduce):
        nest = (*instruction.window, *counts)
        row = walked(instruction.source, nest, instruction.source_deltas)
        yield np.where(windows_inside(instruction), row & ((1 << ADDRESS_BITS) - 1), -1).ravel()
        return
    first = walked(instruction.source0, counts, instruction.source0_deltas)
    second: Sequence[int] | None
    match instruction:
        case Elementwise():
            # What is first along n0 is read for its successor.
            yield (first[..., 1:] if instruction.previous else first).ravel()
            second = counts if two_sources(instruction) else None
        case Fold():
            yield first.ravel()
            second = fold_second(instruction)
        case Permute():
            yield first.ravel()
            second = counts if permute_wants_second(instruction, config) else None
    if second is not None:
        yield walked(instruction.source1, second, instruction.source1_deltas).ravel()


def _late(source: Rows, target: Rows) -> int | None:
    """A row that is read behind the step that writes it."""
    low, high = max(int(source.min()), int(target.min()), 0), int(target.max())
    per, rest = divmod(len(source), len(target))
    known = high - low + 1
    if known <= 0:
        return None
    last = np.full(known, -1)
    inside = (source >= low) & (source <= high)
    last[source[inside] - low] = np.flatnonzero(inside)  # of several the last one stays
    first = np.full(known, len(source))
    step = np.arange(1, len(target) + 1) * per - 1 if per and not rest else np.full(len(target), -1)
    wanted = target >= low
    first[target[wanted][::-1] - low] = step[wanted][::-1]
    late = np.flatnonzero(last > first)
    return low + int(late[0]) if late.size else None
