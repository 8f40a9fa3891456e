"""Weighted means over positions whose weights are a softmax of scores, as one operator."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from compiler.ops.batched_matmul import BatchedMatMul
from compiler.ops.convolution import Convolution
from compiler.ops.group import Softmax, grouped
from compiler.ops.move import View
from compiler.ops.region import Region
from compiler.tensor import Shape, TensorType
from hw.arch.axes import Axes, canonical_of, from_canonical

Index = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class AttentionPool(Region):
    """u[c, b] = Σ over positions p of group b of softmax(w·x[:, p])·x[c, p].

    A group is as many consecutive positions of x [C, T, H, W] as one softmax goes over: those of a
    frame, or of the whole clip. The parts are a convolution of one channel that reads x position
    by position, views, the softmax, views, and the product with x.
    """

    @property
    def scores(self) -> Convolution:
        """What makes a score of each position."""
        first = self.parts[0]
        assert isinstance(first, Convolution), self.name
        return first

    @property
    def softmax(self) -> Softmax:
        """What makes weights of scores."""
        return next(part for part in self.parts if isinstance(part, Softmax))

    @property
    def product(self) -> BatchedMatMul:
        """What adds up positions."""
        last = self.parts[-1]
        assert isinstance(last, BatchedMatMul), self.name
        return last

    @property
    def score_type(self) -> TensorType:
        """Of the scores."""
        return self.between[0]

    @property
    def weight_type(self) -> TensorType:
        """Of the weights."""
        return self.between[self.parts.index(self.softmax)]

    @property
    def group(self) -> int:
        """Positions that a mean goes over."""
        return self.softmax.elements(self.between[self.parts.index(self.softmax) - 1])

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        super().check(inputs, output)
        why = self._mismatch(inputs[0])
        if why is not None:
            raise self.error(why)

    def _mismatch(self, source: TensorType) -> str | None:
        """Why the parts are no weighted mean over groups of positions, or None if they are."""
        if self.inputs != self.scores.inputs:
            return "it has one operand"
        middle = self.parts[1:-1]
        if sum(isinstance(p, Softmax) for p in middle) != 1 or any(
            not isinstance(p, Softmax | View) for p in middle
        ):
            return "between scores and product are views and one softmax"
        line = [self.scores.output, *(part.output for part in middle)]
        if any(part.inputs != (name,) for part, name in zip(middle, line, strict=False)):
            return "each part reads what the one before makes"
        if sorted(self.product.inputs) != sorted((self.inputs[0], line[-1])):
            return "the product is not that of its operand and the weights"
        if not pointwise(self.scores):
            return "scores are those of single positions"
        return None if self._in_order(source) else "groups are not consecutive positions"

    def _in_order(self, source: TensorType) -> bool:
        """Whether everything takes positions in the order in which they lie."""
        positions = math.prod(source.shape[1:])
        index = np.arange(positions).reshape(1, *source.shape[1:])
        for part in self.parts[1:-1]:
            if isinstance(part, View):
                index = index.reshape(part.shape)
            elif isinstance(part, Softmax):
                groups = grouped(index, part.axes).reshape(-1)
                if not np.array_equal(groups, np.arange(positions)):
                    return False
        op, count = self.product, self.group
        x = op.inputs.index(self.inputs[0])
        channels, columns = (op.rows, op.columns) if x == 0 else (op.columns, op.rows)
        sizes = (positions // count, channels, op.inner, columns)
        if sizes != (op.batch, source.shape[0], count, 1):
            return False
        return _product_in_order(op, x, source.shape, index.shape)


def pointwise(op: Convolution) -> bool:
    """Whether a convolution makes one channel, each value from one position."""
    return (
        op.out_channels == op.groups == 1
        and {*op.kernel, *op.stride} == {1}
        and not any((*op.pad_begin, *op.pad_end))
        and op.pool is None
    )


def _product_in_order(op: BatchedMatMul, x: int, source: Shape, weights: Shape) -> bool:
    """Whether operands and result of the product are [C, positions], positions and [C, groups].

    Parameters
    ----------
    op, x: the product, and which of its operands has the channels.
    source, weights: canonical shapes of its operands.
    """
    left, right = (op.batch, op.rows, op.inner), (op.batch, op.inner, op.columns)
    of_x, of_weights = ((op.left, left), (op.right, right))[:: 1 if x == 0 else -1]
    elements = _elements(of_x, source)
    if x == 1:
        elements = elements.transpose(0, 2, 1)
    channels, groups = source[0], op.batch
    wanted = np.arange(elements.size).reshape(channels, groups, op.inner).transpose(1, 0, 2)
    shares = _elements(of_weights, weights).reshape(-1)
    sums = _elements((op.target, (groups, op.rows, op.columns)), canonical_of(op.target))
    return (
        np.array_equal(elements, wanted)
        and np.array_equal(shares, np.arange(shares.size))
        and np.array_equal(sums.reshape(groups, channels).T.reshape(-1), np.arange(sums.size))
    )


def _elements(operand: tuple[Axes, tuple[int, int, int]], shape: Shape) -> Index:
    """Matrices of the canonical tensor's row-major indices."""
    axes, sizes = operand
    return from_canonical(np.arange(math.prod(shape)).reshape(shape), axes, sizes)
