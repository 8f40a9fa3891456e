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
