"""Parameters of the parts of an accelerator, with their limits (see hw/arch/config.py)."""

from __future__ import annotations

import dataclasses
import re

from hw.arch.codes import ACCUMULATOR_BITS, ADDRESS_BITS, LINE_BITS, TABLE_BITS


class ConfigError(ValueError):
    """A configuration that cannot be built; the message names the value and the limit."""


MOST_ROWS = 4096
LEAST_RATE, MOST_GAP = 0.01, 64
"""Of what a configuration may expect of the memory behind its port."""
"""Of FIFO and transformed activations."""
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_name(text: str) -> bool:
    """Whether a text is a name: it decides files and folders, so it holds no dot and no slash."""
    return NAME.fullmatch(text) is not None


def is_power_of_two(value: int) -> bool:
    """Whether value is 1, 2, 4, ..."""
    return value > 0 and value & (value - 1) == 0


@dataclasses.dataclass(frozen=True, slots=True)
class ArrayConfig:
    """The multiplier array.

    Attributes
    ----------
    rows: input-channel lanes; also the lane block L of every tensor and scratchpad row.
    cols: output-channel lanes, a multiple of `rows`.
    activation_bits: signed width of the activation operand (9: u8 or s8 minus its zero point; 17
        with transformed activations).
    weight_bits: signed width of the weight operand (8: int8 taps; 16 with transformed weights).
    weight_rows_per_cycle: rows of shadow weights loaded per cycle (LW); divides `rows`.
    """

    rows: int
    cols: int
    activation_bits: int = 9
    weight_bits: int = 8
    weight_rows_per_cycle: int = 1

    def __post_init__(self) -> None:
        if not is_power_of_two(self.rows) or not 4 <= self.rows <= 32:
            raise ConfigError(f"array.rows must be a power of two in 4..32, not {self.rows}")
        if self.cols % self.rows or not is_power_of_two(self.cols) or self.cols > 32:
            raise ConfigError(
                f"array.cols must be a power of two, a multiple of rows ({self.rows}) "
                f"and at most 32, not {self.cols}"
            )
        if not 9 <= self.activation_bits <= 18:
            raise ConfigError(f"array.activation_bits must be 9..18, not {self.activation_bits}")
        if not 8 <= self.weight_bits <= 18:
            raise ConfigError(f"array.weight_bits must be 8..18, not {self.weight_bits}")
        lw = self.weight_rows_per_cycle
        if not is_power_of_two(lw) or lw > self.rows:
            raise ConfigError(
                f"array.weight_rows_per_cycle must be a power of two up to rows ({self.rows}), "
                f"not {lw}"
            )

    @property
    def multipliers(self) -> int:
        """Multipliers in the array."""
        return self.rows * self.cols

    @property
    def blocks_per_row(self) -> int:
        """Lane blocks in one accumulator row (cols / rows)."""
        return self.cols // self.rows


