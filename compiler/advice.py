"""What a user could change in a network, and what it would gain, before anything is built."""

from __future__ import annotations

import dataclasses

from compiler.ir import Convolution, Graph
from hw.arch.config import AcceleratorConfig

LEAST = 0.05
"""Share of the network's array cycles below which nothing is said."""


@dataclasses.dataclass(frozen=True, slots=True)
class Hint:
    """One operator that fills few lanes.

    Attributes
    ----------
    node: its name.
    channels, lanes: (in, out) of the operator, and those of the blocks that they are padded to.
    cycles: of a direct form that go to idle lanes.
    share: of the direct cycles of all dense convolutions.
    """

    node: str
    channels: tuple[int, int]
    lanes: tuple[int, int]
    cycles: int
    share: float

    def __str__(self) -> str:
        idle = 1 - (self.channels[0] * self.channels[1]) / (self.lanes[0] * self.lanes[1])
        return (
            f"{self.node}: {self.channels[0]} → {self.channels[1]} channels stand in "
            f"{self.lanes[0]} → {self.lanes[1]} lanes, so {idle:.0%} of the multipliers are idle, "
            f"directly {self.cycles:,} cycles or {self.share:.0%} of the network's convolutions; "
            "channels in multiples of the lanes (space to depth in front of a first layer) use them"
        )


def hints(graph: Graph, config: AcceleratorConfig) -> tuple[Hint, ...]:
    """Dense convolutions whose channels leave many lanes idle, the costliest first.

    Parameters
    ----------
    graph: after the passes.
    """
    rows, cols = config.array.rows, config.array.cols
    found: list[tuple[str, tuple[int, int], tuple[int, int], float, float]] = []
    for op in graph.ops:
        if not isinstance(op, Convolution) or op.groups > 1:
            continue
        channels = op.in_channels, op.out_channels
        lanes = -(-channels[0] // rows) * rows, -(-channels[1] // cols) * cols
        full = op.macs(graph.input_types(op)) / config.array.multipliers
        padded = full * lanes[0] * lanes[1] / (channels[0] * channels[1])
        found.append((op.name, channels, lanes, padded - full, padded))
    total = sum(padded for *_, padded in found)
    made = [
        Hint(name, channels, lanes, round(lost), lost / total)
        for name, channels, lanes, lost, _ in found
        if total and lost >= LEAST * total
    ]
    return tuple(sorted(made, key=lambda hint: -hint.cycles))
