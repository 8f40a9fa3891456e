"""What the tiling of a convolution depends on, and a choice of sizes.

See compiler/tile/tiling.py for what the sizes mean.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from compiler.tile.geometry import Axis, Triple, cuts, product
from compiler.tile.parts import DIRECT
from compiler.tile.regions import Region
from compiler.tile.sums import Sums
from hw.arch.layout import ceil_div
from hw.arch.winograd import Algorithm


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Trailed:
    """Sizes of a layer that trails a convolution tile by tile (compiler/array/tail.py).

    Attributes
    ----------
    tiles: how many.
    regions: rows of each of its regions.
    weights: beats of its weights, which stay on chip.
    loads, stores: beats of all.
    instructions: all.
    array, drain, vector: cycles of the units.
    last: cycles behind the convolution's last store.
    """

    tiles: int = 0
    regions: tuple[int, ...] = ()
    weights: int = 0
    loads: int = 0
    stores: int = 0
    instructions: int = 0
    array: int = 0
    drain: int = 0
    vector: int = 0
    last: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """What the tiling of a convolution depends on.

    Attributes
    ----------
    axes: x, y, t as the array sees them.
    blocks: input blocks in a load tile.
    reduced: input blocks that one output group sums over (fewer where the weights are block
        diagonal).
    groups: output blocks of `cols` channels.
    out_blocks: lane blocks that are stored.
    joinable: several output blocks can share one ARRAY instruction.
    raw_blocks: lane blocks loaded, where the array's operand is packed from them first; else 0.
    raw_axes: the axes of that load.
    pack_rows: rows read for a packed row of every block that serves all taps along `pack_across`;
    pack_once: of those that serve the first one.
    skipped: weight blocks of an output group that are never needed.
    algorithm: transform; `DIRECT` where the layer runs in mode GEMM.
    joined: results are joined with a stored tensor before they are stored.
    trailed: what trails tile by tile, if anything does.
    phases: results that share a pass and are taken apart before they are stored.
    """

    axes: tuple[Axis, Axis, Axis]
    blocks: int
    reduced: int
    groups: int
    out_blocks: int
    joinable: bool = True
    raw_blocks: int = 0
    raw_axes: tuple[Axis, Axis, Axis] | None = None
    pack_rows: int = 0
    pack_once: int = 0
    pack_across: int | None = None
    skipped: int = 0
    algorithm: Algorithm = DIRECT
    joined: bool = False
    trailed: Trailed | None = None
    phases: int = 1

    @property
    def taps(self) -> int:
        """Taps of the window."""
        return product([axis.kernel for axis in self.axes])

    @property
    def weight_blocks(self) -> int:
        """Blocks of weights of an output group."""
        return self.reduced * self.taps - self.skipped


@dataclasses.dataclass(frozen=True, slots=True)
class Pieces:
    """How the weights of a group of outputs come on chip.

    Attributes
    ----------
    blocks: input blocks of a piece.
    taps: of a piece along x, y, t; all of them unless `blocks` is 1.
    slots: pieces resident at a time.
    resident: all weights of the layer stay on chip.
    """

    blocks: int
    taps: Triple
    slots: int
    resident: bool

    def of(self, problem: Problem) -> int:
        """Pieces of a group."""
        cut = [ceil_div(a.kernel, n) for a, n in zip(problem.axes, self.taps, strict=True)]
        return ceil_div(problem.reduced, self.blocks) * product(cut)


@dataclasses.dataclass(frozen=True, slots=True)
class Tiling:
    """A choice, and what it is estimated to cost.

    Attributes
    ----------
    load, accumulator: outputs per tile along x, y, t.
    group: output blocks computed together.
    pieces: of the weights.
    group_outer: all tiles for one group of outputs, then the next group.
    input_slots: 2 to load the next tile while one is computed.
    output, packed, input: scratchpad regions; `packed` only where operands are packed.
    beside, joined: regions of what results are joined with, and of what comes of it, or of results
        that shared a pass.
    trailing: regions of what trails.
    cycles: estimate; sums: of its units.
    vectors: activation rows that pass the array.
    beats: moved between DRAM and the chip.
    passes: over the weights of each output group, that is, accumulator tiles.
    """

    load: Triple
    accumulator: Triple
    group: int
    pieces: Pieces
    group_outer: bool
    input_slots: int
    output: Region
    input: Region
    packed: Region | None
    beside: Region | None
    joined: Region | None
    trailing: tuple[Region, ...]
    cycles: int
    sums: Sums
    vectors: int = 0
    beats: int = 0
    passes: int = 1

    def describe(self) -> dict[str, Any]:
        """For the report."""
        return {
            "load": list(self.load),
            "accumulator": list(self.accumulator),
            "group": self.group,
            "piece": self.pieces.blocks,
            "taps": list(self.pieces.taps),
            "weight_slots": self.pieces.slots,
            "order": "group, tile" if self.group_outer else "tile, group",
            "input_slots": self.input_slots,
            "estimate": self.cycles,
            **self.sums.describe(),
        }


@functools.lru_cache(maxsize=4096)
def extents(axis: Axis, size: int) -> tuple[int, int]:
    """Input elements over all tiles of an axis, and of the largest one."""
    counts = [axis.source(cut)[1] for cut in cuts(axis.out, size)]
    return sum(counts), max(counts)


def tile_count(axis: Axis, size: int) -> int:
    """Tiles along an axis."""
    return ceil_div(axis.out, size)
