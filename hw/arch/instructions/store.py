"""STORE."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from hw.arch.codes import LOCAL_BITS, ErrorCode, Opcode, Unit
from hw.arch.encoding import Encodable, bits
from hw.arch.instructions.fields import count_field, counts_field, wait_field
from hw.arch.rules import Fields, Rule, zero


@dataclasses.dataclass(frozen=True, slots=True)
class Store(Encodable):
    """Activation scratchpad to DRAM: a nest of contiguous runs, as `Load`."""

    OPCODE: ClassVar[Opcode] = Opcode.STORE
    UNIT: ClassVar[Unit] = Unit.STORE
    waits: tuple[int, ...] = wait_field()
    dram: int = bits(32, "byte address, a multiple of the port width")
    dram_register: int = bits(4, "register added to the DRAM address")
    local: int = bits(LOCAL_BITS, "first scratchpad row")
    local_register: int = bits(4, "register added to the local address")
    beats: int = count_field(16, "beats in a run")
    counts: tuple[int, ...] = counts_field("runs, innermost first", 3)
    dram_deltas: tuple[int, ...] = bits(32, "bytes between runs", signed=True, length=3)
    local_deltas: tuple[int, ...] = bits(LOCAL_BITS + 1, "rows", signed=True, length=3)


_f = Fields(Store)
RULES = (
    Rule(ErrorCode.FIELD, zero(_f.beats), "a run has at least one beat"),
    Rule(ErrorCode.FIELD, zero(_f.counts), "counts are at least 1"),
)
