"""How a chain of temporal, depthwise and pointwise convolution goes over a map in strips.

The depthwise window streams every line once: a strip resumes where the one before ended, with the
lines above still in the line buffer. Its results lag behind by the lines that the window reaches
down; strips are cut so that what the pointwise convolution takes (whole pool windows) is complete
after each of them.
"""

from __future__ import annotations

import dataclasses

from compiler.tile.geometry import Axis, Range, cuts


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
    axis: y of the depthwise convolution (stride 1).
    used: lines of its result that are needed.
    height: lines per strip that the pointwise convolution takes, a multiple of its pool.
    """
    strips: list[Strip] = []
    coordinate, line, output = -axis.pad, 0, 0
    for first, count in cuts(used, height):
        end = first + count - axis.pad + axis.kernel - 1
        stops = [end]
        # The first strip is longer by the window's reach: cut it, so that all need equal room.
        if not strips and min(end, axis.size) > height >= axis.kernel - axis.pad:
            stops.insert(0, height)
        for stop in stops:
            resume = bool(strips)
            inner = max(min(stop, axis.size) - line, 0)
            made = stop - coordinate - (0 if resume else axis.kernel - 1)
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
