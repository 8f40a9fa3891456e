"""Instructions that the sequencer executes itself."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from hw.arch.codes import (
    ADDRESS_BITS,
    FEATURE_BITS,
    Condition,
    ErrorCode,
    Opcode,
    Unit,
)
from hw.arch.encoding import Encodable, bits
from hw.arch.instructions.fields import wait_field
from hw.arch.rules import Fields, Rule, parameter, zero

ALL_UNITS = (1 << len(Unit)) - 1


@dataclasses.dataclass(frozen=True, slots=True)
class Begin(Encodable):
    """First instruction of every program: stops the core unless it was built for it."""

    OPCODE: ClassVar[Opcode] = Opcode.BEGIN
    fingerprint: int = bits(64, "fingerprint of the configuration")
    features: int = bits(FEATURE_BITS, "feature mask that the program needs")


@dataclasses.dataclass(frozen=True, slots=True)
class Set(Encodable):
    """rd = immediate."""

    OPCODE: ClassVar[Opcode] = Opcode.SET
    rd: int = bits(4, "destination register; 0 is discarded")
    immediate: int = bits(32, "value", signed=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Add(Encodable):
    """rd = rs + rt + immediate (modulo 2^32)."""

    OPCODE: ClassVar[Opcode] = Opcode.ADD
    rd: int = bits(4, "destination register")
    rs: int = bits(4, "first source register")
    rt: int = bits(4, "second source register")
    immediate: int = bits(32, "added constant", signed=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Loop(Encodable):
    """Open a hardware loop: the body runs `count` + R[count_register] times (at least 1)."""

    OPCODE: ClassVar[Opcode] = Opcode.LOOP
    level: int = bits(2, "loop level")
    count: int = bits(20, "trips")
    count_register: int = bits(4, "register added to the count")


@dataclasses.dataclass(frozen=True, slots=True)
class Next(Encodable):
    """Close a hardware loop: back to the instruction after its `Loop` while trips remain."""

    OPCODE: ClassVar[Opcode] = Opcode.NEXT
    level: int = bits(2, "loop level")


@dataclasses.dataclass(frozen=True, slots=True)
class Branch(Encodable):
    """Jump to `target` if the condition holds for R[rs], R[rt]."""

    OPCODE: ClassVar[Opcode] = Opcode.BRANCH
    condition: int = bits(3, "Condition")
    rs: int = bits(4, "first register")
    rt: int = bits(4, "second register")
    target: int = bits(24, "instruction index in the program")


@dataclasses.dataclass(frozen=True, slots=True)
class Scalar(Encodable):
    """rd = one activation byte from the scratchpad, after the waits are over."""

    OPCODE: ClassVar[Opcode] = Opcode.SCALAR
    waits: tuple[int, ...] = wait_field()
    rd: int = bits(4, "destination register")
    row: int = bits(ADDRESS_BITS, "scratchpad row")
    row_register: int = bits(4, "register added to the row")
    lane: int = bits(5, "lane in the row")
    signed: int = bits(1, "sign-extend the byte")


@dataclasses.dataclass(frozen=True, slots=True)
class Fence(Encodable):
    """Wait until every instruction that was dispatched to the named units has completed."""

    OPCODE: ClassVar[Opcode] = Opcode.FENCE
    units: int = bits(len(Unit), "mask of units: bit u stands for unit u", default=ALL_UNITS)


@dataclasses.dataclass(frozen=True, slots=True)
class Halt(Encodable):
    """Wait for all units, then stop with an interrupt.

    Code 0 is success; 1..15 are the program's own.
    """

    OPCODE: ClassVar[Opcode] = Opcode.HALT
    code: int = bits(4, "exit code")


_begin, _branch, _scalar, _fence = Fields(Begin), Fields(Branch), Fields(Scalar), Fields(Fence)

RULES: dict[type[Encodable], tuple[Rule, ...]] = {
    Begin: (
        Rule(
            ErrorCode.FINGERPRINT,
            _begin.fingerprint != parameter("fingerprint"),
            "the program was built for another configuration",
        ),
        Rule(
            ErrorCode.UNSUPPORTED,
            (_begin.features & parameter("missing_features")) != 0,
            "the program needs features that the configuration lacks",
        ),
    ),
    Branch: (
        Rule(
            ErrorCode.FIELD,
            _branch.condition > Condition.GREATER_EQUAL,
            f"the last condition is {int(Condition.GREATER_EQUAL)}",
        ),
    ),
    Scalar: (
        Rule(
            ErrorCode.ADDRESS,
            _scalar.lane >= parameter("lane_block"),
            "`lane` is a lane of a row",
        ),
    ),
    Fence: (Rule(ErrorCode.FIELD, zero(_fence.units), "at least one unit is named"),),
}
