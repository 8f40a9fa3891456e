"""Other lanes by PERMUTE SELECT: a row of the result from the bytes of two rows at a time.

A block of the result that takes channels from more than two blocks is made in passes: what is there
so far is one of the two rows of the next one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from compiler.emit.streams import LEAST_ROWS, Stream, Tile, slot_rows
from compiler.emit.transfers import Box, Strided
from compiler.tile.geometry import balanced, cuts
from compiler.tile.limits import MAX_COUNT
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Permute, PermuteOp, UnitInstruction, deltas
from hw.arch.layout import LaneMap

LANES = len(Permute().select)
"""Of the widest row that can be selected from."""


@dataclasses.dataclass(frozen=True, slots=True)
class Merge:
    """Where a block of the result comes from.

    Attributes
    ----------
    block: of the result.
    blocks: of the source, ascending.
    lanes: for each of those, the source's lane by lane of the result, -1 where it has none.
    """

    block: int
    blocks: tuple[int, ...]
    lanes: tuple[tuple[int, ...], ...]

    def fields(self, number: int, lanes: int) -> tuple[tuple[int, ...], int]:
        """`select` and `valid` of the pass that adds the blocks up to `number` (1: the first two).

        Source 0 has what is there before the pass, source 1 the block.
        """
        before: Sequence[int] = self.lanes[0]
        if number > 1:
            made = np.max(np.asarray(self.lanes[:number]), axis=0) >= 0
            before = [lane if there else -1 for lane, there in enumerate(made)]
        after = self.lanes[number] if number < len(self.lanes) else (-1,) * lanes
        select, valid = [0] * LANES, 0
        for lane, (first, second) in enumerate(zip(before, after, strict=True)):
            select[lane] = first if first >= 0 else lanes + second if second >= 0 else 0
            valid |= (first >= 0 or second >= 0) << lane
        return tuple(select), valid


def merges(source: LaneMap, target: LaneMap) -> list[Merge]:
    """How every block of a map is made of blocks of another one with the same channels."""
    place = source.first_lanes()
    found = []
    for number, row in enumerate(target.table()):
        taken = np.where(row >= 0, place[row], -1)
        blocks = sorted({int(lane) // source.lanes for lane in taken[taken >= 0]})
        lanes = tuple(
            tuple(
                int(lane) % source.lanes if lane >= 0 and lane // source.lanes == block else -1
                for lane in taken
            )
            for block in blocks
        )
        found.append(Merge(number, tuple(blocks), lanes))
    return found


def select_rows(
    config: AcceleratorConfig,
    rows: Sequence[int],
    destination: int,
    counts: Sequence[int],
    pitches: Sequence[Sequence[int]],
    fields: tuple[tuple[int, ...], int],
    *,
    pad: int = 0,
    space: int = 0,
) -> Permute:
    """SELECT over a nest of up to four levels.

    Parameters
    ----------
    config: the accelerator; rows that meet in one bank of it are read one after another.
    rows: first row of source 0 and source 1.
    destination: first row, or beat of the weight scratchpad (`space` 1).
    counts: of the nest, innermost first.
    pitches: rows (of the result: or beats) per step for source 0, source 1 and the result.
    fields: `select` and `valid`.
    pad: byte of lanes that are not valid.
    """
    nest = (*counts, *(1,) * (4 - len(counts)))
    first, second, result = ((*p, *(0,) * (4 - len(p))) for p in pitches)
    wanted = any(
        byte >= config.lane_block and fields[1] >> lane & 1 for lane, byte in enumerate(fields[0])
    )
    return Permute(
        op=PermuteOp.SELECT,
        serial=int(wanted and _meet(config, nest, rows, first, second)),
        counts=nest,
        source0=rows[0],
        source0_deltas=deltas(nest, first),
        source1=rows[1],
        source1_deltas=deltas(nest, second),
        destination=destination,
        destination_deltas=deltas(nest, result),
        space=space,
        select=fields[0],
        valid=fields[1],
        pad=pad & 0xFF,
    )


def _meet(
    config: AcceleratorConfig,
    counts: Sequence[int],
    rows: Sequence[int],
    first: Sequence[int],
    second: Sequence[int],
) -> bool:
    """Whether the rows of both sources may lie in one bank: their ranges share one."""
    size = config.memory.activation_bank_rows
    spans = []
    for row, pitch in zip(rows, (first, second), strict=True):
        ends = [(n - 1) * p for n, p in zip(counts, pitch, strict=True)]
        low, high = sum(min(e, 0) for e in ends), sum(max(e, 0) for e in ends)
        spans.append(((row + low) // size, (row + high) // size))
    (a, b), (c, d) = spans
    return a <= d and c <= b


def select_layers(
    source: Strided, target: Strided, parts: Sequence[Merge], pad: int, config: AcceleratorConfig
) -> Iterator[Stream]:
    """Make blocks of a tensor of which all positions are merged into one axis.

    Parameters
    ----------
    source, target: the tensors.
    parts: the blocks, ascending.
    pad: byte of the lanes that hold no channel.
    config: the accelerator.
    """
    many = any(len(m.blocks) > 2 for m in parts)
    limit = min(slot_rows(3 if many else 2, config), MAX_COUNT)
    positions = source.sizes[0]
    for group, blocks in _groups(parts, max(1, limit // min(positions, LEAST_ROWS))):
        size = balanced(positions, max(1, limit // max(len(blocks), len(group))))
        tiles = [
            Tile(
                (Box((first, 0, 0), (count, 1, 1), 0, len(blocks)),),
                Box((first, 0, 0), (count, 1, 1), group[0].block, len(group)),
            )
            for first, count in cuts(positions, size)
        ]

        def compute(
            tile: Tile, rows: Sequence[int], result: int, group: Sequence[Merge] = group
        ) -> Iterator[UnitInstruction]:
            yield from _made(config, group, tile, rows, result, pad)

        scratch = size if any(len(m.blocks) > 2 for m in group) else 0
        yield Stream([source.chosen(blocks)], target, tiles, compute, scratch)


def _groups(parts: Sequence[Merge], limit: int) -> Iterator[tuple[list[Merge], list[int]]]:
    """Neighbouring blocks of the result, and the few blocks of the source that they take from.

    Where a merge takes from is told by number among those blocks.
    """
    group: list[Merge] = []
    needed: set[int] = set()
    for part in parts:
        wider = needed | set(part.blocks)
        follows = not group or part.block == group[-1].block + 1
        if group and (not follows or max(len(wider), len(group) + 1) > limit):
            yield _within(group, sorted(needed))
            group, wider = [], set(part.blocks)
        group.append(part)
        needed = wider
    if group:
        yield _within(group, sorted(needed))


def _within(group: list[Merge], blocks: list[int]) -> tuple[list[Merge], list[int]]:
    number = {block: n for n, block in enumerate(blocks)}
    local = [dataclasses.replace(m, blocks=tuple(number[b] for b in m.blocks)) for m in group]
    return local, blocks


def _made(
    config: AcceleratorConfig,
    group: Sequence[Merge],
    tile: Tile,
    rows: Sequence[int],
    result: int,
    pad: int,
) -> Iterator[Permute]:
    """The instructions for a tile; `rows` are those of the operand and of the scratch."""
    box, target = tile.sources[0], tile.target
    n = box.positions
    for some in _alike(group):
        merge = some[0]
        place = result + (merge.block - target.block) * n
        at = [rows[0] + (block - box.block) * n for block in merge.blocks]
        following = some[min(1, len(some) - 1)].blocks
        jumps = [(b - a) * n for a, b in zip(merge.blocks, following, strict=True)]
        if len(at) == 1:
            at, jumps = at * 2, jumps * 2
        counts = (n, len(some))
        for number in range(1, len(at)):
            last = number == len(at) - 1
            before = at[0] if number == 1 else rows[1]
            yield select_rows(
                config,
                (before, at[number]),
                place if last else rows[1],
                counts,
                ((1, jumps[0]), (1, jumps[number]), (1, n)),
                merge.fields(number, config.lane_block),
                pad=pad,
            )


def _alike(group: Sequence[Merge]) -> Iterator[list[Merge]]:
    """Blocks that one instruction makes: the same lanes, from evenly spaced blocks."""
    first = 0
    while first < len(group):
        last = first + 1
        while last < len(group) and _continues(group[first : last + 1]):
            last += 1
        yield list(group[first:last])
        first = last


def _continues(some: Sequence[Merge]) -> bool:
    if len(some[0].blocks) > 2 or any(m.lanes != some[0].lanes for m in some):
        return False
    steps = np.diff(np.asarray([m.blocks for m in some]), axis=0)
    return bool((steps == steps[0]).all())


def select_cycles(parts: Sequence[Merge], positions: int, config: AcceleratorConfig) -> int:
    """Cycles of VECTOR, where rows of one block's sources lie in one bank."""
    step, pair = config.vector_steps, max(config.vector_steps, 2)
    return positions * sum(
        step if len(m.blocks) == 1 else (len(m.blocks) - 1) * pair for m in parts
    )
