"""Matrix products of two activations."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from compiler.ops.base import Operation, to_codes
from compiler.tensor import Codes, Shape, TensorType
from hw.arch.axes import Axes, canonical_of, covers, from_canonical, to_canonical
from hw.arch.matmul_numerics import ProductScale, product_codes

ACCUMULATOR_LIMIT = 1 << 31
"""ONNX Runtime accumulates in int32; a sum that could leave it would differ there."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class BatchedMatMul(Operation):
    """y[b, m, n] = Σ over k of a[b, m, k] · r[b, k, n], requantized.

    How operands and result lie is said by axes over row-major tensors of these shapes, so that any
    transposition and any place of the batch is one operator: in attention's scores the heads of
    both operands are digits of C and lie along T of the result.

    Attributes
    ----------
    batch, rows, inner, columns: sizes of b, m, k, n.
    left: axes of the first operand over [batch, rows, inner].
    right: axes of the second operand over [batch, inner, columns].
    target: axes of the result over [batch, rows, columns].
    scale: of the requantization, with all zero points.
    low, high: clamp codes.
    """

    batch: int
    rows: int
    inner: int
    columns: int
    left: Axes
    right: Axes
    target: Axes
    scale: ProductScale
    low: int
    high: int

    def infer(self, inputs: Sequence[TensorType]) -> Shape:
        self.check_arity(inputs, 2)
        if min(self.batch, self.rows, self.inner, self.columns) < 1:
            raise self.error("its sizes start at 1")
        sizes = (
            ("first operand", self.left, self.batch * self.rows * self.inner),
            ("second operand", self.right, self.batch * self.inner * self.columns),
            ("result", self.target, self.batch * self.rows * self.columns),
        )
        for what, axes, elements in sizes:
            if not covers(axes, elements):
                raise self.error(f"axes {axes} of its {what} are not those of {elements} elements")
        for kind, axes in zip(inputs, (self.left, self.right), strict=True):
            if kind.shape != canonical_of(axes):
                raise self.error(f"reads {canonical_of(axes)}, not {kind.shape}")
        return canonical_of(self.target)

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        super().check(inputs, output)
        self.check_clamp(self.low, self.high, output)
        zeros = (self.scale.za, self.scale.zb, self.scale.zero_point)
        if zeros != (inputs[0].zero_point, inputs[1].zero_point, output.zero_point):
            raise self.error(f"zero points {zeros} are not its operands' and its result's")
        bound = self.accumulator_bound(inputs)
        if bound >= ACCUMULATOR_LIMIT:
            raise self.error(f"accumulators may reach {bound}; int32 ends at {ACCUMULATOR_LIMIT}")

    def accumulator_bound(self, inputs: Sequence[TensorType]) -> int:
        """Largest |accumulator| that any operands can produce."""
        a, b = (max(k.high - k.zero_point, k.zero_point - k.low) for k in inputs)
        return self.inner * a * b

    def macs(self, inputs: Sequence[TensorType]) -> int:
        """All products."""
        return self.batch * self.rows * self.inner * self.columns

    def evaluate(
        self, operands: Sequence[Codes], inputs: Sequence[TensorType], output: TensorType
    ) -> Codes:
        a = from_canonical(operands[0], self.left, (self.batch, self.rows, self.inner))
        b = from_canonical(operands[1], self.right, (self.batch, self.inner, self.columns))
        codes = product_codes(a, b, self.scale, self.low, self.high)
        return to_canonical(to_codes(codes, output), self.target)
