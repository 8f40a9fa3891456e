"""LOAD."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from hw.arch.codes import LOCAL_BITS, ErrorCode, Opcode, Space, Unit
from hw.arch.encoding import Encodable, bits
from hw.arch.instructions.fields import count_field, counts_field, wait_field
from hw.arch.rules import Fields, Rule, lacks, zero


@dataclasses.dataclass(frozen=True, slots=True)
class Load(Encodable):
    """DRAM to an on-chip memory: a nest of contiguous runs.

    Run r starts at a DRAM address and a local address that both walk the outer three counts; a
    run is `beats` beats, consecutive on both sides.
    """

    OPCODE: ClassVar[Opcode] = Opcode.LOAD
    UNIT: ClassVar[Unit] = Unit.LOAD
    waits: tuple[int, ...] = wait_field()
    dram: int = bits(32, "byte address, a multiple of the port width")
    dram_register: int = bits(4, "register added to the DRAM address")
    space: int = bits(2, "Space")
    local: int = bits(LOCAL_BITS, "first local row or beat")
    local_register: int = bits(4, "register added to the local address")
    beats: int = count_field(16, "beats in a run")
    counts: tuple[int, ...] = counts_field("runs, innermost first", 3)
    dram_deltas: tuple[int, ...] = bits(32, "bytes between runs", signed=True, length=3)
    local_deltas: tuple[int, ...] = bits(LOCAL_BITS + 1, "rows or beats", signed=True, length=3)


_f = Fields(Load)
RULES = (
    Rule(
        ErrorCode.UNSUPPORTED,
        (_f.space == Space.TABLE) & lacks("vector"),
        "tables are part of the feature `vector`",
    ),
    Rule(ErrorCode.FIELD, zero(_f.beats), "a run has at least one beat"),
    Rule(ErrorCode.FIELD, zero(_f.counts), "counts are at least 1"),
)
