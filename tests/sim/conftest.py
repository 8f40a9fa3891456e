"""Programs built by hand: a small machine, tensors placed in its scratchpads, one layer each."""

from __future__ import annotations

import numpy as np
import pytest

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Begin, Halt
from hw.arch.numerics import pack_parameters
from sim.functional import FunctionalMachine


class Bench:
    """A machine whose scratchpads are filled directly, to test one unit at a time."""

    def __init__(self, config: AcceleratorConfig, memory_bytes: int = 1 << 16):
        self.config = config
        self.memory = np.zeros(memory_bytes, np.uint8)
        self.machine = FunctionalMachine(config, self.memory, (0, memory_bytes), check_reads=True)

    def begin(self) -> Begin:
        return Begin(self.config.fingerprint, self.config.feature_mask)

    def run(self, *instructions):
        return self.machine.run([self.begin(), *instructions, Halt()])

    def put_rows(self, row: int, codes: np.ndarray) -> None:
        """Write [n, L] bytes to the activation scratchpad."""
        rows = codes.reshape(-1, self.config.lane_block)
        self.machine.state.activation.write(np.arange(row, row + len(rows)), rows.view(np.uint8))

    def rows(self, row: int, count: int) -> np.ndarray:
        return self.machine.state.activation.read(np.arange(row, row + count))

    def put_weights(self, beat: int, blocks: np.ndarray) -> None:
        """Write [..., rows, cols] int8 weight blocks."""
        beats = np.ascontiguousarray(blocks).view(np.uint8).reshape(-1, self.config.port.bytes)
        self.machine.state.weight.write(np.arange(beat, beat + len(beats)), beats)

    def put_parameters(self, beat: int, bias, multiplier, shift) -> None:
        data = np.frombuffer(pack_parameters(bias, multiplier, shift), np.uint8)
        beats = data.reshape(-1, self.config.port.bytes)
        self.machine.state.parameter.write(np.arange(beat, beat + len(beats)), beats)

    def put_table(self, index: int, table: np.ndarray) -> None:
        beats = table.reshape(-1, self.config.port.bytes)
        first = index * self.config.table_beats
        self.machine.state.table.write(np.arange(first, first + len(beats)), beats)

    def accumulators(self, row: int, count: int) -> np.ndarray:
        return self.machine.state.accumulator.read(np.arange(row, row + count))


@pytest.fixture
def tiny() -> AcceleratorConfig:
    return AcceleratorConfig.load("tiny")


@pytest.fixture
def bench(tiny) -> Bench:
    return Bench(tiny)


@pytest.fixture
def make_bench():
    return Bench
