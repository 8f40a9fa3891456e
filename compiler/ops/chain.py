"""Operators whose intermediate results never leave the chip."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from compiler.ops.base import Operation
from compiler.ops.convolution import Convolution
from compiler.ops.residual import TemporalResidual
from compiler.tensor import Codes, GraphError, Shape, TensorType

Member: TypeAlias = Convolution | TemporalResidual
"""What a chain can be made of."""
RESIDUAL, TEMPORAL, POINTWISE, WINDOW, ALONG_TIME, OTHER = (
    "residual", "temporal", "pointwise", "window", "along time", "other",
)  # fmt: skip
PATTERNS = frozenset(
    {
        (RESIDUAL, TEMPORAL, WINDOW, POINTWISE),
        (RESIDUAL, POINTWISE, WINDOW, POINTWISE),
        (TEMPORAL, WINDOW, POINTWISE),
        (POINTWISE, WINDOW, POINTWISE),
        (WINDOW, POINTWISE),
        (WINDOW, ALONG_TIME),
    }
)
"""Kinds of operators that are tried, and joined where that is better. The back end can join more
than these: any that it does not refuse."""


def kinds(stages: Sequence[Member]) -> tuple[str, ...]:
    """The kind of each operator, as patterns have it."""
    return tuple(map(_kind, stages))


def _kind(op: Member) -> str:
    if isinstance(op, TemporalResidual):
        return RESIDUAL
    lines = op.kernel[1:] == op.stride[1:] == (1, 1)
    lines = lines and not any((*op.pad_begin[1:], *op.pad_end[1:]))
    frames = op.kernel[0] == op.stride[0] == 1 and not op.pad_begin[0] and not op.pad_end[0]
    if op.groups == 1 and lines:
        return POINTWISE if frames else TEMPORAL
    if not op.depthwise or op.dilation != (1, 1, 1):
        return OTHER
    if lines:
        return ALONG_TIME if op.kernel[0] > 1 else OTHER
    return WINDOW if frames and op.kernel[1:] != (1, 1) else OTHER


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Chain(Operation):
    """Operators of one operand each, applied one after another.

    The values between them are no values of the graph: nothing else reads them and they are not
    stored. Numerically it is its stages.

    Attributes
    ----------
    stages: in order of execution; inputs and outputs as they were before they were joined.
    between: type of every stage's result but the last one's.
    """

    stages: tuple[Member, ...]
    between: tuple[TensorType, ...]

    @property
    def by_block(self) -> bool:
        """Channels are computed by themselves: lanes are kept."""
        return all(isinstance(stage, Convolution) and stage.depthwise for stage in self.stages)

    def links(
        self, inputs: Sequence[TensorType], output: TensorType
    ) -> Iterator[tuple[Member, TensorType, TensorType]]:
        """Every stage with the types of its operand and its result."""
        types = (inputs[0], *self.between, output)
        yield from zip(self.stages, types[:-1], types[1:], strict=True)

    def infer(self, inputs: Sequence[TensorType]) -> Shape:
        self.check_arity(inputs, 1)
        return self.stages[-1].infer([self.between[-1]])

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        if len(self.stages) < 2 or len(self.between) != len(self.stages) - 1:
            raise self.error(f"{len(self.stages)} stages with {len(self.between)} types between")
        super().check(inputs, output)
        for stage, operand, result in self.links(inputs, output):
            try:
                stage.check([operand], result)
            except GraphError as error:
                raise self.error(str(error)) from error

    def evaluate(
        self, operands: Sequence[Codes], inputs: Sequence[TensorType], output: TensorType
    ) -> Codes:
        codes = operands[0]
        for stage, operand, result in self.links(inputs, output):
            codes = stage.evaluate([codes], [operand], result)
        return codes

    def macs(self, inputs: Sequence[TensorType]) -> int:
        types = (inputs[0], *self.between)
        return sum(s.macs([kind]) for s, kind in zip(self.stages, types, strict=True))
