"""A board in Python: bridge, DRAM, registers, and the functional machine behind them."""

from __future__ import annotations

import numpy as np

from hw.arch.board import BoardFile
from hw.arch.isa import INSTRUCTION_BYTES, ErrorCode
from hw.arch.registers import (
    COUNTERS,
    ID_VALUE,
    SEQUENCER_UNIT,
    VERSION_VALUE,
    Control,
    Register,
    Status,
    counter_offset,
)
from sim.functional import FunctionalMachine, MachineError
from tests.bridge_model import BridgeModel

START = ((0x800, 14, 20_000), (0x80C, 0x400, 0), (0x800, 1, 0))
"""Writes that make this DRAM usable."""


def board_file(config, size=1 << 16):
    """Description of the board."""
    return BoardFile(
        board="model",
        config=config.name,
        fingerprint=config.fingerprint,
        clock_hz=50_000_000,
        baud=3e6,
        silence=1000,
        registers=0x3000_0000,
        memory=0x4000_0000,
        memory_bytes=size,
        word_bits=16,
        sdram_rate=1,
        start=START,
    )


class BoardModel:
    """The far end of a line. DRAM answers once it is started, and forgets everything in a reset.

    Parameters
    ----------
    config: the accelerator. board: `board_file`.
    stuck: bit that DRAM holds at 0, of every word.
    reset_at: writes of memory behind which the board is reset, once.
    looks: at the status that a run takes.
    """

    def __init__(self, config, board, *, stuck=0, reset_at=None, looks=3):
        self.config, self.board, self.stuck, self.reset_at = config, board, stuck, reset_at
        self.looks = looks
        self.bridge = BridgeModel(self.access)
        self.runs = self.written = 0
        self.reset()

    def reset(self):
        self.memory = np.random.default_rng(self.runs).integers(
            0, 256, self.board.memory_bytes, np.uint8
        )
        self.begun = []
        self.registers = dict.fromkeys(Register, 0) | {
            Register.ID: ID_VALUE,
            Register.VERSION: VERSION_VALUE,
            Register.FINGERPRINT_LOW: self.config.fingerprint & 0xFFFF_FFFF,
            Register.FINGERPRINT_HIGH: self.config.fingerprint >> 32,
        }
        self.counters = dict.fromkeys(COUNTERS, 0)
        self.waits = 0
        self.bridge.reset()

    def access(self, address, value):
        if address >= self.board.memory:
            return self._memory(address - self.board.memory, value)
        if address >= self.board.registers:
            return self._register(address - self.board.registers, value)
        if value is not None:
            self.begun.append((address, value))
        return 0

    def _memory(self, address, value):
        if (
            self.begun[-len(START) :] != [(a, v) for a, v, _ in START]
            or address >= self.board.memory_bytes
        ):
            return None
        cell = self.memory[address : address + 4].view("<u4")
        if value is None:
            return int(cell[0])
        cell[0] = value & ~self.stuck
        self.written += 1
        if self.written == self.reset_at:
            self.reset()
        return 0

    def _register(self, offset, value):
        if offset >= 0x80:
            name = COUNTERS[(offset - 0x80) // 8]
            value = self.counters[name]
            return value & 0xFFFF_FFFF if offset == counter_offset(name) else value >> 32
        if value is None:
            if offset == Register.STATUS and self.waits:
                self.waits -= 1
                return Status.BUSY
            return self.registers[offset]
        if offset != Register.CONTROL:
            self.registers[offset] = value
        elif value & Control.START:
            self._start()
        return 0

    def _start(self):
        r = self.registers
        base = r[Register.DRAM_BASE]
        code = r[Register.PROGRAM_BASE] + base
        words = self.memory[code : code + r[Register.PROGRAM_LENGTH] * INSTRUCTION_BYTES].tobytes()
        window = r[Register.STORE_BASE], r[Register.STORE_LIMIT]
        machine = FunctionalMachine(self.config, self.memory[base:].copy(), window)
        self.runs += 1
        self.waits = self.looks
        r[Register.STATUS], r[Register.ERROR_CODE] = int(Status.DONE), 0
        self.counters |= {"cycles": (1 << 33) + 5, "fetch_beats": 7}
        try:
            machine.run(words)
        except MachineError as error:
            r[Register.ERROR_CODE] = int(error.code)
            r[Register.ERROR_UNIT] = SEQUENCER_UNIT if error.unit is None else int(error.unit)
            r[Register.STATUS] |= int(Status.ERROR)
            assert error.code is not ErrorCode.NONE
        self.memory[base:] = machine.memory


class ModelTransport:
    """The line to it."""

    latency = 100

    def __init__(self, model):
        self.model, self.pending = model, b""

    def send(self, data):
        self.pending += self.model.bridge.take(data)

    def receive(self, cycles):
        came, self.pending = self.pending, b""
        if not came:
            self.model.bridge.silence()
        return came

    def close(self):
        pass
