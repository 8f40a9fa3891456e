"""A convolution as the array sees it, whatever computes it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from compiler.array.fields import Kernel
from compiler.array.packing import Packing
from compiler.array.phases import Phases
from compiler.array.tail import Tail, Trailing
from compiler.emit.transfers import Strided
from compiler.tile.geometry import Range
from compiler.tile.problem import Problem

Ranges: TypeAlias = tuple[Range, Range, Range]
"""First and count along x, y, t."""


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """A convolution as the array sees it.

    Attributes
    ----------
    problem: sizes.
    source, target: tensors in DRAM, axes merged as in `problem.axes`.
    weights: int8 [groups, reduced, kt, ky, kx, rows, cols].
    parameters: packed requantization parameters of each output group.
    first_block: input block at which each output group's sum begins.
    kernel: what the array computes.
    packing: how the operand is packed first, if it is.
    tail: what is done with results before they are stored, or what trails them, if anything.
    phases: how several results share a pass, if they do.
    """

    problem: Problem
    source: Strided
    target: Strided
    weights: npt.NDArray[np.int8]
    parameters: Sequence[bytes]
    first_block: Sequence[int]
    kernel: Kernel
    packing: Packing | None = None
    tail: Tail | Trailing | None = None
    phases: Phases | None = None

    @property
    def block_step(self) -> int:
        """Input blocks from one output group's first to the next one's."""
        return self.first_block[1] - self.first_block[0] if len(self.first_block) > 1 else 0


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """Weights of one transfer: first and count of input blocks, and of taps along x, y, t."""

    blocks: Range
    taps: Ranges

    def block_by_block(self) -> list[Piece]:
        """The same, a piece for each input block."""
        first, count = self.blocks
        return [Piece((first + n, 1), self.taps) for n in range(count)]


def boxes(ranges: Sequence[Sequence[Range]]) -> list[Ranges]:
    """All combinations of ranges along x, y, t; x varies fastest."""
    return [(x, y, t) for t, y, x in itertools.product(ranges[2], ranges[1], ranges[0])]
