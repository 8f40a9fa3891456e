"""What has been emitted so far, as far as the order of later transfers depends on it."""

from __future__ import annotations

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Store, Unit, UnitInstruction
from hw.arch.nest import ends


class Sent:
    """Counts instructions, and remembers what was stored."""

    def __init__(self, config: AcceleratorConfig):
        self._beat = config.port.bytes
        self._counts = dict.fromkeys(Unit, 0)
        self._stores: list[tuple[int, int]] = []

    def add(self, instruction: UnitInstruction) -> None:
        """One more."""
        self._counts[instruction.UNIT] += 1
        if isinstance(instruction, Store):
            low, high = ends(instruction.dram, instruction.counts, instruction.dram_deltas)
            self._stores.append((low, high + instruction.beats * self._beat - 1))

    def dispatched(self, unit: Unit) -> int:
        """How many instructions the unit has been given."""
        return self._counts[unit]

    def stored(self, address: int) -> int:
        """Number of the last STORE that may have written a DRAM byte; 0 if none has."""
        for number in range(len(self._stores), 0, -1):
            low, high = self._stores[number - 1]
            if low <= address <= high:
                return number
        return 0
