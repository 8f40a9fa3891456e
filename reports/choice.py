"""The compiler's record of one layer: direct or transformed, and what else it could have been.

The record is `tiling["hfa"]` of a layer (docs/architecture.md, "Direct or transformed").
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from hw.arch.winograd import ALGORITHMS, Algorithm

DIRECT = "direct"
MICRO = 1e-6
NAMED: Mapping[str, Algorithm] = {a.name: a for a in ALGORITHMS}


@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """One way to compute a layer, as the compiler foresaw it.

    Attributes
    ----------
    name: algorithm.
    cycles, multiplications, dram_bytes: estimates; multiplications count idle lanes.
    energy_j: joules, without what all ways share; None where it was not estimated.
    """

    name: str
    cycles: int
    multiplications: int
    dram_bytes: int
    energy_j: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """What the compiler recorded about one layer.

    Attributes
    ----------
    chosen: algorithm, or `DIRECT`.
    objective, asked: the settings.
    reason: why the layer is direct; "" if it is transformed.
    ways: candidates, direct first; empty where none was estimated.
    refused: reason by algorithm.
    """

    chosen: str
    objective: str
    asked: str
    reason: str
    ways: tuple[Way, ...]
    refused: Mapping[str, str]

    @property
    def transformed(self) -> bool:
        """An algorithm was taken."""
        return self.chosen != DIRECT

    def way(self, name: str) -> Way | None:
        """A candidate by name."""
        return next((way for way in self.ways if way.name == name), None)

    @property
    def direct(self) -> Way | None:
        """The direct candidate, if it was estimated."""
        return self.way(DIRECT)

    @property
    def taken(self) -> Way | None:
        """The chosen candidate, if it was estimated."""
        return self.way(self.chosen)

    @property
    def pair(self) -> tuple[Way, Way] | None:
        """Direct and chosen way, if both were estimated."""
        direct, taken = self.direct, self.taken
        return None if direct is None or taken is None else (direct, taken)


def choice(tiling: Mapping[str, Any]) -> Choice | None:
    """The record of a layer, or None if it has none.

    Raises
    ------
    ValueError
        If the record is incomplete or contradicts itself.
    """
    record = tiling.get("hfa")
    if record is None:
        return None
    missing = sorted({f.name for f in dataclasses.fields(Choice)} - {"ways"} - set(record))
    if missing or "candidates" not in record:
        raise ValueError(f"a record of hfa lacks {missing[0] if missing else 'candidates'}")
    found = {name: _way(name, values) for name, values in record["candidates"].items()}
    chosen = record["chosen"]
    if found and chosen not in found:
        raise ValueError(f"hfa: {chosen} was chosen, the candidates are {', '.join(found)}")
    if chosen != DIRECT and chosen not in NAMED:
        raise ValueError(f"hfa: {chosen} is no algorithm")
    return Choice(
        chosen=chosen,
        objective=record["objective"],
        asked=record["asked"],
        reason=record["reason"],
        ways=tuple(sorted(found.values(), key=lambda way: way.name != DIRECT)),
        refused=dict(record["refused"]),
    )


def _way(name: str, values: Mapping[str, Any]) -> Way:
    energy = values.get("energy_uj")
    return Way(
        name,
        values["cycles"],
        values["multiplications"],
        values["dram_bytes"],
        None if energy is None else energy * MICRO,
    )
