"""Convolution in one to three dimensions, and every product with a constant matrix."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from compiler.ops.base import Operation, window_size
from compiler.ops.pool import Window, max_pool
from compiler.tensor import Codes, Shape, TensorType, Triple
from hw.arch.numerics import requantize

ACCUMULATOR_LIMIT = 1 << 31
"""ONNX Runtime accumulates in int32; a sum that could leave it would differ there."""
TILE_BYTES = 48 << 20
"""Working set of one step of the reference."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Convolution(Operation):
    """acc = Σ (x − zx)·w + bias; y = clamp(rint(f32(acc·s)) + zy), then an optional maximum pool.

    Gemm, MatMul and QLinear forms come as convolutions too: a fully connected layer on a map is
    one whose kernel is the whole map.

    Attributes
    ----------
    weight: int8 [Cout, Cin / groups, kt, kh, kw]; its zero point is 0.
    bias: int32 [Cout], in units of the accumulator.
    multiplier, shift: int64 [Cout], s = multiplier·2^−shift (numerics.split_scale).
    stride, dilation, pad_begin, pad_end: along (t, h, w); padding holds the zero point.
    groups: channel groups.
    low, high: clamp codes of the result (Relu and Clip are folded in).
    pool: maximum pool on the result, kernel = stride and no padding; exact, since requantization
        is monotone.
    """

    weight: npt.NDArray[np.int8]
    bias: npt.NDArray[np.int32]
    multiplier: npt.NDArray[np.int64]
    shift: npt.NDArray[np.int64]
    stride: Triple = (1, 1, 1)
    pad_begin: Triple = (0, 0, 0)
    pad_end: Triple = (0, 0, 0)
    dilation: Triple = (1, 1, 1)
    groups: int = 1
    low: int
    high: int
    pool: Window | None = None

    @property
    def out_channels(self) -> int:
        """Cout."""
        return int(self.weight.shape[0])

    @property
    def in_channels(self) -> int:
        """Cin, all groups."""
        return int(self.weight.shape[1]) * self.groups

    @property
    def kernel(self) -> Triple:
        """(kt, kh, kw)."""
        return self.weight.shape[2], self.weight.shape[3], self.weight.shape[4]

    @property
    def depthwise(self) -> bool:
        """One input and one output channel per group."""
        return self.groups > 1 and self.groups == self.in_channels == self.out_channels

    def convolved(self, source: TensorType) -> Shape:
        """Shape before the pool."""
        if source.shape[0] != self.in_channels:
            raise self.error(
                f"weights for {self.in_channels} channels meet {source.shape[0]} channels"
            )
        t, h, w = (
            window_size(
                source.shape[1 + d],
                self.kernel[d],
                self.stride[d],
                self.pad_begin[d] + self.pad_end[d],
                self.dilation[d],
            )
            for d in range(3)
        )
        if min(t, h, w) < 1:
            raise self.error(f"kernel {self.kernel} does not fit {list(source.shape[1:])}")
        return self.out_channels, t, h, w

    def infer(self, inputs: Sequence[TensorType]) -> Shape:
        self.check_arity(inputs, 1)
        shape = self.convolved(inputs[0])
        if self.pool is None:
            return shape
        out = self.pool.output(shape[1:])
        if min(out) < 1:
            raise self.error(f"pool {self.pool.kernel} does not fit {list(shape[1:])}")
        return shape[0], *out

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        super().check(inputs, output)
        self.check_clamp(self.low, self.high, output)
        channels = (self.out_channels,)
        if any(a.shape != channels for a in (self.bias, self.multiplier, self.shift)):
            raise self.error(f"bias, multiplier and shift need {channels[0]} entries each")
        if self.weight.ndim != 5 or self.weight.dtype != np.int8:
            raise self.error(f"weights must be int8 of rank 5, not {self.weight.dtype}")
        if self.groups < 1 or self.out_channels % self.groups:
            raise self.error(f"{self.groups} groups do not divide {channels[0]} channels")
        if min(*self.stride, *self.dilation) < 1 or min(*self.pad_begin, *self.pad_end) < 0:
            raise self.error("strides and dilations start at 1, pads at 0")
        if self.pool is not None and not self.pool.tiles:
            raise self.error("a fused pool needs kernel = stride and no padding")
        bound = self.accumulator_bound(inputs[0])
        if bound >= ACCUMULATOR_LIMIT:
            raise self.error(f"accumulators may reach {bound}; int32 ends at {ACCUMULATOR_LIMIT}")

    def accumulator_bound(self, source: TensorType) -> int:
        """Largest |accumulator| that any input can produce."""
        reach = max(source.high - source.zero_point, source.zero_point - source.low)
        return int((self._magnitudes * reach + np.abs(self.bias.astype(np.int64))).max())

    @functools.cached_property
    def _magnitudes(self) -> npt.NDArray[np.int64]:
        """Σ |w| of each output channel; every pass asks."""
        weight = np.abs(self.weight.astype(np.int16)).reshape(self.out_channels, -1)
        sums: npt.NDArray[np.int64] = weight.sum(axis=1, dtype=np.int64)
        return sums

    def macs(self, inputs: Sequence[TensorType]) -> int:
        """Weights of one output times outputs; padding counted."""
        return math.prod(self.weight.shape[1:]) * math.prod(self.convolved(inputs[0]))

    def evaluate(
        self, operands: Sequence[Codes], inputs: Sequence[TensorType], output: TensorType
    ) -> Codes:
        source = operands[0]
        shape = self.convolved(inputs[0])
        result = np.empty(shape, output.dtype)
        centred = self._centred(source, inputs[0].zero_point)
        rows = self._rows_per_step(shape)
        for t in range(shape[1]):
            for y in range(0, shape[2], rows):
                count = min(rows, shape[2] - y)
                acc = self._accumulate(centred, t, y, count, shape[3])
                result[:, t, y : y + count] = self._requantize(acc, output).reshape(
                    self.out_channels, count, shape[3]
                )
        if self.pool is not None:
            return max_pool(result, self.pool, output.low)
        return result

    def _centred(self, source: Codes, zero_point: int) -> npt.NDArray[np.int16]:
        """Codes minus the zero point, padded with zeros; int16 [C, T, H, W]."""
        pads = [(0, 0), *zip(self.pad_begin, self.pad_end, strict=True)]
        return np.pad(source.astype(np.int16) - np.int16(zero_point), pads)

    def _rows_per_step(self, shape: Shape) -> int:
        """Output rows whose gathered operands fit the working set."""
        per_row = 8 * shape[3] * max(math.prod(self.weight.shape[1:]) * self.groups, 4 * shape[0])
        return max(1, min(shape[2], TILE_BYTES // per_row))

    def _accumulate(
        self, centred: npt.NDArray[np.int16], t: int, y: int, rows: int, width: int
    ) -> npt.NDArray[np.int64]:
        """Accumulators of some output rows of one frame, bias included; [Cout, rows·width]."""
        taps = self._taps(centred, t, y, rows, width)
        if self.depthwise:
            weight = self.weight.reshape(self.out_channels, -1).astype(np.float64)
            acc = np.asarray(np.einsum("ck,kcp->cp", weight, taps))
        else:
            per_group = self.out_channels // self.groups
            # [k, groups, Cin/groups, positions] → [groups, Cin/groups · k, positions]
            grouped = taps.reshape(taps.shape[0], self.groups, -1, rows * width)
            gathered = grouped.transpose(1, 2, 0, 3).reshape(self.groups, -1, rows * width)
            blocks = self.weight.reshape(self.groups, per_group, -1).astype(np.float64)
            acc = (blocks @ gathered).reshape(self.out_channels, -1)
        # float64 carries these integers exactly: |acc| < 2^31.
        result: npt.NDArray[np.int64] = acc.astype(np.int64) + self.bias.astype(np.int64)[:, None]
        return result

    def _taps(
        self, centred: npt.NDArray[np.int16], t: int, y: int, rows: int, width: int
    ) -> npt.NDArray[np.float64]:
        """Operand of every tap: float64 [taps, Cin, rows·width]."""
        kt, kh, kw = self.kernel
        dt, dh, dw = self.dilation
        st, sh, sw = self.stride
        result = np.empty((kt * kh * kw, self.in_channels, rows, width))
        for tap in range(kt * kh * kw):
            a, b, c = tap // (kh * kw), tap // kw % kh, tap % kw
            top, left = y * sh + b * dh, c * dw
            result[tap] = centred[
                :,
                t * st + a * dt,
                top : top + (rows - 1) * sh + 1 : sh,
                left : left + (width - 1) * sw + 1 : sw,
            ]
        return result.reshape(kt * kh * kw, self.in_channels, rows * width)

    def _requantize(self, acc: npt.NDArray[np.int64], output: TensorType) -> npt.NDArray[np.int64]:
        return requantize(
            acc,
            self.multiplier[:, None],
            self.shift[:, None],
            output.zero_point,
            self.low,
            self.high,
        )
