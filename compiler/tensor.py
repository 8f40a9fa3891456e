"""Types of activation tensors, and the errors of the compiler."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hw.arch import layout, numerics

Shape: TypeAlias = tuple[int, int, int, int]
"""(C, T, H, W)."""
Triple: TypeAlias = tuple[int, int, int]
"""(t, h, w)."""
Codes: TypeAlias = npt.NDArray[np.integer[Any]]
"""Quantized values as stored, uint8 or int8."""


class CompilerError(Exception):
    """Something in the user's file or request; the message names the node, value and limit."""


class GraphError(CompilerError):
    """A graph that breaks its own rules; after a pass this is a fault of the pass."""


@dataclasses.dataclass(frozen=True, slots=True)
class TensorType:
    """Type of an 8-bit tensor: real value = (code − zero_point) · scale.

    Attributes
    ----------
    shape: canonical (C, T, H, W); batch is 1 and missing axes are 1.
    signed: codes are int8 (−128..127) instead of uint8 (0..255).
    scale: a float32, exactly.
    zero_point: a code.
    onnx_shape: shape in the ONNX graph, batch included.
    """

    shape: Shape
    signed: bool
    scale: float
    zero_point: int
    onnx_shape: tuple[int, ...]

    @classmethod
    def of(
        cls, onnx_shape: tuple[int, ...], signed: bool, scale: float, zero_point: int
    ) -> TensorType:
        """Build from an ONNX shape.

        Raises
        ------
        CompilerError
            If the shape has no canonical form (batch above 1, rank above 5).
        """
        try:
            shape = layout.canonical_shape(onnx_shape)
        except ValueError as error:
            raise CompilerError(str(error)) from error
        return cls(shape, signed, float(np.float32(scale)), int(zero_point), tuple(onnx_shape))

    @property
    def low(self) -> int:
        """Least code."""
        return -128 if self.signed else 0

    @property
    def high(self) -> int:
        """Greatest code."""
        return 127 if self.signed else 255

    @property
    def dtype(self) -> np.dtype[np.uint8] | np.dtype[np.int8]:
        """NumPy type of the codes."""
        return np.dtype(np.int8) if self.signed else np.dtype(np.uint8)

    @property
    def elements(self) -> int:
        """C·T·H·W."""
        return math.prod(self.shape)

    @property
    def quantization(self) -> tuple[bool, float, int]:
        """What decides how a code reads as a real."""
        return self.signed, self.scale, self.zero_point

    def with_shape(self, onnx_shape: tuple[int, ...]) -> TensorType:
        """Another shape, the same quantization."""
        return TensorType.of(onnx_shape, *self.quantization)

    def check(self, name: str) -> None:
        """Raise GraphError unless the type is well formed."""
        if not self.low <= self.zero_point <= self.high:
            raise GraphError(
                f"{name}: zero point {self.zero_point} outside {self.low}..{self.high}"
            )
        if min(self.shape) < 1:
            raise GraphError(f"{name}: empty shape {list(self.shape)}")
        try:
            numerics.split_scale(self.scale)
            canonical = layout.canonical_shape(self.onnx_shape)
        except ValueError as error:
            raise GraphError(f"{name}: {error}") from error
        if canonical != self.shape:
            raise GraphError(
                f"{name}: shape {list(self.shape)} is not the canonical form of "
                f"{list(self.onnx_shape)}"
            )

    def __str__(self) -> str:
        kind = "s8" if self.signed else "u8"
        dims = "×".join(str(d) for d in self.shape)
        return f"{kind}[{dims}] scale {self.scale:.9g} zero {self.zero_point}"
