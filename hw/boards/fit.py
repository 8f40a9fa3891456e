"""The largest configuration that a board holds, by the model of resources."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from hw.arch.boards import Board
from hw.arch.config import AcceleratorConfig, ConfigError
from hw.boards.resources import KINDS, predict, total
from hw.synthesis import ECP5_85F, FULL, Resources

__all__ = ["Proposal", "propose", "steps", "text"]

SIDES = (4, 8, 16, 32)
LANES = ("requantize", "output_transform", "vector")
BANKS = 4
"""Of activations: decision 0006."""
LEAST = {
    "activation_bank_rows": 1024,
    "weight_bytes": 8192,
    "accumulator_rows": 256,
    "transformed_rows": 256,
    "parameter_columns": 256,
    "line_pixels": 128,
}
"""Memories that every proposal has at least: below them layers of the networks are cut small."""


@dataclasses.dataclass(frozen=True, slots=True)
class Proposal:
    """A configuration and what it would take.

    Attributes
    ----------
    config: the configuration. board: where it goes. units: predicted cells, the SoC's included.
    share: of each resource, that it may take.
    """

    config: AcceleratorConfig
    board: Board
    units: Mapping[str, Resources]
    share: float

    @property
    def used(self) -> Resources:
        """Cells of all."""
        return total(self.units.values())

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {
            "board": self.board.name,
            "config": content(self.config),
            "share": self.share,
            "units": {name: dataclasses.asdict(cells) for name, cells in self.units.items()},
            "used": dataclasses.asdict(self.used),
            "available": dataclasses.asdict(ECP5_85F),
        }

    def summary(self) -> str:
        """Lines for a person."""
        array, lanes = self.config.array, self.config.lanes
        counts = f"{lanes.requantize} requantize, {lanes.vector} vector"
        if lanes.output_transform:
            counts += f", {lanes.output_transform} output transform"
        lines = [
            f"{self.board.title}: {array.rows}×{array.cols} multipliers",
            f"lanes: {counts}; cells as predicted (within 10 % of synthesis where that was tried)",
        ]
        for kind in KINDS:
            used, there = getattr(self.used, kind), getattr(ECP5_85F, kind)
            lines.append(
                f"  {kind:<5}{used:>7,} of {there:>7,}  {used / there:6.1%}"
                f"  (up to {self.share:.0%})"
            )
        lines.append(f"\n  {'unit':<12}" + "".join(f"{kind:>8}" for kind in KINDS))
        for name, cells in self.units.items():
            lines.append(f"  {name:<12}" + "".join(f"{getattr(cells, k):>8,}" for k in KINDS))
        return "\n".join(lines)


def content(config: AcceleratorConfig) -> dict[str, Any]:
    """A configuration as its YAML file holds it."""
    result = dataclasses.asdict(config)
    result["features"] = list(config.features)
    return result


def text(config: AcceleratorConfig) -> str:
    """A configuration's YAML file."""
    return yaml.safe_dump(content(config), sort_keys=False, default_flow_style=None)


def _changed(config: AcceleratorConfig, part: str, **values: int) -> AcceleratorConfig | None:
    """With other values of a part; None if there is no such configuration."""
    try:
        return dataclasses.replace(
            config, **{part: dataclasses.replace(getattr(config, part), **values)}
        )
    except ConfigError:
        return None


def _starts(base: AcceleratorConfig) -> Iterator[AcceleratorConfig]:
    """Arrays with the fewest lanes and the least memories, the largest first.

    Of arrays with as many multipliers the one with more rows: a beat of memory is a row.
    """
    hfa = "hfa" in base.features
    shapes = [(rows, cols) for rows in SIDES for cols in SIDES if cols >= rows]
    for rows, cols in sorted(shapes, key=lambda s: (-s[0] * s[1], -s[0])):
        least = LEAST | {"activation_banks": BANKS}
        if not hfa:
            least["transformed_rows"] = 0
        while least["weight_bytes"] < 8 * rows * cols:
            least["weight_bytes"] *= 2
        try:
            yield dataclasses.replace(
                base,
                array=dataclasses.replace(
                    base.array, rows=rows, cols=cols, weight_rows_per_cycle=1
                ),
                memory=dataclasses.replace(base.memory, **least),
                port=dataclasses.replace(base.port, bytes=rows),
                lanes=dataclasses.replace(
                    base.lanes,
                    requantize=max(1, rows // 8),
                    vector=2 if "fold" in base.features else 1,
                    output_transform=int(hfa),
                ),
            )
        except ConfigError:
            continue


def steps(config: AcceleratorConfig) -> Iterator[AcceleratorConfig]:
    """Twice as much of one thing: lanes, the fewest first, then memories, the least grown first."""
    lanes = sorted(LANES, key=lambda name: getattr(config.lanes, name))
    for name in lanes:
        larger = _changed(config, "lanes", **{name: 2 * getattr(config.lanes, name)})
        if larger is not None and larger != config:
            yield larger
    grown = {name: getattr(config.memory, name) // least for name, least in LEAST.items()}
    for name in sorted(LEAST, key=lambda name: grown[name]):
        larger = _changed(config, "memory", **{name: 2 * getattr(config.memory, name)})
        if larger is not None and larger != config:
            yield larger


def propose(board: Board, base: AcceleratorConfig, share: float = FULL) -> Proposal:
    """The largest configuration with the features and operand widths of another one.

    Multipliers come first, then lanes, then memories: the array is the largest that fits with the
    fewest lanes and least memories, and what is left goes to lanes, one after the other doubled
    while they fit, and then to memories. Nothing of the result can be doubled any more.

    Parameters
    ----------
    board: where it goes. base: features, operand widths, queues and bursts are its own.
    share: of each resource, that core and SoC may take.

    Raises
    ------
    ConfigError
        If nothing fits.
    """

    def fits(config: AcceleratorConfig) -> bool:
        used = total(predict(config, board.name).values())
        return all(getattr(used, k) <= share * getattr(ECP5_85F, k) for k in KINDS)

    found = next((config for config in _starts(base) if fits(config)), None)
    if found is None:
        raise ConfigError(f"nothing with the features of {base.name} fits {board.name}")
    while larger := next(filter(fits, steps(found)), None):
        found = larger
    found = dataclasses.replace(found, name=f"{board.name}_{base.name}")
    return Proposal(found, board, predict(found, board.name), share)
