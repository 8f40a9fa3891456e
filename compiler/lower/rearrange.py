"""Lowering of rearrangements: rows change their order, and which position or channel they are.

A row holds one position of some channels; its lanes cannot part. Channels and positions of operand
and result are cut into digits that both have in common. Digits that are channels on both sides go
along the lanes. One that turns from a channel into a position takes a block of its own for each of
its values in the operand's lane map; one that turns from a position into a channel does so in the
result's. Then every element's row is known on both sides, and the rows that move are loops over
digits; where their order stays, no byte moves and the result is the operand under another map.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from compiler.emit.moves import move
from compiler.emit.streams import Stream
from compiler.emit.transfers import Box, Strided, tensor_of
from compiler.ir import Rearrange
from compiler.lower import relayout
from compiler.lower.base import Lanes, Moved
from compiler.policy import Policy
from compiler.tensor import CompilerError, TensorType
from hw.arch.axes import Axes, Digit, Digits, positions
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import LaneMap, TensorLayout, ceil_div
from hw.arch.program import Tensor

Index: TypeAlias = npt.NDArray[np.int64]
LEVELS = 3
"""Loops over rows in one transfer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Level:
    """One loop over rows: its length, and rows per step in operand and result."""

    size: int
    source: int
    target: int


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Moves:
    """What moves in a rearrangement.

    Attributes
    ----------
    levels: loops over the rows of a lane block and of the blocks that go with it, innermost of the
        result first.
    lane, part: of every channel of the operand: its place among the channels that stay together in
        a row, and among the blocks that become positions.
    channel: the result's channel by that place and by what its position was, [lanes, parts].
    parts: blocks of the operand that become positions, for each one that stays.
    """

    levels: tuple[Level, ...]
    lane: Index
    part: Index
    channel: Index
    parts: int

    @property
    def alias(self) -> bool:
        """All rows keep their order."""
        return all(level.source == level.target for level in self.levels)

    @property
    def renames(self) -> bool:
        """Nothing but channels get other numbers."""
        return self.alias and self.parts == 1 and self.channel.shape[1] == 1

    def demanded(self, lane_map: LaneMap) -> LaneMap:
        """The operand's map if its rows can be moved as they are, else one whose rows can."""
        if self.result(lane_map) is not None:
            return lane_map
        lanes, count = lane_map.lanes, self.channel.shape[0]
        table = np.full((ceil_div(count, lanes) * lanes, self.parts), -1, np.int64)
        table[self.lane, self.part] = np.arange(self.lane.size)
        blocked = table.reshape(-1, lanes, self.parts).transpose(0, 2, 1)
        return LaneMap.of(blocked.reshape(-1, lanes))

    def result(self, lane_map: LaneMap) -> LaneMap | None:
        """The result's map; None where channels share a row that have to part."""
        table, lanes = lane_map.table(), lane_map.lanes
        if len(table) % self.parts:
            return None
        together = table.reshape(-1, self.parts, lanes)
        held = together >= 0
        place = np.where(held, self.lane[together], -1)
        part = np.arange(self.parts)[None, :, None]
        if (place != place[:, :1]).any() or (held & (self.part[together] != part)).any():
            return None
        first = place[:, 0]
        channels = np.where(first[:, :, None] >= 0, self.channel[first], -1)
        return LaneMap.of(channels.transpose(0, 2, 1).reshape(-1, lanes))


def inexpressible(op: Rearrange) -> str | None:
    """Why no rows can be found that move, or None."""
    if moves_of(op.source, op.target) is not None:
        return None
    return (
        "its axes are cut at places that do not divide each other: channels and positions would "
        "change inside the lanes of a row"
    )


@functools.lru_cache(maxsize=256)
def moves_of(source: Axes, target: Axes) -> Moves | None:
    """What moves between two sets of axes; None where they have no digits in common."""
    strides = {end for digits in (*source, *target) for n, s in digits for end in (s, n * s)}
    before_c, after_c = _atoms(source[0], strides), _atoms(target[0], strides)
    before_p, after_p = _atoms(positions(source), strides), _atoms(positions(target), strides)
    if before_c is None or after_c is None or before_p is None or after_p is None:
        return None
    stay = [atom for atom in before_c if atom in after_c]
    to_position = [atom for atom in after_p if atom in before_c]
    to_channel = [atom for atom in before_p if atom in after_c]
    rows_before = _pitches([*to_position, *before_p])
    rows_after = _pitches([*to_channel, *after_p])
    levels = [Level(a[0], rows_before[a], rows_after[a]) for a in (*to_position, *before_p)]
    channels = np.arange(math.prod(n for n, _ in before_c))
    values = _values(channels, before_c)
    ends = np.arange(math.prod(n for n, _ in after_c))
    ends_values = _values(ends, after_c)
    channel = np.empty((_size(stay), _size(to_channel)), np.int64)
    channel[_index(ends_values, stay), _index(ends_values, to_channel)] = ends
    return Moves(
        levels=_merged(sorted(levels, key=lambda level: level.target)),
        lane=_index(values, stay),
        part=_index(values, to_position),
        channel=channel,
        parts=_size(to_position),
    )


