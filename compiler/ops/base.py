"""What every operator of the graph provides."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from compiler.tensor import Codes, GraphError, Shape, TensorType

Arm = tuple[str, bool]
"""A decision (or a Loop), and the arm taken (or True: the body)."""
Table = bytes
"""256 stored bytes, indexed by the stored byte of the source (int8 codes modulo 256)."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Operation(abc.ABC):
    """One operator: integer tensors in, one integer tensor out.

    Attributes
    ----------
    name: ONNX node name.
    inputs: value names of the operands, in order.
    output: value name of the result.
    """

    name: str
    inputs: tuple[str, ...]
    output: str

    @abc.abstractmethod
    def infer(self, inputs: Sequence[TensorType]) -> Shape:
        """Canonical shape of the result; GraphError where the operands do not fit."""

    @abc.abstractmethod
    def evaluate(
        self, operands: Sequence[Codes], inputs: Sequence[TensorType], output: TensorType
    ) -> Codes:
        """The integer reference: codes of the operands (canonical shapes) to codes."""

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        """Raise GraphError unless attributes, operand types and result type agree."""
        shape = self.infer(inputs)
        if shape != output.shape:
            raise self.error(f"makes shape {list(shape)}, its result is {list(output.shape)}")

    def reading(self, names: Sequence[str]) -> Self:
        """The operator with operands of other names, in the same order."""
        return dataclasses.replace(self, inputs=tuple(names))

    def arm(self, operand: int) -> Arm | None:
        """The arm, within that of the result, in which an operand may be made; None: none."""
        return None

    def macs(self, inputs: Sequence[TensorType]) -> int:
        """Multiply-accumulates, zero padding counted."""
        return 0

    def error(self, reason: str) -> GraphError:
        """An error that names this operator."""
        return GraphError(f"{self.name} ({type(self).__name__}): {reason}")

    def check_clamp(self, low: int, high: int, output: TensorType) -> None:
        """Raise GraphError unless low <= high are codes of the result."""
        if not output.low <= low <= high <= output.high:
            raise self.error(
                f"clamp {low}..{high} does not lie inside the codes {output.low}..{output.high}"
            )

    def check_table(self, table: Table | None) -> None:
        """Raise GraphError unless a table has 256 entries."""
        if table is not None and len(table) != 256:
            raise self.error(f"a table of {len(table)} entries; it needs 256")

    def check_arity(self, inputs: Sequence[TensorType], count: int) -> None:
        """Raise GraphError unless there are `count` operands."""
        if len(inputs) != count:
            raise self.error(f"takes {count} operands, not {len(inputs)}")


def apply_table(codes: Codes, table: Table | None, output: TensorType) -> Codes:
    """Look stored bytes up; without a table the bytes stay and are read as the result's type."""
    stored = codes.view(np.uint8)
    if table is not None:
        stored = np.frombuffer(table, np.uint8)[stored]
    return stored.view(output.dtype)


def to_codes(values: npt.NDArray[np.int64], output: TensorType) -> Codes:
    """Integers that lie inside the code range, in the code's type."""
    if output.signed:
        return values.astype(np.int8)
    return values.astype(np.uint8)


def stored_codes(kind: TensorType) -> npt.NDArray[np.int64]:
    """Code of every stored byte 0..255."""
    stored = np.arange(256, dtype=np.int64)
    return np.where(stored >= 128, stored - 256, stored) if kind.signed else stored


def window_size(size: int, kernel: int, stride: int, pads: int, dilation: int = 1) -> int:
    """Outputs of a sliding window along one axis; 0 or less where it does not fit."""
    return (size + pads - dilation * (kernel - 1) - 1) // stride + 1
