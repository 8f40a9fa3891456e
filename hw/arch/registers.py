"""The AXI4-Lite register map: control, status, errors, performance counters.

DRAM_BASE is where the program's DRAM begins in the memory map, a multiple of 4 KiB (its low 12 bits
read as zero): the core adds it to every address that it puts on the bus, modulo 2^32, and all other
addresses are relative to it, those of instructions and of these registers. PROGRAM_BASE is a
multiple of 64, PROGRAM_LENGTH counts instructions, stores may touch the bytes from STORE_BASE up
to, but not including, STORE_LIMIT. WATCHDOG counts cycles without an issue or
a completion; 0 turns it off. These settings can be written only while the core is not busy; a
write that has no effect, and an offset without a register, answer SLVERR. A run ends with DONE,
after an error with DONE and ERROR; ERROR_CODE, ERROR_UNIT and ERROR_PC are valid from the moment
of the error, while open bursts still end. ERROR_PC is the instruction in the sequencer's hands for
its own errors, the latest dispatched one for errors of units.

Byte offsets of 32-bit registers. Counters are 64 bits wide, low word first, cleared by a start
and frozen when the core stops.
"""

from __future__ import annotations

import enum

from hw.arch.isa import Unit

ID_VALUE = 0x56494441
VERSION_VALUE = 3
"""Of this map; counters of the unit SFU are gone since 1, DRAM_BASE is new since 2."""
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
    DRAM_BASE = 0x44


DRAM_ALIGNMENT = 1 << 12
"""Of DRAM_BASE: bursts must not cross such a boundary, so none does after it is added either."""


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
    "array_products",
    "read_beats",
    "write_beats",
    "fetch_beats",
    "instructions",
)
"""Performance counters in address order.

`cycles` counts from START_LATENCY cycles after the write of START until no burst is open.
`<unit>_busy`: cycles with an instruction inside the unit; `_wait`: the head of its queue is held
back by tokens (a `late` wait is within ARRAY's busy time); `_memory`: LOAD is busy and no beat
arrives for it; STORE waits for a grant, a beat or a response and sends no beat. `instructions`: all
that the sequencer dispatched or executed. `array_vectors`: vectors that entered the array and
produced a sum. `array_products`: the products that the array formed, in units of rows × cols: one
per vector, but in mode HFA_DEPTHWISE 16 / rows per tile (four results). Beats are per requester.
"""

COUNTER_BASE = 0x80


def counter_offset(name: str) -> int:
    """Byte offset of a counter's low word."""
    return COUNTER_BASE + 8 * COUNTERS.index(name)
