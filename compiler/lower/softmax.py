"""Lowering of softmax."""

from __future__ import annotations

from compiler.lower.unwritten import Unwritten
from compiler.ops import Softmax
from hw.arch.config import AcceleratorConfig


class SoftmaxLowering(Unwritten[Softmax]):
    """Refused on every configuration."""

    operation = Softmax
    reason = "softmax is not lowered yet"

    def kind(self, op: Softmax, config: AcceleratorConfig) -> str:
        """One kind."""
        return "softmax"


LOWERING = SoftmaxLowering()
