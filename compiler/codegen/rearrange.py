"""Lowering of rearrangements: positions change their order, channels stay in their lanes."""

from __future__ import annotations

import dataclasses
from typing import Any

from compiler.codegen.copies import move
from compiler.codegen.emitter import Emitter
from compiler.codegen.transfers import Box, View
from compiler.ir import CompilerError, Rearrange
from hw.arch.axes import Digits, positions
from hw.arch.program import Tensor

POSITION_LEVELS = 3
"""Nested loops over positions in one transfer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Level:
    """One loop over positions: its length, and rows per step in operand and result."""

    size: int
    source: int
    target: int


def refusal(op: Rearrange) -> str | None:
    """Why a rearrangement cannot be lowered, or None."""
    if op.source[0] != op.target[0]:
        return "its elements move between channels and positions, out of their lanes"
    levels = levels_of(op)
    if levels is None:
        return "its axes are cut at places that do not divide each other"
    if len(levels) > POSITION_LEVELS:
        return f"it moves {len(levels)} axes at once; {POSITION_LEVELS} at most"
    return None


def levels_of(op: Rearrange) -> list[Level] | None:
    """Loops that move every position, innermost of the result first.

    None where operand and result have no common cuts.
    """
    source, target = _pitched(positions(op.source)), _pitched(positions(op.target))
    cuts = {end for size, stride, _ in (*source, *target) for end in (stride, stride * size)}
    levels = []
    for size, stride, _ in source:
        inside = sorted(c for c in cuts if stride < c < stride * size)
        for begin, end in zip((stride, *inside), (*inside, stride * size), strict=True):
            places = _pitch_at(source, begin), _pitch_at(target, begin)
            if end % begin or None in places:
                return None
            levels.append(Level(end // begin, places[0] or 0, places[1] or 0))
    return _merged(sorted(levels, key=lambda level: level.target))


def _pitched(digits: Digits) -> list[tuple[int, int, int]]:
    """Digits of a dense index with the rows that a step of each takes: (size, stride, rows)."""
    result, rows = [], 1
    for size, stride in reversed(digits):
        result.append((size, stride, rows))
        rows *= size
    return result


def _pitch_at(digits: list[tuple[int, int, int]], stride: int) -> int | None:
    """Rows between elements that lie `stride` apart in the file's tensor."""
    for size, own, rows in digits:
        if own <= stride < own * size and stride % own == 0:
            return rows * (stride // own)
    return None


def _merged(levels: list[Level]) -> list[Level]:
    result: list[Level] = []
    for level in levels:
        last = result[-1] if result else None
        if last is not None and all(
            getattr(level, side) == getattr(last, side) * last.size for side in ("source", "target")
        ):
            result[-1] = Level(last.size * level.size, last.source, last.target)
        else:
            result.append(level)
    return result


def _view(whole: View, levels: list[Level], side: str) -> View:
    """A tensor seen with the loops as its x, y and t."""
    rows = [(level.size, getattr(level, side)) for level in levels]
    rows += [(1, 0)] * (POSITION_LEVELS - len(rows))
    (x, px), (y, py), (t, pt) = rows
    lanes = whole.lanes
    pitches = (px * lanes, py * lanes, pt * lanes, whole.pitches[3])
    return View(whole.address, whole.blocks, (x, y, t), pitches, lanes)


def lower(emitter: Emitter, op: Rearrange, source: Tensor, target: Tensor) -> dict[str, Any]:
    """Emit a rearrangement as strided copies."""
    why = refusal(op)
    levels = levels_of(op)
    if why is not None or levels is None:
        raise CompilerError(f"{op.name} (Rearrange): {why}")
    origin = _view(View.of(source), levels, "source")
    to = _view(View.of(target), levels, "target")
    move(emitter, origin, to, Box((0, 0, 0), to.sizes, 0, to.blocks), None)
    return {}
