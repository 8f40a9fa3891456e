"""Pooling over windows: maximum and average."""

from __future__ import annotations

import dataclasses
import enum
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from compiler.ops.base import Operation, to_codes, window_size
from compiler.tensor import Codes, Shape, TensorType, Triple
from hw.arch.numerics import Int, Mean


class PoolKind(enum.Enum):
    """What a window becomes."""

    MAX = "max"
    AVERAGE = "average"


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """A sliding window over (t, h, w).

    `pad_end` may exceed what the ONNX node says where it rounds sizes up (ceil_mode); a stride
    that does not divide leaves elements at the end unused.
    """

    kernel: Triple
    stride: Triple
    pad_begin: Triple = (0, 0, 0)
    pad_end: Triple = (0, 0, 0)

    @property
    def tiles(self) -> bool:
        """Windows that neither overlap nor leave gaps nor reach into padding."""
        return self.kernel == self.stride and not any((*self.pad_begin, *self.pad_end))

    def output(self, space: Sequence[int]) -> Triple:
        """Windows along t, h, w."""
        t, h, w = (
            window_size(
                space[d], self.kernel[d], self.stride[d], self.pad_begin[d] + self.pad_end[d]
            )
            for d in range(3)
        )
        return t, h, w

    def views(self, padded: Codes, out: Triple) -> Iterator[Codes]:
        """For each place in the window, the elements [C, *out] that fall on it."""
        for kt in range(self.kernel[0]):
            for ky in range(self.kernel[1]):
                for kx in range(self.kernel[2]):
                    cut = tuple(
                        slice(k, k + (n - 1) * s + 1, s)
                        for k, n, s in zip((kt, ky, kx), out, self.stride, strict=True)
                    )
                    yield padded[(slice(None), *cut)]

    def pad(self, tensor: Codes, fill: int) -> Codes:
        """[C, T, H, W] with its padding."""
        pads = [(0, 0), *zip(self.pad_begin, self.pad_end, strict=True)]
        if not any(map(any, pads)):
            return tensor
        return np.pad(tensor, pads, constant_values=fill)


def max_pool(codes: Codes, window: Window, low: int) -> Codes:
    """Maximum of the codes in each window; padding never wins (`low` is the least code)."""
    out = window.output(codes.shape[1:])
    padded = window.pad(codes, low)
    result = np.full((codes.shape[0], *out), low, codes.dtype)
    for view in window.views(padded, out):
        np.maximum(result, view, out=result)
    return result


Span = tuple[int, int]
"""First index and number."""


@dataclasses.dataclass(frozen=True, slots=True)
class BorderedMean:
    """Averages of windows that do not all count as many elements: at the border fewer.

    Attributes
    ----------
    counts: along t, h, w, the elements that each window counts.
    means: arithmetic by number of elements.
    """

    counts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    means: Mapping[int, Mean]

    def parts(self) -> Iterator[tuple[tuple[Span, Span, Span], Mean]]:
        """Boxes of windows (t, h, w) that count as many elements each, and their arithmetic."""
        for t, h, w in itertools.product(*(_runs(axis) for axis in self.counts)):
            yield (t[0], h[0], w[0]), self.means[t[1] * h[1] * w[1]]

    def __call__(self, total: Int, low: int, high: int) -> Int:
        """Apply to sums of (code - zero point), [C, T, H, W]."""
        result = np.empty(total.shape, np.int64)
        for spans, mean in self.parts():
            box = (slice(None), *(slice(first, first + n) for first, n in spans))
            result[box] = mean(total[box], low, high)
        return result


def _runs(counts: Sequence[int]) -> list[tuple[Span, int]]:
    """Maximal runs of one number, with it."""
    runs, first = [], 0
    for count, same in itertools.groupby(counts):
        size = len(list(same))
        runs.append(((first, size), count))
        first += size
    return runs


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Pool(Operation):
    """Maximum or average over windows.

    Attributes
    ----------
    kind: PoolKind.
    window: kernel, strides and padding.
    mean: arithmetic of an average; padding adds nothing to a sum. None for MAX.
    low, high: clamp codes.
    """

    kind: PoolKind
    window: Window
    mean: Mean | BorderedMean | None = None
    low: int
    high: int

    def infer(self, inputs: Sequence[TensorType]) -> Shape:
        self.check_arity(inputs, 1)
        channels, *space = inputs[0].shape
        out = self.window.output(space)
        if min(out) < 1:
            raise self.error(f"window {self.window.kernel} does not fit {space}")
        return channels, *out

    def check(self, inputs: Sequence[TensorType], output: TensorType) -> None:
        super().check(inputs, output)
        self.check_clamp(self.low, self.high, output)
        if (self.kind is PoolKind.AVERAGE) != (self.mean is not None):
            raise self.error("an average, and only an average, needs its arithmetic")
        if self.kind is PoolKind.MAX and inputs[0].quantization != output.quantization:
            raise self.error("a maximum pool keeps scale and zero point")
        if isinstance(self.mean, BorderedMean):
            lengths = tuple(len(axis) for axis in self.mean.counts)
            if lengths != output.shape[1:]:
                raise self.error(f"counts of {lengths} windows for {output.shape[1:]}")

    def evaluate(
        self, operands: Sequence[Codes], inputs: Sequence[TensorType], output: TensorType
    ) -> Codes:
        if self.mean is None:
            pooled = max_pool(operands[0], self.window, inputs[0].low)
            return np.asarray(np.clip(pooled, self.low, self.high), output.dtype)
        out = self.window.output(operands[0].shape[1:])
        zero = inputs[0].zero_point
        padded = self.window.pad(operands[0], zero)
        total = np.full(
            (operands[0].shape[0], *out), -zero * math.prod(self.window.kernel), np.int64
        )
        for view in self.window.views(padded, out):
            total += view
        return to_codes(self.mean(total, self.low, self.high), output)
