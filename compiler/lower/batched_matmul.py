"""Lowering of products of two activations."""

from __future__ import annotations

from compiler.lower.unwritten import Unwritten
from compiler.ops import BatchedMatMul
from hw.arch.config import AcceleratorConfig


class BatchedMatMulLowering(Unwritten[BatchedMatMul]):
    """Refused on every configuration."""

    operation = BatchedMatMul
    reason = "products of two activations are not lowered yet"

    def kind(self, op: BatchedMatMul, config: AcceleratorConfig) -> str:
        """One kind."""
        return "product of activations"


LOWERING = BatchedMatMulLowering()
