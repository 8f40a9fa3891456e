"""What passes between a Loop and the graph around it: carried tensors, and rows of every trip.

The body of a Loop stands in the graph once. `Enter` makes a carried tensor before the first trip;
`Leave` closes the circle: what a trip makes is what the next one carries, and in the end the
result. `Pick` takes the part of a tensor that belongs to a trip, `Stack` keeps a part of each.
`Put` is how a trip writes its part; the back end makes it of `Stack`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from compiler.ops.base import Arm, Operation
from compiler.ops.join import Predicate
from compiler.ops.move import Slice
from compiler.tensor import Codes, Shape, TensorType


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Enter(Operation):
    """A carried tensor; its operand is what the first trip reads.

    Attributes
    ----------
    loop: name of the Loop.
    """

    loop: str

    def infer(self, inputs: Sequence[TensorType]) -> Shape:
        self.check_arity(inputs, 1)
        return inputs[0].shape

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        super().check(inputs, output)
        if inputs[0].quantization != output.quantization:
            raise self.error("a Loop carries tensors of one scale")

    def evaluate(
        self, operands: Sequence[Codes], inputs: Sequence[TensorType], output: TensorType
    ) -> Codes:
        return operands[0]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Leave(Operation):
    """A carried tensor after the last trip; inputs: what a trip makes of it, the carried tensor,
    and what decides whether there is another trip, if something does.

    Attributes
    ----------
    loop: name of the Loop.
    trips: how many there are, at most where something decides.
    condition, predicate: the file's name for what decides, and where it goes on.
    """  # noqa: D205

    loop: str
    trips: int
    condition: str = ""
    predicate: Predicate | None = None

    def infer(self, inputs: Sequence[TensorType]) -> Shape:
        self.check_arity(inputs, 2 if self.predicate is None else 3)
        if inputs[0].shape != inputs[1].shape:
            raise self.error(f"carries {list(inputs[1].shape)}, makes {list(inputs[0].shape)}")
        return inputs[0].shape

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        super().check(inputs, output)
        if any(kind.quantization != output.quantization for kind in inputs[:2]):
            raise self.error("a Loop carries tensors of one scale")
        if self.predicate is not None:
            self.predicate.check(self, inputs[2].shape)

    def arm(self, operand: int) -> Arm | None:
        """What a trip makes, and what decides, stand in the body."""
        return None if operand == 1 else (self.loop, True)

    def evaluate(
        self, operands: Sequence[Codes], inputs: Sequence[TensorType], output: TensorType
    ) -> Codes:
        return operands[0]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Pick(Operation):
    """Element t of an axis, in trip t.

    Attributes
    ----------
    loop, trips: whose trips, and how many.
    axis: canonical axis.
    """

    loop: str
    trips: int
    axis: int

    def infer(self, inputs: Sequence[TensorType]) -> Shape:
        self.check_arity(inputs, 1)
        shape = list(inputs[0].shape)
        if shape[self.axis] < self.trips:
            raise self.error(f"takes {self.trips} of {shape[self.axis]} elements")
        shape[self.axis] = 1
        c, t, h, w = shape
        return c, t, h, w

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        super().check(inputs, output)
        if inputs[0].quantization != output.quantization:
            raise self.error("a part keeps scale and zero point")

    def at(self, trip: int) -> Slice:
        """What it is in a trip."""
        return Slice(
            name=self.name,
            inputs=self.inputs,
            output=self.output,
            axis=self.axis,
            start=trip,
            stop=trip + 1,
        )

    def evaluate(
        self, operands: Sequence[Codes], inputs: Sequence[TensorType], output: TensorType
    ) -> Codes:
        raise self.error("has a value in a trip only")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Stack(Operation):
    """A tensor of every trip, side by side.

    Attributes
    ----------
    loop, trips: whose trips, and how many.
    axis: canonical axis.
    """

    loop: str
    trips: int
    axis: int

    def infer(self, inputs: Sequence[TensorType]) -> Shape:
        self.check_arity(inputs, 1)
        shape = list(inputs[0].shape)
        shape[self.axis] *= self.trips
        c, t, h, w = shape
        return c, t, h, w

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        super().check(inputs, output)
        if inputs[0].quantization != output.quantization:
            raise self.error("rows keep scale and zero point")

    def arm(self, operand: int) -> Arm | None:
        """The row stands in the body."""
        return self.loop, True

    def evaluate(
        self, operands: Sequence[Codes], inputs: Sequence[TensorType], output: TensorType
    ) -> Codes:
        return np.concatenate([operands[0]] * self.trips, axis=self.axis)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Put(Operation):
    """A trip's part of a `Stack`, written to its place; the result is known as the part.

    Attributes
    ----------
    stack: the stacked value.
    loop, axis: as the Stack's.
    """

    stack: str
    loop: str
    axis: int

    def infer(self, inputs: Sequence[TensorType]) -> Shape:
        self.check_arity(inputs, 1)
        return inputs[0].shape

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        super().check(inputs, output)
        if inputs[0].quantization != output.quantization:
            raise self.error("rows keep scale and zero point")

    def evaluate(
        self, operands: Sequence[Codes], inputs: Sequence[TensorType], output: TensorType
    ) -> Codes:
        return operands[0]


LoopEnd = Leave | Stack
"""What a Loop hands out."""
