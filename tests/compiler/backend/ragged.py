"""Graphs of which channels do not fill lanes, built value by value, and readers of every kind."""

from __future__ import annotations

import dataclasses

import numpy as np

from compiler.ir import (
    AxisMean,
    Concat,
    Graph,
    Pairwise,
    PairwiseKind,
    Pool,
    PoolKind,
    Port,
    Rearrange,
    Slice,
    TemporalResidual,
    UnaryTable,
    Value,
    View,
    Window,
    verify,
)
from compiler.ops import make_table
from hw.arch.axes import merged, standard
from hw.arch.numerics import Affine, Mean, Product
from tests.compiler.backend.harness import CONFIGS, FOLDING, convolution, kind

SPACE = (3, 4, 5)
MACHINES = {**CONFIGS, **FOLDING}


class Network:
    """A graph built value by value; every method appends an operator and returns its result."""

    def __init__(self, *shapes):
        self.rng = np.random.default_rng(5)
        self.values: dict[str, Value] = {}
        self.ops = []
        self.inputs = [self._value(kind(shape)) for shape in shapes]

    def graph(self) -> Graph:
        read = {name for op in self.ops for name in op.inputs}
        ends = [name for name in self.values if name not in read]
        graph = Graph(
            "ragged",
            tuple(Port(name, name) for name in self.inputs),
            tuple(Port(name, name) for name in ends),
            self.values,
            tuple(self.ops),
        )
        verify(graph)
        return graph

    def _value(self, t, constant=None) -> str:
        name = f"v{len(self.values)}"
        self.values[name] = Value(name, t, constant)
        return name

    def type(self, name):
        return self.values[name].type

    def add(self, op, t) -> str:
        name = self._value(t)
        self.ops.append(dataclasses.replace(op, name=f"op{len(self.ops)}", output=name))
        return name

    def constant(self, shape) -> str:
        codes = self.rng.integers(0, 256, shape).astype(np.uint8)
        return self._value(kind(shape, 0.08), codes)

    def conv(self, x, out, kernel=(1, 1, 1), **attributes) -> str:
        op, t = convolution(
            self.rng, self.type(x), out, kernel, inputs=(x,), output="", **attributes
        )
        return self.add(op, t)

    def depthwise(self, x, kernel, **attributes) -> str:
        channels = self.type(x).shape[0]
        pads = tuple(k // 2 for k in kernel)
        return self.conv(
            x, channels, kernel, groups=channels, pad_begin=pads, pad_end=pads, **attributes
        )

    def concat(self, axis, *names) -> str:
        shapes = [self.type(n).shape for n in names]
        shape = list(shapes[0])
        shape[axis] = sum(s[axis] for s in shapes)
        t = kind(tuple(shape), 0.06, 70)
        tables = tuple(make_table(self.type(n), t) for n in names)
        op = Concat(name="", inputs=names, output="", axis=axis, tables=tables)
        return self.add(op, t)

    def slice(self, x, axis, start, stop, step=1) -> str:
        op = Slice(name="", inputs=(x,), output="", axis=axis, start=start, stop=stop, step=step)
        return self.add(op, self.type(x).with_shape((1, *op.infer([self.type(x)]))))

    def binary(self, a, b, multiply=False, scale=0.11) -> str:
        ta, tb = self.type(a), self.type(b)
        shape = tuple(max(m, n) for m, n in zip(ta.shape, tb.shape, strict=True))
        t = kind(shape, scale, 90)
        scales = (ta.scale, ta.zero_point, tb.scale, tb.zero_point, t.scale, t.zero_point)
        op = Pairwise(
            name="",
            inputs=(a, b),
            output="",
            kind=PairwiseKind.MULTIPLY if multiply else PairwiseKind.SUBTRACT,
            arithmetic=Product.of(*scales) if multiply else Affine.subtract(*scales),
            low=0,
            high=255,
        )
        return self.add(op, t)

    def mean(self, x, axes=(1, 2, 3)) -> str:
        source = self.type(x)
        t = kind(tuple(1 if a in axes else n for a, n in enumerate(source.shape)), 0.02, 11)
        count = int(np.prod([source.shape[a] for a in axes]))
        mean = Mean.of(source.scale, t.scale, t.zero_point, count)
        op = AxisMean(name="", inputs=(x,), output="", axes=axes, mean=mean, low=0, high=255)
        return self.add(op, t)

    def pool(self, x, average) -> str:
        source = self.type(x)
        window = Window((2, 2, 3), (1, 2, 1), (1, 0, 1), (0, 1, 1))
        shape = (source.shape[0], *window.output(source.shape[1:]))
        t = kind(shape, 0.04, 3) if average else source.with_shape((1, *shape))
        mean = Mean.of(source.scale, t.scale, t.zero_point, 12) if average else None
        chosen = PoolKind.AVERAGE if average else PoolKind.MAX
        op = Pool(
            name="", inputs=(x,), output="", kind=chosen, window=window, mean=mean, low=0, high=255
        )
        return self.add(op, t)

    def table(self, x) -> str:
        t = kind(self.type(x).shape, 0.01, 128)
        table = make_table(self.type(x), t, [np.tanh])
        return self.add(
            UnaryTable(name="", inputs=(x,), output="", table=table, function="tanh"), t
        )

    def residual(self, x) -> str:
        source = self.type(x)
        t = kind(source.shape, 0.09, 110)
        scale, zero = source.scale, source.zero_point
        op = TemporalResidual(
            name="",
            inputs=(x,),
            output="",
            subtract=Affine.subtract(scale, zero, scale, zero, t.scale, t.zero_point),
            mean=Mean.of(scale, t.scale, t.zero_point, source.shape[1]),
            difference=t,
            average=t,
            difference_low=0,
            difference_high=255,
            average_low=0,
            average_high=255,
        )
        return self.add(op, t)

    def view(self, x) -> str:
        c, t, h, w = self.type(x).shape
        op = View(name="", inputs=(x,), output="", shape=(c, 1, t * h, w))
        return self.add(op, self.type(x).with_shape((1, c, t * h, w)))

    def rearrange(self, x, groups) -> str:
        """C, T, H, W of the result made of axes of the operand, by number."""
        axes = standard((1, *self.type(x).shape))
        c, t, h, w = (merged([d for a in group for d in axes[a]]) for group in groups)
        y = self.type(x).with_shape((1, *self.type(x).shape), (c, t, h, w))
        op = Rearrange(name="", inputs=(x,), output="", source=axes, target=y.axes)
        return self.add(op, y)


RAGGED = {
    "concat 5+7": lambda n, x: n.concat(0, n.conv(x, 5), n.conv(x, 7)),
    "concat 5+27+3": lambda n, x: n.concat(0, n.conv(x, 5), n.conv(x, 27), n.conv(x, 3)),
    "channels 6 to 17 of 24": lambda n, x: n.slice(n.conv(x, 24), 0, 6, 17),
    "every third of 40": lambda n, x: n.slice(n.conv(x, 40), 0, 1, 40, 3),
    "channels 9 to 30 of 22+11": lambda n, x: n.slice(
        n.concat(0, n.conv(x, 22), n.conv(x, 11)), 0, 9, 30
    ),
}

READERS = {
    "output": lambda n, x, c: c,
    "conv": lambda n, x, c: n.conv(c, 9, (1, 3, 3)),
    "pooled conv": lambda n, x, c: n.conv(c, 9, (1, 1, 1), pool=(1, 2, 2)),
    "- conv": lambda n, x, c: n.binary(c, n.conv(x, n.type(c).shape[0])),
    "conv -": lambda n, x, c: n.binary(n.conv(x, n.type(c).shape[0]), c),
    "- conv with two readers": lambda n, x, c: (
        n.table(n.binary(c, both := n.conv(x, n.type(c).shape[0]))) and n.table(both)
    ),
    "- another concat": lambda n, x, c: n.binary(
        c, n.concat(0, n.conv(x, n.type(c).shape[0] - 2), n.conv(x, 2))
    ),
    "· gate": lambda n, x, c: n.binary(c, n.mean(n.conv(x, n.type(c).shape[0])), True),
    "gate ·": lambda n, x, c: n.binary(n.mean(n.conv(x, n.type(c).shape[0])), c, True),
    "· own gate": lambda n, x, c: n.binary(c, n.mean(c), True),
    "· one channel": lambda n, x, c: n.binary(c, n.conv(x, 1), True),
    "one channel's table -": lambda n, x, c: n.binary(n.table(n.conv(x, 1)), c),
    "- constant": lambda n, x, c: n.binary(c, n.constant(n.type(c).shape)),
    "- constant by channel": lambda n, x, c: n.binary(c, n.constant((n.type(c).shape[0], 1, 1, 1))),
    "constant map -": lambda n, x, c: n.binary(n.constant((1, *SPACE)), c),
    "concat of T": lambda n, x, c: n.concat(1, c, n.conv(x, n.type(c).shape[0]), c),
    "concat of H": lambda n, x, c: n.concat(2, n.conv(x, n.type(c).shape[0]), c),
    "concat of W": lambda n, x, c: n.concat(3, c, n.conv(x, n.type(c).shape[0])),
    "concat of C": lambda n, x, c: n.concat(0, n.conv(x, 3), c),
    "slice of T": lambda n, x, c: n.slice(c, 1, 1, 3),
    "slice of W": lambda n, x, c: n.slice(c, 3, 0, 5, 2),
    "slice of C": lambda n, x, c: n.slice(c, 0, 2, n.type(c).shape[0] - 1, 2),
    "slice of H of a concat of H": lambda n, x, c: n.slice(
        n.concat(2, n.conv(x, n.type(c).shape[0]), c), 2, 1, 7, 2
    ),
    "depthwise 3×3": lambda n, x, c: n.depthwise(c, (1, 3, 3)),
    "depthwise of four taps": lambda n, x, c: n.depthwise(c, (4, 1, 1)),
    "depthwise of five taps, stride": lambda n, x, c: n.depthwise(c, (5, 1, 1), stride=(1, 2, 2)),
    "depthwise 2×5": lambda n, x, c: n.depthwise(c, (1, 2, 5)),
    "depthwise, dilated": lambda n, x, c: n.depthwise(c, (1, 3, 3), dilation=(1, 2, 1)),
    "maximum pool": lambda n, x, c: n.pool(c, False),
    "average pool": lambda n, x, c: n.pool(c, True),
    "table": lambda n, x, c: n.table(c),
    "mean over W": lambda n, x, c: n.mean(c, (3,)),
    "mean over all": lambda n, x, c: n.conv(n.mean(c), 6),
    "temporal residual": lambda n, x, c: n.residual(c),
    "view": lambda n, x, c: n.pool(n.view(c), False),
    "transposed positions": lambda n, x, c: n.rearrange(c, ((0,), (3,), (1,), (2,))),
    "flattened, then dense": lambda n, x, c: n.conv(
        n.table(n.rearrange(c, ((0, 1, 2, 3), (), (), ()))), 10
    ),
    "channels last, flattened": lambda n, x, c: n.conv(
        n.rearrange(c, ((1, 2, 3, 0), (), (), ())), 10
    ),
    "channels and time exchanged": lambda n, x, c: n.conv(
        n.rearrange(c, ((1,), (0,), (2,), (3,))), 6, (3, 1, 1)
    ),
    "channels split in positions": lambda n, x, c: n.binary(
        n.rearrange(c, ((), (0,), (1, 2), (3,))), n.constant((1, 1, 1, 5))
    ),
}


def ragged(producer: str, reader: str) -> Graph:
    net = Network((6, *SPACE))
    READERS[reader](net, "v0", RAGGED[producer](net, "v0"))
    return net.graph()
