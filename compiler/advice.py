"""What a user could change in a network, and what it would gain, before anything is built.

Every gain is a difference of two estimates of the back end: operators of the network, and those
that would stand in their place. What is not found cheaper is not said.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from compiler.backend.build import emit, lay_out
from compiler.foreseen import foreseen
from compiler.ir import (
    AnyOperation,
    AttentionPool,
    CompilerError,
    Convolution,
    Graph,
    Pool,
    PoolKind,
    Port,
    Region,
    Shape,
    TensorType,
    UnaryTable,
    Value,
    Window,
)
from compiler.passes.base import Accept
from compiler.passes.chain import FUSE_CHAINS
from hw.arch.config import AcceleratorConfig

LEAST = 0.05
"""Share of the network's direct array cycles below which nothing is said."""


@dataclasses.dataclass(frozen=True, slots=True)
class Hint:
    """One place that could be cheaper.

    Attributes
    ----------
    node: name of the operator.
    words: what stands in the way, and what would help.
    cycles: estimated, as it is. better: estimated, with the change.
    """

    node: str
    words: str
    cycles: int
    better: int

    @property
    def gain(self) -> int:
        """Cycles that the change saves."""
        return self.cycles - self.better

    def __str__(self) -> str:
        return (
            f"{self.node}: {self.words}: about {self.better:,} cycles in place of {self.cycles:,}"
        )


def hints(graph: Graph, config: AcceleratorConfig, accept: Accept) -> tuple[Hint, ...]:
    """What would gain most, first.

    Parameters
    ----------
    graph: after the passes.
    accept: the back end's word on joined operators.
    """
    dense = [op for op in graph.ops if isinstance(op, Convolution) and op.groups == 1]
    total = sum(_padded(graph, op, config)[0] for op in dense)
    found = _lanes(graph, dense, config, LEAST * total)
    for change in (_pool_behind, _pool_first, _pool_last):
        for op in graph.ops:
            for hint in change(graph, op, config, accept):
                found.append(hint)
    worth = [hint for hint in found if hint.gain > 0 and hint.gain >= LEAST * total]
    return tuple(sorted(worth, key=lambda hint: -hint.gain))


# Lanes ------------------------------------------------------------------------------------


