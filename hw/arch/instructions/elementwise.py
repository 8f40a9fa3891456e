"""ELEMENTWISE, of the vector unit."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from hw.arch.codes import (
    ADDRESS_BITS,
    DELTA_BITS,
    FIXED_POINT,
    TABLE_BITS,
    ElementwiseOp,
    ErrorCode,
    Opcode,
    Unit,
)
from hw.arch.encoding import Encodable, bits
from hw.arch.instructions.fields import counts_field, wait_field
from hw.arch.rules import Fields, Rule, lacks, nonzero, parameter, zero

UNIT_MULTIPLIER = 1 << 23
UNIT_SHIFT = FIXED_POINT - 23
"""The factor 1 as multiplier·2^shift on the 2^-44 grid."""


@dataclasses.dataclass(frozen=True, slots=True)
class Elementwise(Encodable):
    """Rows of one or two sources to rows of a destination (numerics.affine, product, ...).

    Nest of four counts, innermost first. With `previous`, source 1 is source 0's row of the step
    before; the first step of every innermost run produces nothing (temporal residual gradient).
    COPY gives source 0, AFFINE and PRODUCT as in numerics.py, MAX and MIN the larger and the
    smaller code plus `zero_point`. Every value is then clamped to low..high and looked up in
    `table`. A step reads both sources at once, so they lie in different banks. With `spread` one
    channel of source 1 stands for all: its lane `lane` takes the place of each.

    MAX and MIN pass through the scales of AFFINE, which must be one (multiplier 2^23, shift 21)
    and k zero.
    """

    OPCODE: ClassVar[Opcode] = Opcode.ELEMENTWISE
    UNIT: ClassVar[Unit] = Unit.VECTOR
    waits: tuple[int, ...] = wait_field()
    op: int = bits(3, "ElementwiseOp")
    previous: int = bits(1, "source 1 is source 0's previous row")
    spread: int = bits(1, "lane `lane` of source 1 stands for all of its lanes")
    lane: int = bits(5, "with `spread`: lane of source 1")
    signed: tuple[int, ...] = bits(1, "source 0, source 1 are s8", length=2)
    counts: tuple[int, ...] = counts_field("innermost first", 4)
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
    multiplier_a: int = bits(
        24, "AFFINE: significand on source 0, MAX, MIN: of 1; PRODUCT: za in bits 0..8"
    )
    shift_a: int = bits(5, "left shift of multiplier_a in units of 2^-44")
    multiplier_b: int = bits(
        24, "AFFINE: significand on source 1, MAX, MIN: of 1; PRODUCT: of the product"
    )
    shift_b: int = bits(5, "left shift of multiplier_b in units of 2^-44")
    negative_b: int = bits(1, "multiplier_b counts negative")
    constant: int = bits(
        25, "AFFINE: signed significand of k, MAX, MIN: 0; PRODUCT: zb in bits 0..8", signed=True
    )
    shift_k: int = bits(6, "left shift of `constant` in units of 2^-44")
    zero_point: int = bits(
        9, "AFFINE, MAX, MIN: added after rounding; PRODUCT: before", signed=True
    )
    low: int = bits(9, "lower clamp", signed=True, default=0)
    high: int = bits(9, "upper clamp", signed=True, default=255)
    table: int = bits(TABLE_BITS, "0, or 1 + index of a lookup table applied last")


_f = Fields(Elementwise)
_compares = (_f.op == ElementwiseOp.MAX) | (_f.op == ElementwiseOp.MIN)

RULES = (
    Rule(ErrorCode.UNSUPPORTED, lacks("vector"), "ELEMENTWISE needs the feature `vector`"),
    Rule(
        ErrorCode.UNSUPPORTED,
        nonzero(_f.spread, _f.lane) & lacks("fold"),
        "`spread` needs the feature `fold`",
    ),
    Rule(ErrorCode.FIELD, zero(_f.counts), "counts are at least 1"),
    Rule(
        ErrorCode.FIELD,
        _f.op > ElementwiseOp.MIN,
        f"the last operation is {int(ElementwiseOp.MIN)}",
    ),
    Rule(
        ErrorCode.FIELD,
        _f.table > parameter("memory.tables"),
        "`table` is at most memory.tables",
    ),
    Rule(
        ErrorCode.FIELD,
        _compares
        & (
            (_f.multiplier_a != UNIT_MULTIPLIER)
            | (_f.shift_a != UNIT_SHIFT)
            | (_f.multiplier_b != UNIT_MULTIPLIER)
            | (_f.shift_b != UNIT_SHIFT)
            | nonzero(_f.negative_b, _f.constant)
        ),
        f"MAX and MIN: multipliers are {UNIT_MULTIPLIER}, shifts {UNIT_SHIFT}, `negative_b` and "
        f"`constant` 0",
    ),
    Rule(
        ErrorCode.FIELD,
        (_f.spread == 0) & (_f.lane != 0),
        "`lane` is 0 without `spread`",
    ),
    Rule(
        ErrorCode.FIELD,
        (_f.spread != 0) & ((_f.previous != 0) | (_f.op == ElementwiseOp.COPY)),
        "`spread` needs rows of source 1",
    ),
    Rule(ErrorCode.ADDRESS, _f.lane >= parameter("lane_block"), "`lane` is a lane of a row"),
)
