"""Parameters of an accelerator: frozen dataclasses, read from YAML, validated, fingerprinted."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hw.arch.isa import INSTRUCTION_BYTES, LOCAL_BITS

CONFIG_DIRECTORY = Path(__file__).resolve().parent.parent / "configs"

FEATURES = ("depthwise", "vector", "hfa", "sfu", "residual", "drain_table", "attention")
"""Optional parts of the circuit. Bit i of a feature mask stands for FEATURES[i]."""

BUILT = ("depthwise", "vector")
"""Those that the circuit has. Verilog, compiler and simulators refuse a configuration with
others (`AcceleratorConfig.require_built`)."""


class ConfigError(ValueError):
    """A configuration that cannot be built; the message names the value and the limit."""


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclasses.dataclass(frozen=True, slots=True)
class ArrayConfig:
    """The multiplier array.

    Attributes
    ----------
    rows: input-channel lanes; also the lane block L of every tensor and scratchpad row.
    cols: output-channel lanes, a multiple of `rows`.
    activation_bits: signed width of the activation operand (9: u8 or s8 minus its zero point).
    weight_bits: signed width of the weight operand (8: int8 taps).
    weight_rows_per_cycle: rows of shadow weights loaded per cycle (LW); divides `rows`.
    """

    rows: int
    cols: int
    activation_bits: int = 9
    weight_bits: int = 8
    weight_rows_per_cycle: int = 1

    def __post_init__(self) -> None:
        if not _is_power_of_two(self.rows) or not 4 <= self.rows <= 32:
            raise ConfigError(f"array.rows must be a power of two in 4..32, not {self.rows}")
        if self.cols % self.rows or not _is_power_of_two(self.cols) or self.cols > 32:
            raise ConfigError(
                f"array.cols must be a power of two, a multiple of rows ({self.rows}) "
                f"and at most 32, not {self.cols}"
            )
        if not 9 <= self.activation_bits <= 18:
            raise ConfigError(f"array.activation_bits must be 9..18, not {self.activation_bits}")
        if not 8 <= self.weight_bits <= 18:
            raise ConfigError(f"array.weight_bits must be 8..18, not {self.weight_bits}")
        lw = self.weight_rows_per_cycle
        if not _is_power_of_two(lw) or lw > self.rows:
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
    line_pixels: longest line of the depthwise window's line buffer.
    """

    activation_banks: int
    activation_bank_rows: int
    weight_bytes: int
    accumulator_rows: int
    parameter_columns: int
    accumulator_bits: int = 36
    tables: int = 2
    line_pixels: int = 128

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
            if not _is_power_of_two(value):
                raise ConfigError(f"memory.{name} must be a power of two, not {value}")
        if self.activation_rows > 1 << 16:
            raise ConfigError(
                f"the activation scratchpad has {self.activation_rows} rows; the ISA addresses "
                f"{1 << 16}"
            )
        if self.accumulator_rows > 2048:
            raise ConfigError(
                f"memory.accumulator_rows is {self.accumulator_rows}; the ISA addresses 2048"
            )
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
    """

    bytes: int
    max_burst: int = 64
    outstanding: int = 8
    store_fifo: int = 128

    def __post_init__(self) -> None:
        if not _is_power_of_two(self.bytes):
            raise ConfigError(f"port.bytes must be a power of two, not {self.bytes}")
        if not _is_power_of_two(self.max_burst) or self.max_burst > 256:
            raise ConfigError(
                f"port.max_burst must be a power of two up to 256, not {self.max_burst}"
            )
        if not 1 <= self.outstanding <= 16:
            raise ConfigError(f"port.outstanding must be 1..16, not {self.outstanding}")
        if self.store_fifo < 2 * self.max_burst or not _is_power_of_two(self.store_fifo):
            raise ConfigError(
                f"port.store_fifo must be a power of two and hold two bursts "
                f"({2 * self.max_burst}), not {self.store_fifo}"
            )


@dataclasses.dataclass(frozen=True, slots=True)
class LaneConfig:
    """Lanes of the units beside the array; each divides `array.rows`.

    Attributes
    ----------
    requantize: accumulators requantized per cycle by the drain unit.
    vector: elements processed per cycle by the vector unit.
    """

    requantize: int
    vector: int


@dataclasses.dataclass(frozen=True, slots=True)
class AcceleratorConfig:
    """A whole accelerator.

    Attributes
    ----------
    name: short name, e.g. ``base``.
    array, memory, port, lanes: the parts.
    queue_depth: instructions that each unit's queue holds.
    features: optional parts of the circuit, a subset of `FEATURES`.
    """

    name: str
    array: ArrayConfig
    memory: MemoryConfig
    port: PortConfig
    lanes: LaneConfig
    queue_depth: int = 8
    features: tuple[str, ...] = ("depthwise", "vector")

    def __post_init__(self) -> None:
        if self.port.bytes != self.array.rows:
            raise ConfigError(
                f"port.bytes is {self.port.bytes} but a scratchpad row has array.rows = "
                f"{self.array.rows} bytes; they must be equal"
            )
        for name in ("requantize", "vector"):
            value = getattr(self.lanes, name)
            if value < 1 or self.array.rows % value:
                raise ConfigError(
                    f"lanes.{name} must divide array.rows ({self.array.rows}), not {value}"
                )
        unknown = [f for f in self.features if f not in FEATURES]
        if unknown:
            raise ConfigError(f"unknown feature {unknown[0]!r}; known: {', '.join(FEATURES)}")
        if self.lanes.requantize * 8 < self.port.bytes:
            raise ConfigError(
                f"lanes.requantize is {self.lanes.requantize}: a parameter row of 8 bytes per lane "
                f"must fill at least one beat of port.bytes ({self.port.bytes})"
            )
        if self.port.max_burst * self.port.bytes < INSTRUCTION_BYTES:
            raise ConfigError(
                f"port.max_burst ({self.port.max_burst} beats of {self.port.bytes} bytes) must "
                f"hold one instruction of {INSTRUCTION_BYTES} bytes"
            )
        for name, beats in (
            ("weight_bytes", self.weight_beats),
            ("parameter_columns", self.parameter_rows * self.parameter_row_beats),
        ):
            if beats > 1 << LOCAL_BITS:
                raise ConfigError(
                    f"memory.{name} is {getattr(self.memory, name)}, that is {beats} beats of "
                    f"port.bytes; the ISA addresses {1 << LOCAL_BITS}"
                )
        if not _is_power_of_two(self.queue_depth) or not 2 <= self.queue_depth <= 16:
            raise ConfigError(f"queue_depth must be 2, 4, 8 or 16, not {self.queue_depth}")
        if self.weight_beats % self.weight_block_beats:
            raise ConfigError(
                f"memory.weight_bytes ({self.memory.weight_bytes}) does not hold "
                f"whole weight blocks of {self.array.multipliers} bytes"
            )

    # Derived quantities that more than one room needs.

    @property
    def lane_block(self) -> int:
        """L: bytes of a scratchpad row, lanes of a channel block."""
        return self.array.rows

    @property
    def weight_beats(self) -> int:
        """Beats that the weight scratchpad holds."""
        return self.memory.weight_bytes // self.port.bytes

    @property
    def weight_block_beats(self) -> int:
        """Beats of one weight block (rows × cols bytes)."""
        return self.array.multipliers // self.port.bytes

    @property
    def weight_group_beats(self) -> int:
        """Beats of the weight rows that are loaded in one cycle (LW × cols bytes)."""
        return self.array.weight_rows_per_cycle * self.array.cols // self.port.bytes

    @property
    def weight_block_groups(self) -> int:
        """Cycles to load one weight block: rows / LW."""
        return self.array.rows // self.array.weight_rows_per_cycle

    @property
    def parameter_row_beats(self) -> int:
        """Beats of one parameter row (requantize lanes × 8 bytes)."""
        return self.lanes.requantize * 8 // self.port.bytes

    @property
    def parameter_rows(self) -> int:
        """Rows of the parameter memory."""
        return self.memory.parameter_columns // self.lanes.requantize

    @property
    def requantize_steps(self) -> int:
        """Cycles in which the drain unit takes one accumulator row: cols / lanes."""
        return self.array.cols // self.lanes.requantize

    @property
    def vector_steps(self) -> int:
        """Cycles in which the vector unit takes one row."""
        return self.array.rows // self.lanes.vector

    @property
    def table_beats(self) -> int:
        """Beats of one 256-entry table."""
        return 256 // self.port.bytes

    @property
    def feature_mask(self) -> int:
        """Features as bits, in the order of `FEATURES`."""
        return sum(1 << FEATURES.index(f) for f in self.features)

    def require_built(self) -> None:
        """Refuse features that the circuit does not have.

        Raises
        ------
        ConfigError
            Names the first such feature.
        """
        missing = [feature for feature in self.features if feature not in BUILT]
        if missing:
            raise ConfigError(
                f"feature {missing[0]!r} of configuration {self.name!r} is not in the circuit; "
                f"it has {', '.join(BUILT)}"
            )

    @property
    def fingerprint(self) -> int:
        """64-bit number that changes with every parameter but the name."""
        content = dataclasses.asdict(self)
        del content["name"]
        content["features"] = sorted(content["features"])
        text = json.dumps(content, sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any]) -> AcceleratorConfig:
        """Build from nested mappings (the YAML file's content).

        Raises
        ------
        ConfigError
            If a key is unknown or missing, or a value breaks a limit.
        """
        parts: dict[str, Any] = dict(content)
        kinds = {
            "array": ArrayConfig,
            "memory": MemoryConfig,
            "port": PortConfig,
            "lanes": LaneConfig,
        }
        try:
            for key, kind in kinds.items():
                parts[key] = kind(**parts[key])
            if "features" in parts:
                parts["features"] = tuple(parts["features"])
            return cls(**parts)
        except KeyError as error:
            raise ConfigError(f"the configuration has no section {error}") from error
        except TypeError as error:
            raise ConfigError(f"the configuration has a wrong key: {error}") from error

    @classmethod
    def load(cls, source: str | Path) -> AcceleratorConfig:
        """Read a YAML file, or a preset by name (``tiny``, ``base``, ...).

        Raises
        ------
        ConfigError
            If the file is missing, is not YAML, or breaks a limit.
        """
        path = Path(source)
        if not path.suffix:
            path = CONFIG_DIRECTORY / f"{source}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in CONFIG_DIRECTORY.glob("*.yaml")))
            raise ConfigError(f"no configuration file {path}; presets: {known}")
        try:
            content = yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            raise ConfigError(f"{path} is not YAML: {error}") from error
        if not isinstance(content, dict):
            raise ConfigError(f"{path} must hold a mapping")
        return cls.from_mapping({"name": path.stem, **content})
