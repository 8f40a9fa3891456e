"""What later layers load, of all that lies in DRAM when a layer is emitted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from compiler.backend.placement import Placement
from compiler.backend.unread import addresses_of
from compiler.flow.liveness import in_emission
from compiler.flow.settle import Settled

Addresses: TypeAlias = tuple[int, int]
"""First byte in DRAM, and the one behind the last."""


@dataclasses.dataclass(frozen=True, slots=True)
class ReadLater:
    """Values by when they are made and when they are read last.

    Attributes
    ----------
    numbers: of operators in the order of emission, by their results.
    uses: by value, number of the operator that makes it (-1 for what is there from the start) and
        of the last one that reads it.
    places: addresses of every value, in pieces.
    """

    numbers: Mapping[str, int]
    uses: Mapping[str, tuple[int, int]]
    places: Mapping[str, Sequence[Addresses]]

    @classmethod
    def of(cls, settled: Settled, placement: Placement) -> ReadLater:
        """Of a program."""
        ordered = in_emission(settled.assigned.graph)
        numbers = {op.output: number for number, op in enumerate(ordered)}
        last = {name: number for number, op in enumerate(ordered) for name in op.inputs}
        # What follows another operator is made in that one's layer, and reads there.
        made = numbers | {
            name: numbers[first] for name, first in settled.followers.items() if first in numbers
        }
        return cls(
            numbers,
            {name: (made.get(name, -1), number) for name, number in last.items()},
            {name: tuple(addresses_of(placement.tensors[name])) for name in last},
        )

    def behind(self, output: str) -> list[Addresses]:
        """What is there when an operator has run, and read by a later one."""
        here = self.numbers[output]
        return [
            place
            for name, (made, last) in self.uses.items()
            if made <= here < last
            for place in self.places[name]
        ]
