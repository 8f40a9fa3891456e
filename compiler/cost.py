"""What a layer, or several joined ones, are estimated to cost, under each objective."""

from __future__ import annotations

import dataclasses
import math

from compiler.array.energy import moved_picojoules, streamed_picojoules
from compiler.array.hfa import Way
from hw.arch.config import AcceleratorConfig

TRAFFIC_WEIGHT = 4
"""Beats that count as much as a cycle. Joined layers differ little in cycles and much in traffic,
whose energy would justify more: 128 bits of DDR3 cost as much as three cycles of the `base` core
(sim/energy/tables/asic_45nm.yaml)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """Estimates, of one layer or of several one after another.

    Attributes
    ----------
    cycles: estimated.
    beats: moved between DRAM and the chip.
    vectors: products that the array forms, in units of rows × cols.
    energy_pj: estimate; see compiler/array/energy.py.
    """

    cycles: float
    beats: float
    vectors: float
    energy_pj: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.cycles + other.cycles,
            self.beats + other.beats,
            self.vectors + other.vectors,
            self.energy_pj + other.energy_pj,
        )

    @classmethod
    def of_way(cls, way: Way, config: AcceleratorConfig) -> Cost:
        """Of a convolution, computed as was chosen."""
        vectors = way.multiplications / config.array.multipliers
        return cls(way.cycles, way.beats, vectors, way.energy_pj)

    @classmethod
    def of_streams(
        cls, cycles: float, beats: float, vectors: float, config: AcceleratorConfig
    ) -> Cost:
        """Estimates of what reads so many rows into the array; of VECTOR and transfers alone, 0."""
        energy = streamed_picojoules(vectors, config) + moved_picojoules(beats, cycles, config)
        return cls(cycles, beats, vectors, energy)

    def moved(self, cycles: float, beats: float, config: AcceleratorConfig) -> Cost:
        """Estimates of the same work of the array in other time, with other transfers."""
        array = self.energy_pj - moved_picojoules(self.beats, self.cycles, config)
        energy = array + moved_picojoules(beats, cycles, config)
        return Cost(cycles, beats, self.vectors, energy)

    def merit(self, objective: str) -> tuple[float, float]:
        """What is minimized, and what decides between equals."""
        mixed = self.cycles + self.beats / TRAFFIC_WEIGHT
        match objective:
            case "cycles":
                return mixed, self.beats
            case "energy":
                return self.energy_pj, mixed
            case _:
                return self.vectors, mixed


NOTHING = Cost(0, 0, 0, 0)
NEVER = Cost(math.inf, math.inf, math.inf, math.inf)
