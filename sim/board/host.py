"""What a host does with a board: make its memory usable, load it, run a program, read it back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from hw.arch.board import BoardFile
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import INSTRUCTION_BYTES
from hw.arch.program import Program
from hw.arch.registers import (
    COUNTERS,
    DEFAULT_WATCHDOG,
    DRAM_ALIGNMENT,
    ID_VALUE,
    VERSION_VALUE,
    Control,
    Register,
    Status,
    counter_offset,
)
from sim.board.link import Link
from sim.errors import InputError, SimulatorError
from sim.host import check_fits

Bytes = npt.NDArray[np.uint8]
Range = tuple[int, int]
Moved = Callable[[str, int, int], None]
"""Told what is done, bytes done, and bytes in all."""

BLOCK = 1020
"""Bytes of a request: the largest."""
POLL = 20_000
"""Clock cycles between two looks at the status."""
SAMPLE = 16
"""One block of so many is read back after it was written."""
ERRORS = (
    Register.STATUS,
    Register.ERROR_CODE,
    Register.ERROR_UNIT,
    Register.ERROR_PC,
    Register.HALT_CODE,
)


class BoardFaultError(SimulatorError):
    """The board does not do what it should: another circuit, or memory that does not hold."""


@dataclasses.dataclass(frozen=True, slots=True)
class BoardRun:
    """What a run on a board gave.

    Attributes
    ----------
    memory: DRAM of the program: what was written, and what was read back where the program stores.
    registers, counters: by lower-case name.
    """

    memory: Bytes
    registers: Mapping[str, int]
    counters: Mapping[str, int]


class BoardHost:
    """A board behind a link.

    Parameters
    ----------
    link: the line. board: its description. moved: told how far a transfer is.
    """

    def __init__(self, link: Link, board: BoardFile, moved: Moved = lambda what, done, all: None):
        self._link, self._board, self._moved = link, board, moved
        self._known: Bytes = np.zeros(0, np.uint8)  # what DRAM holds,
        self._certain: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)  # and where that is sure
        self._ready = False

    def begin(self, config: AcceleratorConfig) -> None:
        """Make the board usable: once after its reset, or after it was lost.

        Raises
        ------
        InputError
            If another configuration is on the board.
        BoardFaultError
            If its memory does not hold what is written, or there is no accelerator.
        """
        fresh = self._link.hello()
        if self._ready and not fresh:
            return
        self._forget()
        if self._register(Register.ID) != ID_VALUE:
            raise BoardFaultError("there is no accelerator on the board")
        version = self._register(Register.VERSION)
        low, high = (
            self._register(Register.FINGERPRINT_LOW),
            self._register(Register.FINGERPRINT_HIGH),
        )
        if version != VERSION_VALUE or (high << 32 | low) != config.fingerprint:
            raise InputError(
                f"the board's circuit is not {config.name}: its fingerprint is "
                f"{high << 32 | low:016x} (registers {version}), the build's "
                f"{config.fingerprint:016x} ({VERSION_VALUE})"
            )
        self.make_usable()
        self._ready = True

    def make_usable(self) -> None:
        """Start the DRAM, and see that it holds what is written.

        Raises
        ------
        BoardFaultError
            If it does not.
        """
        for address, value, wait in self._board.start:
            self._link.write(address, [value])
            if wait:
                self._link.wait(wait)
        self._try_memory()

    def _forget(self) -> None:
        self._ready = False
        self._certain[:] = False

    def _try_memory(self) -> None:
        """A word at 0 and at every power of two: a line that is stuck or crossed shows."""
        size, origin = self._board.memory_bytes, self._board.memory
        places = [0, *(1 << n for n in range(2, size.bit_length() - 1))]
        for turn in (0, 0xFFFF_FFFF):
            values = [(0x9E37_79B9 * (k + 1) & 0xFFFF_FFFF) ^ turn for k in range(len(places))]
            for place, value in zip(places, values, strict=True):
                self._link.write(origin + place, [value])
            for place, value in zip(places, values, strict=True):
                (found,) = self._link.read(origin + place, 1)
                if found != value:
                    raise BoardFaultError(
                        f"DRAM does not hold what is written: {found:08x} at {place:#x}, "
                        f"not {value:08x}"
                    )

    def run(self, program: Program, config: AcceleratorConfig, memory: Bytes) -> BoardRun:
        """Run a program.

        Parameters
        ----------
        memory: DRAM of the program before the start.

        Raises
        ------
        InputError
            If the program does not fit, or is made for another circuit.
        LinkError, BoardResetError, BoardFaultError
            See the classes.
        """
        self._check(program)
        self.begin(config)
        self._load(program, memory)
        self._start(program)
        self._await()
        registers = {r.name.lower(): self._register(r) for r in ERRORS}
        words = self._link.read(
            self._board.registers + counter_offset(COUNTERS[0]), 2 * len(COUNTERS)
        )
        counters = {n: words[2 * k] | words[2 * k + 1] << 32 for k, n in enumerate(COUNTERS)}
        return BoardRun(self._fetch(program, memory), registers, counters)

    def _check(self, program: Program) -> None:
        check_fits(program, self._board.board, self._board.memory_bytes)
        if program.dram_base % DRAM_ALIGNMENT:
            raise InputError(f"DRAM base {program.dram_base:#x} is no multiple of 4 KiB")

    # Memory -------------------------------------------------------------------------------

    def _load(self, program: Program, memory: Bytes) -> None:
        """Write what the program reads, where DRAM is not known to hold it."""
        if self._known.size != memory.size:
            self._known, self._certain = memory.copy(), np.zeros(memory.size, np.bool_)
        wanted = np.zeros(memory.size, np.bool_)
        for low, high in read_ranges(program):
            wanted[low:high] = True
        wanted |= memory != 0
        stale = wanted & ~(self._certain & (self._known == memory))
        blocks = [b for b in _blocks([(0, memory.size)]) if stale[b[0] : b[1]].any()]
        total = sum(high - low for low, high in blocks)
        done = 0
        for number, (low, high) in enumerate(blocks):
            self._write(program.dram_base + low, memory[low:high])
            if number % SAMPLE == 0 or number == len(blocks) - 1:
                self._compare(program.dram_base + low, memory[low:high])
            self._known[low:high] = memory[low:high]
            self._certain[low:high] = True
            done += high - low
            self._moved("load", done, total)

    def _compare(self, address: int, expected: Bytes) -> None:
        found = self._read(address, expected.size)
        wrong = np.flatnonzero(found != expected)
        if wrong.size:
            place = int(wrong[0])
            raise BoardFaultError(
                f"DRAM holds {found[place]:02x} at {address + place:#x}, {expected[place]:02x} was "
                f"written"
            )

    def _fetch(self, program: Program, memory: Bytes) -> Bytes:
        """DRAM after the run: what the program stores is read."""
        low, high = program.store_window
        self._certain[low:high] = False
        result = memory.copy()
        blocks = list(_blocks(stored_ranges(program)))
        total = sum(end - start for start, end in blocks)
        done = 0
        for start, end in blocks:
            result[start:end] = self._read(program.dram_base + start, end - start)
            self._known[start:end] = result[start:end]
            self._certain[start:end] = True
            done += end - start
            self._moved("read back", done, total)
        return result

    def _write(self, address: int, data: Bytes) -> None:
        self._link.write(self._board.memory + address, data.view("<u4").tolist())

    def _read(self, address: int, size: int) -> Bytes:
        words = self._link.read(self._board.memory + address, size // 4)
        return np.array(words, "<u4").view(np.uint8)

    # Registers ----------------------------------------------------------------------------

    def _register(self, register: Register) -> int:
        return self._link.read(self._board.registers + register, 1)[0]

    def _set(self, register: Register, value: int) -> None:
        self._link.write(self._board.registers + register, [value])

    def _start(self, program: Program) -> None:
        """Give the core its program; whatever an earlier host left running is aborted."""
        if self._register(Register.STATUS) & Status.BUSY:
            self._set(Register.CONTROL, Control.ABORT)
            self._await()
        settings = {
            Register.PROGRAM_BASE: program.code_address,
            Register.PROGRAM_LENGTH: len(program.instructions),
            Register.STORE_BASE: program.store_window[0],
            Register.STORE_LIMIT: program.store_window[1],
            Register.WATCHDOG: DEFAULT_WATCHDOG,
            Register.DRAM_BASE: program.dram_base,
        }
        for register, value in settings.items():
            self._set(register, value)
            found = self._register(register)
            if found != value:
                raise BoardFaultError(f"{register.name} reads {found:#x}, {value:#x} was written")
        self._set(Register.CONTROL, Control.CLEAR_IRQ)
        self._set(Register.CONTROL, Control.START)

    def _await(self) -> None:
        """Wait for the end of a run; the core's watchdog ends every one."""
        while not self._register(Register.STATUS) & Status.DONE:
            self._link.wait(POLL)


def read_ranges(program: Program) -> list[Range]:
    """Bytes that must be in DRAM before a start: code, weights, inputs and states."""
    code = (program.code_address, len(program.instructions) * INSTRUCTION_BYTES)
    parts = [code, *((address, len(data)) for address, data in program.image)]
    names = {feed.tensor for feed in program.feeds} | set(program.state_tensors())
    tensors = [program.tensor(name) for name in names]
    parts += [(tensor.address, tensor.layout.nbytes) for tensor in tensors]
    return [(start, start + size) for start, size in parts]


def stored_ranges(program: Program) -> list[Range]:
    """Bytes of tensors in the window that the program may store to, joined, by address."""
    low, high = program.store_window
    found = sorted((t.address, t.address + t.layout.nbytes) for t in program.tensors)
    joined: list[Range] = []
    for start, end in found:
        start, end = max(start, low), min(end, high)
        if start >= end:
            continue
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _blocks(ranges: Sequence[Range]) -> Iterator[Range]:
    """Ranges in pieces that one request takes; from word to word."""
    for low, high in ranges:
        start, end = low & ~3, (high + 3) & ~3
        for first in range(start, end, BLOCK):
            yield first, min(first + BLOCK, end)
