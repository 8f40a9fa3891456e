"""The roofline bound: how fast a machine may go, given its multipliers and its memory port.

Arithmetic intensity is multiply-accumulates per byte of DRAM traffic. A layer of intensity I runs
at no more than min(multipliers, port bytes × I) multiply-accumulates per cycle. With a fast
algorithm (hFA) the multiply-accumulates of the original convolution are counted, so a layer may
lie above the multipliers' line.
"""

from __future__ import annotations

import dataclasses
import math

OVER = 1.0005
"""A share from here on reads as more than 100.0 %, and so needs its reason."""


def intensity(macs: int, dram_bytes: int) -> float:
    """Multiply-accumulates per byte; infinite when nothing crosses the port."""
    if dram_bytes == 0:
        return math.inf if macs else 0.0
    return macs / dram_bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Roof:
    """The bound of one machine.

    Attributes
    ----------
    multipliers: peak, in multiply-accumulates per cycle.
    port_bytes: bandwidth of the memory port, in bytes per cycle.
    """

    multipliers: int
    port_bytes: int

    @property
    def ridge(self) -> float:
        """Intensity from which on the multipliers are the bound (MAC per byte)."""
        return self.multipliers / self.port_bytes

    def bound(self, at: float) -> float:
        """Multiply-accumulates per cycle that intensity `at` allows."""
        return min(float(self.multipliers), self.port_bytes * at)

    def limit(self, at: float) -> str:
        """Which part of the machine bounds intensity `at`: ``memory`` or ``multipliers``."""
        return "memory" if at < self.ridge else "multipliers"
