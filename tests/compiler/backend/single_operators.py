"""Random graphs of one operator, up to and beyond every limit: what fits and what does not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from compiler.ir import (
    AxisMean,
    BorderedMean,
    Concat,
    Graph,
    GraphError,
    Pairwise,
    PairwiseKind,
    Pool,
    PoolKind,
    Slice,
    TemporalResidual,
    UnaryTable,
    Window,
)
from compiler.ops import make_table
from hw.arch.config import AcceleratorConfig
from hw.arch.numerics import Affine, Mean, NumericsError
from tests.compiler.backend.harness import convolution, kind, network

SIZES = (1, 2, 3, 5, 7, 14, 28, 112, 224, 300, 1000, 1023, 1024, 2047, 2048, 3000, 5000, 9000)
CHANNELS = (1, 2, 3, 4, 5, 8, 12, 16, 17, 33, 64, 100, 256, 512, 1000, 2048, 5000, 9000)
KERNELS = (1, 1, 1, 2, 3, 3, 4, 5, 7, 9, 15, 31)
MOST_ELEMENTS = 400_000
MOST_WEIGHTS = 3_000_000


def configurations() -> dict[str, AcceleratorConfig]:
    """Presets, and some that are smaller than anyone would build."""
    names = ("tiny", "base", "ecp5_85k", "wide", "large", "tiny_direct", "base_direct")
    found = {name: AcceleratorConfig.load(name) for name in names}
    tiny = found["tiny"]
    for banks in (1, 2, 4):
        memory = dataclasses.replace(tiny.memory, activation_banks=banks)
        found[f"banks-{banks}"] = dataclasses.replace(tiny, name=f"banks-{banks}", memory=memory)
    memory = dataclasses.replace(tiny.memory, activation_bank_rows=16, weight_bytes=256)
    found["few-rows"] = dataclasses.replace(tiny, name="few-rows", memory=memory)
    found["no-vector"] = dataclasses.replace(tiny, name="no-vector", features=("hfa",))
    return found


def graphs(first: int, count: int) -> Iterator[tuple[int, Graph]]:
    """Seed and graph; seeds whose operator is none (windows that do not fit) are left out."""
    for seed in range(first, first + count):
        try:
            graph = _Maker(np.random.default_rng(seed)).graph()
        except (GraphError, NumericsError):
            continue
        if graph is not None:
            yield seed, graph


def uncounted(
    window: Window, space: Sequence[int], mean: Callable[[int], Mean]
) -> Mean | BorderedMean:
    """Averages of what of each window lies in the map; with the padding where one has nothing."""
    axes = zip(
        space, window.kernel, window.stride, window.pad_begin, window.output(space), strict=True
    )
    t, h, w = (
        tuple(min(i * s - pad + k, n) - max(i * s - pad, 0) for i in range(windows))
        for n, k, s, pad, windows in axes
    )
    divisors = {a * b * c for a in t for b in h for c in w}
    if min(divisors) < 1:
        return mean(math.prod(window.kernel))
    return BorderedMean((t, h, w), {n: mean(n) for n in divisors})


class _Maker:
    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        shape = (9000, 9000, 1, 1)
        while math.prod(shape) > MOST_ELEMENTS:
            space = [self._of(SIZES) if rng.random() < 0.45 else 1 for _ in range(3)]
            shape = (self._of(CHANNELS), *space)
        self.shape = shape
        self.x = kind(shape, zero_point=int(rng.integers(0, 100)))

    def _of(self, values):
        return int(values[int(self.rng.integers(len(values)))])

    def _triple(self, values, default=1, share=1.0):
        if self.rng.random() > share:
            return (default,) * 3
        return tuple(self._of(values) for _ in range(3))

    def graph(self) -> Graph | None:
        makers = (
            *[self._dense] * 5, *[self._whole] * 2, *[self._depthwise] * 3, self._grouped,
            *[self._pool] * 2, *[self._mean] * 2, self._add, self._broadcast, self._residual,
            self._table, self._slice, self._concat,
        )  # fmt: skip
        return makers[int(self.rng.integers(len(makers)))]()

    def _single(self, op, y, **others) -> Graph | None:
        if math.prod(y.shape) > MOST_ELEMENTS:
            return None
        return network({"x": self.x, **others}, [op], {"y": y})

    def _convolution(self, out, kernel, groups=1, **attributes) -> Graph | None:
        if self.shape[0] // groups * math.prod(kernel) * out > MOST_WEIGHTS:
            return None
        op, y = convolution(self.rng, self.x, out, kernel, groups=groups, **attributes)
        return self._single(op, y)

    def _windows(self):
        pads = self._triple((0, 0, 1, 2, 40, 300), 0, 0.5)
        return {
            "stride": self._triple((1, 1, 1, 2, 3, 4, 7, 8, 16), share=0.5),
            "dilation": self._triple((1, 1, 2, 3, 15, 16, 40), share=0.3),
            "pad_begin": pads,
            "pad_end": pads,
        }

    def _dense(self):
        pool = self._triple((1, 2, 3, 8)) if self.rng.random() < 0.15 else None
        out = self._of((1, 4, 10, 17, 64, 100))
        return self._convolution(out, self._triple(KERNELS), pool=pool, **self._windows())

    def _whole(self):
        return self._convolution(self._of((1, 10, 17, 100)), self.shape[1:])

    def _depthwise(self):
        if self.shape[0] == 1:
            return None
        return self._convolution(
            self.shape[0], self._triple(KERNELS), self.shape[0], **self._windows()
        )

    def _grouped(self):
        possible = [g for g in (2, 4, 8) if self.shape[0] % g == 0]
        if not possible:
            return None
        groups = self._of(possible)
        out = groups * int(self.rng.integers(1, 9))
        return self._convolution(out, self._triple(KERNELS), groups, **self._windows())

    def _pool(self):
        kernel = self._triple((1, 1, 2, 3, 5, 9, 255, 256))
        pads = tuple(int(self.rng.integers(0, min(k, 4))) for k in kernel)
        window = Window(kernel, self._triple((1, 1, 2, 3, 7, 8)), pads, pads)
        out = window.output(self.shape[1:])
        if min(out) < 1:
            return None
        average = bool(self.rng.integers(2))
        y = kind((self.shape[0], *out), 0.05, self.x.zero_point)
        op = Pool(
            name="op",
            inputs=("x",),
            output="y",
            kind=PoolKind.AVERAGE if average else PoolKind.MAX,
            window=window,
            mean=self._pool_mean(window, y) if average else None,
            low=0,
            high=255,
        )
        return self._single(op, y)

    def _pool_mean(self, window: Window, y) -> Mean | BorderedMean:
        """Counts the padding, or not."""
        if self.rng.integers(2):
            return self._average(y, math.prod(window.kernel))
        return uncounted(window, self.shape[1:], lambda n: self._average(y, n))

    def _average(self, y, elements: int) -> Mean:
        return Mean.of(self.x.scale, y.scale, y.zero_point, elements)

    def _mean(self):
        axes = tuple(a for a in (1, 2, 3) if self.rng.integers(2)) or (1, 2, 3)
        y = kind(tuple(1 if a in axes else n for a, n in enumerate(self.shape)), 0.04, 20)
        mean = self._average(y, math.prod(self.shape[a] for a in axes))
        op = AxisMean(name="op", inputs=("x",), output="y", axes=axes, mean=mean, low=0, high=255)
        return self._single(op, y)

    def _binary(self, shape):
        x, other, y = self.x, kind(shape, 0.07, 9), kind(self.shape, 0.1, 4)
        scales = (x.scale, x.zero_point, other.scale, other.zero_point, y.scale, y.zero_point)
        op = Pairwise(
            name="op",
            inputs=("x", "b"),
            output="y",
            kind=PairwiseKind.ADD,
            arithmetic=Affine.add(*scales),
            low=0,
            high=255,
        )
        return self._single(op, y, b=other)

    def _add(self):
        return self._binary(self.shape)

    def _broadcast(self):
        return self._binary(tuple(1 if self.rng.integers(2) else n for n in self.shape))

    def _residual(self):
        if self.shape[1] < 2:
            return None
        x, y = self.x, kind(self.shape, 0.1, 100)
        scales = (x.scale, x.zero_point, x.scale, x.zero_point, y.scale, y.zero_point)
        op = TemporalResidual(
            name="op",
            inputs=("x",),
            output="y",
            subtract=Affine.subtract(*scales),
            mean=self._average(y, self.shape[1]),
            difference=y,
            average=y,
            difference_low=0,
            difference_high=255,
            average_low=0,
            average_high=255,
        )
        return self._single(op, y)

    def _table(self):
        y = kind(self.shape, 0.1, 100)
        table = make_table(self.x, y)
        op = UnaryTable(name="op", inputs=("x",), output="y", table=table, function="scale")
        return self._single(op, y)

    def _slice(self):
        axis = int(self.rng.integers(0, 4))
        start = int(self.rng.integers(0, self.shape[axis]))
        stop = int(self.rng.integers(start + 1, self.shape[axis] + 1))
        step = self._of((1, 1, 2, 5))
        op = Slice(
            name="op", inputs=("x",), output="y", axis=axis, start=start, stop=stop, step=step
        )
        return self._single(op, self.x.with_shape((1, *op.infer([self.x]))))

    def _concat(self):
        axis = int(self.rng.integers(0, 4))
        part, whole = list(self.shape), list(self.shape)
        part[axis] = int(self.rng.integers(1, 20))
        whole[axis] += part[axis]
        if math.prod(part) > MOST_ELEMENTS:
            return None
        other, y = kind(tuple(part)), self.x.with_shape((1, *whole))
        tables = (None, make_table(other, y))
        op = Concat(name="op", inputs=("x", "b"), output="y", axis=axis, tables=tables)
        return self._single(op, y, b=other)
