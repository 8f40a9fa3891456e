"""Where the arms of a branch meet: the result of the arm that ran."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from compiler.ops.base import Arm, Operation
from compiler.tensor import Codes, Shape, TensorType

MOST_READ = 16
"""Elements that a decision may compare: each is read by the sequencer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Predicate:
    """What a decision says of a few elements' codes.

    Attributes
    ----------
    positions: canonical (C, T, H, W) place of every element, in the file's order.
    intervals: of a single element: it holds where its code lies in one of these, ends included;
        ascending, apart.
    index: of several elements: it holds where this one is the greatest.
    last: of equal ones the last is the greatest, not the first.
    negated: the other way round.
    """

    positions: tuple[tuple[int, int, int, int], ...]
    intervals: tuple[tuple[int, int], ...] = ()
    index: int | None = None
    last: bool = False
    negated: bool = False

    def __call__(self, codes: Codes) -> bool:
        """Decide; `codes` are a whole tensor's, in canonical shape."""
        values = np.array([int(codes[place]) for place in self.positions])
        if self.index is None:
            found = any(low <= values[0] <= high for low, high in self.intervals)
        elif self.last:
            found = values.size - 1 - int(values[::-1].argmax()) == self.index
        else:
            found = int(values.argmax()) == self.index
        return found != self.negated

    def refusal(self) -> str | None:
        """Why the sequencer cannot decide, or None."""
        count = len(self.positions)
        if count > MOST_READ:
            return f"compares {count} elements; the sequencer reads {MOST_READ} at most"
        return None

    def check(self, op: Operation, shape: Shape) -> None:
        """Raise GraphError unless all elements are those of a tensor."""
        for place in self.positions:
            if any(not 0 <= i < n for i, n in zip(place, shape, strict=True)):
                raise op.error(f"decides by the element {place} of {list(shape)}")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Join(Operation):
    """The result of the arm that ran; inputs: of the one where the predicate holds, of the other
    one, and the tensor that it is about.

    Attributes
    ----------
    branch: name of the decision; joins of one decision have the same.
    condition: the file's name for it.
    predicate: decides.
    """  # noqa: D205

    branch: str
    condition: str
    predicate: Predicate

    def infer(self, inputs: Sequence[TensorType]) -> Shape:
        self.check_arity(inputs, 3)
        if inputs[0].shape != inputs[1].shape:
            raise self.error(f"its arms make {list(inputs[0].shape)} and {list(inputs[1].shape)}")
        return inputs[0].shape

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        super().check(inputs, output)
        if any(kind.quantization != output.quantization for kind in inputs[:2]):
            raise self.error("its arms have other scales than its result")
        self.predicate.check(self, inputs[2].shape)

    def arm(self, operand: int) -> Arm | None:
        """Each result in its arm."""
        return (self.branch, operand == 0) if operand < 2 else None

    def evaluate(
        self, operands: Sequence[Codes], inputs: Sequence[TensorType], output: TensorType
    ) -> Codes:
        return operands[0] if self.predicate(operands[2]) else operands[1]
