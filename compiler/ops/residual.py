"""The temporal residual gradient (TRG), fused."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from compiler.ops.base import Operation, Table, apply_table, to_codes
from compiler.ops.pairwise import pair_table
from compiler.tensor import Codes, Shape, TensorType
from hw.arch.numerics import Affine, Mean


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class TemporalResidual(Operation):
    """T frames in, T out: T − 1 differences of neighbours, then the mean frame.

    y[:, t] = difference_table[subtract(x[:, t + 1], x[:, t])] for t < T − 1,
    y[:, T − 1] = mean_table[mean over t of x]. Fused from Slice, Slice, Sub, ReduceMean, Concat.

    Attributes
    ----------
    subtract: arithmetic of the difference, current frame first.
    mean: arithmetic of the mean frame.
    difference, average: types of the Sub's and the ReduceMean's own results (one frame less; one
        frame), from which the tables lead to the concat's quantization.
    difference_low, difference_high, average_low, average_high: clamp codes before the tables.
    difference_table, average_table: None where the quantization is already the concat's.
    """

    subtract: Affine
    mean: Mean
    difference: TensorType
    average: TensorType
    difference_low: int
    difference_high: int
    average_low: int
    average_high: int
    difference_table: Table | None = None
    average_table: Table | None = None

    def infer(self, inputs: Sequence[TensorType]) -> Shape:
        self.check_arity(inputs, 1)
        if inputs[0].shape[1] < 2:
            raise self.error("a temporal residual needs at least two frames")
        return inputs[0].shape

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        super().check(inputs, output)
        parts = (
            (self.difference, self.difference_table, self.difference_low, self.difference_high),
            (self.average, self.average_table, self.average_low, self.average_high),
        )
        for kind, table, low, high in parts:
            self.check_clamp(low, high, kind)
            self.check_table(table)
            if table is None and kind.quantization != output.quantization:
                raise self.error("a change of quantization needs a table")

    def evaluate(
        self, operands: Sequence[Codes], inputs: Sequence[TensorType], output: TensorType
    ) -> Codes:
        x, source = operands[0], inputs[0]
        result = np.empty(x.shape, output.dtype)
        pairs = pair_table(
            self.subtract,
            source,
            source,
            self.difference,
            self.difference_low,
            self.difference_high,
        ).reshape(-1)
        stored = x.view(np.uint8).astype(np.uint16)
        difference = pairs[stored[:, 1:] * np.uint16(256) + stored[:, :-1]]
        result[:, :-1] = apply_table(
            difference.astype(self.difference.dtype), self.difference_table, output
        )
        total = x.sum(axis=1, keepdims=True, dtype=np.int64) - source.zero_point * x.shape[1]
        average = to_codes(self.mean(total, self.average_low, self.average_high), self.average)
        result[:, -1:] = apply_table(average, self.average_table, output)
        return result
