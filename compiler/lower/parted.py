"""Operators on two tensors whose result lies in other lanes than its operands: parted by reader.

Behind a channel shuffle or a split the halves of a tensor go to different readers. Where they share
blocks, each reader would get blocks that are half empty, and a concat of them more from unit to
unit. VECTOR has time to mend that while it adds or multiplies: rows of blocks that stay as they are
go to the result at once, the others to a scratch from which SELECT fills whole blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from compiler.emit.select import Merge, merges, select_rows
from compiler.emit.streams import Tile
from compiler.tile.geometry import Triple
from hw.arch import isa
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import UnitInstruction, deltas
from hw.arch.layout import LaneMap

MOST_SOURCES = 3
"""Blocks that a block of the result is made of, at most: each beyond the first is a pass."""

MOST_TRIED = 10
"""Blocks of which every half is tried as those of one bank."""

Channels = npt.NDArray[np.int64]


def parted(lane_map: LaneMap, parts: Sequence[Channels]) -> LaneMap:
    """A map whose blocks hold channels of one part each, blocks full as far as few sources allow.

    Parameters
    ----------
    lane_map: of the operands.
    parts: channels that belong together; each channel is in exactly one part.
    """
    part_of = np.empty(lane_map.channels, np.int64)
    for number, channels in enumerate(parts):
        part_of[channels] = number
    table = lane_map.table()
    held = table >= 0
    owner = np.where(held, part_of[table], -1)
    rows: list[Channels] = []
    for number in range(len(parts)):
        mine = np.where(owner == number, table, -1)
        count = (mine >= 0).sum(axis=1)
        rows += [mine[block] for block in np.flatnonzero(count == lane_map.lanes)]
        rest = [mine[block] for block in np.flatnonzero((count > 0) & (count < lane_map.lanes))]
        rows += _filled(rest, lane_map.lanes)
    return LaneMap.of(np.stack(rows))


def _filled(pieces: Sequence[Channels], lanes: int) -> Iterator[Channels]:
    """Blocks filled with pieces in order; a piece alone in its block keeps its lanes."""
    block: list[int] = []
    sources: list[Channels] = []

    def done() -> Channels:
        if len(sources) == 1 and len(block) == (sources[0] >= 0).sum():
            return sources[0]
        row = np.full(lanes, -1, np.int64)
        row[: len(block)] = block
        return row

    for piece in pieces:
        rest = piece[piece >= 0].tolist()
        while rest:
            if len(block) == lanes or len(sources) == MOST_SOURCES:
                yield done()
                block, sources = [], []
            taken = rest[: lanes - len(block)]
            rest = rest[len(taken) :]
            block += taken
            sources.append(piece)
    if block:
        yield done()


class Parting:
    """How the rows of a tile come into the lanes of the result.

    Parameters
    ----------
    source, target: maps of the operands and of the result.

    Attributes
    ----------
    direct: (block of the operands, block of the result) where lanes stay.
    made: blocks of the result that SELECT makes.
    """

    def __init__(self, source: LaneMap, target: LaneMap):
        parts = merges(source, target)
        self.direct = [(part.blocks[0], part.block) for part in parts if _stays(part)]
        self.made = [part for part in parts if not _stays(part)]
        self._kept = alternating(self.made)

    def cycles(self, config: AcceleratorConfig) -> int:
        """Of VECTOR, for a position."""
        passes = sum(max(1, len(part.blocks) - 1) for part in self.made)
        return config.vector_steps * (len(self.direct) + len(self._kept) + passes)

    def scratch(self, positions: int, config: AcceleratorConfig) -> int:
        """Rows beside a tile of some positions: two banks, and a place for a pass in each."""
        if not self.made:
            return 0
        bank = config.memory.activation_bank_rows
        return bank + (len(self._kept) // 2 + 1) * positions

    def positions(self, config: AcceleratorConfig) -> int:
        """Of a tile, at most: what a bank holds of the scratch."""
        return config.memory.activation_bank_rows // ((len(self._kept) + 1) // 2 + 1)

    def results(
        self, n: int, scratch: int, result: int, bank: int
    ) -> Iterator[list[tuple[int, int]]]:
        """(Block of the operands, row of its result) for all that is computed.

        What goes to the result, then what goes to either bank of the scratch: an instruction that
        wrote here and there would seem to write all that lies between.
        """
        yield [(block, result + made * n) for block, made in self.direct]
        for first in (0, 1):
            blocks = self._kept[first::2]
            yield [(block, self._place(block, n, scratch, bank)) for block in blocks]

    def _place(self, block: int, n: int, scratch: int, bank: int) -> int:
        number = self._kept.index(block)
        return scratch + number % 2 * bank + (1 + number // 2) * n

    def selects(
        self, n: int, scratch: int, result: int, pad: int, config: AcceleratorConfig
    ) -> Iterator[UnitInstruction]:
        """SELECTs that fill the other blocks of a tile of `n` positions."""
        bank = config.memory.activation_bank_rows
        for part in self.made:
            at = [self._place(block, n, scratch, bank) for block in part.blocks]
            if len(at) == 1:
                at *= 2
            before = at[0]
            for number in range(1, len(at)):
                place = result + part.block * n
                if number < len(at) - 1:
                    # Not in the bank of what the next pass reads beside it.
                    other = 1 - self._kept.index(part.blocks[number + 1]) % 2
                    place = scratch + other * bank
                yield select_rows(
                    config,
                    (before, at[number]),
                    place,
                    (n,),
                    ((1,), (1,), (1,)),
                    part.fields(number, config.lane_block),
                    pad=pad,
                )
                before = place


def alternating(made: Sequence[Merge]) -> list[int]:
    """Blocks that are read again, so that few which meet in a pass have both an even or odd place.

    Places lie in two banks in turn, and rows of one bank are read one after another. In the order
    of use but for that.
    """
    kept = list(dict.fromkeys(block for part in made for block in part.blocks))
    pairs = [part.blocks[:2] for part in made if len(part.blocks) > 1]

    def meet(even: Sequence[int]) -> int:
        return sum((a in even) == (b in even) for a, b in pairs)

    best = kept[::2]
    if len(kept) <= MOST_TRIED:
        best = min([best, *map(list, itertools.combinations(kept, len(best)))], key=meet)
    odd = [block for block in kept if block not in best]
    return [
        block for pair in itertools.zip_longest(best, odd) for block in pair if block is not None
    ]


def _stays(part: Merge) -> bool:
    """Whether a block is one of the operands' as it lies."""
    return len(part.blocks) == 1 and all(
        lane in (-1, number) for number, lane in enumerate(part.lanes[0])
    )


