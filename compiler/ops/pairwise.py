"""Operators on two tensors, element by element."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from compiler.ops.base import Operation, stored_codes, to_codes
from compiler.tensor import Codes, Shape, TensorType
from hw.arch.layout import LaneMap
from hw.arch.numerics import Affine, Product


class PairwiseKind(enum.Enum):
    """The function of two reals."""

    ADD = "add"
    SUBTRACT = "subtract"
    MULTIPLY = "multiply"
    MAXIMUM = "maximum"
    MINIMUM = "minimum"


def broadcast(shapes: Sequence[Shape]) -> Shape | None:
    """Common shape of canonical shapes (each axis equal or 1); None where there is none."""
    result = []
    for sizes in zip(*shapes, strict=True):
        largest = max(sizes)
        if any(size not in (1, largest) for size in sizes):
            return None
        result.append(largest)
    c, t, h, w = result
    return c, t, h, w


def pair_table(
    arithmetic: Affine | Product,
    a: TensorType,
    b: TensorType,
    output: TensorType,
    low: int,
    high: int,
) -> npt.NDArray[np.generic]:
    """Results for all pairs of stored bytes; [256, 256] codes."""
    left, right = np.broadcast_arrays(stored_codes(a)[:, None], stored_codes(b)[None, :])
    return to_codes(arithmetic(left, right, low, high), output)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Pairwise(Operation):
    """y = f(a, b); an axis of size 1 is repeated (broadcast) against the other operand's.

    Attributes
    ----------
    kind: PairwiseKind.
    arithmetic: Affine for ADD and SUBTRACT, Product for MULTIPLY, None for the extrema, whose
        operands and result have the same quantization.
    low, high: clamp codes.
    lane_map: of the result where that is not its operands' (compiler/lower/parted.py).
    """

    kind: PairwiseKind
    arithmetic: Affine | Product | None = None
    low: int
    high: int
    lane_map: LaneMap | None = None

    def infer(self, inputs: Sequence[TensorType]) -> Shape:
        self.check_arity(inputs, 2)
        shape = broadcast([i.shape for i in inputs])
        if shape is None:
            raise self.error(
                f"shapes {list(inputs[0].shape)} and {list(inputs[1].shape)} do not broadcast"
            )
        return shape

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        super().check(inputs, output)
        self.check_clamp(self.low, self.high, output)
        match self.kind:
            case PairwiseKind.ADD | PairwiseKind.SUBTRACT:
                fits = isinstance(self.arithmetic, Affine)
            case PairwiseKind.MULTIPLY:
                fits = isinstance(self.arithmetic, Product)
            case PairwiseKind.MAXIMUM | PairwiseKind.MINIMUM:
                fits = self.arithmetic is None
                if any(i.quantization != output.quantization for i in inputs):
                    raise self.error("an extremum needs equal quantization of operands and result")
        if not fits:
            raise self.error(f"{self.kind.value} has the wrong arithmetic")

    def evaluate(
        self, operands: Sequence[Codes], inputs: Sequence[TensorType], output: TensorType
    ) -> Codes:
        a, b = operands
        if self.arithmetic is None:
            choose = np.maximum if self.kind is PairwiseKind.MAXIMUM else np.minimum
            return np.asarray(np.clip(choose(a, b), self.low, self.high), output.dtype)
        table = pair_table(self.arithmetic, inputs[0], inputs[1], output, self.low, self.high)
        index = a.view(np.uint8).astype(np.uint16) * np.uint16(256) + b.view(np.uint8)
        return np.asarray(table.reshape(-1)[index], output.dtype)
