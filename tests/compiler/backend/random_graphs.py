"""Random graphs of integer operators, made in the IR: ragged widths, concats, slices, broadcasts.

Each graph grows operator by operator from what is there already, so that every kind of reader
meets every kind of layout. `reference` evaluates the same arithmetic in PyTorch, apart from the
operators' own `evaluate`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from compiler.ir import (
    AxisMean,
    Codes,
    Concat,
    Graph,
    Operation,
    Pairwise,
    PairwiseKind,
    Pool,
    PoolKind,
    Port,
    Rearrange,
    Slice,
    TemporalResidual,
    TensorType,
    UnaryTable,
    Value,
    View,
    Window,
    verify,
)
from compiler.lower import refusal
from compiler.ops import make_table
from hw.arch.axes import merged, standard
from hw.arch.config import AcceleratorConfig
from hw.arch.numerics import Affine, Mean, Product
from tests.compiler.backend.harness import convolution, kind

WIDTHS = (1, 3, 5, 7, 11, 12, 22, 24, 40, 44, 88)
MOST_ELEMENTS = 12_000
MOST_CHANNELS = 180


class Grower:
    """One random graph.

    Parameters
    ----------
    seed: decides everything.
    config: operators that it refuses are left out (and counted in `refused`).
    exact: only operators that `reference` knows.
    """

    def __init__(self, seed: int, config: AcceleratorConfig, exact: bool = False):
        self.rng = np.random.default_rng(seed)
        self.config, self.exact = config, exact
        self.values: dict[str, Value] = {}
        self.ops: list[Operation] = []
        self.inputs: list[str] = []
        self.refused: list[str] = []

    def graph(self, operators: int) -> Graph:
        """Grow so many operators on one or two inputs."""
        space = tuple(int(self.rng.integers(1, n)) for n in (4, 7, 7))
        for _ in range(int(self.rng.integers(1, 3))):
            self.inputs.append(self._add(kind((self._width(), *space), *self._quantization())))
        makers = [
            *[self._dense] * 3, self._depthwise, self._depthwise, self._grouped,
            *[self._concat] * 4, *[self._slice] * 4, *[self._elementwise] * 5,
            self._pool, self._mean, self._table, self._residual, self._rearrange, self._view,
        ]  # fmt: skip
        tries = 0
        while len(self.ops) < operators and tries < 20 * operators:
            tries += 1
            self._pick(makers)()
        read = {name for op in self.ops for name in op.inputs}
        ends = [op.output for op in self.ops if op.output not in read]
        graph = Graph(
            "random",
            tuple(Port(name, name) for name in self.inputs),
            tuple(Port(name, name) for name in ends),
            self.values,
            tuple(self.ops),
        )
        verify(graph)
        return graph

    # Helpers

    def _pick(self, choices):
        return choices[int(self.rng.integers(len(choices)))]

    def _width(self) -> int:
        return int(self._pick(WIDTHS))

    def _quantization(self) -> tuple[float, int, bool]:
        signed = bool(self.rng.integers(2))
        zero = int(self.rng.integers(-20, 20)) + (0 if signed else 100)
        return float(self.rng.uniform(0.03, 0.09)), zero, signed

    def _add(self, t: TensorType, constant: Codes | None = None) -> str:
        name = f"v{len(self.values)}"
        self.values[name] = Value(name, t, constant)
        return name

    def _type(self, name: str) -> TensorType:
        return self.values[name].type

    def _some(self, accept: Callable[[TensorType], bool] = lambda t: True) -> str | None:
        """A value that is no constant, later ones more often."""
        names = [n for n, v in self.values.items() if v.constant is None and accept(v.type)]
        if not names:
            return None
        return names[max(int(self.rng.integers(len(names))) for _ in range(2))]

    def _put(self, op: Operation, t: TensorType) -> str | None:
        """Append an operator, unless it is refused; `op.output` is filled in here."""
        if math.prod(t.shape) > MOST_ELEMENTS or t.shape[0] > MOST_CHANNELS:
            return None
        kinds = [self._type(n) for n in op.inputs]
        op = dataclasses.replace(op, name=f"op{len(self.ops)}")
        why = refusal(op, kinds, t, self.config)
        if why is not None:
            self.refused.append(f"{type(op).__name__}: {why}")
            return None
        output = self._add(t)
        self.ops.append(dataclasses.replace(op, output=output))
        return output

    def _like(self, shape) -> TensorType:
        return kind(tuple(int(n) for n in shape), *self._quantization())

    # Operators

    def _convolve(self, x: str, out: int, kernel, groups: int = 1, **attributes) -> str | None:
        source = self._type(x)
        pads = tuple(int(self.rng.integers(0, k)) for k in kernel)
        try:
            op, result = convolution(
                self.rng, source, out, kernel, inputs=(x,), output="", groups=groups,
                signed=bool(self.rng.integers(2)), pad_begin=pads, pad_end=pads, **attributes,
            )  # fmt: skip
        except Exception as error:
            if "does not fit" not in str(error):
                raise
            return None
        return self._put(op, result)

    def _kernel(self, most: int = 3):
        return tuple(int(n) for n in self.rng.integers(1, most + 1, 3))

    def _strides(self):
        return tuple(int(n) for n in self.rng.choice([1, 1, 1, 2], 3))

    def _dense(self) -> None:
        x = self._some()
        kernel = self._pick([(1, 1, 1), (1, 1, 1), (1, 3, 3), (3, 1, 1), self._kernel()])
        whole = self._type(x).shape[1:]
        pool = (1, 2, 2) if self.rng.random() < 0.15 else None
        if self.rng.random() < 0.1:
            kernel, pool = whole, None
        dilation = self._strides() if self.rng.random() < 0.3 else (1, 1, 1)
        self._convolve(
            x, self._width(), kernel, stride=self._strides(), dilation=dilation, pool=pool
        )

    def _depthwise(self) -> None:
        x = self._some(lambda t: t.shape[0] > 1)
        if x is None:
            return
        kernel = self._pick([(1, 3, 3), (3, 1, 1), (4, 1, 1), (5, 1, 1), (1, 2, 4), self._kernel()])
        channels = self._type(x).shape[0]
        dilation = self._strides() if self.rng.random() < 0.3 else (1, 1, 1)
        self._convolve(
            x, channels, kernel, groups=channels, stride=self._strides(), dilation=dilation
        )

    def _grouped(self) -> None:
        x = self._some(lambda t: t.shape[0] % 2 == 0 or t.shape[0] % 11 == 0)
        if x is None:
            return
        channels = self._type(x).shape[0]
        groups = self._pick([g for g in (2, 4, 11) if channels % g == 0])
        out = groups * int(self.rng.integers(1, 7))
        self._convolve(x, out, self._pick([(1, 1, 1), (1, 3, 3)]), groups=groups)

    def _concat(self) -> None:
        axis = self._pick([0, 0, 0, 1, 2, 3])
        first = self._some()
        rest = [n for a, n in enumerate(self._type(first).shape) if a != axis]

        alike = self.rng.random() < 0.5  # then nothing need move

        def joins(t: TensorType) -> bool:
            same = not alike or t.quantization == self._type(first).quantization
            return same and [n for a, n in enumerate(t.shape) if a != axis] == rest

        names = [first, *(self._some(joins) for _ in range(int(self.rng.integers(1, 4))))]
        kinds = [self._type(n) for n in names]
        shape = list(kinds[0].shape)
        shape[axis] = sum(t.shape[axis] for t in kinds)
        y = self._pick([kinds[0], kinds[0] if alike else self._like(shape)]).with_shape((1, *shape))
        tables = tuple(
            None if t.quantization == y.quantization else make_table(t, y) for t in kinds
        )
        op = Concat(name="", inputs=tuple(names), output="", axis=axis, tables=tables)
        self._put(op, y)

    def _slice(self) -> None:
        axis = self._pick([0, 0, 0, 1, 2, 3])
        x = self._some(lambda t: t.shape[axis] > 1)
        if x is None:
            return
        size = self._type(x).shape[axis]
        start = int(self.rng.integers(0, size))
        stop = int(self.rng.integers(start + 1, size + 1))
        step = int(self._pick([1, 1, 1, 2, 3]))
        op = Slice(name="", inputs=(x,), output="", axis=axis, start=start, stop=stop, step=step)
        self._put(op, self._type(x).with_shape((1, *op.infer([self._type(x)]))))

    def _partner(self, x: str) -> str:
        """An operand that broadcasts with `x`, made or found."""
        shape = self._type(x).shape
        choice = self._pick(["found", "found", "channel", "gate", "constant"])
        if choice == "channel":
            made = self._convolve_to(x, 1)
            if made is not None:
                return made
        if choice == "gate" and math.prod(shape[1:]) > 1:
            made = self._average(x, tuple(a for a in (1, 2, 3) if shape[a] > 1))
            if made is not None:
                return made
        if choice == "constant":
            repeated = self.rng.integers(0, 2, 4)
            small = tuple(1 if r else n for r, n in zip(repeated, shape, strict=True))
            t = self._like(small)
            codes = self.rng.integers(t.low, t.high + 1, small).astype(t.dtype)
            return self._add(t, codes)
        same = self._some(lambda t: t.shape == shape)
        assert same is not None  # x itself
        other = self._convolve_to(x, shape[0]) if same == x else None
        return other or same

    def _convolve_to(self, x: str, out: int) -> str | None:
        source = self._type(x)
        op, result = convolution(self.rng, source, out, (1, 1, 1), inputs=(x,), output="")
        return self._put(op, result)

    def _requantized(self, x: str, t: TensorType) -> str | None:
        source = self._type(x)
        if source.quantization == t.quantization:
            return x
        target = t.with_shape((1, *source.shape))
        constant = self.values[x].constant
        if constant is not None:
            return self._add(target, constant.view(target.dtype))
        table = make_table(source, target)
        op = UnaryTable(name="", inputs=(x,), output="", table=table, function="requantize")
        return self._put(op, target)

    def _elementwise(self) -> None:
        a = self._some()
        b = self._partner(a)
        if self.rng.random() < 0.5 and self.values[b].constant is None:
            a, b = b, a
        kinds = list(PairwiseKind)
        if self.exact:
            kinds = [PairwiseKind.MULTIPLY, PairwiseKind.MAXIMUM, PairwiseKind.MINIMUM]
        op_kind = self._pick(kinds)
        extremum = op_kind in (PairwiseKind.MAXIMUM, PairwiseKind.MINIMUM)
        if extremum:
            b = self._requantized(b, self._type(a))
            if b is None:
                return
        ta, tb = self._type(a), self._type(b)
        shape = tuple(max(m, n) for m, n in zip(ta.shape, tb.shape, strict=True))
        y = ta.with_shape((1, *shape)) if extremum else self._like(shape)
        scales = (ta.scale, ta.zero_point, tb.scale, tb.zero_point, y.scale, y.zero_point)
        make = {
            PairwiseKind.ADD: Affine.add,
            PairwiseKind.SUBTRACT: Affine.subtract,
            PairwiseKind.MULTIPLY: Product.of,
        }.get(op_kind)
        op = Pairwise(
            name="",
            inputs=(a, b),
            output="",
            kind=op_kind,
            arithmetic=None if make is None else make(*scales),
            low=y.low + 2,
            high=y.high - 2,
        )
        self._put(op, y)

    def _pool(self) -> None:
        x = self._some()
        source = self._type(x)
        kernel = self._kernel()
        pads = tuple(int(self.rng.integers(0, k)) for k in kernel)
        window = Window(kernel, self._strides(), pads, pads)
        out = window.output(source.shape[1:])
        if min(out) < 1:
            return
        average = bool(self.rng.integers(2))
        y = source.with_shape((1, source.shape[0], *out))
        if average:
            y = self._like(y.shape)
        op = Pool(
            name="",
            inputs=(x,),
            output="",
            kind=PoolKind.AVERAGE if average else PoolKind.MAX,
            window=window,
            mean=self._mean_of(source, y, math.prod(kernel)) if average else None,
            low=y.low,
            high=y.high,
        )
        self._put(op, y)

    def _mean_of(self, source: TensorType, target: TensorType, elements: int) -> Mean:
        return Mean.of(source.scale, target.scale, target.zero_point, elements)

    def _average(self, x: str, axes) -> str | None:
        source = self._type(x)
        y = self._like(1 if a in axes else n for a, n in enumerate(source.shape))
        elements = math.prod(source.shape[a] for a in axes)
        op = AxisMean(
            name="",
            inputs=(x,),
            output="",
            axes=axes,
            mean=self._mean_of(source, y, elements),
            low=y.low,
            high=y.high,
        )
        return self._put(op, y)

    def _mean(self) -> None:
        axes = tuple(a for a in (1, 2, 3) if self.rng.integers(2)) or (3,)
        self._average(self._some(), axes)

    def _table(self) -> None:
        x = self._some()
        y = self._like(self._type(x).shape)
        table = make_table(self._type(x), y, [np.tanh])
        self._put(UnaryTable(name="", inputs=(x,), output="", table=table, function="tanh"), y)

    def _residual(self) -> None:
        x = self._some(lambda t: t.shape[1] > 1)
        if x is None or self.exact:
            return
        source = self._type(x)
        y = self._like(source.shape)
        zero, scale = source.zero_point, source.scale
        op = TemporalResidual(
            name="",
            inputs=(x,),
            output="",
            subtract=Affine.subtract(scale, zero, scale, zero, y.scale, y.zero_point),
            mean=self._mean_of(source, y, source.shape[1]),
            difference=y,
            average=y,
            difference_low=y.low,
            difference_high=y.high,
            average_low=y.low,
            average_high=y.high,
        )
        self._put(op, y)

    def _rearrange(self) -> None:
        """Digits of C, T, H and W, some of them cut in two, dealt out again."""
        x = self._some()
        source = self._type(x)
        axes = standard((1, *source.shape))
        digits = [digit for group in axes for digit in self._cut(group)]
        kind_of_move = self._pick(["flatten", "flatten", "positions", "merge", "any"])
        groups: list[list[tuple[int, int]]] = [[], [], [], []]
        if kind_of_move == "flatten":
            groups[0] = digits
        elif kind_of_move == "positions":
            groups[0] = list(axes[0])
            rest = [digit for group in axes[1:] for digit in group]
            for k in self.rng.permutation(len(rest)):
                groups[int(self.rng.integers(1, 4))].append(rest[k])
        elif kind_of_move == "merge":
            groups[0] = [digit for group in axes[:2] for digit in group]
            groups[2:] = [list(group) for group in axes[2:]]
        else:
            for k in self.rng.permutation(len(digits)):
                groups[int(self.rng.integers(0, 4))].append(digits[k])
        c, t, h, w = (merged(group) for group in groups)
        y = source.with_shape((1, *source.shape), (c, t, h, w))
        op = Rearrange(name="", inputs=(x,), output="", source=axes, target=y.axes)
        self._put(op, y)

    def _cut(self, group):
        for size, stride in group:
            factors = [n for n in (2, 3, 11) if size % n == 0 and size > n]
            if factors and self.rng.random() < 0.3:
                low = self._pick(factors)
                yield size // low, stride * low
                yield low, stride
            else:
                yield size, stride

    def _view(self) -> None:
        x = self._some()
        source = self._type(x)
        c, t, h, w = source.shape
        shape = self._pick([(c, 1, 1, t * h * w), (c, t * h, 1, w), (c, w, h, t), source.shape])
        op = View(name="", inputs=(x,), output="", shape=shape)
        self._put(op, source.with_shape((1, *shape)))
