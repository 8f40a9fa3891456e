"""PERMUTE, of the vector unit."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from hw.arch.codes import ADDRESS_BITS, DELTA_BITS, ErrorCode, Opcode, PermuteOp, Unit
from hw.arch.encoding import Encodable, bits
from hw.arch.instructions.fields import counts_field, wait_field
from hw.arch.rules import Fields, Rule, any_of, lacks, parameter, zero

SELECTED = 16
"""Lanes of the widest row."""


@dataclasses.dataclass(frozen=True, slots=True)
class Permute(Encodable):
    """Move bytes between lanes.

    Nest of four counts, innermost first.

    SELECT reads a row of each source per step, source 1 only if it is wanted, and writes a row:
    lane i is byte `select[i]` of the two rows, source 0's first, or `pad` where bit i of `valid`
    is 0. Source 1 is wanted if a lane that is valid selects one of its bytes; the two rows lie in
    different banks then, or `serial` is set: source 1 is read a cycle after source 0.
    TRANSPOSE takes the n0 rows of source 0, at most L, the lanes of a row, and writes L rows: lane
    i of the j-th becomes lane j of the i-th, lanes from n0 up are `pad`; its destination's nest is
    L, n1, n2, n3. Source 1 is not read.

    With `space` the destination counts beats of the weight scratchpad.
    """

    OPCODE: ClassVar[Opcode] = Opcode.PERMUTE
    UNIT: ClassVar[Unit] = Unit.VECTOR
    waits: tuple[int, ...] = wait_field()
    op: int = bits(2, "PermuteOp")
    serial: int = bits(1, "source 1 is read a cycle after source 0")
    space: int = bits(1, "0: activations, 1: weights")
    pad: int = bits(8, "byte of the other lanes")
    counts: tuple[int, ...] = counts_field("innermost first", 4)
    source0: int = bits(ADDRESS_BITS, "first row")
    source0_register: int = bits(4, "register added")
    source0_deltas: tuple[int, ...] = bits(DELTA_BITS, "rows", signed=True, length=4)
    source1: int = bits(ADDRESS_BITS, "first row")
    source1_register: int = bits(4, "register added")
    source1_deltas: tuple[int, ...] = bits(DELTA_BITS, "rows", signed=True, length=4)
    destination: int = bits(ADDRESS_BITS, "first row, or beat of the weight scratchpad")
    destination_register: int = bits(4, "register added")
    destination_deltas: tuple[int, ...] = bits(
        DELTA_BITS, "rows or beats, per produced row", signed=True, length=4
    )
    select: tuple[int, ...] = bits(5, "SELECT: byte of source 0, then source 1", length=SELECTED)
    valid: int = bits(SELECTED, "SELECT: lanes that are selected")


_f = Fields(Permute)

RULES = (
    Rule(ErrorCode.UNSUPPORTED, lacks("fold"), "PERMUTE needs the feature `fold`"),
    Rule(
        ErrorCode.UNSUPPORTED,
        parameter("lane_block") > SELECTED,
        f"a row has at most {SELECTED} lanes",
    ),
    Rule(
        ErrorCode.UNSUPPORTED,
        (_f.space != 0) & lacks("attention"),
        "writing weights needs the feature `attention`",
    ),
    Rule(
        ErrorCode.UNSUPPORTED,
        (_f.space != 0) & (parameter("weight_beats") > 1 << ADDRESS_BITS),
        f"`destination` reaches {1 << ADDRESS_BITS} beats of weights",
    ),
    Rule(ErrorCode.FIELD, zero(_f.counts), "counts are at least 1"),
    Rule(
        ErrorCode.FIELD,
        _f.op > PermuteOp.TRANSPOSE,
        f"the last operation is {int(PermuteOp.TRANSPOSE)}",
    ),
    Rule(
        ErrorCode.FIELD,
        (_f.op == PermuteOp.SELECT)
        & any_of(lane >= parameter("lane_block") * 2 for lane in _f.select),
        "`select` names a byte of the two rows",
    ),
    Rule(
        ErrorCode.FIELD,
        (_f.op == PermuteOp.TRANSPOSE)
        & ((_f.counts[0] > parameter("lane_block")) | (_f.serial != 0)),
        "TRANSPOSE takes at most the lanes of a row of rows, `serial` 0",
    ),
)
