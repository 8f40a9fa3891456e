"""Tilings of attention pooling: whole groups of positions, in two slots of banks of their own."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

from compiler.tile.geometry import Triple, product
from compiler.tile.limits import MAX_COUNT, MAX_POOL
from compiler.tile.regions import Region, banks_needed, last_banks
from compiler.tile.sums import (
    ARRAY_OVERHEAD,
    FOLD_OVERHEAD,
    LOAD_OVERHEAD,
    STORE_OVERHEAD,
    Sums,
)
from hw.arch.config import AcceleratorConfig
from hw.arch.instructions.fold import STATISTICS
from hw.arch.layout import ceil_div

SLOTS = 2
"""Tiles of the operand on chip: one arrives and is scored while the other one is added up."""
PIECE_ROWS = 512
"""Of what of a tile arrives, is scored and is added up together, at least."""
LEAST_POSITIONS = 48
"""Of a tile behind a convolution: starts of instructions cost more than smaller ones save."""
OTHER_BANKS = 4
"""Behind a convolution: of scores, of shares, and of its operand and result."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sizes:
    """What a tiling depends on.

    Attributes
    ----------
    blocks: of the operand.
    positions: of a group.
    groups: how many.
    """

    blocks: int
    positions: int
    groups: int


@dataclasses.dataclass(frozen=True, slots=True)
class PoolTiling:
    """How the groups pass.

    Attributes
    ----------
    groups: of a tile.
    piece: blocks that come together.
    window: of the maxima that DRAIN finds; a divisor of a group's positions.
    places: first rows of pieces of the operand that are on chip, in the order of their turns.
    scores: of scores and their maxima, two tiles of them: DRAIN writes, VECTOR reads.
    shares: of greatest scores, weights and all means: VECTOR writes.
    cycles, beats: estimated; moved between DRAM and the chip.
    """

    groups: int
    piece: int
    window: Triple
    places: tuple[int, ...]
    scores: Region
    shares: Region
    cycles: int
    beats: int

    def describe(self) -> dict[str, Any]:
        """For the report."""
        return {"groups": self.groups, "blocks": self.piece, "estimate": self.cycles}


@functools.cache
def pool_window(positions: int) -> Triple:
    """Large windows along three axes that cut so many positions evenly."""
    found = []
    for _ in range(3):
        most = max(n for n in range(1, MAX_POOL + 1) if positions % n == 0)
        found.append(most)
        positions //= most
    return found[0], found[1], found[2]


def candidates(sizes: Sizes, config: AcceleratorConfig) -> Iterator[PoolTiling]:
    """Every tiling that fits."""
    if sizes.positions > MAX_COUNT:
        return
    memory, window = config.memory, pool_window(sizes.positions)
    maxima = sizes.positions // (window[0] * window[1] * window[2])
    if sizes.blocks * config.weight_block_beats > config.weight_beats:
        return
    for groups in range(1, min(sizes.groups, STATISTICS) + 1):
        rows = groups * sizes.positions
        if rows > min(memory.accumulator_rows, MAX_COUNT):
            return
        scores = SLOTS * (rows + groups * maxima)
        shares = groups + rows + sizes.blocks * sizes.groups
        bank = memory.activation_bank_rows
        slot = banks_needed(sizes.blocks * rows, config) * bank
        if max(scores, shares) > bank:
            return
        regions = last_banks([bank, bank, *[slot] * SLOTS], config)
        if regions is None:
            return
        piece = _piece(sizes, rows)
        yield PoolTiling(
            groups,
            piece,
            window,
            tuple(
                region.row + first * rows
                for region in regions[2:]
                for first in range(0, sizes.blocks, piece)
            ),
            regions[1],
            regions[0],
            _cycles(sizes, config, groups, piece, maxima),
            sizes.blocks * (sizes.groups * (sizes.positions + 1) + config.weight_block_beats),
        )


def _piece(sizes: Sizes, rows: int) -> int:
    """Blocks of a piece of a tile of so many positions."""
    return min(sizes.blocks, max(1, PIECE_ROWS // rows))


def _cycles(sizes: Sizes, config: AcceleratorConfig, groups: int, piece: int, maxima: int) -> int:
    """The first tile's way to VECTOR, all others behind it, and the last one's way to DRAM."""
    rows = groups * sizes.positions
    pieces = ceil_div(sizes.blocks, piece)
    port = int(config.port.cycles(sizes.blocks * rows))
    array = sizes.blocks * rows + pieces * ARRAY_OVERHEAD
    folded = groups * maxima + 2 * rows + sizes.blocks * rows
    vector = folded * config.vector_steps + (3 + pieces) * FOLD_OVERHEAD
    tiles = ceil_div(sizes.groups, groups)
    # Scores of a piece are computed while the next one arrives.
    first = max(port, array) + piece * rows + rows * config.requantize_steps
    weights = sizes.blocks * config.weight_block_beats
    ends = LOAD_OVERHEAD + STORE_OVERHEAD + sizes.blocks * sizes.groups
    others = tiles - 1
    return Sums(
        array=others * array,
        vector=others * vector,
        port=others * port,
        fill=weights + first + vector + ends,
    ).cycles


def choose(sizes: Sizes, config: AcceleratorConfig) -> PoolTiling | None:
    """The cheapest; None where nothing fits."""
    return min(candidates(sizes, config), key=lambda t: t.cycles, default=None)


def trailing(sizes: Sizes, config: AcceleratorConfig) -> PoolTiling | None:
    """The tiling behind a convolution; None where nothing fits.

    Tiles are small, for what is left of the last one when the convolution ends. The operand's
    pieces lie in a ring, which need not hold two tiles: while the array convolves, VECTOR frees
    what is scored next. All regions begin at row 0: where they lie depends on the convolution.
    """
    groups = min(sizes.groups, STATISTICS, ceil_div(LEAST_POSITIONS, sizes.positions))
    rows = groups * sizes.positions
    bank = config.memory.activation_bank_rows
    maxima = rows // product(pool_window(sizes.positions))
    if rows > min(config.memory.accumulator_rows, MAX_COUNT):
        return None
    shares = groups + rows + sizes.blocks * sizes.groups
    if max(SLOTS * (rows + maxima), shares) > bank:
        return None
    piece = _piece(sizes, rows)
    pieces = ceil_div(sizes.blocks, piece)
    wanted = pieces * min(SLOTS, ceil_div(sizes.groups, groups))
    places = _ring(piece * rows, wanted, config)
    if len(places) < min(wanted, pieces + 1):
        return None
    return PoolTiling(
        groups,
        piece,
        pool_window(sizes.positions),
        places,
        Region(0, SLOTS * (rows + maxima)),
        Region(0, shares),
        0,
        0,
    )


def _ring(rows: int, wanted: int, config: AcceleratorConfig) -> tuple[int, ...]:
    """First rows of pieces of so many rows, of as many as there is room for.

    No piece lies in two banks that it does not fill: what one unit reads would keep another one
    from what it reads next.
    """
    bank = config.memory.activation_bank_rows
    banks = config.memory.activation_banks - OTHER_BANKS
    if rows > bank:
        return tuple(n * rows for n in range(min(wanted, banks * bank // rows)))
    each = bank // rows
    return tuple(n // each * bank + n % each * rows for n in range(min(wanted, banks * each)))
