"""What a user can choose: direct or transformed (hFA), how DRAM is shared; settings and names."""

from __future__ import annotations

import dataclasses

from compiler.tensor import CompilerError
from hw.arch.config import AcceleratorConfig
from hw.arch.winograd import ALGORITHMS, Algorithm

OFF, AUTO = "off", "auto"
OBJECTIVES = ("cycles", "energy", "multiplications")
REUSE, ALL = "reuse", "all"
SHARING = (REUSE, ALL)
"""Tensors that are not needed at once share DRAM, or all are there when a run ends."""


def ascii_name(algorithm: Algorithm) -> str:
    """Name as it is typed, e.g. ``F(2,3)xF(4x4,3x3)``."""
    return plain(algorithm.name)


def plain(text: str) -> str:
    """A name without the characters that no keyboard has."""
    return text.replace("×", "x").replace("⊗", "x").replace(" ", "")


SUPPORTED = tuple(a for a in ALGORITHMS if (a.temporal, a.spatial) != (2, 2))
"""F(4,3)⊗F(4×4,3×3) needs 18×17 multipliers and 39-bit accumulators: no circuit has it."""
NAMES = {ascii_name(a): a for a in SUPPORTED}


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """What the user wants.

    Attributes
    ----------
    hfa: ``off``, ``auto``, or an algorithm's name: layers that can take it do, others are direct.
    objective: what ``auto`` minimizes (`OBJECTIVES`).
    """

    hfa: str = AUTO
    objective: str = OBJECTIVES[0]

    def check(self, config: AcceleratorConfig) -> None:
        """Refuse what is unknown or what the configuration cannot do.

        Raises
        ------
        CompilerError
            Names the setting and what there is.
        """
        known = (OFF, AUTO, *NAMES)
        if plain(self.hfa) not in known:
            raise CompilerError(f"--hfa {self.hfa}: unknown; there are {', '.join(known)}")
        if self.objective not in OBJECTIVES:
            raise CompilerError(
                f"--objective {self.objective}: unknown; there are {', '.join(OBJECTIVES)}"
            )
        if self.forced is None:
            return
        if "hfa" not in config.features:
            raise CompilerError(
                f"--hfa {self.hfa}: configuration {config.name} is built without hfa"
            )
        if nested(self.forced) and "hfa_nested" not in config.features:
            raise CompilerError(
                f"--hfa {self.hfa}: configuration {config.name} is built without nested hfa"
            )

    @property
    def forced(self) -> Algorithm | None:
        """The algorithm that was asked for, if one was."""
        return NAMES.get(plain(self.hfa))


def nested(algorithm: Algorithm) -> bool:
    """Whether time and space are both transformed."""
    return bool(algorithm.temporal and algorithm.spatial)
