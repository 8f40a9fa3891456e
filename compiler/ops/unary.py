"""Unary functions as 256-entry tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from compiler.ops.base import Operation, Table, apply_table, stored_codes, to_codes
from compiler.tensor import Codes, Shape, TensorType
from hw.arch.numerics import quantize

Float32: TypeAlias = npt.NDArray[np.float32]
Function: TypeAlias = Callable[[Float32], Float32]


def make_table(source: TensorType, target: TensorType, functions: Sequence[Function] = ()) -> Table:
    """Evaluate dequantize → functions → quantize on every stored byte.

    Each function takes and returns float32; none at all gives a change of quantization.
    """
    centred = (stored_codes(source) - source.zero_point).astype(np.float32)
    real = centred * np.float32(source.scale)
    for function in functions:
        real = function(real)
    codes = quantize(real, target.scale, target.zero_point, target.low, target.high)
    return to_codes(codes, target).tobytes()


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class UnaryTable(Operation):
    """y = table[x], any function of one 8-bit tensor.

    Attributes
    ----------
    table: 256 stored bytes indexed by the stored byte.
    function: its name, for people.
    """

    table: Table
    function: str

    def infer(self, inputs: Sequence[TensorType]) -> Shape:
        self.check_arity(inputs, 1)
        return inputs[0].shape

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        super().check(inputs, output)
        self.check_table(self.table)

    def evaluate(
        self, operands: Sequence[Codes], inputs: Sequence[TensorType], output: TensorType
    ) -> Codes:
        return apply_table(operands[0], self.table, output)
