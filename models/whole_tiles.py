"""Multiplications of the fast algorithms with whole tiles on the real maps.

Table 1 of the paper divides by the ratio of an endless plane (models/table.py). A machine
multiplies whole tiles: a 7×7 map takes four tiles of 4×4 results, 16 rows for 49 results. These
counts are what an implementation cannot avoid, zero lanes of partly filled blocks not included.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from models import fsb, slowfast
from models.count import Layer, layers

Kernel = tuple[int, ...]


@dataclass(frozen=True)
class Algorithm:
    """A composition of F(m, r) along t, y and x.

    Attributes
    ----------
    name: as the tables print it.
    outputs, taps: m and r per axis; m = 1 where r = 1.
    """

    name: str
    outputs: tuple[int, int, int]
    taps: tuple[int, int, int]

    def multiplications(self, layer: Layer) -> int:
        """Products of a layer, every tile whole."""
        points = prod(m + r - 1 for m, r in zip(self.outputs, self.taps, strict=True))
        tiles = prod(-(-n // m) for n, m in zip(layer.shape[2:], self.outputs, strict=True))
        return layer.weights // prod(layer.kernel) * points * tiles


SPATIAL = Algorithm("F(4×4,3×3)", (1, 4, 4), (1, 3, 3))
PAPER: Mapping[Kernel, Algorithm] = {
    (3, 1, 1): Algorithm("F(6,3)", (6, 1, 1), (3, 1, 1)),
    (1, 3, 3): SPATIAL,
}
"""hFA as the paper's figures fit it (networks.md: the choice that reproduces Table 1)."""
CUBE: Mapping[Kernel, Algorithm] = {
    (3, 3, 3): Algorithm("F(4×4×4,3×3×3)", (4, 4, 4), (3, 3, 3)),
}
"""The paper's 3D Winograd baseline."""
EXACT: Mapping[Kernel, Algorithm] = {
    (3, 1, 1): Algorithm("F(4,3)", (4, 1, 1), (3, 1, 1)),
    (1, 3, 3): SPATIAL,
    (3, 3, 3): Algorithm("F(2,3)⊗F(4×4,3×3)", (2, 4, 4), (3, 3, 3)),
}
"""The largest that are exact with int8 codes, 18-bit multipliers and 36-bit accumulators."""


def multiplications(layer: Layer, algorithms: Mapping[Kernel, Algorithm]) -> int:
    """Products of one layer; direct where no algorithm applies or where it would not save any."""
    algorithm = algorithms.get(layer.kernel)
    if algorithm is None or layer.stride != (1, 1, 1):
        return layer.macs()
    return min(layer.macs(), algorithm.multiplications(layer))


def total(
    config: fsb.C3dConfig | slowfast.SlowFastConfig, algorithms: Mapping[Kernel, Algorithm]
) -> int:
    """Products of a whole network."""
    return sum(multiplications(layer, algorithms) for layer in layers(config))
