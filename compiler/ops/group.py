"""Operators on groups of elements: softmax, norms, and the index of the greatest element."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from compiler.ops.base import Operation, to_codes
from compiler.tensor import Codes, Shape, TensorType
from hw.arch import group_numerics
from hw.arch.group_numerics import NormConstants, SoftmaxConstants

MOST_OF_A_BYTE = 256
"""Channels whose indices fit a byte."""
MOST_INDEXED = 1 << 16
"""Elements of an axis whose index is a code."""


def grouped(codes: Codes, axes: Sequence[int]) -> Codes:
    """[C, T, H, W] with some axes as one behind the others, row-major; [..., n]."""
    rest = [a for a in range(4) if a not in axes]
    moved = codes.transpose(*rest, *axes)
    return moved.reshape(*moved.shape[: len(rest)], -1)


def ungrouped(
    groups: npt.NDArray[np.int64], axes: Sequence[int], shape: Shape
) -> npt.NDArray[np.int64]:
    """Undo `grouped`."""
    order = [*(a for a in range(4) if a not in axes), *axes]
    moved = groups.reshape([shape[a] for a in order])
    return np.ascontiguousarray(moved.transpose(np.argsort(order)))


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _Grouping(Operation):
    """Every element becomes another one, which depends on its group.

    Attributes
    ----------
    axes: canonical axes, ascending, that a group goes over (0 = C, 1 = T, 2 = H, 3 = W).
    low, high: clamp codes.
    """

    MOST: ClassVar[int]
    """Elements of a group."""

    axes: tuple[int, ...]
    low: int
    high: int

    def elements(self, source: TensorType) -> int:
        """Of a group."""
        return math.prod(source.shape[a] for a in self.axes)

    def infer(self, inputs: Sequence[TensorType]) -> Shape:
        self.check_arity(inputs, 1)
        return inputs[0].shape

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        super().check(inputs, output)
        self.check_clamp(self.low, self.high, output)
        if not self.axes or sorted(set(self.axes) & {0, 1, 2, 3}) != list(self.axes):
            raise self.error(f"groups over axes {self.axes}; C, T, H and W are 0 to 3")
        count = self.elements(inputs[0])
        if count > self.MOST:
            raise self.error(f"groups of {count} elements; at most {self.MOST} are summed")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Softmax(_Grouping):
    """y = exp(x − max) / Σ exp(x − max) over each group.

    Attributes
    ----------
    constants: exponentials of all differences of codes, and the result's scale.
    """

    MOST = group_numerics.MOST_SOFTMAX_ELEMENTS

    constants: SoftmaxConstants

    def evaluate(
        self, operands: Sequence[Codes], inputs: Sequence[TensorType], output: TensorType
    ) -> Codes:
        groups = grouped(operands[0], self.axes)
        codes = group_numerics.softmax_codes(
            groups, self.constants, output.zero_point, self.low, self.high
        )
        return to_codes(ungrouped(codes, self.axes, inputs[0].shape), output)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Normalize(_Grouping):
    """y = γ·(x − mean)/deviation + β over each group; γ and β differ by element.

    Attributes
    ----------
    constants: ε, γ and β in units of the codes; elements of a group in row-major order of `axes`.
    """

    MOST = group_numerics.MOST_ELEMENTS

    constants: NormConstants

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        super().check(inputs, output)
        count = self.elements(inputs[0])
        constants = self.constants
        sizes = {len(constants.gains), len(constants.offsets)}
        if sizes != {count} or constants.elements != count * constants.repeats:
            raise self.error(f"groups of {count} elements meet constants for {min(sizes)}")

    def evaluate(
        self, operands: Sequence[Codes], inputs: Sequence[TensorType], output: TensorType
    ) -> Codes:
        groups = grouped(operands[0], self.axes)
        codes = group_numerics.norm_codes(
            groups, self.constants, output.zero_point, self.low, self.high
        )
        return to_codes(ungrouped(codes, self.axes, inputs[0].shape), output)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ArgMax(Operation):
    """Index of the greatest channel at every position, the lowest one among equals.

    The result's codes are the indices: u8 of scale 1 and zero point 0. Those of more than 256
    channels take two: their low byte, then their high one.
    """

    def infer(self, inputs: Sequence[TensorType]) -> Shape:
        self.check_arity(inputs, 1)
        return 1 + (inputs[0].shape[0] > MOST_OF_A_BYTE), *inputs[0].shape[1:]

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        super().check(inputs, output)
        if inputs[0].shape[0] > MOST_INDEXED:
            raise self.error(
                f"the greatest of {inputs[0].shape[0]} channels; of {MOST_INDEXED} at most"
            )
        if output.quantization != (False, 1.0, 0):
            raise self.error(f"its indices are no {output}")

    def evaluate(
        self, operands: Sequence[Codes], inputs: Sequence[TensorType], output: TensorType
    ) -> Codes:
        index = np.argmax(operands[0], axis=0, keepdims=True)
        digits = [index >> 8 * digit & 0xFF for digit in range(output.shape[0])]
        return np.concatenate(digits).astype(np.uint8)
