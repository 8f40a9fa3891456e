"""Operators that only select or move codes: concat, slice, views, permutations, relayouts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from compiler.ops.base import Operation, Table, apply_table
from compiler.tensor import Codes, Shape, TensorType
from hw.arch.axes import Axes, canonical_of, covers, from_canonical, to_canonical
from hw.arch.layout import LaneMap


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Concat(Operation):
    """Join tensors along one axis.

    Attributes
    ----------
    axis: canonical axis (0 = C, 1 = T, 2 = H, 3 = W).
    tables: per operand, None or the table that brings it to the result's quantization.
    shared: the result is its operands' bytes, where they are: nothing moves.
    """

    axis: int
    tables: tuple[Table | None, ...]
    shared: bool = False

    def infer(self, inputs: Sequence[TensorType]) -> Shape:
        shape = list(inputs[0].shape)
        for other in inputs[1:]:
            rest = [n for a, n in enumerate(other.shape) if a != self.axis]
            if rest != [n for a, n in enumerate(shape) if a != self.axis]:
                raise self.error(f"shapes {shape} and {list(other.shape)} do not join")
            shape[self.axis] += other.shape[self.axis]
        c, t, h, w = shape
        return c, t, h, w

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        super().check(inputs, output)
        for source, table in zip(inputs, self.tables, strict=True):
            self.check_table(table)
            if table is None and source.quantization != output.quantization:
                raise self.error("an operand of another quantization needs a table")

    def evaluate(
        self, operands: Sequence[Codes], inputs: Sequence[TensorType], output: TensorType
    ) -> Codes:
        parts = [apply_table(x, t, output) for x, t in zip(operands, self.tables, strict=True)]
        return np.concatenate(parts, axis=self.axis)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Slice(Operation):
    """Elements start, start + step, ... below stop of one axis.

    Attributes
    ----------
    axis: canonical axis.
    start, stop, step: 0 <= start < stop <= size, step >= 1.
    shared: the result is the operand's bytes, where they are: nothing moves.
    """

    axis: int
    start: int
    stop: int
    step: int = 1
    shared: bool = False

    def infer(self, inputs: Sequence[TensorType]) -> Shape:
        self.check_arity(inputs, 1)
        shape = list(inputs[0].shape)
        if not 0 <= self.start < self.stop <= shape[self.axis] or self.step < 1:
            raise self.error(
                f"takes {self.start}..{self.stop} step {self.step} of {shape[self.axis]} elements"
            )
        shape[self.axis] = len(range(self.start, self.stop, self.step))
        c, t, h, w = shape
        return c, t, h, w

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        super().check(inputs, output)
        if inputs[0].quantization != output.quantization:
            raise self.error("a slice keeps scale and zero point")

    def evaluate(
        self, operands: Sequence[Codes], inputs: Sequence[TensorType], output: TensorType
    ) -> Codes:
        cut = [slice(None)] * 4
        cut[self.axis] = slice(self.start, self.stop, self.step)
        return np.ascontiguousarray(operands[0][tuple(cut)])


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class View(Operation):
    """The same bytes with T, H and W cut otherwise: channels and the order of positions stay.

    Attributes
    ----------
    shape: canonical shape of the result.
    """

    shape: Shape

    def infer(self, inputs: Sequence[TensorType]) -> Shape:
        self.check_arity(inputs, 1)
        source = inputs[0].shape
        if source[0] != self.shape[0] or math.prod(source) != math.prod(self.shape):
            raise self.error(f"{list(source)} cannot be seen as {list(self.shape)}")
        return self.shape

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        super().check(inputs, output)
        if inputs[0].quantization != output.quantization:
            raise self.error("a view keeps scale and zero point")

    def evaluate(
        self, operands: Sequence[Codes], inputs: Sequence[TensorType], output: TensorType
    ) -> Codes:
        return operands[0].reshape(self.shape)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Rearrange(Operation):
    """The elements of a tensor with other ones along C, T, H and W.

    Attributes
    ----------
    source, target: axes of operand and result over one and the same row-major tensor.
    """

    source: Axes
    target: Axes

    def infer(self, inputs: Sequence[TensorType]) -> Shape:
        self.check_arity(inputs, 1)
        if inputs[0].shape != canonical_of(self.source):
            raise self.error(f"rearranges {canonical_of(self.source)}, not {inputs[0].shape}")
        elements = inputs[0].elements
        if not covers(self.source, elements) or not covers(self.target, elements):
            raise self.error(f"{self.source} and {self.target} do not have the same elements")
        return canonical_of(self.target)

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        super().check(inputs, output)
        if inputs[0].quantization != output.quantization:
            raise self.error("moving elements keeps scale and zero point")

    def evaluate(
        self, operands: Sequence[Codes], inputs: Sequence[TensorType], output: TensorType
    ) -> Codes:
        flat = from_canonical(operands[0], self.source, (inputs[0].elements,))
        return to_canonical(flat, self.target)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Relayout(Operation):
    """The same tensor in other lanes; the back end inserts it where operands do not meet.

    Attributes
    ----------
    lane_map: of the result.
    """

    lane_map: LaneMap

    def infer(self, inputs: Sequence[TensorType]) -> Shape:
        self.check_arity(inputs, 1)
        channels = inputs[0].shape[0]
        if self.lane_map.channels != channels:
            raise self.error(f"lanes for {self.lane_map.channels} of {channels} channels")
        return inputs[0].shape

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        super().check(inputs, output)
        if inputs[0].quantization != output.quantization:
            raise self.error("other lanes keep scale and zero point")

    def evaluate(
        self, operands: Sequence[Codes], inputs: Sequence[TensorType], output: TensorType
    ) -> Codes:
        return operands[0]
