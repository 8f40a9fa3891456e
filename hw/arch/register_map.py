"""The register map as a table, a header for C, and the page for integrators.

    python -m hw.arch.register_map [FILE]     write the page (default docs/integration.md)

The page is docs/integration.in.md with the generated tables in the places that it names.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from hw.arch.codes import ErrorCode, Unit
from hw.arch.link import (
    HEADER,
    MAX_WORDS,
    SYNC_REPLY,
    SYNC_REQUEST,
    Command,
    LinkStatus,
)
from hw.arch.registers import (
    ADDRESS_BITS,
    COUNTERS,
    DEFAULT_WATCHDOG,
    DRAM_ALIGNMENT,
    ID_VALUE,
    SEQUENCER_UNIT,
    VERSION_VALUE,
    Control,
    Register,
    Status,
    counter_offset,
)

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE, SOURCE = DOCS / "integration.md", DOCS / "integration.in.md"
READ, SETTING, COMMAND, ALWAYS = "r", "rw, idle", "w", "rw"


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A register for people.

    Attributes
    ----------
    access: ``r``; ``w``: reads as 0; ``rw``; ``rw, idle``: written only while the core is not busy.
    reset: value after a reset; None: of the configuration.
    words: what it is.
    """

    access: str
    reset: int | None
    words: str


MAP: dict[Register, Entry] = {
    Register.ID: Entry(READ, ID_VALUE, "says that this is an accelerator"),
    Register.VERSION: Entry(READ, VERSION_VALUE, "version of this map"),
    Register.FINGERPRINT_LOW: Entry(READ, None, "configuration, low half: programs carry the same"),
    Register.FINGERPRINT_HIGH: Entry(READ, None, "configuration, high half"),
    Register.FEATURES: Entry(READ, None, "mask of features"),
    Register.CONTROL: Entry(COMMAND, 0, "START 1, ABORT 2, CLEAR_IRQ 4; each acts once"),
    Register.STATUS: Entry(READ, 0, "BUSY 1, DONE 2, ERROR 4, IRQ 8"),
    Register.IRQ_ENABLE: Entry(ALWAYS, 0, "bit 0: IRQ drives the interrupt"),
    Register.ERROR_CODE: Entry(READ, 0, "0, or why the run ended"),
    Register.ERROR_UNIT: Entry(READ, 0, "unit of the error"),
    Register.ERROR_PC: Entry(READ, 0, "index of the instruction"),
    Register.HALT_CODE: Entry(READ, 0, "of the HALT that ended the run"),
    Register.PROGRAM_BASE: Entry(SETTING, 0, "byte address of the code, a multiple of 64"),
    Register.PROGRAM_LENGTH: Entry(SETTING, 0, "instructions of 64 bytes; 24 bits are kept"),
    Register.STORE_BASE: Entry(SETTING, 0, "first byte that stores may touch"),
    Register.STORE_LIMIT: Entry(SETTING, 0, "first byte behind them"),
    Register.WATCHDOG: Entry(SETTING, DEFAULT_WATCHDOG, "cycles without progress; 0: off"),
    Register.DRAM_BASE: Entry(
        SETTING, 0, f"added to every address on the bus, a multiple of {DRAM_ALIGNMENT}"
    ),
}
assert list(MAP) == list(Register)


def register_table() -> str:
    """Markdown: registers and counters."""
    lines = ["| offset | register | access | reset | |", "|---|---|---|---|---|"]
    for register, entry in MAP.items():
        reset = "configuration" if entry.reset is None else f"{entry.reset:#x}"
        name = f"{register.value:#04x} | {register.name}"
        lines.append(f"| {name} | {entry.access} | {reset} | {entry.words} |")
    lines += ["", "| offset | counter (64 bits, low word first; r; reset 0) |", "|---|---|"]
    lines += [f"| {counter_offset(name):#05x} | {name} |" for name in COUNTERS]
    return "\n".join(lines)


def error_table() -> str:
    """Markdown: codes of ERROR_CODE, numbers of ERROR_UNIT."""
    lines = ["| ERROR_CODE | |", "|---|---|"]
    lines += [f"| {code.value} | {code.name} |" for code in ErrorCode]
    lines += ["", "| ERROR_UNIT | |", "|---|---|"]
    lines += [f"| {unit.value} | {unit.name} |" for unit in Unit]
    return "\n".join([*lines, f"| {SEQUENCER_UNIT} | sequencer, fetch |"])


def c_header() -> str:
    """A header for C and C++: offsets, bits, codes, the frames of the host link."""
    groups: list[tuple[str, dict[str, int]]] = [
        ("Registers: byte offsets of 32-bit words.", {f"REG_{r.name}": r.value for r in Register}),
        ("Bits of CONTROL.", {f"CONTROL_{bit.name}": bit.value for bit in Control}),
        ("Bits of STATUS.", {f"STATUS_{bit.name}": bit.value for bit in Status}),
        (
            "Counters: byte offsets of 64-bit values, low word first.",
            {f"COUNTER_{name.upper()}": counter_offset(name) for name in COUNTERS},
        ),
        ("ERROR_CODE.", {f"ERROR_{code.name}": code.value for code in ErrorCode}),
        (
            "ERROR_UNIT.",
            {f"UNIT_{unit.name}": unit.value for unit in Unit} | {"UNIT_SEQUENCER": SEQUENCER_UNIT},
        ),
        (
            "Values.",
            {
                "ID": ID_VALUE,
                "VERSION": VERSION_VALUE,
                "ADDRESS_BITS": ADDRESS_BITS,
                "DRAM_ALIGNMENT": DRAM_ALIGNMENT,
                "DEFAULT_WATCHDOG": DEFAULT_WATCHDOG,
            },
        ),
        (
            "Host link of a board.",
            {
                "LINK_SYNC_REQUEST": SYNC_REQUEST,
                "LINK_SYNC_REPLY": SYNC_REPLY,
                "LINK_HEADER_BYTES": HEADER.size,
                "LINK_MAX_WORDS": MAX_WORDS,
            }
            | {f"LINK_{command.name}": command.value for command in Command}
            | {f"LINK_STATUS_{bit.name}": bit.value for bit in LinkStatus},
        ),
    ]
    lines = [
        "/* Register map of the accelerator. Generated by `python -m hw header`. */",
        "#ifndef ACCELERATOR_H",
        "#define ACCELERATOR_H",
    ]
    for title, values in groups:
        lines += ["", f"/* {title} */"]
        lines += [f"#define ACCEL_{name} {value:#x}u" for name, value in values.items()]
    return "\n".join([*lines, "", "#endif", ""])


def page() -> str:
    """Text of docs/integration.md."""
    text = SOURCE.read_text()
    for place, table in (("REGISTERS", register_table()), ("ERRORS", error_table())):
        mark = f"<!-- {place} -->"
        if text.count(mark) != 1:
            raise ValueError(f"{SOURCE} has {text.count(mark)} places {mark}, not one")
        text = text.replace(mark, table)
    return text


def main(words: Sequence[str]) -> None:
    """Write the page."""
    target = Path(words[0]) if words else PAGE
    target.write_text(page())


if __name__ == "__main__":
    main(sys.argv[1:])
