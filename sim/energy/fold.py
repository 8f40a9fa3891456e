"""What FOLD and PERMUTE do, counted."""

from __future__ import annotations

import math
from collections import Counter

from hw.arch.config import AcceleratorConfig
from hw.arch.fold_timing import ENGINE
from hw.arch.fold_walk import (
    COLLECTS,
    SOFTMAXES,
    fold_produced,
    fold_second,
    fold_tables,
    permute_produced,
    permute_wants_second,
)
from hw.arch.isa import Fold, FoldOp, Permute
from sim.energy.kinds import Action, Actions

_ELEMENTS = {
    FoldOp.DOT: Action.FOLD_MULTIPLY,
    FoldOp.MAX: Action.VECTOR_COMPARE,
    FoldOp.ARGMAX: Action.VECTOR_COMPARE,
    FoldOp.SOFTMAX_COLLECT: Action.VECTOR_SUM,
    FoldOp.SOFTMAX_APPLY: Action.FOLD_SOFTMAX,
    FoldOp.NORM_COLLECT: Action.FOLD_SQUARE,
    FoldOp.NORM_APPLY: Action.FOLD_NORM,
}


def fold_actions(instruction: Fold, config: AcceleratorConfig) -> Actions:
    """Actions of a FOLD; all lanes of a row are worked on, those that do not count included."""
    op = FoldOp(instruction.op)
    read = math.prod(instruction.counts)
    second = fold_second(instruction)
    produced = fold_produced(instruction, config)
    written = math.prod(produced) if produced else 0
    elements = read * config.lane_block
    result = Counter(
        {
            Action.ACTIVATION_READ: read + (math.prod(second) if second else 0),
            Action.ACTIVATION_WRITE: written,
            _ELEMENTS[op]: elements,
        }
    )
    if op in SOFTMAXES:
        result[Action.FOLD_EXPONENTIAL] += elements
    elif fold_tables(instruction):
        result[Action.TABLE_READ] += written * config.lane_block
    if op == FoldOp.DOT:
        result[Action.VECTOR_AFFINE] += math.prod(instruction.counts[2:]) * (
            1 if instruction.lanes else config.lane_block
        )
    if op in COLLECTS and instruction.last:
        result[Action.FOLD_ENGINE] += math.prod(instruction.counts[2:]) * ENGINE[op]
    return result


def permute_actions(instruction: Permute, config: AcceleratorConfig) -> Actions:
    """Actions of a PERMUTE."""
    read = math.prod(instruction.counts)
    written = math.prod(permute_produced(instruction, config))
    both = permute_wants_second(instruction, config)
    return Counter(
        {
            Action.ACTIVATION_READ: read * (2 if both else 1),
            Action.WEIGHT_WRITE if instruction.space else Action.ACTIVATION_WRITE: written,
            Action.VECTOR_SELECT: written * config.lane_block,
        }
    )
