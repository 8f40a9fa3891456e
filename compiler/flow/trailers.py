"""Attention pools that are computed behind the convolution which makes the last of their operand.

Both are emitted as one layer (compiler/array/trailing_pool.py): the convolution's, which stores
the pool's result, too. As behind what is followed (compiler/flow/followers.py), neither the graph
nor what is compared changes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from compiler.array import choice
from compiler.array.trailing_pool import TrailingPool
from compiler.cost import Cost
from compiler.emit.emitter import Emitter, RefusedError, holds
from compiler.flow.followers import apart_cost, laid, pointwise, where
from compiler.flow.liveness import in_emission
from compiler.flow.places import Settled
from compiler.ir import AttentionPool, Convolution, Enter, LoopEnd
from compiler.lower.attention_pool import dot_of, sizes_of
from compiler.lower.compare import better_joined
from compiler.policy import Policy
from compiler.tile.attention_pool import trailing
from compiler.tile.depthwise import suits
from hw.arch.config import AcceleratorConfig
from hw.arch.program import Tensor


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """A convolution and the pool that trails it."""

    first: Convolution
    second: AttentionPool


def trail(settled: Settled, config: AcceleratorConfig, policy: Policy) -> Settled:
    """Let pools trail convolutions wherever that is better."""
    found = {
        pair.second.output: pair.first.output
        for pair in _pairs(settled, config)
        if _worth(pair, settled, config, policy)
    }
    if not found:
        return settled
    return dataclasses.replace(settled, followers={**settled.followers, **found})


def _pairs(settled: Settled, config: AcceleratorConfig) -> Iterator[Pair]:
    """Every pair that could be, in order."""
    graph = settled.assigned.graph
    if any(isinstance(op, Enter | LoopEnd) for op in graph.ops):
        return
    placed = {*settled.places, *settled.places.values()}
    taken = {*settled.followers, *settled.followers.values(), *placed}
    ordered = in_emission(graph)
    numbers = {op.output: number for number, op in enumerate(ordered)}
    for op in ordered:
        if not isinstance(op, AttentionPool) or op.output in placed:
            continue
        origins = {origin for origin, _ in where(settled, op.inputs[0])}
        number = max(numbers.get(origin, -1) for origin in origins)
        first = ordered[number]
        if number < 0 or not isinstance(first, Convolution) or first.output in taken:
            continue
        if graph.path(first.output) != graph.path(op.output):
            continue
        if pointwise(first) and not suits(first, config):
            yield Pair(first, op)


def _worth(pair: Pair, settled: Settled, config: AcceleratorConfig, policy: Policy) -> bool:
    """Whether it fits and is no worse than both apart."""
    first, second = pair.first, pair.second
    names = (first.inputs[0], first.output, second.inputs[0], second.output)
    tensors = laid(settled, names, config)
    pool = _pool(second, tensors, config)
    if pool is None or not _constants_fit(tensors[first.output], config):
        return False
    source, made = tensors[first.inputs[0]], tensors[first.output]
    try:
        chosen, _ = choice.plan(first, source, made, config, policy, pool)
    except RefusedError:
        return False
    if not holds(lambda: pool.probe(config, chosen.tiling.trailing)):
        return False
    scored = tensors[second.inputs[0]].layout.rows
    joined = Cost.of_way(chosen, config) + Cost.of_streams(0, 0, scored, config)
    apart = apart_cost((first, second), tensors, config, policy)
    return better_joined(joined, apart, policy)


def _constants_fit(made: Tensor, config: AcceleratorConfig) -> bool:
    """Whether parameters of both lie on chip together."""
    columns = made.layout.blocks * config.lane_block
    return columns + config.array.cols <= config.memory.parameter_columns


def _pool(
    op: AttentionPool, tensors: Mapping[str, Tensor], config: AcceleratorConfig
) -> TrailingPool | None:
    """How a pool trails, or None where it does not fit."""
    source, target = tensors[op.inputs[0]], tensors[op.output]
    tiling = trailing(sizes_of(op, source.layout), config)
    if tiling is None:
        return None
    return TrailingPool(op, tiling, source, target, dot_of(op, source))


def emit_trailed(first: Convolution, second: AttentionPool, emitter: Emitter) -> dict[str, Any]:
    """Emit both; returns the chosen tiling for the report.

    Raises
    ------
    RefusedError
        If they do not fit, which `trail` has asked.
    """
    tensors = emitter.tensors
    pool = _pool(second, tensors, emitter.config)
    if pool is None:
        raise RefusedError("they do not fit together")
    report = choice.lower(emitter, first, tensors[first.inputs[0]], tensors[first.output], pool)
    return report | {"groups": pool.tiling.groups, "parts": [first.name, second.name]}