def _padded(graph: Graph, op: Convolution, config: AcceleratorConfig) -> tuple[float, float]:
    """Cycles of the direct form, with its channels padded to whole lanes, and without."""
    rows, cols = config.array.rows, config.array.cols
    full = op.macs(graph.input_types(op)) / config.array.multipliers
    lanes = -(-op.in_channels // rows) * rows, -(-op.out_channels // cols) * cols
    return full * lanes[0] * lanes[1] / (op.in_channels * op.out_channels), full


def _lanes(
    graph: Graph, dense: Sequence[Convolution], config: AcceleratorConfig, least: float
) -> list[Hint]:
    """Dense convolutions whose channels leave lanes idle, also when neighbours are packed."""
    found = []
    rows, cols = config.array.rows, config.array.cols
    for op in dense:
        padded, full = _padded(graph, op, config)
        cycles = estimate(graph, [op], config) if padded - full >= least else None
        if cycles is None:
            continue
        words = (
            f"{op.in_channels} → {op.out_channels} channels do not fill lanes of {rows} → {cols}; "
            "with channels in multiples of them (space to depth in front of a first layer) the "
            "same multiplications take"
        )
        found.append(Hint(op.name, words, cycles, round(full)))
    return found


# Pools ------------------------------------------------------------------------------------


def _pool_behind(
    graph: Graph, op: AnyOperation, config: AcceleratorConfig, accept: Accept
) -> Iterator[Hint]:
    """A pool whose windows overlap or reach into padding: as one that its convolution can take."""
    producer, pool = _producer(graph, op), op
    now: list[AnyOperation] = [op]
    if isinstance(op, Region) and not isinstance(op, AttentionPool):
        producer, pool = op.parts  # the pool trails its convolution already
    elif producer is not None:
        now.insert(0, producer)
    if not isinstance(pool, Pool) or not isinstance(producer, Convolution):
        return
    made = op.between[0] if isinstance(op, Region) else graph.type(producer.output)
    window = _tiling(pool, made)
    if producer.pool is not None or window is None:
        return
    fused = dataclasses.replace(producer, output=op.output, pool=window)
    if not _accepted(graph, fused, accept):
        return
    words = (
        f"windows of {_sizes(pool.window)} every {_steps(pool.window)} overlap or reach into "
        f"padding; a pool of {_sizes(window)} without padding is free behind {producer.name}"
    )
    yield from _compared(op.name, words, (graph, now), (graph, [fused]), config)


def _pool_first(
    graph: Graph, op: AnyOperation, config: AcceleratorConfig, accept: Accept
) -> Iterator[Hint]:
    """A pool behind a function: in front of it, its convolution takes it."""
    table = _producer(graph, op)
    if not isinstance(op, Pool) or not isinstance(table, UnaryTable):
        return
    window = _tiling(op, graph.type(table.output))
    if window is None:
        return
    producer = _producer(graph, table)
    if not isinstance(producer, Convolution) or producer.pool is not None:
        return
    middle = _value(
        graph, f"{producer.output} pooled", producer.output, graph.type(op.output).shape
    )
    fused = dataclasses.replace(producer, output=middle.name, pool=window)
    after = dataclasses.replace(table, inputs=(middle.name,), output=op.output)
    other = graph.replaced(graph.ops, {middle.name: middle})
    other = dataclasses.replace(other, values={**other.values, middle.name: middle})
    if not _accepted(other, fused, accept):
        return
    words = (
        f"a pool behind {table.function or 'a function'}; between {producer.name} and the function "
        f"a pool of {_sizes(window)} without padding is free, and the function has less to do"
    )
    yield from _compared(
        op.name, words, (graph, [producer, table, op]), (other, [fused, after]), config
    )


def _pool_last(
    graph: Graph, op: AnyOperation, config: AcceleratorConfig, accept: Accept
) -> Iterator[Hint]:
    """A pool between a depthwise and a pointwise convolution: behind both, they make a chain."""
    if not isinstance(op, Convolution) or op.pool is not None or op.groups > 1:
        return
    inner = _producer(graph, op)
    if not isinstance(inner, Convolution) or inner.pool is None or not inner.depthwise:
        return
    space = inner.convolved(graph.input_types(inner)[0])
    middle = _value(graph, f"{inner.output} whole", inner.output, space)
    bare = dataclasses.replace(inner, output=middle.name, pool=None)
    last = dataclasses.replace(op, inputs=(middle.name,), pool=inner.pool)
    other = dataclasses.replace(graph, values={**graph.values, middle.name: middle})
    before = _producer(graph, inner)
    first = [before] if isinstance(before, Convolution) and before.groups == 1 else []
    joined = FUSE_CHAINS.run(_fragment(other, [*first, bare, last]), accept)
    if not joined.applied:
        return
    words = (
        f"the pool of {inner.name} keeps it and {op.name} from being one chain, whose inner maps "
        "stay on chip; behind both, it is free"
    )
    now = (graph, [*first, inner, op])
    yield from _compared(op.name, words, now, (joined.graph, list(joined.graph.ops)), config)


def _producer(graph: Graph, op: AnyOperation) -> AnyOperation | None:
    """What makes the operand that only `op` reads."""
    name = op.inputs[0]
    return graph.producers().get(name) if graph.uses()[name] == 1 else None


def _tiling(op: Pool, source: TensorType) -> Window | None:
    """For a maximum pool with strides, one that tiles and makes as many windows."""
    if op.kind is not PoolKind.MAX or max(op.window.stride) == 1:
        return None
    window = Window(kernel=op.window.stride, stride=op.window.stride)
    made = window.output(source.shape[1:])
    return window if made == op.window.output(source.shape[1:]) else None


def _sizes(window: Window) -> str:
    return "×".join(map(str, window.kernel))


def _steps(window: Window) -> str:
    return "×".join(map(str, window.stride))


def _accepted(graph: Graph, op: AnyOperation, accept: Accept) -> bool:
    return accept(op, graph.input_types(op), graph.type(op.output)) is None


def _value(graph: Graph, name: str, like: str, shape: Shape) -> Value:
    """A value of another shape, quantized alike."""
    kind = graph.type(like)
    made = TensorType.of((1, *shape), kind.signed, kind.scale, kind.zero_point)
    return Value(name, made)


# Estimates --------------------------------------------------------------------------------


def _compared(
    node: str,
    words: str,
    now: tuple[Graph, Sequence[AnyOperation]],
    changed: tuple[Graph, Sequence[AnyOperation]],
    config: AcceleratorConfig,
) -> Iterator[Hint]:
    cycles, better = (estimate(graph, ops, config) for graph, ops in (now, changed))
    if cycles is not None and better is not None:
        yield Hint(node, words, cycles, better)


def estimate(graph: Graph, ops: Iterable[AnyOperation], config: AcceleratorConfig) -> int | None:
    """Cycles of some operators by themselves; None if they cannot be lowered."""
    try:
        return foreseen(emit(lay_out(_fragment(graph, ops), config), config), config).cycles
    except CompilerError:
        return None


def _fragment(graph: Graph, ops: Iterable[AnyOperation]) -> Graph:
    """Operators as a graph of their own: inputs are what others make, the last result goes out."""
    ops = tuple(ops)
    made = {op.output for op in ops}
    read = dict.fromkeys(name for op in ops for name in op.inputs if name not in made)
    values = {name: graph.values[name] for name in (*read, *made)}
    outer = [name for name in read if values[name].constant is None]
    return Graph(
        name=graph.name,
        inputs=tuple(Port(name, name) for name in outer),
        outputs=(Port(ops[-1].output, ops[-1].output),),
        values=values,
        ops=ops,
    )
