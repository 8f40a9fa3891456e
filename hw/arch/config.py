"""Parameters of an accelerator: frozen dataclasses, read from YAML, validated, fingerprinted."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hw.arch.codes import FEATURE_BITS, FEATURES, INSTRUCTION_BYTES, LOCAL_BITS
from hw.arch.parts import (
    ArrayConfig,
    ConfigError,
    LaneConfig,
    MemoryConfig,
    PortConfig,
    is_name,
    is_power_of_two,
)
from hw.arch.typed import TypedError, build
from hw.arch.yaml_file import locate, read_mapping

__all__ = [
    "CONFIG_DIRECTORY",
    "FEATURES",
    "NEEDS",
    "TRANSFORM_BITS",
    "AcceleratorConfig",
    "ArrayConfig",
    "ConfigError",
    "LaneConfig",
    "MemoryConfig",
    "PortConfig",
]

CONFIG_DIRECTORY = Path(__file__).resolve().parent.parent / "configs"

NEEDS = {
    "hfa_nested": ("hfa",),
    "hfa_depthwise": ("hfa", "depthwise"),
    "fold": ("vector",),
    "attention": ("fold",),
}
"""Features that extend others."""

TRANSFORM_BITS = {"hfa": (15, 14), "hfa_nested": (16, 16)}
"""Least operand widths (activation, weight) that the algorithms of a feature need on raw s8; the
widest are F(4×4,3×3) and, nested, F(2,3)⊗F(4×4,3×3) (winograd.Algorithm.input_bits)."""

SOFTMAX_TABLES = 8
"""Least tables with the feature fold: the exponentials of a softmax take four of them."""

WEIGHT_BANKS = 4
"""Banks of the weight scratchpad with the feature attention, each with one writer."""

CENTRED_WEIGHT_BITS = 9
"""Of a code minus its zero point."""

INDEX_LANES = 2
"""Least vector lanes with the feature fold: an ARGMAX writes an index of two bytes in one step."""

EXACT_DIVISION_BITS = 36
"""Two native multiplier widths (hw/compute/drain/exact_division.py)."""

TILE_POINTS = 16
"""Products of a tile of F(2×2,3×3), in each column."""


@dataclasses.dataclass(frozen=True, slots=True)
class AcceleratorConfig:
    """A whole accelerator.

    Attributes
    ----------
    name: short name, e.g. ``base``: letters, digits, - and _.
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
        if not is_name(self.name):
            raise ConfigError(
                f"name is {self.name!r}; it must be 1 to 64 letters, digits, - and _ (a file "
                f"without `name` lends its own)"
            )
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
        if len(set(self.features)) < len(self.features):
            raise ConfigError(f"features name one twice: {', '.join(self.features)}")
        self._check_needs()
        self._check_transforms()
        self._check_attention()
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
        if self.memory.parameter_columns < self.array.cols:
            raise ConfigError(
                f"memory.parameter_columns is {self.memory.parameter_columns}; one output block "
                f"takes array.cols = {self.array.cols}"
            )
        if not is_power_of_two(self.queue_depth) or not 2 <= self.queue_depth <= 16:
            raise ConfigError(f"queue_depth must be 2, 4, 8 or 16, not {self.queue_depth}")
        if self.weight_beats % self.weight_block_beats:
            raise ConfigError(
                f"memory.weight_bytes ({self.memory.weight_bytes}) does not hold "
                f"whole weight blocks of {self.array.multipliers} bytes"
            )

    def _check_needs(self) -> None:
        """Features that extend others."""
        for feature, needed in NEEDS.items():
            for base in needed:
                if feature in self.features and base not in self.features:
                    raise ConfigError(f"feature {feature!r} needs feature {base!r}")

    def _check_attention(self) -> None:
        """Tables and weights that the features fold and attention need."""
        if "fold" in self.features and self.memory.tables < SOFTMAX_TABLES:
            raise ConfigError(
                f"memory.tables is {self.memory.tables}; feature 'fold' needs at least "
                f"{SOFTMAX_TABLES}"
            )
        if "fold" in self.features and self.lanes.vector < INDEX_LANES:
            raise ConfigError(
                f"lanes.vector is {self.lanes.vector}; feature 'fold' needs at least "
                f"{INDEX_LANES}, the bytes of an index"
            )
        if "attention" not in self.features:
            return
        if self.array.weight_bits < CENTRED_WEIGHT_BITS:
            raise ConfigError(
                f"array.weight_bits is {self.array.weight_bits}; feature 'attention' needs at "
                f"least {CENTRED_WEIGHT_BITS}"
            )
        if self.weight_bank_beats < self.weight_block_beats:
            raise ConfigError(
                f"memory.weight_bytes ({self.memory.weight_bytes}) does not hold a weight block "
                f"of {self.array.multipliers} bytes in each of {WEIGHT_BANKS} banks"
            )

    def _check_transforms(self) -> None:
        """Widths, memories and lanes that the hfa features need; none of them without."""
        # Their taps then load within the 16 pixels of the smallest frame.
        if "hfa_depthwise" in self.features and self.array.rows > TILE_POINTS:
            raise ConfigError(
                f"feature 'hfa_depthwise' needs at most {TILE_POINTS} array.rows, the products of "
                f"a tile, not {self.array.rows}"
            )
        lanes, rows = self.lanes.output_transform, self.memory.transformed_rows
        if "hfa" not in self.features:
            for name, value in (
                ("lanes.output_transform", lanes),
                ("memory.transformed_rows", rows),
            ):
                if value:
                    raise ConfigError(f"{name} is {value}, but feature 'hfa' is off; it must be 0")
            return
        for feature, widths in TRANSFORM_BITS.items():
            if feature not in self.features:
                continue
            for name, least in zip(("activation_bits", "weight_bits"), widths, strict=True):
                value = getattr(self.array, name)
                if value < least:
                    raise ConfigError(
                        f"array.{name} is {value}; feature {feature!r} needs at least {least}"
                    )
        if lanes < 1 or self.lanes.requantize % lanes:
            raise ConfigError(
                f"lanes.output_transform must divide lanes.requantize ({self.lanes.requantize}), "
                f"not {lanes}"
            )
        if self.memory.accumulator_bits > EXACT_DIVISION_BITS:
            raise ConfigError(
                f"memory.accumulator_bits is {self.memory.accumulator_bits}; the exact division of "
                f"feature 'hfa' takes at most {EXACT_DIVISION_BITS}"
            )
        points = 144 if "hfa_nested" in self.features else 36
        if rows < points:
            raise ConfigError(
                f"memory.transformed_rows is {rows}; one tile has up to {points} points"
            )

    # Derived quantities that more than one room needs.

    @property
    def lane_block(self) -> int:
        """L: bytes of a scratchpad row, lanes of a channel block."""
        return self.array.rows

    @property
    def tap_blocks(self) -> int:
        """Weight blocks that hold the nine taps of a depthwise window, one per row."""
        return -(-9 // self.array.rows)

    @property
    def weight_beats(self) -> int:
        """Beats that the weight scratchpad holds."""
        return self.memory.weight_bytes // self.port.bytes

    @property
    def weight_banks(self) -> int:
        """Banks of the weight scratchpad, each with one read and one write port."""
        return WEIGHT_BANKS if "attention" in self.features else 1

    @property
    def weight_bank_beats(self) -> int:
        """Beats of one bank of the weight scratchpad."""
        return self.weight_beats // self.weight_banks

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
    def output_transform_steps(self) -> int:
        """Cycles in which the output transform takes one accumulator row: cols / lanes."""
        return self.array.cols // self.lanes.output_transform

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

    @property
    def missing_features(self) -> int:
        """Mask of everything that the circuit does not have."""
        return ~self.feature_mask & ((1 << FEATURE_BITS) - 1)

    @property
    def fingerprint(self) -> int:
        """64-bit number of the circuit: of all but the name and what is expected of memory."""
        content = dataclasses.asdict(self)
        del content["name"], content["port"]["rate"], content["port"]["gap"]
        content["features"] = sorted(content["features"])
        text = json.dumps(content, sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any]) -> AcceleratorConfig:
        """Build from nested mappings (the YAML file's content).

        Raises
        ------
        ConfigError
            If a key is unknown or missing, or a value has another type or breaks a limit.
        """
        try:
            return build(cls, content, "")
        except TypedError as error:
            raise ConfigError(str(error)) from error

    @classmethod
    def load(cls, source: str | Path) -> AcceleratorConfig:
        """Read a YAML file, or a preset by name (``tiny``, ``base``, ...).

        Raises
        ------
        ConfigError
            If the file is missing, is not YAML, or breaks a limit; names the file.
        """
        path = Path(source)
        if not path.suffix:
            path = CONFIG_DIRECTORY / f"{source}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in CONFIG_DIRECTORY.glob("*.yaml")))
            raise ConfigError(f"no configuration file {path}; presets: {known}")
        try:
            content = read_mapping(path)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        try:
            return cls.from_mapping({"name": path.stem, **content})
        except ConfigError as error:
            # A part's own check names the part again.
            message = re.sub(r"^(\w+): (?=\1\.)", "", str(error))
            line = locate(path, message)
            where = f"{path}, line {line}" if line else str(path)
            raise ConfigError(f"{where}: {message}") from error
