"""How activation tensors lie in DRAM: [block][T][H][W][lane], lane block L = array rows.

A row is one position of one block: L lanes of a byte. Which channel a lane holds is the tensor's
*lane map*. A dense tensor has channels 0..L−1 in its first block, and so on; a concat of 5 and 7
channels has two blocks that are not full, a channel slice may begin at any lane. Operators that
work lane by lane leave a map as it is, so a map is part of a tensor's type: operands meet lane by
lane only where their maps agree. Lanes of no channel hold anything.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Channels: TypeAlias = npt.NDArray[np.int64]
"""Channel of each lane, −1 where it holds none."""


def ceil_div(value: int, divisor: int) -> int:
    """Smallest integer not below value / divisor."""
    return -(-value // divisor)


class Run(NamedTuple):
    """Neighbouring lanes of a block whose channels lie evenly: lane + i holds channel + i·step.

    With step 0 all lanes hold the same channel.
    """

    lane: int
    length: int
    channel: int
    step: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class LaneMap:
    """Which channel every lane holds.

    Attributes
    ----------
    lanes: L.
    blocks: runs of each block, by lane. Maps are equal where lanes hold the same channels, if they
        come from `of` or another constructor below: it makes each run as long as it can be.
    """

    lanes: int
    blocks: tuple[tuple[Run, ...], ...]

    def __post_init__(self) -> None:
        """Refuse what is no map.

        Raises
        ------
        ValueError
            If runs overlap, leave the block or are out of order, a block is empty, or a channel
            has no lane.
        """
        if self.lanes < 1 or not self.blocks:
            raise ValueError(f"a lane map of {len(self.blocks)} blocks of {self.lanes} lanes")
        for number, block in enumerate(self.blocks):
            if not block:
                raise ValueError(f"block {number} holds no channel")
            end = 0
            for run in block:
                if run.lane < end or run.length < 1 or run.lane + run.length > self.lanes:
                    raise ValueError(f"block {number}: {run} does not follow lane {end}")
                if min(run.channel, run.channel + (run.length - 1) * run.step) < 0:
                    raise ValueError(f"block {number}: {run} leaves the channels")
                end = run.lane + run.length
        table = self.table()
        held = np.zeros(max(int(table.max()), 0) + 1, bool)
        held[table[table >= 0]] = True
        if not held.all():
            these = np.flatnonzero(held).tolist()
            raise ValueError(f"channels of a lane map are 0, 1, ...; these are {these}")

    # Constructors

    @classmethod
    def of(cls, table: Channels) -> LaneMap:
        """The map of a table: channel of every lane [blocks, L], −1 for none."""
        return cls(table.shape[1], tuple(tuple(_runs(row)) for row in table.tolist()))

    @classmethod
    def dense(cls, channels: int, lanes: int) -> LaneMap:
        """Channels in order, every block full but the last."""
        return _dense(channels, lanes)

    @classmethod
    def spread(cls, lanes: int) -> LaneMap:
        """One channel in all lanes of one block."""
        return cls(lanes, ((Run(0, lanes, 0, 0 if lanes > 1 else 1),),))

    @classmethod
    def joined(cls, maps: Sequence[LaneMap]) -> LaneMap:
        """The blocks of several maps one after another, their channels counted through."""
        blocks: list[tuple[Run, ...]] = []
        first = 0
        for lane_map in maps:
            blocks += (
                tuple(run._replace(channel=run.channel + first) for run in block)
                for block in lane_map.blocks
            )
            first += lane_map.channels
        return cls(maps[0].lanes, tuple(blocks))

    # Questions

    @property
    def channels(self) -> int:
        """Channels that have a lane."""
        return int(self.table().max()) + 1

    @property
    def is_dense(self) -> bool:
        """Channels lie in order and fill all blocks but the last."""
        return self == LaneMap.dense(self.channels, self.lanes)

    def table(self) -> Channels:
        """Channel of every lane, [blocks, L]; −1 where the lane holds none."""
        return _table(self)

    def first_lanes(self) -> npt.NDArray[np.int64]:
        """A lane of every channel, the first one, counted through all blocks: [channels]."""
        flat = self.table().reshape(-1)
        where = np.flatnonzero(flat >= 0)
        _, first = np.unique(flat[where], return_index=True)
        return np.asarray(where[first])

    # Other maps

    def taken(self, channels: Sequence[int]) -> tuple[LaneMap, tuple[int, ...]]:
        """Keep some channels, in their lanes; blocks that hold none of them go.

        Parameters
        ----------
        channels: those that stay; the i-th becomes channel i.

        Returns
        -------
        The map, and which blocks are left.
        """
        renamed = np.full(self.channels + 1, -1, np.int64)  # the last for lanes without a channel
        renamed[np.asarray(channels)] = np.arange(len(channels))
        table = renamed[self.table()]
        kept = np.flatnonzero((table >= 0).any(axis=1))
        return LaneMap.of(table[kept]), tuple(int(block) for block in kept)

    def merged(self, positions: int) -> LaneMap:
        """The map where `positions` neighbours of each channel become channels of their own.

        Position i of channel c becomes channel c·positions + i (row-major order), and every block
        as many blocks: the bytes stay where they are.
        """
        table = self.table()[:, None, :]
        inner = np.arange(positions)[None, :, None]
        wide = np.where(table >= 0, table * positions + inner, -1)
        return LaneMap.of(wide.reshape(-1, self.lanes))

    def split(self, positions: int) -> LaneMap:
        """Undo `merged`.

        Raises
        ------
        ValueError
            If channels that become neighbours do not lie in the same lane of following blocks.
        """
        table = self.table()
        if len(table) % positions:
            raise ValueError(f"{len(table)} blocks do not fall into {positions} positions")
        outer = table.reshape(-1, positions, self.lanes)
        first = np.where(outer[:, 0] >= 0, outer[:, 0] // positions, -1)
        result = LaneMap.of(first)
        if result.merged(positions) != self:
            raise ValueError(f"neighbours of {positions} channels do not share a lane")
        return result

    def __str__(self) -> str:
        """``24`` where dense, else channels of the blocks: ``0..4 | 5..11``, ``6..11@6``."""
        if self.is_dense:
            return str(self.channels)
        named = [",".join(map(_run_name, block)) for block in self.blocks[:NAMED_BLOCKS]]
        more = len(self.blocks) - NAMED_BLOCKS
        return " | ".join([*named, f"{more} more"] if more > 0 else named)


NAMED_BLOCKS = 8
"""Blocks of a map that are written out for people."""


def _run_name(run: Run) -> str:
    last = run.channel + (run.length - 1) * run.step
    name = str(run.channel) if run.length == 1 else f"{run.channel}..{last}"
    if run.length > 1 and run.step != 1:
        name += f"/{run.step}"
    return f"{name}@{run.lane}" if run.lane else name


@functools.lru_cache(maxsize=8)
def _dense(channels: int, lanes: int) -> LaneMap:
    """See `LaneMap.dense`: asked for often, and slow for millions of channels."""
    firsts = range(0, channels, lanes)
    return LaneMap(lanes, tuple((Run(0, min(lanes, channels - n), n),) for n in firsts))


@functools.lru_cache(maxsize=4096)
def _table(lane_map: LaneMap) -> Channels:
    table = np.full((len(lane_map.blocks), lane_map.lanes), -1, np.int64)
    for row, block in zip(table, lane_map.blocks, strict=True):
        for lane, length, channel, step in block:
            row[lane : lane + length] = channel + step * np.arange(length)
    table.setflags(write=False)
    return table


def _runs(row: Sequence[int]) -> Iterator[Run]:
    """Longest runs of a block, from the first lane on."""
    lane = 0
    while lane < len(row):
        channel = row[lane]
        if channel < 0:
            lane += 1
            continue
        end = lane + 1
        step = 1
        if end < len(row) and row[end] >= 0:
            step = row[end] - channel
            while end < len(row) and row[end] >= 0 and row[end] - row[end - 1] == step:
                end += 1
        yield Run(lane, end - lane, channel, step)
        lane = end


@dataclasses.dataclass(frozen=True, slots=True)
class TensorLayout:
    """Geometry of one activation tensor in memory.

    Attributes
    ----------
    lane_map: channels of the blocks' lanes.
    frames, height, width: T, H, W.
    """

    lane_map: LaneMap
    frames: int
    height: int
    width: int

    @classmethod
    def dense(cls, shape: Sequence[int], lanes: int) -> TensorLayout:
        """A tensor [C, T, H, W] whose channels lie in order, without gaps."""
        channels, frames, height, width = shape
        return cls(LaneMap.dense(channels, lanes), frames, height, width)

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any]) -> TensorLayout:
        """Undo `dataclasses.asdict`, also by way of JSON.

        Raises
        ------
        ValueError
            If the lane map is none.
        """
        lane_map = content["lane_map"]
        blocks = tuple(tuple(Run(*run) for run in block) for block in lane_map["blocks"])
        return cls(**{**content, "lane_map": LaneMap(lane_map["lanes"], blocks)})

    @property
    def lanes(self) -> int:
        """L."""
        return self.lane_map.lanes

    @property
    def channels(self) -> int:
        """Real channels."""
        return self.lane_map.channels

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(C, T, H, W)."""
        return self.channels, self.frames, self.height, self.width

    @property
    def blocks(self) -> int:
        """Lane blocks."""
        return len(self.lane_map.blocks)

    @property
    def positions(self) -> int:
        """T·H·W."""
        return self.frames * self.height * self.width

    @property
    def rows(self) -> int:
        """Rows of L bytes."""
        return self.blocks * self.positions

    @property
    def nbytes(self) -> int:
        """Bytes in DRAM."""
        return self.rows * self.lanes

    def lane_channels(self) -> Channels:
        """Channel of every lane, [blocks·L]; −1 where the lane holds none."""
        return self.lane_map.table().reshape(-1)

    def pack(self, tensor: npt.NDArray[Any], fill: int = 0) -> npt.NDArray[np.uint8]:
        """[C, T, H, W] of u8 or s8 to the bytes in DRAM; lanes of no channel hold `fill`."""
        expected = self.shape
        if tensor.shape != expected or tensor.dtype.itemsize != 1:
            raise ValueError(
                f"a tensor of {tensor.dtype}{list(tensor.shape)} does not have the layout's shape "
                f"{list(expected)} of bytes"
            )
        lanes = self.lane_channels()
        wide = np.full((lanes.size, *expected[1:]), fill & 0xFF, np.uint8)
        wide[lanes >= 0] = tensor.view(np.uint8)[lanes[lanes >= 0]]
        blocked = wide.reshape(self.blocks, self.lanes, *expected[1:])
        return np.ascontiguousarray(np.moveaxis(blocked, 1, -1)).reshape(-1)

    def unpack(self, data: npt.NDArray[np.uint8], signed: bool = False) -> npt.NDArray[Any]:
        """Undo `pack`: [C, T, H, W] of u8 (or s8)."""
        blocked = data[: self.nbytes].reshape(
            self.blocks, self.frames, self.height, self.width, self.lanes
        )
        wide = np.moveaxis(blocked, -1, 1).reshape(
            self.blocks * self.lanes, self.frames, self.height, self.width
        )
        real = np.ascontiguousarray(wide[self.lane_map.first_lanes()])
        return real.view(np.int8) if signed else real


