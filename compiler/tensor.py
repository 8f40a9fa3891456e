"""Types of activation tensors, and the errors of the compiler."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hw.arch import numerics
from hw.arch.axes import (
    Axes,
    canonical_of,
    covers,
    from_canonical,
    standard,
    to_canonical,
    transposed,
)

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
    onnx_shape: shape in the ONNX graph, batch included.
    signed: codes are int8 (−128..127) instead of uint8 (0..255).
    scale: a float32, exactly.
    zero_point: a code.
    axes: which elements of the ONNX tensor lie along C, T, H and W (hw/arch/axes.py).
    """

    onnx_shape: tuple[int, ...]
    signed: bool
    scale: float
    zero_point: int
    axes: Axes

    @classmethod
    def of(
        cls,
        onnx_shape: Sequence[int],
        signed: bool,
        scale: float,
        zero_point: int,
        axes: Axes | None = None,
    ) -> TensorType:
        """Build from an ONNX shape; without `axes` in the standard form [N, C, (T, (H,)) W].

        Raises
        ------
        CompilerError
            If the shape has no standard form (rank above 5).
        """
        shape = tuple(int(n) for n in onnx_shape)
        if axes is None:
            try:
                axes = standard(shape)
            except ValueError as error:
                raise CompilerError(str(error)) from error
        return cls(shape, signed, float(np.float32(scale)), int(zero_point), axes)

    @property
    def shape(self) -> Shape:
        """Canonical (C, T, H, W); missing axes are 1."""
        return canonical_of(self.axes)

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

    def with_shape(self, onnx_shape: Sequence[int], axes: Axes | None = None) -> TensorType:
        """Another tensor of the same quantization; without `axes` in standard form."""
        return TensorType.of(onnx_shape, *self.quantization, axes)

    def reshaped(self, onnx_shape: Sequence[int]) -> TensorType:
        """The same elements under another ONNX shape: nothing moves."""
        return dataclasses.replace(self, onnx_shape=tuple(int(n) for n in onnx_shape))

    def transposed(self, order: Sequence[int]) -> TensorType | None:
        """The same elements with permuted ONNX axes: nothing moves; None if that has no form."""
        axes = transposed(self.axes, self.onnx_shape, order)
        if axes is None:
            return None
        shape = tuple(self.onnx_shape[k] for k in order)
        return dataclasses.replace(self, onnx_shape=shape, axes=axes)

    def in_file_order(self, canonical: Codes) -> Codes:
        """[C, T, H, W] as the ONNX tensor."""
        return from_canonical(canonical, self.axes, self.onnx_shape)

    def in_lanes(self, value: Codes) -> Codes:
        """The ONNX tensor as [C, T, H, W]."""
        return to_canonical(value, self.axes)

    def check(self, name: str) -> None:
        """Raise GraphError unless the type is well formed."""
        if not self.low <= self.zero_point <= self.high:
            raise GraphError(
                f"{name}: zero point {self.zero_point} outside {self.low}..{self.high}"
            )
        if min(self.onnx_shape, default=1) < 1:
            raise GraphError(f"{name}: empty shape {list(self.onnx_shape)}")
        try:
            numerics.split_scale(self.scale)
        except ValueError as error:
            raise GraphError(f"{name}: {error}") from error
        if not covers(self.axes, math.prod(self.onnx_shape)):
            raise GraphError(
                f"{name}: axes {self.axes} are not those of a tensor {list(self.onnx_shape)}"
            )

    def __str__(self) -> str:
        kind = "s8" if self.signed else "u8"
        dims = "×".join(str(d) for d in self.shape)
        return f"{kind}[{dims}] scale {self.scale:.9g} zero {self.zero_point}"
