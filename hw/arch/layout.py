"""How activation tensors lie in DRAM: [block][T][H][W][lane], lane block L = array rows.

A tensor's channels are split into blocks of L lanes. Where channels do not fill whole blocks (or
where a concat joined several such tensors) the channels are a list of *segments*: each segment
starts on a block boundary and its last block is padded. The padded lanes hold no information.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def ceil_div(value: int, divisor: int) -> int:
    """Smallest integer not below value / divisor."""
    return -(-value // divisor)


@dataclasses.dataclass(frozen=True, slots=True)
class TensorLayout:
    """Geometry of one activation tensor in memory.

    Attributes
    ----------
    segments: channels of each lane-aligned segment.
    frames, height, width: T, H, W.
    lanes: L.
    """

    segments: tuple[int, ...]
    frames: int
    height: int
    width: int
    lanes: int

    @property
    def channels(self) -> int:
        """Real channels."""
        return sum(self.segments)

    @property
    def blocks(self) -> int:
        """Lane blocks, padding included."""
        return sum(ceil_div(s, self.lanes) for s in self.segments)

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

    def lane_channels(self) -> npt.NDArray[np.int64]:
        """Channel of every lane, [blocks·L]; −1 where the lane only pads."""
        result = np.full(self.blocks * self.lanes, -1, np.int64)
        lane = channel = 0
        for size in self.segments:
            result[lane : lane + size] = np.arange(channel, channel + size)
            lane += ceil_div(size, self.lanes) * self.lanes
            channel += size
        return result

    def pack(self, tensor: npt.NDArray[Any], fill: int = 0) -> npt.NDArray[np.uint8]:
        """[C, T, H, W] of u8 or s8 to the bytes in DRAM; padded lanes hold `fill`."""
        expected = (self.channels, self.frames, self.height, self.width)
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
        lanes = self.lane_channels()
        real = np.ascontiguousarray(wide[lanes >= 0])
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
