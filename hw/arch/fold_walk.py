"""What FOLD and PERMUTE touch: nests of their rows, and accesses."""

from __future__ import annotations

from collections.abc import Iterator

from hw.arch.config import AcceleratorConfig
from hw.arch.instructions.fold import COEFFICIENT_ROWS, SOFTMAX_TABLES
from hw.arch.isa import Fold, FoldOp, Permute, PermuteOp
from hw.arch.nest import Access, Memory, ends, rows

COLLECTS = (FoldOp.SOFTMAX_COLLECT, FoldOp.NORM_COLLECT)
APPLIES = (FoldOp.SOFTMAX_APPLY, FoldOp.NORM_APPLY)
SOFTMAXES = (FoldOp.SOFTMAX_COLLECT, FoldOp.SOFTMAX_APPLY)
PAIRED = (FoldOp.DOT, *SOFTMAXES)
"""Operations that read both sources in a step."""


def fold_second(instruction: Fold) -> tuple[int, ...] | None:
    """Nest of source 1, None where it is not read."""
    if instruction.op in PAIRED:
        return instruction.counts
    if instruction.op == FoldOp.NORM_APPLY:
        return (COEFFICIENT_ROWS, *instruction.counts[1:])
    return None


def fold_produced(instruction: Fold, config: AcceleratorConfig) -> tuple[int, ...] | None:
    """Nest of the rows that are written; None of a collecting pass."""
    if instruction.op in COLLECTS:
        return None
    if instruction.op in APPLIES:
        return instruction.counts
    n2, n3 = instruction.counts[2:]
    return (1, 1, -(-n2 // config.lane_block) if instruction.gather else n2, n3)


def fold_tables(instruction: Fold) -> int:
    """Table slots that are looked up, from `table` on."""
    if instruction.op in SOFTMAXES:
        return SOFTMAX_TABLES
    looks_up = instruction.table and instruction.op not in (FoldOp.ARGMAX, FoldOp.NORM_COLLECT)
    return int(bool(looks_up))


def fold_accesses(instruction: Fold, config: AcceleratorConfig) -> Iterator[Access]:
    """Rows and tables that a FOLD reads and writes."""
    yield rows(instruction.source0, instruction.counts, instruction.source0_deltas, False)
    second = fold_second(instruction)
    if second is not None:
        yield rows(instruction.source1, second, instruction.source1_deltas, False)
    slots = fold_tables(instruction)
    if slots:
        first = (instruction.table - 1) * config.table_beats
        yield Access(Memory.TABLE, first, first + slots * config.table_beats - 1, False)
    produced = fold_produced(instruction, config)
    if produced is not None:
        yield rows(instruction.destination, produced, instruction.destination_deltas, True)


def permute_wants_second(instruction: Permute, config: AcceleratorConfig) -> bool:
    """Whether a SELECT reads source 1: some valid lane selects one of its bytes."""
    lanes = range(config.lane_block)
    return instruction.op == PermuteOp.SELECT and any(
        instruction.valid >> lane & 1 and instruction.select[lane] >= config.lane_block
        for lane in lanes
    )


def permute_produced(instruction: Permute, config: AcceleratorConfig) -> tuple[int, ...]:
    """Nest of the rows that are written."""
    if instruction.op == PermuteOp.TRANSPOSE:
        return (config.lane_block, *instruction.counts[1:])
    return instruction.counts


def permute_accesses(instruction: Permute, config: AcceleratorConfig) -> Iterator[Access]:
    """Rows that a PERMUTE reads and rows or beats that it writes."""
    counts = instruction.counts
    yield rows(instruction.source0, counts, instruction.source0_deltas, False)
    if permute_wants_second(instruction, config):
        yield rows(instruction.source1, counts, instruction.source1_deltas, False)
    out = permute_produced(instruction, config)
    target = ends(instruction.destination, out, instruction.destination_deltas)
    memory = Memory.WEIGHT if instruction.space else Memory.ACTIVATION
    yield Access(memory, *target, True)
