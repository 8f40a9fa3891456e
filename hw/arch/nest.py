"""Nests of counters, expanded: offsets, clipping, intervals; and what an access is."""

from __future__ import annotations

import enum
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hw.arch.isa import strides

Index = npt.NDArray[np.int64]


class Memory(enum.StrEnum):
    """Memories that instructions can conflict on."""

    ACTIVATION = "activation"
    WEIGHT = "weight"
    PARAMETER = "parameter"
    TABLE = "table"
    ACCUMULATOR = "accumulator"
    DRAM = "dram"


class Access(NamedTuple):
    """A closed interval of rows, beats or bytes that an instruction reads or writes."""

    memory: Memory
    low: int
    high: int
    write: bool

    def moved(self, by: int) -> Access:
        """As many rows, beats or bytes, so many on."""
        return Access(self.memory, self.low + by, self.high + by, self.write)


def offsets(counts: Sequence[int], step: Sequence[int]) -> Index:
    """Offset at every point of a nest, shape = counts reversed (outermost axis first); read-only.

    Parameters
    ----------
    counts, step: per level, innermost first; `step` are strides (not deltas).
    """
    return _offsets(tuple(counts), tuple(step))


@functools.lru_cache(maxsize=1024)
def _offsets(counts: tuple[int, ...], step: tuple[int, ...]) -> Index:
    """Tiles of a layer walk the same few nests."""
    result = np.zeros((1,) * len(counts), np.int64)
    for axis, (count, stride) in enumerate(zip(counts, step, strict=True)):
        shape = [1] * len(counts)
        shape[len(counts) - 1 - axis] = count
        result = result + (np.arange(count, dtype=np.int64) * stride).reshape(shape)
    result.flags.writeable = False
    return result


def walked(base: int, counts: Sequence[int], deltas: Sequence[int]) -> Index:
    """Addresses of a nest in delta form, shape = counts reversed."""
    return np.asarray(base + offsets(counts, strides(counts, deltas)), np.int64)


@functools.lru_cache(maxsize=4096)
def inside(
    start: int, step: int, count: int, dilation: int, taps: int, bound: int
) -> npt.NDArray[np.bool_]:
    """[taps, count]: whether start + position·step + tap·dilation lies in 0..bound−1; read-only."""
    coordinate = (start + np.arange(count) * step)[None, :] + (np.arange(taps) * dilation)[:, None]
    result = np.asarray((coordinate >= 0) & (coordinate < bound))
    result.flags.writeable = False
    return result


def interval(base: int, counts: Sequence[int], step: Sequence[int]) -> tuple[int, int]:
    """Least and greatest address of a nest; `step` are strides."""
    low = high = base
    for count, stride in zip(counts, step, strict=True):
        span = (count - 1) * stride
        if span < 0:
            low += span
        else:
            high += span
    return low, high


@functools.lru_cache(maxsize=1 << 14)
def _spread(counts: tuple[int, ...], deltas: tuple[int, ...]) -> tuple[int, int]:
    """Least and greatest offset: a program walks few nests, each from many places."""
    return interval(0, counts, strides(counts, deltas))


def ends(base: int, counts: Sequence[int], deltas: Sequence[int]) -> tuple[int, int]:
    """Least and greatest address of a nest in delta form."""
    low, high = _spread(tuple(counts), tuple(deltas))
    return base + low, base + high


def rows(base: int, counts: Sequence[int], deltas: Sequence[int], write: bool) -> Access:
    """Activation rows of a nest in delta form."""
    return Access(Memory.ACTIVATION, *ends(base, counts, deltas), write)
