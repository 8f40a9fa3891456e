"""Lowering of norms."""

from __future__ import annotations

from compiler.lower.unwritten import Unwritten
from compiler.ops import Normalize
from hw.arch.config import AcceleratorConfig


class NormalizeLowering(Unwritten[Normalize]):
    """Refused on every configuration."""

    operation = Normalize
    reason = "norms are not lowered yet"

    def kind(self, op: Normalize, config: AcceleratorConfig) -> str:
        """One kind."""
        return "norm"


LOWERING = NormalizeLowering()
