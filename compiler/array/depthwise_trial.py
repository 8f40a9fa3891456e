"""Cycles of a depthwise layer with a tiling: emitted and timed (compiler/emit/trial.py).

A long layer repeats itself: the first of its tiles are emitted, in three parts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from compiler.array.depthwise import Depthwise
from compiler.emit.trial import PARTS, Asked, Partly, Trial, ends, layer_cycles, rest
from compiler.ir import Convolution
from compiler.tile.depthwise import DepthwiseProblem, DepthwiseTiling
from compiler.tile.geometry import product
from hw.arch.layout import ceil_div
from hw.arch.program import Tensor

SAMPLED = 50
"""Steps of each part of a long layer, at least."""


def trial_cycles(
    op: Convolution,
    source: Tensor,
    target: Tensor,
    problem: DepthwiseProblem,
    tiling: DepthwiseTiling,
) -> int:
    """Cycles of a layer in a network; neither values nor the place of tensors change them."""
    plain = dataclasses.replace(tiling, cycles=0)
    key = "depthwise", repr((problem, plain, source.layout, target.layout))

    def emission(emitter: Trial, again: bool) -> _Sampled:
        return _Sampled(emitter, op, *ends(source, target, again), problem, tiling)

    return layer_cycles(Asked(key, emission), problem.config)


class _Sampled(Partly, Depthwise):
    """Emission of a long layer's first tiles only."""

    def _pieces(self) -> list[tuple[int, int]]:
        pieces = super()._pieces()
        parts = zip(self.chosen.load, self.chosen.accumulator, strict=True)
        size = max(2, ceil_div(SAMPLED, product([ceil_div(n, part) for n, part in parts])))
        if size * PARTS * 3 // 2 >= len(pieces):
            return pieces
        self._ends = tuple(n * size for n in range(1, PARTS + 1))
        return pieces[: self._ends[-1]]

    def left(self, stored: Sequence[int]) -> int:
        """Cycles of the tiles that were not emitted, told when the others are stored."""
        rows = [self._target(*piece)[0].rows for piece in super()._pieces()]
        return rest(stored, rows, self._ends)
