"""Closed forms of FOLD and PERMUTE: cycles for which they read, never dependent on data."""

from __future__ import annotations

import math

from hw.arch.config import AcceleratorConfig
from hw.arch.instructions.fold import COEFFICIENT_ROWS
from hw.arch.isa import Fold, FoldOp, Permute, PermuteOp

SOFTMAX_ENGINE = 32
"""Cycles of the engine for the reciprocal of a softmax."""

NORM_ENGINE = 64
"""Cycles of the engine for the root and the reciprocal of a norm."""

ENGINE = {FoldOp.SOFTMAX_COLLECT: SOFTMAX_ENGINE, FoldOp.NORM_COLLECT: NORM_ENGINE}


def fold_stream_cycles(instruction: Fold, config: AcceleratorConfig) -> int:
    """Cycles in which a FOLD reads source rows, the engine's included.

    A group's rows stream while the engine works on the one before.
    """
    n0, n1, n2, n3 = instruction.counts
    op = FoldOp(instruction.op)
    if op == FoldOp.NORM_APPLY:
        return n1 * n2 * n3 * (COEFFICIENT_ROWS + n0 * config.vector_steps)
    group, groups = n0 * n1 * config.vector_steps, n2 * n3
    if op not in ENGINE or not instruction.last:
        return groups * group
    engine = ENGINE[op]
    return group + groups * engine if group < engine else groups * group + engine


def permute_stream_cycles(instruction: Permute, config: AcceleratorConfig) -> int:
    """Cycles in which a PERMUTE reads source rows; TRANSPOSE: until its last tile is out.

    A tile's L rows leave through the lanes while the next tile comes in, in the other half of the
    buffer; a tile of few rows takes as long as its results.
    """
    tiles = instruction.counts[1:]
    steps = config.vector_steps
    if instruction.op == PermuteOp.TRANSPOSE:
        return (math.prod(tiles) + 1) * config.lane_block * steps
    return math.prod(instruction.counts) * (max(steps, 2) if instruction.serial else steps)
