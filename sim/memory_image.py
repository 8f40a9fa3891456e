"""A program's DRAM as a raw file, for hosts of one's own: `python -m sim image`."""

from __future__ import annotations

from pathlib import Path

from hw.arch.registers import Register
from sim import host
from sim.build import Arrays, Build
from sim.errors import InputError


def settings(build: Build) -> dict[Register, int]:
    """Registers that a host writes before the start."""
    program = build.program
    return {
        Register.PROGRAM_BASE: program.code_address,
        Register.PROGRAM_LENGTH: len(program.instructions),
        Register.STORE_BASE: program.store_window[0],
        Register.STORE_LIMIT: program.store_window[1],
        Register.DRAM_BASE: program.dram_base,
    }


def write_image(build: Build, inputs: Arrays, path: Path) -> int:
    """Write DRAM before the start, from DRAM_BASE on: code, weights and inputs; returns its bytes.

    Raises
    ------
    InputError
        If an input does not fit, or the file cannot be written.
    """
    memory = host.start_image(build.program, build.feeds(inputs))
    try:
        memory.tofile(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    return int(memory.size)
