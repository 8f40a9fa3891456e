"""What a program loads before and stores after its random part, and the data that it works on."""

from __future__ import annotations

import random

import numpy as np

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, Instruction, Load, Space, Store, deltas
from hw.arch.numerics import pack_parameters
from tests.ladder.linking import DATA, OUTPUT, PARAMETERS, TABLES, TOTAL, WEIGHTS

ACCUMULATORS = 64
"""Rows of each accumulator bank that random programs use, if they do not set another number."""


class Frame:
    """Code, data and the generator that everything is drawn from.

    Parameters
    ----------
    config: the accelerator.
    seed: of everything that is drawn.
    """

    def __init__(self, config: AcceleratorConfig, seed: int):
        self.config = config
        self.random = random.Random(seed)
        self.accumulators = ACCUMULATORS
        self.code: list[Instruction] = []
        self._no_taps: list[tuple[int, int]] = []  # weight bytes that depthwise needs to be zero

    def _draw(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def load_banks(self) -> None:
        """Give every activation row a value."""
        self.code += map(self._load_bank, range(self.config.memory.activation_banks))

    def _load_bank(self, bank: int) -> Load:
        rows = self.config.memory.activation_bank_rows
        return Load(
            dram=DATA + bank * 2048,
            space=Space.ACTIVATION,
            local=bank * self.config.memory.activation_bank_rows,
            beats=rows,
        )

    def _store_bank(self, bank: int) -> Store:
        rows = self.config.memory.activation_bank_rows
        return Store(
            dram=OUTPUT + 0x8000 + bank * rows * self.config.port.bytes,
            local=bank * self.config.memory.activation_bank_rows,
            beats=rows,
        )

    def _clear_accumulators(self, bank: int) -> Array:
        """Write the accumulator rows that `_accumulator` draws from, so that all have a value."""
        lines = self.accumulators // 8
        counts = (8, lines, 1, 1, 1, 1, 1, 1)
        rows = (1, 8, *(self.accumulators,) * 6)
        return Array(
            accumulator=bank * self.config.memory.accumulator_rows,
            counts=counts,
            deltas=deltas(counts, rows),
            bounds=(8, lines, 1),
        )

    def _load_weights(self) -> Load:
        beats = min(self.config.weight_beats, 256 * self.config.weight_block_beats)
        return Load(dram=WEIGHTS, space=Space.WEIGHT, beats=beats)

    def _load_parameters(self) -> Load:
        beats = 2 * self.config.requantize_steps * self.config.parameter_row_beats
        return Load(dram=PARAMETERS, space=Space.PARAMETER, beats=beats)

    def data(self) -> list[tuple[int, bytes]]:
        """Memory image: random rows, weights and parameters."""
        generator = np.random.default_rng(self._draw(0, 1 << 30))
        channels = 2 * self.config.array.cols
        parameters = pack_parameters(
            [int(v) for v in generator.integers(-4000, 4000, channels)],
            [int(v) for v in generator.integers(1 << 23, 1 << 24, channels)],
            [int(v) for v in generator.integers(30, 40, channels)],
        )
        weights = bytearray(generator.bytes(PARAMETERS - WEIGHTS))
        for low, high in self._no_taps:
            weights[low:high] = bytes(high - low)
        tables: list[tuple[int, bytes]] = []
        if "fold" in self.config.features:
            words = generator.integers(0, 1 << 32, self.config.memory.tables * 64, np.uint32)
            tables.append((TABLES, (words | 1 << 20).astype("<u4").tobytes()))
        return [
            *tables,
            (DATA, generator.bytes(WEIGHTS - DATA)),
            (WEIGHTS, bytes(weights)),
            (PARAMETERS, parameters),
            (OUTPUT, generator.bytes(TOTAL - OUTPUT)),
        ]
