"""Energy reference tables: a few sourced numbers per technology, scaled to a configuration.

A table prices primitives (a product, an added bit, an SRAM access of a reference size, a DRAM
bit); `EnergyTable.joules` builds the price of an action from them, by the widths and sizes that
the configuration has. Arithmetic scales with its bits (products with the product of the widths),
SRAM with its width and with a power of the capacity of the bank.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_never

from hw.arch.config import AcceleratorConfig, ConfigError
from hw.arch.fold_numerics import NORM_SQUARES_WIDTH, NORM_SUM_WIDTH
from hw.arch.group_numerics import ROOT_BITS
from hw.arch.numerics import PARAMETER_BYTES
from hw.arch.yaml_file import read_mapping
from sim.energy.kinds import COMPONENTS, Action, Actions

DIRECTORY = Path(__file__).resolve().parent / "tables"
PICO = 1e-12
AFFINE_BITS = 54
"""Adder width of the vector unit: 44 fraction bits and the integer part."""
SUM_BITS = 24
DIRECT_BITS = (9, 8)
"""Operands of a direct product, whatever the widths of the circuit: further bits copy the sign."""
NATIVE_BITS = 18
"""Operands of a native multiplier of an FPGA, which the division by L is built of."""
TURN_BYTES = 128
"""A turning memory of one lane."""
TWB_BLOCKS = 128
"""Weight blocks that TWB holds: three times up to 36 (hw/compute/weights/ring.py)."""
KEYS = (
    "multiply_8x8_pj",
    "multiply_32x32_pj",
    "add_bit_pj",
    "sram_pj",
    "sram_bits",
    "sram_bytes",
    "sram_exponent",
    "dram_bit_pj",
    "leakage_bit_pw",
    "static_w",
    "clock_hz",
)


class EnergyError(ValueError):
    """A table that is missing, incomplete, or holds a number without a source."""


@dataclasses.dataclass(frozen=True, slots=True)
class EnergyTable:
    """Prices of one technology.

    Attributes
    ----------
    name, technology, uncertainty: what it stands for, and how far to trust it.
    values: numbers by key (`KEYS`). sources: where each comes from.
    """

    name: str
    technology: str
    uncertainty: str
    values: Mapping[str, float]
    sources: Mapping[str, str]

    @classmethod
    def load(cls, source: str | Path) -> EnergyTable:
        """Read a table by name (``asic_45nm``) or path.

        Raises
        ------
        EnergyError
            If it is missing or no table, or if a number or its source is.
        """
        path = Path(source)
        if not path.suffix:
            path = DIRECTORY / f"{source}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in DIRECTORY.glob("*.yaml")))
            raise EnergyError(f"no energy table {path.name}; there are {known}")
        try:
            content = read_mapping(path)
        except ConfigError as error:
            raise EnergyError(f"{path.name}: {error}") from error
        for key in ("technology", "uncertainty", "numbers"):
            if key not in content:
                raise EnergyError(f"{path.name} has no {key}")
        numbers = content["numbers"]
        if not isinstance(numbers, dict):
            raise EnergyError(f"{path.name}: numbers must hold a mapping")
        for key in KEYS:
            entry = numbers.get(key)
            if not isinstance(entry, dict) or "value" not in entry:
                raise EnergyError(f"{path.name} has no number {key}")
            if not str(entry.get("source", "")).strip():
                raise EnergyError(f"{path.name}: {key} has no source")
            value = entry["value"]
            if not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise EnergyError(f"{path.name}: {key} is {value!r}, no number of 0 or more")
        unknown = sorted(set(numbers) - set(KEYS))
        if unknown:
            raise EnergyError(f"{path.name}: unknown number {unknown[0]}")
        return cls(
            path.stem,
            str(content["technology"]),
            str(content["uncertainty"]),
            {k: float(numbers[k]["value"]) for k in KEYS},
            {k: str(numbers[k]["source"]) for k in KEYS},
        )

    def describe(self) -> dict[str, Any]:
        """Technology, uncertainty and sourced numbers, for the record of a run."""
        numbers = {k: {"value": self.values[k], "source": self.sources[k]} for k in KEYS}
        return {
            "technology": self.technology,
            "uncertainty": self.uncertainty,
            "numbers": numbers,
        }

    def _product(self, bits_a: int, bits_b: int) -> float:
        """Picojoules of a product: from the nearer of the two references, by bit products."""
        area = bits_a * bits_b
        if area <= 17 * 17:
            return self.values["multiply_8x8_pj"] * area / 64
        return self.values["multiply_32x32_pj"] * area / 1024

    def _add(self, width: int) -> float:
        return self.values["add_bit_pj"] * width

    def _sram(self, width: int, capacity: int) -> float:
        """Picojoules of one access: `width` bits of a bank of `capacity` bytes."""
        values = self.values
        scale: float = (capacity / values["sram_bytes"]) ** values["sram_exponent"]
        return values["sram_pj"] * width / values["sram_bits"] * scale

    def picojoules(self, action: Action, config: AcceleratorConfig) -> float:
        """Price of one action."""
        memory, array = config.memory, config.array
        beat = 8 * config.port.bytes
        accumulators = memory.accumulator_rows * memory.accumulator_bits // 8
        match action:
            case Action.MULTIPLY:
                return self._product(*DIRECT_BITS)
            case Action.TREE_ADD:
                return self._add(sum(DIRECT_BITS) + array.rows.bit_length() - 1)
            case Action.MULTIPLY_TRANSFORMED:
                return self._product(1, 1)
            case (
                Action.TREE_ADD_TRANSFORMED
                | Action.INPUT_TRANSFORM
                | Action.WEIGHT_TRANSFORM
                | Action.OUTPUT_TRANSFORM
            ):
                return self._add(1)
            case Action.DIVIDE:
                return 3 * self._product(NATIVE_BITS, NATIVE_BITS)
            case Action.TURN:
                return 2 * self._sram(1, TURN_BYTES)
            case Action.TRANSFORMED_READ | Action.TRANSFORMED_WRITE:
                width = array.rows * array.activation_bits
                return self._sram(width, memory.transformed_rows * width // 8)
            case Action.TRANSFORMED_WEIGHT_READ | Action.TRANSFORMED_WEIGHT_WRITE:
                width = array.weight_rows_per_cycle * array.cols * array.weight_bits
                return self._sram(width, TWB_BLOCKS * config.weight_block_groups * width // 8)
            case Action.ACCUMULATE:
                return self._add(memory.accumulator_bits)
            case Action.ACCUMULATOR_READ | Action.ACCUMULATOR_WRITE:
                return self._sram(memory.accumulator_bits, accumulators)
            case Action.ACTIVATION_READ | Action.ACTIVATION_WRITE:
                return self._sram(beat, memory.activation_bank_rows * config.lane_block)
            case Action.WEIGHT_READ | Action.WEIGHT_WRITE:
                return self._sram(beat, memory.weight_bytes // config.weight_banks)
            case Action.PARAMETER_READ | Action.PARAMETER_WRITE:
                return self._sram(beat, memory.parameter_columns * PARAMETER_BYTES)
            case Action.TABLE_READ:
                return self._sram(8, 256)
            case Action.TABLE_WRITE:
                return self._sram(beat, 256)
            case Action.REQUANTIZE:
                return self._product(24, 24) + self._add(memory.accumulator_bits + 32)
            case Action.VECTOR_AFFINE:
                return 2 * (self._product(8, 24) + self._add(AFFINE_BITS))
            case Action.VECTOR_PRODUCT:
                return self._product(9, 9) + self._product(17, 24) + self._add(AFFINE_BITS)
            case Action.VECTOR_COMPARE:
                return self._add(9)
            case Action.VECTOR_SUM:
                return self._add(SUM_BITS)
            case Action.FOLD_MULTIPLY:
                return self._product(9, 9) + self._add(SUM_BITS)
            case Action.FOLD_EXPONENTIAL:
                return self._sram(32, 4 * 256)
            case Action.FOLD_SOFTMAX:
                return self._product(21, 22) + self._add(AFFINE_BITS)
            case Action.FOLD_SQUARE:
                return self._product(8, 8) + self._add(NORM_SUM_WIDTH + NORM_SQUARES_WIDTH)
            case Action.FOLD_NORM:
                products = self._product(11, 9) + self._product(19, 24) + self._product(22, 18)
                return products + 2 * self._add(AFFINE_BITS)
            case Action.FOLD_ENGINE:
                return self._add(2 * ROOT_BITS)
            case Action.VECTOR_SELECT:
                return self._add(8 * (2 * config.lane_block).bit_length())
            case Action.DRAM_READ | Action.DRAM_WRITE | Action.FETCH:
                return self.values["dram_bit_pj"] * beat
            case Action.CYCLE:
                return self._leakage(config) / self.values["clock_hz"] / PICO
            case _:
                assert_never(action)

    def _leakage(self, config: AcceleratorConfig) -> float:
        """Watts that flow without any action."""
        memory = config.memory
        bits = 8 * (memory.activation_rows * config.lane_block + memory.weight_bytes)
        bits += 2 * memory.accumulator_rows * config.array.cols * memory.accumulator_bits
        bits += 8 * (memory.parameter_columns * PARAMETER_BYTES + 256 * memory.tables)
        if "hfa" in config.features:
            array = config.array
            bits += 2 * memory.transformed_rows * array.rows * array.activation_bits
            bits += TWB_BLOCKS * array.multipliers * array.weight_bits
        return self.values["static_w"] + bits * self.values["leakage_bit_pw"] * PICO

    def prices(self, config: AcceleratorConfig) -> dict[str, float]:
        """Picojoules of every action, by name, for the record of a run."""
        return {action.value: self.picojoules(action, config) for action in Action}

    def joules(self, actions: Actions, config: AcceleratorConfig) -> dict[str, float]:
        """Energy by component; components without actions are left out."""
        result: dict[str, float] = {}
        for action, number in actions.items():
            if number:
                component = COMPONENTS[action]
                energy = number * self.picojoules(action, config) * PICO
                result[component] = result.get(component, 0.0) + energy
        return result