def _atoms(digits: Digits, strides: set[int]) -> list[Digit] | None:
    """Digits cut at all places where a digit of either side begins or ends, outermost first."""
    result: list[Digit] = []
    for size, stride in digits:
        inside = sorted(s for s in strides if stride < s < stride * size)
        ends = [stride, *inside, stride * size]
        if any(high % low for low, high in itertools.pairwise(ends)):
            return None
        result += [(high // low, low) for low, high in itertools.pairwise(ends)][::-1]
    return result


def _size(atoms: Sequence[Digit]) -> int:
    return math.prod(size for size, _ in atoms)


def _pitches(atoms: Sequence[Digit]) -> dict[Digit, int]:
    """Rows per step of each digit where the last one is the innermost."""
    result, rows = {}, 1
    for atom in reversed(atoms):
        result[atom] = rows
        rows *= atom[0]
    return result


def _values(index: Index, atoms: Sequence[Digit]) -> dict[Digit, Index]:
    """Value of every digit of an index."""
    pitches = _pitches(atoms)
    return {atom: index // pitches[atom] % atom[0] for atom in atoms}


def _index(values: dict[Digit, Index], atoms: Sequence[Digit]) -> Index:
    """Undo `_values` for some of the digits."""
    pitches = _pitches(atoms)
    zero = np.zeros_like(next(iter(values.values()), np.zeros(1, np.int64)))
    return np.asarray(sum((values[atom] * pitches[atom] for atom in atoms), zero))


def _merged(levels: Sequence[Level]) -> tuple[Level, ...]:
    result: list[Level] = []
    for level in levels:
        last = result[-1] if result else None
        if last is not None and all(
            getattr(level, side) == getattr(last, side) * last.size for side in ("source", "target")
        ):
            result[-1] = Level(last.size * level.size, last.source, last.target)
        else:
            result.append(level)
    return tuple(result)


def layers(
    op: Rearrange, source: Tensor, target: Tensor, config: AcceleratorConfig
) -> Iterator[Stream]:
    """Strided copies, none where no row moves; loops beyond those of a transfer are unrolled."""
    moves = moves_of(op.source, op.target)
    if moves is None or moves.alias:
        return
    inner, outer = moves.levels[:LEVELS], moves.levels[LEVELS:]
    rows = math.prod(level.size for level in moves.levels)
    blocks = source.layout.blocks // moves.parts
    for place in itertools.product(*(range(level.size) for level in outer)):
        first = [
            sum(n * getattr(level, side) for n, level in zip(place, outer, strict=True))
            for side in ("source", "target")
        ]
        origin = _view(source, blocks, inner, "source", first[0], rows)
        to = _view(target, blocks, inner, "target", first[1], rows)
        yield move(origin, to, Box((0, 0, 0), to.sizes, 0, blocks), config)


def _view(
    tensor: Tensor, blocks: int, levels: Sequence[Level], side: str, first: int, rows: int
) -> Strided:
    """A tensor from a row on, with the loops as its x, y and t."""
    steps = [(level.size, getattr(level, side)) for level in levels] + [(1, 0)] * LEVELS
    (x, px), (y, py), (t, pt) = steps[:LEVELS]
    lanes = tensor.layout.lanes
    assert not tensor.places, tensor.name
    pitches = (px * lanes, py * lanes, pt * lanes, rows * lanes)
    return Strided(tensor.address + first * lanes, blocks, (x, y, t), pitches, lanes)


class RearrangeLowering(Moved[Rearrange]):
    """Strided copies of rows, behind a relayout where channels share a row that have to part."""

    operation = Rearrange
    limits = ()

    def kind(self, op: Rearrange, config: AcceleratorConfig) -> str:
        """One kind."""
        return "rearrange"

    def refusal(
        self,
        op: Rearrange,
        inputs: Sequence[TensorType],
        output: TensorType,
        config: AcceleratorConfig,
        policy: Policy | None,
    ) -> str | None:
        """A dense operand may have to take other lanes first."""
        moves = moves_of(op.source, op.target)
        if moves is None:
            return inexpressible(op)
        dense = tensor_of(inputs[0], config.lane_block)
        demanded = moves.demanded(dense.layout.lane_map)
        moved = tensor_of(inputs[0], config.lane_block, demanded)
        target = tensor_of(output, config.lane_block, moves.result(demanded))
        if demanded != dense.layout.lane_map:
            why = relayout.misfit(dense, moved, config)
            if why is not None:
                return why
        return self.misfit(op, [moved], target, config)

    def misfit(
        self, op: Rearrange, sources: Sequence[Tensor], target: Tensor, config: AcceleratorConfig
    ) -> str | None:
        """Why no rows can be found that move, or the copies do not fit."""
        return inexpressible(op) or super().misfit(op, sources, target, config)

    def contract(
        self, op: Rearrange, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """No channels part that share a row."""
        moves = moves_of(op.source, op.target)
        expected = None if moves is None else moves.result(sources[0].lane_map)
        return None if expected == result.lane_map else "channels of a row would part"

    def lanes(self, op: Rearrange) -> Lanes:
        """By the digits of both sides."""
        return Lanes.GATHERED

    def demands(self, op: Rearrange, maps: Sequence[LaneMap]) -> list[LaneMap] | None:
        """A map whose rows can be moved."""
        moves = moves_of(op.source, op.target)
        return list(maps) if moves is None else [moves.demanded(maps[0])]

    def result(self, op: Rearrange, maps: Sequence[LaneMap], channels: int) -> LaneMap:
        """What the rows hold where they went."""
        moves = moves_of(op.source, op.target)
        result = None if moves is None else moves.result(maps[0])
        if result is None:
            raise CompilerError(f"{op.name} (Rearrange): channels of a row would part")
        return result

    def keeps_bytes(self, op: Rearrange) -> bool:
        """Where all rows keep their order."""
        moves = moves_of(op.source, op.target)
        return moves is not None and moves.alias

    def scattered(self, op: Rearrange, number: int) -> bool:
        """Rows are counted through all blocks."""
        return False

    def streams(
        self,
        op: Rearrange,
        sources: Sequence[Tensor],
        target: Tensor,
        config: AcceleratorConfig,
        tables: Sequence[int],
    ) -> Iterable[Stream]:
        """Strided copies."""
        return layers(op, sources[0], target, config)


LOWERING = RearrangeLowering()
