"""The AXI4-Lite register map: control, status, errors, performance counters.

Byte offsets of 32-bit registers. Counters are 64 bits wide, low word first, cleared by a start
and frozen when the core stops.
"""

from __future__ import annotations

import enum

from hw.arch.isa import Unit

ID_VALUE = 0x56494441
VERSION_VALUE = 1
ADDRESS_BITS = 10
DEFAULT_WATCHDOG = 1 << 20
"""Cycles without any instruction progress before the core stops with ErrorCode.WATCHDOG."""


class Register(enum.IntEnum):
    """Byte offsets."""

    ID = 0x00
    VERSION = 0x04
    FINGERPRINT_LOW = 0x08
    FINGERPRINT_HIGH = 0x0C
    FEATURES = 0x10
    CONTROL = 0x14
    STATUS = 0x18
    IRQ_ENABLE = 0x1C
    ERROR_CODE = 0x20
    ERROR_UNIT = 0x24
    ERROR_PC = 0x28
    HALT_CODE = 0x2C
    PROGRAM_BASE = 0x30
    PROGRAM_LENGTH = 0x34
    STORE_BASE = 0x38
    STORE_LIMIT = 0x3C
    WATCHDOG = 0x40


class Control(enum.IntFlag):
    """Bits written to Register.CONTROL; each acts once."""

    START = 1
    ABORT = 2
    CLEAR_IRQ = 4


class Status(enum.IntFlag):
    """Bits of Register.STATUS."""

    BUSY = 1
    DONE = 2
    ERROR = 4
    IRQ = 8


SEQUENCER_UNIT = 7
"""Register.ERROR_UNIT when the sequencer itself (or the fetch) is at fault."""

COUNTERS: tuple[str, ...] = (
    "cycles",
    *(f"{unit.name.lower()}_{what}" for unit in Unit for what in ("busy", "wait", "memory")),
    "array_vectors",
    "read_beats",
    "write_beats",
    "fetch_beats",
    "instructions",
)
"""Performance counters in address order.

`<unit>_busy`: cycles with an instruction inside the unit; `_wait`: the head of its queue is held
back by tokens; `_memory`: the unit is stalled on the memory port (LOAD and STORE).
`array_vectors`: vectors that entered the array and produced a sum. Beats are per requester.
"""

COUNTER_BASE = 0x80


def counter_offset(name: str) -> int:
    """Byte offset of a counter's low word."""
    return COUNTER_BASE + 8 * COUNTERS.index(name)
