"""What operators on groups of elements have in common: which rows a group has, and how many tiles.

A group goes over the channels of a position, over some positions of one channel, or over both. Its
rows are a nest of blocks and positions, FOLD's n0 and n1; the groups of a tile are n2 and n3.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from compiler.emit.emitter import RefusedError
from compiler.emit.moves import AXIS_OF
from compiler.emit.streams import Stream, Tile, split_box
from compiler.emit.transfers import Box, Strided
from compiler.lower.base import Lanes, Op, Streamed
from compiler.lower.contracts import first_of, lanes_differ
from compiler.tile.geometry import cuts
from compiler.tile.limits import MAX_COUNT
from hw.arch.config import AcceleratorConfig
from hw.arch.instructions.fold import MOST_ELEMENTS, STATISTICS
from hw.arch.layout import LaneMap, TensorLayout
from hw.arch.program import Tensor

__all__ = [
    "STATISTICS",
    "Batch",
    "Level",
    "Rows",
    "boxes",
    "lacks_fold",
    "not_counted_once",
    "rows_of",
    "summable",
    "valid_lanes",
]


@dataclasses.dataclass(frozen=True, slots=True)
class Level:
    """A loop over rows: steps, and rows between them."""

    count: int
    pitch: int


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Some groups of a tile: rows before the first one, and loops over them."""

    offset: int
    levels: tuple[Level, Level]

    @property
    def groups(self) -> int:
        """How many."""
        return self.levels[0].count * self.levels[1].count


@dataclasses.dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a tile that lies densely packed.

    Attributes
    ----------
    blocks: loop over the blocks of a group.
    elements: loop over its positions.
    groups: loops over the groups, innermost first.
    """

    blocks: Level
    elements: Level
    groups: tuple[Level, ...]

    def batches(self, levels: int) -> Iterator[Batch]:
        """All groups, as many at a time as have statistics, in one or two loops."""
        inner, outer = (*self.groups, Level(1, 0), Level(1, 0))[:2]
        together = max(1, STATISTICS // inner.count) if levels > 1 else 1
        for last, n3 in cuts(outer.count, together):
            for first, n2 in cuts(inner.count, STATISTICS):
                offset = first * inner.pitch + last * outer.pitch
                yield Batch(offset, (Level(n2, inner.pitch), Level(n3, outer.pitch)))


def lacks_fold(config: AcceleratorConfig) -> str | None:
    """Why a configuration has no FOLD, or None if it does."""
    if "fold" in config.features:
        return None
    return f"configuration {config.name} is built without the feature `fold`"


# Lanes


def summable(lane_map: LaneMap) -> bool:
    """Whether lanes can be summed up: every channel once, and lanes of none behind them all.

    One channel may stand in all lanes: the first one is taken.
    """
    table = lane_map.table()
    used = (table >= 0).reshape(-1)
    if lane_map.channels == 1:
        return len(table) == 1 and bool(used[0])
    count = int(used.sum())
    return count == lane_map.channels and bool(used[:count].all())


def valid_lanes(layout: TensorLayout) -> int:
    """FOLD's `valid`: lanes of the last block that hold a channel; 0 where all do."""
    return layout.channels % layout.lanes


def not_counted_once(layout: TensorLayout) -> str | None:
    """How lanes break what groups over channels demand, or None."""
    if summable(layout.lane_map):
        return None
    return f"channels {layout.lane_map} do not fill lanes from the first to the last"


# Rows


def rows_of(box: Box, axes: Sequence[int]) -> Rows:
    """The rows of a box that has whole groups over some canonical axes."""
    pitches = box.pitches()
    along = {AXIS_OF[axis] for axis in axes if axis > 0}
    levels = [(d in along, Level(box.size[d], pitches[d])) for d in range(3) if box.size[d] > 1]
    inside = _merged([level for element, level in levels if element])
    groups = _merged([level for element, level in levels if not element])
    assert len(inside) < 2 and len(groups) < 3, (box, axes)  # boxes
    blocks = Level(box.blocks, pitches[3])
    return Rows(blocks, inside[0] if inside else Level(1, 0), tuple(groups))


def _merged(levels: Sequence[Level]) -> list[Level]:
    result: list[Level] = []
    for level in levels:
        last = result[-1] if result else None
        if last is not None and level.pitch == last.pitch * last.count:
            result[-1] = Level(last.count * level.count, last.pitch)
        else:
            result.append(level)
    return result


def boxes(tensor: Tensor, axes: Sequence[int], limit: int) -> list[Box]:
    """Whole groups of at most `limit` rows together, or single ones that have more.

    Raises
    ------
    RefusedError
        Where groups go over positions of several channels, each for itself.
    """
    layout, view = tensor.layout, Strided.of(tensor)
    if 0 not in axes and layout.channels > 1:
        raise RefusedError(
            f"groups over positions of {layout.channels} channels; only one channel's are folded"
        )
    along = {AXIS_OF[axis] for axis in axes if axis > 0}
    whole = Box((0, 0, 0), view.sizes, 0, 1)
    parts = split_box(whole, max(1, min(limit, MAX_COUNT) // view.blocks), keep=along)
    if {0, 2} <= along and 1 not in along:
        # Between two axes of a group lies one of the groups: one line at a time.
        parts = [line for part in parts for line in _lines(part)]
    return [dataclasses.replace(part, blocks=view.blocks) for part in parts]


def _lines(box: Box) -> Iterator[Box]:
    for y in range(box.size[1]):
        first, size = (box.first[0], box.first[1] + y, box.first[2]), (box.size[0], 1, box.size[2])
        yield dataclasses.replace(box, first=first, size=size)


def tiles_of(parts: Sequence[Box]) -> list[Tile]:
    """Tiles whose result has the rows of their operand."""
    return [Tile((box,), box) for box in parts]


class Summed(Streamed[Op]):
    """What collects sums of groups and applies them: lanes that do not count are masked."""

    limits = (
        f"groups of {MOST_ELEMENTS} elements",
        "over channels, or over positions of a single channel",
    )

    def misfit(
        self, op: Op, sources: Sequence[Tensor], target: Tensor, config: AcceleratorConfig
    ) -> str | None:
        """FOLD, then what every stream needs."""
        return lacks_fold(config) or super().misfit(op, sources, target, config)

    def contract(self, op: Op, sources: Sequence[TensorLayout], result: TensorLayout) -> str | None:
        """Lanes can be summed up, and stay."""
        return first_of([not_counted_once(sources[0]), lanes_differ(sources[0], result)])

    def lanes(self, op: Op) -> Lanes:
        """Lane by lane, but operands that do not fill their lanes are moved."""
        return Lanes.MET

    def demands(self, op: Op, maps: Sequence[LaneMap]) -> list[LaneMap] | None:
        """Lanes that can be summed up."""
        return [m if summable(m) else LaneMap.dense(m.channels, m.lanes) for m in maps]

    def report(self, op: Op, streams: Sequence[Stream]) -> dict[str, Any]:
        """Rows of a tile."""
        return {"rows": streams[0].tiles[0].target.rows}
