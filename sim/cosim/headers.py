"""The C++ header of the native harness, written from the contract."""

from __future__ import annotations

from hw.arch.config import AcceleratorConfig
from hw.arch.registers import COUNTERS, Control, Register, Status, counter_offset
from hw.arch.timing import MemoryTiming

REPORTED = (
    Register.STATUS,
    Register.ERROR_CODE,
    Register.ERROR_UNIT,
    Register.ERROR_PC,
    Register.HALT_CODE,
    Register.FINGERPRINT_LOW,
    Register.FINGERPRINT_HIGH,
    Register.FEATURES,
)
"""Registers that the harness reads after a run."""


def parameters_header(config: AcceleratorConfig) -> str:
    """Text of ``parameters.hpp``: memory timing, port geometry, units, registers and counters."""
    timing = MemoryTiming()
    constants = {
        "PORT_BYTES": config.port.bytes,
        "MAX_BURST": config.port.max_burst,
        "READ_LATENCY": timing.read_latency,
        "WRITE_LATENCY": timing.write_latency,
        "WRITE_RESPONSE": timing.write_response,
        "TURNAROUND": timing.turnaround,
    }
    lines = [
        "// Generated from hw/arch by sim/cosim/headers.py.",
        "#pragma once",
        "#include <cstdint>",
        "namespace parameters {",
        *(f"constexpr uint32_t {name} = {value};" for name, value in constants.items()),
        "}",
        "namespace registers {",
        *(f"constexpr uint32_t {r.name} = {r.value:#x};" for r in Register),
        *(f"constexpr uint32_t {b.name} = {b.value};" for b in Control),
        *(f"constexpr uint32_t STATUS_{b.name} = {b.value};" for b in Status),
        "struct Entry { const char* name; uint32_t offset; };",
        _entries("REPORTED", {r.name.lower(): r.value for r in REPORTED}),
        _entries("COUNTERS", {name: counter_offset(name) for name in COUNTERS}),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _entries(name: str, values: dict[str, int]) -> str:
    body = ", ".join(f'{{"{key}", {value:#x}}}' for key, value in values.items())
    return f"constexpr Entry {name}[] = {{{body}}};"
