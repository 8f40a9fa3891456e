"""Lowering of the index of the greatest channel."""

from __future__ import annotations

from compiler.lower.unwritten import Unwritten
from compiler.ops import ArgMax
from hw.arch.config import AcceleratorConfig


class ArgMaxLowering(Unwritten[ArgMax]):
    """Refused on every configuration."""

    operation = ArgMax
    reason = "ArgMax is not lowered yet"

    def kind(self, op: ArgMax, config: AcceleratorConfig) -> str:
        """One kind."""
        return "argmax"


LOWERING = ArgMaxLowering()
