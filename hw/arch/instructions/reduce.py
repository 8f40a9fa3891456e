"""REDUCE, of the vector unit."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from hw.arch.codes import (
    ADDRESS_BITS,
    DELTA_BITS,
    STEP_BITS,
    TABLE_BITS,
    ErrorCode,
    Opcode,
    ReduceOp,
    Unit,
)
from hw.arch.encoding import Encodable, bits
from hw.arch.instructions.fields import counts_field, wait_field
from hw.arch.rules import Fields, Rule, lacks, parameter, zero


@dataclasses.dataclass(frozen=True, slots=True)
class Reduce(Encodable):
    """Reduce windows of rows to one row each.

    Outer nest n0..n3 (x, y, t, block), inner nest r0..r2 (window along x, y, t; r0 innermost).
    Clipping as in ARRAY with dilation 1: outside, MAX and SUM skip the row, PACK inserts `pad`.
    SUM: Σ(row − pad) requantized with one multiplier, the zero point added after the rounding, or
    before it with `add_first`. PACK: lanes 0..pack_lanes of the i-th row of the window become lanes
    i·pack_lanes... of the result, whose other lanes are `pad`.
    Every value is then clamped to low..high and looked up in `table`. The window of a MAX has at
    least one row inside.
    """

    OPCODE: ClassVar[Opcode] = Opcode.REDUCE
    UNIT: ClassVar[Unit] = Unit.VECTOR
    waits: tuple[int, ...] = wait_field()
    op: int = bits(2, "ReduceOp")
    signed: int = bits(1, "source is s8")
    counts: tuple[int, ...] = counts_field("n0, n1, n2, n3", 4)
    window: tuple[int, ...] = bits(8, "r0, r1, r2", length=3, default=(1, 1, 1))
    source: int = bits(ADDRESS_BITS, "first row, in bounds or not")
    source_register: int = bits(4, "register added")
    source_deltas: tuple[int, ...] = bits(
        DELTA_BITS, "rows for r0, r1, r2, n0, n1, n2, n3", signed=True, length=7
    )
    destination: int = bits(ADDRESS_BITS, "first row")
    destination_register: int = bits(4, "register added")
    destination_deltas: tuple[int, ...] = bits(DELTA_BITS, "rows", signed=True, length=4)
    starts: tuple[int, ...] = bits(11, "coordinate of the first x, y, t", signed=True, length=3)
    steps: tuple[int, ...] = bits(
        STEP_BITS, "coordinate step of n0, n1, n2", length=3, default=(1, 1, 1)
    )
    bounds: tuple[int, ...] = bits(11, "tensor size along x, y, t", length=3, default=(1, 1, 1))
    pad: int = bits(8, "input zero point, as the byte stored")
    pack_lanes: int = bits(5, "PACK: lanes taken from each row")
    multiplier: int = bits(24, "SUM: significand of the scale")
    shift: int = bits(5, "SUM: left shift of the multiplier in units of 2^-44")
    zero_point: int = bits(9, "SUM: output zero point", signed=True)
    add_first: int = bits(1, "SUM: the zero point is added before the rounding")
    low: int = bits(9, "lower clamp", signed=True, default=0)
    high: int = bits(9, "upper clamp", signed=True, default=255)
    table: int = bits(TABLE_BITS, "0, or 1 + index of a lookup table applied last")


_f = Fields(Reduce)

RULES = (
    Rule(ErrorCode.UNSUPPORTED, lacks("vector"), "REDUCE needs the feature `vector`"),
    Rule(ErrorCode.FIELD, zero(_f.counts), "counts are at least 1"),
    Rule(ErrorCode.FIELD, zero(_f.window), "a window is at least 1"),
    Rule(ErrorCode.FIELD, _f.op > ReduceOp.PACK, f"the last operation is {int(ReduceOp.PACK)}"),
    Rule(
        ErrorCode.FIELD,
        _f.table > parameter("memory.tables"),
        "`table` is at most memory.tables",
    ),
    Rule(
        ErrorCode.FIELD,
        (_f.op == ReduceOp.PACK) & (_f.pack_lanes == 0),
        "PACK takes at least one lane",
    ),
)