def pack_transformed_weights(
    pairs: npt.NDArray[np.int8], weight_rows_per_cycle: int
) -> npt.NDArray[np.uint8]:
    """Taps of ARRAY HFA's weight pairs to the bytes in memory: taps inside row groups.

    Parameters
    ----------
    pairs: int8 [pairs, kt, ky, kx, rows, cols] with the transformed axes' taps (other axes 1),
        in the order of consumption: pair = set·co_count + co.
    weight_rows_per_cycle: LW.
    """
    count, kt, ky, kx, rows, cols = pairs.shape
    groups = rows // weight_rows_per_cycle
    grouped = pairs.reshape(count, kt * ky * kx, groups, weight_rows_per_cycle, cols)
    return np.ascontiguousarray(grouped.transpose(0, 2, 1, 3, 4)).view(np.uint8).reshape(-1)


def unpack_transformed_weights(
    data: npt.NDArray[np.uint8],
    kernel: tuple[int, int, int],
    array: tuple[int, int],
    weight_rows_per_cycle: int,
) -> npt.NDArray[np.int8]:
    """Undo `pack_transformed_weights`.

    Parameters
    ----------
    data: u8, whole pairs.
    kernel: transformed taps kt, ky, kx.
    array: rows, cols.
    weight_rows_per_cycle: LW.
    """
    rows, cols = array
    taps = kernel[0] * kernel[1] * kernel[2]
    groups = rows // weight_rows_per_cycle
    grouped = data.view(np.int8).reshape(-1, groups, taps, weight_rows_per_cycle, cols)
    return np.ascontiguousarray(grouped.transpose(0, 2, 1, 3, 4)).reshape(-1, *kernel, rows, cols)


def canonical_shape(shape: Sequence[int]) -> tuple[int, int, int, int]:
    """ONNX shape [1, C, (T, (H,)) W] to (C, T, H, W); missing axes are 1.

    Raises
    ------
    ValueError
        If the batch is not 1 or the rank is above 5.
    """
    dims = [int(d) for d in shape]
    if len(dims) > 5 or len(dims) < 1:
        raise ValueError(f"a tensor of rank {len(dims)}; 1 to 5 are supported")
    if len(dims) > 1:
        if dims[0] != 1:
            raise ValueError(f"batch {dims[0]}; programs are built for batch 1")
        dims = dims[1:]
    channels, *space = dims
    while len(space) < 3:
        space.insert(0, 1)
    return channels, space[0], space[1], space[2]
