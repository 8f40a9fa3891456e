"""FOLD, of the vector unit. Not built yet."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from hw.arch.codes import (
    ADDRESS_BITS,
    DELTA_BITS,
    TABLE_BITS,
    ErrorCode,
    FoldOp,
    Opcode,
    Unit,
)
from hw.arch.encoding import Encodable, bits
from hw.arch.instructions.fields import counts_field, wait_field
from hw.arch.rules import Fields, Rule, lacks, parameter, zero

STATISTICS = 64
"""Groups whose sums the unit holds between a collecting pass and the applying one."""
MOST_ELEMENTS = 1024
"""Of a group, for which the widths of the sums and of the root are enough."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fold(Encodable):
    """Fold rows into groups: scalar products, extrema, softmax and layer norm.

    Nest, innermost first: elements n0, n1, groups n2, n3. A source's lane counts if it is not
    beyond `valid` in the last n0 (0: all lanes count).

    DOT: Σ (a − za)·(b − zb) over the elements of a group, with `lanes` over their lanes too,
    requantized with `multiplier`·2^`shift` in units of 2^-44 and `zero_point`; |Σ| <= 2^24, the
    product of sum and scale below 2^18. MAX: the largest code in all lanes. ARGMAX: index of its
    first occurrence, u16 in lanes 0 and 1.

    SOFTMAX_COLLECT and NORM_COLLECT add the sums of a group to entry `entry` + group of the unit's
    statistics (`first` clears it before); with `last` the sums become a reciprocal and a shift.
    SOFTMAX_APPLY and NORM_APPLY take the elements with those. `elements` are those of a group.
    NORM_APPLY: groups are n0, elements n1..n3; at every new element six coefficient rows come from
    source 1 (G s24, then B s24, low bytes first). Softmax takes its maximum from source 1 and
    exponentials from four consecutive table slots from `table` on (256 × u32). NORM_COLLECT:
    `epsilon` is E0, `multiplier` E1.

    With `gather` the results of consecutive n2 fill the lanes of one row, which is written at every
    L-th n2 and at the end of n2.
    """

    OPCODE: ClassVar[Opcode] = Opcode.FOLD
    UNIT: ClassVar[Unit] = Unit.VECTOR
    waits: tuple[int, ...] = wait_field()
    op: int = bits(3, "FoldOp")
    lanes: int = bits(1, "DOT: add the lanes up, too")
    gather: int = bits(1, "results of consecutive n2 fill one row's lanes")
    coefficient_shift: int = bits(5, "NORM_APPLY: fraction bits of G")
    signed: tuple[int, ...] = bits(1, "source 0, source 1 are s8", length=2)
    counts: tuple[int, ...] = counts_field("n0, n1, n2, n3", 4)
    source0: int = bits(ADDRESS_BITS, "first row")
    source0_register: int = bits(4, "register added")
    source0_deltas: tuple[int, ...] = bits(DELTA_BITS, "rows", signed=True, length=4)
    source1: int = bits(ADDRESS_BITS, "first row")
    source1_register: int = bits(4, "register added")
    source1_deltas: tuple[int, ...] = bits(DELTA_BITS, "rows", signed=True, length=4)
    destination: int = bits(ADDRESS_BITS, "first row")
    destination_register: int = bits(4, "register added")
    destination_deltas: tuple[int, ...] = bits(
        DELTA_BITS, "rows, per produced row", signed=True, length=4
    )
    zero_points: tuple[int, ...] = bits(9, "za, zb", signed=True, length=2)
    elements: int = bits(11, "COLLECT: elements of a group")
    multiplier: int = bits(24, "significand of the scale")
    shift: int = bits(5, "left shift of `multiplier` in units of 2^-44")
    zero_point: int = bits(9, "output zero point", signed=True)
    low: int = bits(9, "lower clamp", signed=True, default=0)
    high: int = bits(9, "upper clamp", signed=True, default=255)
    table: int = bits(TABLE_BITS, "0, or 1 + index of the (first) lookup table")
    valid: int = bits(6, "lanes that count in the last n0; 0: all")
    entry: int = bits(6, "first entry of the statistics")
    first: int = bits(1, "COLLECT: clear the sums first")
    last: int = bits(1, "COLLECT: the sums are complete")
    epsilon: int = bits(34, "NORM_COLLECT: added to the variance of n·x")


_f = Fields(Fold)
_collects = (_f.op == FoldOp.SOFTMAX_COLLECT) | (_f.op == FoldOp.NORM_COLLECT)

RULES = (
    Rule(ErrorCode.UNSUPPORTED, lacks("fold"), "FOLD needs the feature `fold`"),
    Rule(ErrorCode.FIELD, zero(_f.counts), "counts are at least 1"),
    Rule(
        ErrorCode.FIELD,
        _f.op > FoldOp.NORM_APPLY,
        f"the last operation is {int(FoldOp.NORM_APPLY)}",
    ),
    Rule(
        ErrorCode.FIELD,
        _f.table > parameter("memory.tables"),
        "`table` is at most memory.tables",
    ),
    Rule(
        ErrorCode.FIELD,
        (_collects | (_f.op == FoldOp.SOFTMAX_APPLY))
        & (_f.entry + _f.counts[2] * _f.counts[3] > STATISTICS),
        f"there are {STATISTICS} entries of statistics, one for each group",
    ),
    Rule(
        ErrorCode.FIELD,
        (_f.op == FoldOp.NORM_APPLY) & (_f.entry + _f.counts[0] > STATISTICS),
        f"NORM_APPLY: there are {STATISTICS} entries of statistics, one for each group",
    ),
    Rule(
        ErrorCode.FIELD,
        _collects & ((_f.elements == 0) | (_f.elements > MOST_ELEMENTS)),
        f"a group has 1 to {MOST_ELEMENTS} elements",
    ),
    Rule(
        ErrorCode.FIELD,
        _f.valid > parameter("lane_block"),
        "`valid` is at most the lanes of a row",
    ),
)
