"""How a chain of temporal, depthwise and pointwise convolution goes over a map in strips.

The depthwise window streams every line once: a strip resumes where the one before ended, with the
lines above still in the line buffer. Its results lag behind by the lines that the window reaches
down; strips are cut so that what the pointwise convolution takes (whole pool windows) is complete
after each of them.

A stream that resumes yields a line of results with its first line, and then with every `stride`-th:
a strip that others follow streams on to the line before the one that completes their first result.
"""

from __future__ import annotations

import dataclasses

from compiler.tile.geometry import Axis, Range, cuts
from hw.arch.layout import ceil_div


@dataclasses.dataclass(frozen=True, slots=True)
class Strip:
    """Lines of one step.

    Attributes
    ----------
    inner: lines of the inner map that are new (the temporal convolution's results); may be none.
    stream: coordinates that the window streams, padding included.
    outputs: lines of the depthwise result that come of it.
    resume: the lines above are in the line buffer.
    pointwise: lines of the depthwise result that the pointwise convolution takes now, or None.
    """

    inner: Range
    stream: Range
    outputs: Range
    resume: bool
    pointwise: Range | None


def strips_of(axis: Axis, used: int, height: int) -> list[Strip]:
    """Strips of a map.

    Parameters
    ----------
    axis: y of the depthwise convolution.
    used: lines of its result that are needed.
    height: lines per strip that the pointwise convolution takes, a multiple of its pool.
    """
    strips: list[Strip] = []
    coordinate, line, output = -axis.pad, 0, 0
    for first, count in cuts(used, height):
        end = axis.start(first + count - 1) + axis.kernel
        if first + count < used:
            end += axis.stride - 1
        stops = [end]
        # The first strip is longer by the window's reach: cut it, so that all need equal room.
        if (
            axis.stride == 1
            and not strips
            and min(end, axis.size) > height >= axis.start(0) + axis.kernel
        ):
            stops.insert(0, height)
        for stop in stops:
            resume = bool(strips)
            inner = max(min(stop, axis.size) - line, 0)
            complete = stop - coordinate - (0 if resume else axis.kernel - 1)
            made = ceil_div(complete, axis.stride)
            strips.append(
                Strip(
                    inner=(line, inner),
                    stream=(coordinate, stop - coordinate),
                    outputs=(output, made),
                    resume=resume,
                    pointwise=(first, count) if stop == end else None,
                )
            )
            coordinate, line, output = stop, line + inner, output + made
    return strips
