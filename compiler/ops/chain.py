"""Operators whose intermediate results never leave the chip."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from compiler.ops.base import Operation
from compiler.ops.convolution import Convolution
from compiler.ops.residual import TemporalResidual
from compiler.tensor import Codes, GraphError, Shape, TensorType

Stage: TypeAlias = Convolution | TemporalResidual
"""What a chain can be made of."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Joined(Operation):
    """Operators of one operand each, applied one after another.

    The values between them are no values of the graph: nothing else reads them and they are not
    stored. Numerically it is its stages.

    Attributes
    ----------
    stages: in order of execution; inputs and outputs as they were before they were joined.
    between: type of every stage's result but the last one's.
    """

    stages: tuple[Stage, ...]
    between: tuple[TensorType, ...]

    def links(
        self, inputs: Sequence[TensorType], output: TensorType
    ) -> Iterator[tuple[Stage, TensorType, TensorType]]:
        """Every stage with the types of its operand and its result."""
        kinds = (inputs[0], *self.between, output)
        yield from zip(self.stages, kinds[:-1], kinds[1:], strict=True)

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
        kinds = (inputs[0], *self.between)
        return sum(s.macs([kind]) for s, kind in zip(self.stages, kinds, strict=True))


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Chain(Joined):
    """[Temporal residual,] [temporal,] depthwise and pointwise convolution."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class DepthwisePair(Joined):
    """A depthwise convolution of each frame, and one over time alone."""

    @property
    def spatial(self) -> Convolution:
        """The first one."""
        first = self.stages[0]
        assert isinstance(first, Convolution), self.name
        return first

    @property
    def temporal(self) -> Convolution:
        """The second one."""
        last = self.stages[-1]
        assert isinstance(last, Convolution), self.name
        return last

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        super().check(inputs, output)
        if len(self.stages) != 2 or not all(
            isinstance(stage, Convolution) and stage.depthwise for stage in self.stages
        ):
            raise self.error("it is two depthwise convolutions")