def computed(
    fields: dict[str, Any],
    tile: Tile,
    rows: Sequence[int],
    steps: Sequence[tuple[int, ...]],
    results: Sequence[tuple[int, int]],
) -> Iterator[UnitInstruction]:
    """ELEMENTWISE over some blocks of a tile, evenly spaced ones together.

    Parameters
    ----------
    fields: of the instruction.
    tile, rows: what is computed; where its operands lie.
    steps: rows per step of the result's x, y, t, block in each operand.
    results: (block of the operands, row of its result).
    """
    size: Triple = tile.target.size
    pitches = 1, size[0], size[0] * size[1]
    first = 0
    while first < len(results):
        (block, place), *rest = results[first:]
        step = (
            tuple(b - a for a, b in zip((block, place), rest[0], strict=True)) if rest else (0, 0)
        )
        count = 1
        while count <= len(rest) and rest[count - 1] == (
            block + count * step[0],
            place + count * step[1],
        ):
            count += 1
        counts = (*size, count)
        sources = [row + block * s[3] for row, s in zip(rows, steps, strict=True)]
        walks = [deltas(counts, (*s[:3], s[3] * step[0])) for s in steps]
        yield isa.Elementwise(
            counts=counts,
            source0=sources[0],
            source0_deltas=walks[0],
            source1=sources[1],
            source1_deltas=walks[1],
            destination=place,
            destination_deltas=deltas(counts, (*pitches, step[1])),
            **fields,
        )
        first += count
