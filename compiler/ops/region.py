"""Operators whose inner results never leave the chip, with any operands."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Self, TypeAlias

from compiler.ops.base import Operation
from compiler.ops.batched_matmul import BatchedMatMul
from compiler.ops.chain import Chain
from compiler.ops.convolution import Convolution
from compiler.ops.group import Softmax
from compiler.ops.move import View
from compiler.ops.pairwise import Pairwise
from compiler.ops.pool import Pool
from compiler.tensor import Codes, GraphError, Shape, TensorType

Member: TypeAlias = Convolution | Chain | Pairwise | Pool | View | Softmax | BatchedMatMul
"""What a region can be made of."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Region(Operation):
    """Operators that are computed strip by strip.

    The values between them are no values of the graph: nothing else reads them and they are not
    stored. Numerically the region is its parts.

    Attributes
    ----------
    parts: in order of execution; inputs and outputs as they were before they were joined. The last
        one makes the region's result.
    between: type of every other part's result.
    """

    parts: tuple[Member, ...]
    between: tuple[TensorType, ...]

    def reading(self, names: Sequence[str]) -> Self:
        other = dict(zip(self.inputs, names, strict=True))
        parts = tuple(part.reading([other.get(n, n) for n in part.inputs]) for part in self.parts)
        return dataclasses.replace(self, inputs=tuple(names), parts=parts)

    def links(
        self, inputs: Sequence[TensorType], output: TensorType
    ) -> Iterator[tuple[Member, list[TensorType], TensorType]]:
        """Every part with the types of its operands and of its result."""
        known = dict(zip(self.inputs, inputs, strict=True))
        for part, result in zip(self.parts, (*self.between, output), strict=True):
            yield part, [known[name] for name in part.inputs], result
            known[part.output] = result

    def infer(self, inputs: Sequence[TensorType]) -> Shape:
        self.check_arity(inputs, len(self.inputs))
        known: Mapping[str, TensorType] = dict(zip(self.inputs, inputs, strict=True)) | {
            part.output: kind for part, kind in zip(self.parts, self.between, strict=False)
        }
        last = self.parts[-1]
        return last.infer([known[name] for name in last.inputs])

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        if len(self.parts) < 2 or len(self.between) != len(self.parts) - 1:
            raise self.error(f"{len(self.parts)} parts with {len(self.between)} types between")
        if self.parts[-1].output != self.output:
            raise self.error(f"its last part makes {self.parts[-1].output}, not {self.output}")
        made: set[str] = set()
        for part in self.parts:
            unknown = set(part.inputs) - made - set(self.inputs)
            if unknown:
                raise self.error(f"{part.name} reads {min(unknown)}, which is not made before")
            made.add(part.output)
        super().check(inputs, output)
        for part, operands, result in self.links(inputs, output):
            try:
                part.check(operands, result)
            except GraphError as error:
                raise self.error(str(error)) from error

    def evaluate(
        self, operands: Sequence[Codes], inputs: Sequence[TensorType], output: TensorType
    ) -> Codes:
        codes = dict(zip(self.inputs, operands, strict=True))
        for part, kinds, result in self.links(inputs, output):
            given = [codes[name] for name in part.inputs]
            codes[part.output] = part.evaluate(given, kinds, result)
        return codes[self.output]

    def macs(self, inputs: Sequence[TensorType]) -> int:
        known = dict(zip(self.inputs, inputs, strict=True)) | {
            part.output: kind for part, kind in zip(self.parts, self.between, strict=False)
        }
        return sum(part.macs([known[name] for name in part.inputs]) for part in self.parts)
