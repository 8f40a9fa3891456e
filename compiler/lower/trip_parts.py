"""Where the part of a tensor lies that belongs to a trip of a Loop."""

from __future__ import annotations

import dataclasses

from compiler.emit.moves import AXIS_OF
from compiler.emit.transfers import Strided
from hw.arch.layout import TensorLayout
from hw.arch.program import Tensor

CHANNELS = "a Loop takes and stacks along time, height or width, not along channels"


def part_of(tensor: Tensor, axis: int, size: int) -> Strided:
    """The first elements along T, H or W of a tensor."""
    view = Strided.of(tensor)
    place = AXIS_OF[axis]
    sizes = list(view.sizes)
    sizes[place] = size
    return dataclasses.replace(view, sizes=(sizes[0], sizes[1], sizes[2]))


def pace(tensor: Tensor, axis: int, size: int = 1) -> int:
    """Bytes from a trip's part of a tensor to the next one's."""
    return Strided.of(tensor).pitches[AXIS_OF[axis]] * size


def in_place(layout: TensorLayout, axis: int) -> bool:
    """Whether the elements along an axis of a tensor are each a run of bytes."""
    outer = (layout.frames, layout.height, layout.width)[: axis - 1]
    return layout.blocks == 1 and all(n == 1 for n in outer)
