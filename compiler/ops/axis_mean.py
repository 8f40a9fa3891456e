"""Mean over whole axes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from compiler.ops.base import Operation, to_codes
from compiler.tensor import Codes, Shape, TensorType
from hw.arch.numerics import Mean


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class AxisMean(Operation):
    """Mean over axes, which stay with size 1 in the canonical shape.

    Attributes
    ----------
    axes: canonical axes, ascending (1 = T, 2 = H, 3 = W).
    mean: the arithmetic.
    low, high: clamp codes.
    """

    axes: tuple[int, ...]
    mean: Mean
    low: int
    high: int

    def elements(self, source: TensorType) -> int:
        """Averaged elements per result."""
        return math.prod(source.shape[a] for a in self.axes)

    def infer(self, inputs: Sequence[TensorType]) -> Shape:
        self.check_arity(inputs, 1)
        c, t, h, w = (1 if a in self.axes else n for a, n in enumerate(inputs[0].shape))
        return c, t, h, w

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        super().check(inputs, output)
        self.check_clamp(self.low, self.high, output)
        if not self.axes or not set(self.axes) <= {1, 2, 3}:
            raise self.error(f"a mean over axes {self.axes}; T, H and W are 1, 2 and 3")

    def evaluate(
        self, operands: Sequence[Codes], inputs: Sequence[TensorType], output: TensorType
    ) -> Codes:
        total = operands[0].sum(axis=self.axes, keepdims=True, dtype=np.int64)
        total -= inputs[0].zero_point * self.elements(inputs[0])
        return to_codes(self.mean(total, self.low, self.high), output)
