"""FOLD, of the vector unit."""

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
"""Of a norm's group, for which the widths of the sums, the root and the quotients suffice."""
MOST_SOFTMAX_ELEMENTS = 2047
"""Of a softmax's group: so many exponentials of 2^20 stay below 2^31, and `elements` holds it."""
COEFFICIENT_ROWS = 6
"""Rows of G and B at every element of a NORM_APPLY."""
SOFTMAX_TABLES = 4
"""Table slots that the exponentials take."""
LEAST_COEFFICIENT_SHIFT, MOST_COEFFICIENT_SHIFT = 5, 28
INDEX_LIMIT = 1 << 16
"""Of an ARGMAX."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fold(Encodable):
    """Fold rows into groups: scalar products, extrema, softmax and layer norm.

    Nest, innermost first: elements n0, n1, groups n2, n3. With `valid`, the lanes from `valid` up
    do not count where n0 is at its last (0: all lanes count). Arithmetic: group_numerics.py.
    Fields that an operation does not name are not looked at.

    DOT: Σ (a − za)·(b − zb) over the elements of a group, with `lanes` over their lanes too (the
    result then stands in all lanes), times `multiplier`·2^`shift` in units of 2^-44, rounded, plus
    `zero_point`; |Σ| <= 2^24, the product of sum and scale below 2^18. MAX: the largest code, in
    all lanes. Both are clamped to low..high and looked up in `table`. ARGMAX: index L·n0 + lane of
    the first occurrence of the largest code, u16 in lanes 0 and 1, other lanes 0; n1 is 1.
    A row per group is written; `destination_deltas` are those of n2 and n3, the first two unused.
    With `gather` (MAX, and DOT with `lanes`) the results of consecutive n2 fill the lanes of one
    row, which is written at every L-th n2 and at the end of n2, lanes that are left 0; the nest of
    rows is then ceil(n2 / L), n3.

    SOFTMAX_COLLECT and NORM_COLLECT add the sums of a group, number n2 + count·n3, to entry
    `entry` + group of the unit's statistics (`first` clears it before); with `last` the sums
    become a reciprocal and a shift. SOFTMAX_APPLY and NORM_APPLY take the elements with those.
    Softmax takes the maximum from source 1, lane by lane and modulo 256 (d = maximum − x), and
    exponentials t[d] from four consecutive table slots from `table` on (256 × u32, of which the
    low 21 bits count); COLLECT: `multiplier` is k. APPLY writes a row per step; a lane that does
    not count has t = 0. `elements`, of a group, is n of a norm. NORM_COLLECT: `epsilon` is E0,
    `multiplier` E1.
    NORM_APPLY: groups are n0, elements n1..n3; at every new element six coefficient rows come from
    source 1 (G s24, of which 18 bits count, then B s24, low bytes first), whose nest is 6, n1, n2,
    n3. A row per step is written, clamped and looked up in `table`; all lanes count.

    DOT, SOFTMAX_COLLECT and SOFTMAX_APPLY read both sources at once: they lie in different banks.
    So do the elements and the coefficients of a NORM_APPLY, which are read some cycles apart.
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
    elements: int = bits(11, "COLLECT, NORM_APPLY: elements of a group")
    multiplier: int = bits(
        24, "DOT: significand of the scale; SOFTMAX_COLLECT: k; NORM_COLLECT: E1"
    )
    shift: int = bits(5, "DOT: left shift of `multiplier` in units of 2^-44")
    zero_point: int = bits(9, "output zero point", signed=True)
    low: int = bits(9, "lower clamp", signed=True, default=0)
    high: int = bits(9, "upper clamp", signed=True, default=255)
    table: int = bits(TABLE_BITS, "0, or 1 + index of the (first) lookup table")
    valid: int = bits(6, "lanes that count in the last n0; 0: all")
    entry: int = bits(6, "first entry of the statistics")
    first: int = bits(1, "COLLECT: clear the sums first")
    last: int = bits(1, "COLLECT: the sums are complete")
    epsilon: int = bits(34, "NORM_COLLECT: E0, added to the variance of n·x")


_f = Fields(Fold)
_collects = (_f.op == FoldOp.SOFTMAX_COLLECT) | (_f.op == FoldOp.NORM_COLLECT)
_softmax = (_f.op == FoldOp.SOFTMAX_COLLECT) | (_f.op == FoldOp.SOFTMAX_APPLY)
_norm_applies = _f.op == FoldOp.NORM_APPLY

_MOST = 2 * STATISTICS - 1
"""Bits of a count that are multiplied: a product of whole counts would be the decoder's longest
path, and a count with any other bit is too large by itself."""

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
        _softmax
        & ((_f.table == 0) | (_f.table + (SOFTMAX_TABLES - 1) > parameter("memory.tables"))),
        f"the exponentials of a softmax take {SOFTMAX_TABLES} tables",
    ),
    Rule(
        ErrorCode.FIELD,
        (_collects | (_f.op == FoldOp.SOFTMAX_APPLY))
        & (
            (_f.counts[2] > STATISTICS)
            | (_f.counts[3] > STATISTICS)
            | (_f.entry + (_f.counts[2] & _MOST) * (_f.counts[3] & _MOST) > STATISTICS)
        ),
        f"there are {STATISTICS} entries of statistics, one for each group",
    ),
    Rule(
        ErrorCode.FIELD,
        _norm_applies & (_f.entry + _f.counts[0] > STATISTICS),
        f"NORM_APPLY: there are {STATISTICS} entries of statistics, one for each group",
    ),
    Rule(
        ErrorCode.FIELD,
        (_collects | _norm_applies) & (_f.elements == 0),
        "a group has 1 element at least",
    ),
    Rule(
        ErrorCode.FIELD,
        ((_f.op == FoldOp.NORM_COLLECT) | _norm_applies) & (_f.elements > MOST_ELEMENTS),
        f"a norm's group has {MOST_ELEMENTS} elements at most",
    ),
    Rule(
        ErrorCode.FIELD,
        _norm_applies
        & (
            (_f.coefficient_shift < LEAST_COEFFICIENT_SHIFT)
            | (_f.coefficient_shift > MOST_COEFFICIENT_SHIFT)
        ),
        f"`coefficient_shift` is {LEAST_COEFFICIENT_SHIFT} to {MOST_COEFFICIENT_SHIFT}",
    ),
    Rule(
        ErrorCode.FIELD,
        (_f.op == FoldOp.ARGMAX)
        & ((_f.counts[1] != 1) | (_f.counts[0] * parameter("lane_block") > INDEX_LIMIT)),
        f"ARGMAX: n1 is 1, and a group has at most {INDEX_LIMIT} lanes",
    ),
    Rule(
        ErrorCode.FIELD,
        (_f.gather != 0) & (_f.op != FoldOp.MAX) & ((_f.op != FoldOp.DOT) | (_f.lanes == 0)),
        "`gather` needs one result per group: MAX, or DOT with `lanes`",
    ),
    Rule(
        ErrorCode.FIELD,
        _f.valid > parameter("lane_block"),
        "`valid` is at most the lanes of a row",
    ),
)
