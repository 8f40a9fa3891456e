"""Few output channels: several neighbouring results in the columns of one pass.

A layer of no more output channels than half the columns leaves the others idle. Where its window
slides, P neighbouring results along an axis share most of what they read: computed together, a
window of k + (P − 1)·stride taps does for P results. Each has columns of its own, whose weights are
shifted by as many strides; SELECT then takes the rows apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from compiler.emit.select import LANES, select_rows
from compiler.emit.transfers import Box
from compiler.ir import Convolution
from compiler.tile.geometry import Axis, AxisTriple
from compiler.tile.limits import MAX_STRIDE
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Permute
from hw.arch.layout import TensorLayout

COUNTS = (2, 4)
"""Results together that are tried."""


@dataclasses.dataclass(frozen=True, slots=True)
class Phases:
    """How results lie in columns.

    Attributes
    ----------
    axis: 0, 1 or 2 (x, y, t): neighbours along it share a pass.
    count: how many, P.
    lanes: columns of each.
    stride: of the window along the axis.
    out: results along it.
    """

    axis: int
    count: int
    lanes: int
    stride: int
    out: int

    def axes(self, plain: AxisTriple) -> AxisTriple:
        """What the array sees of the axes: windows of P results, P strides apart."""
        found = list(plain)
        axis = plain[self.axis]
        found[self.axis] = dataclasses.replace(
            axis,
            out=-(-axis.out // self.count),
            kernel=axis.kernel + (self.count - 1) * axis.stride,
            stride=self.count * axis.stride,
        )
        return found[0], found[1], found[2]

    def weights(
        self, dense: npt.NDArray[np.int8], channels: npt.NDArray[np.int64], cols: int
    ) -> npt.NDArray[np.int8]:
        """Weights by column, [cols, lanes of the operand, kt, ky, kx].

        Parameters
        ----------
        dense: [Cout, lanes of the operand, kt, ky, kx].
        channels: of every lane of a result; −1 where it has none.
        cols: of the array.
        """
        along = 4 - self.axis
        shape = list(dense.shape)
        taps = shape[along]
        shape[0], shape[along] = cols, taps + (self.count - 1) * self.stride
        wide = np.zeros(shape, np.int8)
        used = np.flatnonzero(channels[: self.lanes] >= 0)
        for phase in range(self.count):
            place = [slice(None)] * wide.ndim
            place[along] = slice(phase * self.stride, phase * self.stride + taps)
            part = wide[tuple(place)]
            part[phase * self.lanes + used] = dense[channels[used]]
        return wide

    def columns(self, channels: npt.NDArray[np.int64], cols: int) -> npt.NDArray[np.int64]:
        """Channel of every column; −1 where it has none."""
        found = np.full(cols, -1, np.int64)
        for phase in range(self.count):
            first = phase * self.lanes
            found[first : first + self.lanes] = channels[: self.lanes]
        return found

    def box(self, box: Box) -> Box:
        """Results of a box of passes; those beyond the last one are not there."""
        first, size = list(box.first), list(box.size)
        first[self.axis] *= self.count
        size[self.axis] = min(self.count * size[self.axis], self.out - first[self.axis])
        return dataclasses.replace(
            box, first=(first[0], first[1], first[2]), size=(size[0], size[1], size[2])
        )

    def pitches(self, size: Sequence[int]) -> tuple[int, int, int, int]:
        """Rows between results along x, y, t, block where a box of passes is taken apart."""
        x, y, t = (n * (self.count if d == self.axis else 1) for d, n in enumerate(size))
        return 1, x, x * y, x * y * t

    def apart(
        self, config: AcceleratorConfig, size: Sequence[int], row: int, result: int, pad: int
    ) -> Iterator[Permute]:
        """SELECTs that take the results of a box of passes apart."""
        source, place = (1, size[0], size[0] * size[1]), self.pitches(size)
        steps = [p * (self.count if d == self.axis else 1) for d, p in enumerate(place[:3])]
        for phase in range(self.count):
            select = [phase * self.lanes + lane for lane in range(self.lanes)]
            select += [0] * (LANES - self.lanes)
            yield select_rows(
                config,
                (row, row),
                result + phase * place[self.axis],
                tuple(size),
                (source, (0, 0, 0), tuple(steps)),
                (tuple(select), (1 << self.lanes) - 1),
                pad=pad,
            )


def phases(
    op: Convolution, target: TensorLayout, axes: AxisTriple, config: AcceleratorConfig
) -> list[Phases]:
    """Ways to compute results together; none where nothing is won."""
    array = config.array
    selects = "fold" in config.features and config.lane_block <= LANES
    if not selects or op.groups > 1 or op.pool is not None or target.blocks > 1:
        return []
    if array.cols != config.lane_block:
        return []
    used = int(np.flatnonzero(target.lane_channels() >= 0).max()) + 1
    return [
        Phases(d, count, array.cols // count, axis.stride, axis.out)
        for d, axis in enumerate(axes)
        for count in COUNTS
        if count * used <= array.cols and _wins(axis, count)
    ]


def _wins(axis: Axis, count: int) -> bool:
    """Whether results share taps, and fields hold their distance."""
    wide = axis.kernel + (count - 1) * axis.stride
    fits = axis.dilation == 1 and count * axis.stride <= MAX_STRIDE
    return fits and axis.out >= count and wide < count * axis.kernel


def least_share(op: Convolution, config: AcceleratorConfig) -> float:
    """Of the passes that results take one by one, at least so many they take together."""
    best = 1.0
    for kernel, stride, dilation in zip(op.kernel, op.stride, op.dilation, strict=True):
        for count in COUNTS:
            if op.groups == 1 and op.pool is None and count * op.out_channels <= config.array.cols:
                share = (kernel + (count - 1) * stride) / (count * kernel)
                best = min(best, share if dilation == 1 else 1.0)
    selects = "fold" in config.features and config.array.cols == config.lane_block <= LANES
    return best if selects else 1.0
