"""Direct or transformed: the compiler's record of each layer, and what it saved.

The record is `tiling["hfa"]` of a layer (docs/architecture.md, "Direct or transformed"). Layers
without one, and runs without any, are ordinary: the accelerator may be built without hfa.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from hw.arch.winograd import Pixels
from reports.choice import NAMED, Choice
from reports.report import Report

PICO = 1e-12

DIRECT_BITS = (9, 8)
"""Operands of a direct product."""

PARTS: Mapping[str, str] = {
    "transformed_read": "U, transformed activations",
    "transformed_write": "U, transformed activations",
    "transformed_weight_read": "TWB, transformed weights",
    "transformed_weight_write": "TWB, transformed weights",
    "input_transform": "additions of the transforms",
    "weight_transform": "additions of the transforms",
    "output_transform": "additions of the transforms",
    "turn": "turning memories of the transforms",
    "divide": "exact divisions",
}
"""Action → what it is called here; nothing in a direct layer stands for these."""
PRODUCTS = ("multiply_transformed", "tree_add_transformed")
"""Actions that take the place of a direct layer's products and adder trees."""


@dataclasses.dataclass(frozen=True, slots=True)
class Product:
    """A product of an algorithm beside a direct one.

    Attributes
    ----------
    bits: of activation and weight, both transformed.
    energy: of a product, in products of a direct one: by bit products.
    fewer: products of a direct layer over those of a transformed one, whole tiles.
    """

    bits: tuple[int, int]
    energy: float
    fewer: float


def product(name: str) -> Product:
    """What an algorithm does to the multipliers."""
    algorithm = NAMED[name]
    bits = algorithm.input_bits(Pixels.RAW), algorithm.weight_bits()
    return Product(bits, math.prod(bits) / math.prod(DIRECT_BITS), algorithm.gain)


@dataclasses.dataclass(frozen=True, slots=True)
class Total:
    """Sums over layers, direct beside chosen."""

    layers: int
    direct: float
    chosen: float

    @property
    def saved(self) -> float:
        """Negative where the chosen ways need more."""
        return self.direct - self.chosen

    @property
    def gain(self) -> float | None:
        """Direct over chosen."""
        return self.direct / self.chosen if self.chosen else None


def total(choices: Sequence[Choice], figure: str) -> Total:
    """Sum of a figure of `Way` over the choices that have it for both ways."""
    pairs = [c.pair for c in choices if c.pair is not None]
    both = [(getattr(a, figure), getattr(b, figure)) for a, b in pairs]
    known = [(a, b) for a, b in both if a is not None and b is not None]
    return Total(len(known), sum(a for a, _ in known), sum(b for _, b in known))


def recorded(report: Report) -> tuple[Choice, ...]:
    """The records of a run, in program order; empty for one without hfa."""
    return tuple(x.choice for x in report.layers if x.choice is not None and x.executions)


def spent(report: Report, action: str) -> float | None:
    """Joules of an action in the whole run; None if the run does not carry its price."""
    count, price = report.actions.get(action, 0), report.energy_table.action_pj.get(action)
    if not count:
        return 0.0
    return None if price is None else count * price * PICO


def parts(report: Report) -> dict[str, float]:
    """Joules of what a direct layer does not do at all, largest first.

    Empty if the run has no transformed layer, or does not carry the price of each action.
    """
    sums: dict[str, float] = {}
    for action, part in PARTS.items():
        joules = spent(report, action)
        if joules is None:
            return {}
        if joules:
            sums[part] = sums.get(part, 0.0) + joules
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def summary(report: Report, direct: Report | None) -> dict[str, Any] | None:
    """For report.json: totals over the transformed layers; None without records."""
    found = recorded(report)
    if not found:
        return None
    taken = [c for c in found if c.transformed]
    figures = ("cycles", "multiplications", "energy_j", "dram_bytes")
    return {
        "layers": len(found),
        "transformed": len(taken),
        "estimated": {name: dataclasses.asdict(total(taken, name)) for name in figures},
        "energy_parts": parts(report),
        "against": None if direct is None else _against(report, direct),
    }


def _against(report: Report, direct: Report) -> dict[str, Any]:
    return {
        "config": direct.config,
        "cycles": direct.cycles,
        "energy_j": direct.energy_j,
        "dram_bytes": direct.dram_bytes,
        "energy": {name: [before, after] for name, before, after in changes(report, direct)},
    }


def layer_summary(made: Choice | None) -> dict[str, Any] | None:
    """For report.json: the record of one layer, with what it saved."""
    if made is None:
        return None
    pair = made.pair
    return {
        **dataclasses.asdict(made),
        "cycles_saved": pair[0].cycles - pair[1].cycles if pair else None,
        "multiplications_saved": (
            pair[0].multiplications - pair[1].multiplications if pair else None
        ),
    }


def changes(report: Report, direct: Report) -> list[tuple[str, float, float]]:
    """(component, joules of the direct run, joules of this run), largest change first."""
    names = dict.fromkeys((*direct.energy, *report.energy))
    found = [(n, direct.energy.get(n, 0.0), report.energy.get(n, 0.0)) for n in names]
    return sorted(found, key=lambda item: -abs(item[2] - item[1]))


def mismatch(report: Report, direct: Report) -> str:
    """Why a run cannot serve as the direct one beside another; "" if it can."""
    for name in ("macs", "multipliers"):
        mine, its = getattr(report, name), getattr(direct, name)
        if mine != its:
            return f"its {name} is {its}, not {mine}"
    if report.energy_table.name != direct.energy_table.name:
        return f"its energy table is {direct.energy_table.name}, not {report.energy_table.name}"
    if not direct.energy_j:
        return "it has no energy"
    hot = [x.label for x in direct.layers if x.choice is not None and x.choice.transformed]
    return f"its layer {hot[0]} is transformed; build it with --hfa off" if hot else ""