@dataclasses.dataclass(frozen=True, slots=True)
class MemoryConfig:
    """On-chip memories.

    Attributes
    ----------
    activation_banks: banks of the activation scratchpad, each one read and one write port.
    activation_bank_rows: rows (of `array.rows` bytes) in a bank.
    weight_bytes: weight scratchpad, in bytes.
    accumulator_rows: rows of each of the two accumulator banks.
    accumulator_bits: width of an accumulator (36: a native block-RAM width).
    parameter_columns: output channels whose requantization parameters fit.
    tables: 256-entry lookup tables.
    line_pixels: entries of the depthwise window's line buffer.
    transformed_rows: rows of each half of U, the transformed activations; 0 without hfa.
    """

    activation_banks: int
    activation_bank_rows: int
    weight_bytes: int
    accumulator_rows: int
    parameter_columns: int
    accumulator_bits: int = 36
    tables: int = 2
    line_pixels: int = 128
    transformed_rows: int = 0

    def __post_init__(self) -> None:
        for name in (
            "activation_banks",
            "activation_bank_rows",
            "weight_bytes",
            "accumulator_rows",
            "parameter_columns",
            "tables",
            "line_pixels",
        ):
            value = getattr(self, name)
            if not is_power_of_two(value):
                raise ConfigError(f"memory.{name} must be a power of two, not {value}")
        rows = self.transformed_rows
        if rows and (not is_power_of_two(rows) or rows > MOST_ROWS):
            raise ConfigError(
                f"memory.transformed_rows must be a power of two up to {MOST_ROWS} or 0, not {rows}"
            )
        if self.activation_rows > 1 << ADDRESS_BITS:
            raise ConfigError(
                f"the activation scratchpad has {self.activation_rows} rows; the ISA addresses "
                f"{1 << ADDRESS_BITS}"
            )
        for name, most in (
            ("accumulator_rows", 1 << ACCUMULATOR_BITS - 1),  # two banks
            ("line_pixels", 1 << LINE_BITS),
            ("tables", (1 << TABLE_BITS) - 1),
        ):
            value = getattr(self, name)
            if value > most:
                raise ConfigError(f"memory.{name} is {value}; the ISA addresses {most}")
        if not 32 <= self.accumulator_bits <= 48:
            raise ConfigError(
                f"memory.accumulator_bits must be 32..48, not {self.accumulator_bits}"
            )

    @property
    def activation_rows(self) -> int:
        """Rows of the whole activation scratchpad."""
        return self.activation_banks * self.activation_bank_rows


@dataclasses.dataclass(frozen=True, slots=True)
class PortConfig:
    """The AXI4 master port.

    Attributes
    ----------
    bytes: bytes per beat; equal to `array.rows`, so that a beat is one scratchpad row.
    max_burst: longest burst, in beats.
    outstanding: granted bursts that have not ended.
    store_fifo: rows that the store unit reads ahead of its bursts.
    rate: beats a cycle that the memory behind the port is expected to take in long bursts.
    gap: cycles that it is expected to lose between two bursts.

    The compiler plans with `rate` and `gap`; they are no part of the circuit, and a program runs
    the same without them.
    """

    bytes: int
    max_burst: int = 64
    outstanding: int = 8
    store_fifo: int = 128
    rate: float = 0.97
    gap: int = 0

    def __post_init__(self) -> None:
        if not is_power_of_two(self.bytes):
            raise ConfigError(f"port.bytes must be a power of two, not {self.bytes}")
        if not is_power_of_two(self.max_burst) or self.max_burst > 256:
            raise ConfigError(
                f"port.max_burst must be a power of two up to 256, not {self.max_burst}"
            )
        if not 1 <= self.outstanding <= 16:
            raise ConfigError(f"port.outstanding must be 1..16, not {self.outstanding}")
        if not LEAST_RATE <= self.rate <= 1:
            raise ConfigError(f"port.rate must be {LEAST_RATE} to 1 beats a cycle, not {self.rate}")
        if not 0 <= self.gap <= MOST_GAP:
            raise ConfigError(f"port.gap must be 0 to {MOST_GAP} cycles, not {self.gap}")
        fifo = self.store_fifo
        if not 2 * self.max_burst <= fifo <= MOST_ROWS or not is_power_of_two(fifo):
            raise ConfigError(
                f"port.store_fifo must be a power of two and hold two bursts "
                f"({2 * self.max_burst}), at most {MOST_ROWS} rows, not {fifo}"
            )

    def cycles(self, beats: float) -> float:
        """Cycles that the memory is expected to take for beats in long bursts."""
        return beats / self.rate + beats / self.max_burst * self.gap

    def lost(self, beats: float, run: int) -> float:
        """Cycles that it takes longer if only `run` beats lie one behind another."""
        return beats * self.gap * (1 / min(max(1, run), self.max_burst) - 1 / self.max_burst)


@dataclasses.dataclass(frozen=True, slots=True)
class LaneConfig:
    """Lanes of the units beside the array; requantize and vector divide `array.rows`.

    Attributes
    ----------
    requantize: accumulators requantized per cycle by the drain unit.
    vector: elements processed per cycle by the vector unit.
    output_transform: accumulators taken per cycle by the drain unit's output transform; divides
        `requantize`, which takes its results at their full rate; 0 without hfa.
    """

    requantize: int
    vector: int
    output_transform: int = 0
