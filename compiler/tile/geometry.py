"""Sliding windows along the three axes of a tile: which inputs an output range needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeAlias

from hw.arch.layout import ceil_div

Range: TypeAlias = tuple[int, int]
"""First element and count."""
Triple: TypeAlias = tuple[int, int, int]
"""Per axis: x, y, t (innermost first)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a windowed operator.

    Attributes
    ----------
    size: input elements.
    out: output elements that are computed (a multiple of `pool`).
    kernel, stride, dilation, pad: of the window; `pad` before the first element.
    pool: outputs that a fused pool joins.
    """

    size: int
    out: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    pad: int = 0
    pool: int = 1

    @property
    def free(self) -> bool:
        """Output i needs input i and nothing else."""
        return self.kernel == 1 and self.stride == 1 and self.pad == 0 and self.out <= self.size

    def start(self, first: int) -> int:
        """Input coordinate of the first tap of an output; may lie outside."""
        return first * self.stride - self.pad

    def source(self, outputs: Range) -> Range:
        """Inputs inside the tensor that a range of outputs reads; at least one."""
        first, count = outputs
        low = self.start(first)
        high = low + (count - 1) * self.stride + (self.kernel - 1) * self.dilation + 1
        low = min(max(low, 0), self.size - 1)
        high = min(max(high, low + 1), self.size)
        return low, high - low


AxisTriple: TypeAlias = tuple[Axis, Axis, Axis]
"""x, y, t."""


def merge(axes: Sequence[Axis]) -> tuple[AxisTriple, int]:
    """Join y, and then t, to x while all are free and unpooled; returns the levels joined."""
    x, y, t = axes
    single = Axis(1, 1)
    if not (x.free and y.free and x.pool == y.pool == 1 and x.out == x.size and y.out == y.size):
        return (x, y, t), 0
    if t.free and t.pool == 1 and t.out == t.size:
        size = x.size * y.size * t.size
        return (Axis(size, size), single, single), 2
    size = x.size * y.size
    return (Axis(size, size), single, t), 1


def cuts(total: int, size: int) -> list[Range]:
    """Split 0..total into ranges of `size`; the last one takes the rest."""
    return [(first, min(size, total - first)) for first in range(0, total, size)]


def common(one: Range, other: Range) -> Range:
    """What lies in both; a count of 0 or less where nothing does."""
    first = max(one[0], other[0])
    return first, min(sum(one), sum(other)) - first


def balanced(total: int, limit: int, unit: int = 1) -> int:
    """Equal parts of a multiple of `unit`, at most `limit`: their size."""
    parts = ceil_div(total, max(limit // unit * unit, unit))
    return ceil_div(ceil_div(total, parts), unit) * unit


def tile_sizes(total: int, unit: int, limit: int, choices: int = 8) -> list[int]:
    """Sizes to try along an axis: equal parts, largest first, at most `limit`."""
    sizes: list[int] = []
    parts = max(1, ceil_div(total, max(limit // unit * unit, unit)))
    while len(sizes) < choices:
        size = ceil_div(ceil_div(total, parts), unit) * unit
        if size > limit:
            parts += 1
            if parts > total:
                break
            continue
        if size not in sizes:
            sizes.append(size)
        if size <= unit:
            break
        parts = parts + max(1, parts // 3)
    return sizes


def halved_sizes(total: int, unit: int) -> list[int]:
    """Sizes down to a single unit, for where no size worth trying first fits."""
    count = ceil_div(total, unit)
    sizes = [count]
    while count > 1:
        count //= 2
        sizes.append(count)
    return [min(n * unit, total) for n in sizes]


def product(values: Sequence[int]) -> int:
    """Product of integers."""
    result = 1
    for value in values:
        result *= value
    return result
