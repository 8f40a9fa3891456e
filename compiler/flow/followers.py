"""Pointwise convolutions that are computed while what they read is still on chip.

Behind an operator on two tensors that is stored for others, too (the sum of a context, a gate's
product), stands a pointwise convolution of it, or of some of its blocks. Both are emitted as one
layer (compiler/array/follower.py): the convolution's result is stored while the sum is, so that it
takes memory from the sum's layer on. The graph does not change. Blocks of the sum that nothing else
reads are stored nowhere (`unstored`), so that what has some of them is not compared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compiler.array.follower import (
    FollowedEmission,
    Follower,
    Places,
    moved_beats,
    places_of,
    trial_cycles,
)
from compiler.array.forms import jobs
from compiler.cost import Cost
from compiler.emit.emitter import Emitter, Probe, RefusedError, holds
from compiler.emit.streams import Stream
from compiler.emit.transfers import Strided, at, tensor_of
from compiler.emit.trial import BESIDE, SOURCE
from compiler.flow.places import Settled
from compiler.flow.views import Where, contiguous
from compiler.ir import AnyOperation, Convolution, Enter, LoopEnd, Pairwise
from compiler.lower import lowering
from compiler.lower.base import Timed
from compiler.lower.compare import better_joined, one_after_another
from compiler.lower.pairwise import spread_operand, whole_layer
from compiler.policy import Policy
from compiler.tile.depthwise import suits
from hw.arch.config import AcceleratorConfig
from hw.arch.program import Tensor

SIZES = (1, 2)
"""Parts of the largest tile that are tried as tiles."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """An operator and the convolution that follows it.

    Attributes
    ----------
    first, second: both.
    blocks: of what the first makes that the second reads, in its order.
    kept: of what the first makes that others read, ascending: these are stored.
    """

    first: Pairwise
    second: Convolution
    blocks: tuple[int, ...]
    kept: tuple[int, ...]


def follow(settled: Settled, config: AcceleratorConfig, policy: Policy) -> Settled:
    """Let convolutions follow what makes their operand wherever that is better."""
    found: dict[str, str] = {}
    for pair in _pairs(settled, config):
        if pair.first.output in found.values():
            continue
        if _worth(pair, settled, config, policy):
            found[pair.second.output] = pair.first.output
    return dataclasses.replace(settled, followers=found) if found else settled


def _pairs(settled: Settled, config: AcceleratorConfig) -> Iterator[Pair]:
    """Every pair that could be, in order."""
    graph, layouts = settled.assigned.graph, settled.assigned.layouts
    if any(isinstance(op, Enter | LoopEnd) for op in graph.ops):
        return
    placed = {*settled.places, *settled.places.values()}
    makers = {op.output: op for op in graph.ops if isinstance(op, Pairwise)}
    for op in graph.ops:
        if not isinstance(op, Convolution) or not pointwise(op) or suits(op, config):
            continue
        first = makers.get(where(settled, op.inputs[0])[0][0])
        if first is None or op.output in placed:
            continue
        if graph.path(first.output) != graph.path(op.output):
            continue
        pair = pair_of(settled, first, op)
        if pair is not None and layouts[op.inputs[0]].shape[1:] == layouts[first.output].shape[1:]:
            yield pair


def where(settled: Settled, name: str) -> Where:
    """The value that stores each block of a value, and the block's first row there."""
    layout = settled.assigned.layouts[name]
    own = tuple((name, n * layout.positions) for n in range(layout.blocks))
    return settled.views.get(name, own)


def lies_in(settled: Settled, name: str) -> Iterator[tuple[str, int]]:
    """Blocks that hold a value, by the value that stores them; a view's block may span several."""
    layouts = settled.assigned.layouts
    for origin, row in where(settled, name):
        size = layouts[origin].positions
        last = row + layouts[name].positions - 1
        yield from ((origin, number) for number in range(row // size, last // size + 1))


def pair_of(settled: Settled, first: Pairwise, second: Convolution) -> Pair | None:
    """Both, if the second reads whole blocks of what the first makes, and nothing else."""
    name = second.inputs[0]
    positions, blocks = settled.assigned.layouts[name].positions, where(settled, name)
    if any(origin != first.output or row % positions for origin, row in blocks):
        return None
    kept = _read_by_others(settled, first.output, second)
    return Pair(first, second, tuple(row // positions for _, row in blocks), kept)


def _read_by_others(settled: Settled, name: str, reader: Convolution) -> tuple[int, ...]:
    """Blocks of a value that not only one operator reads."""
    graph = settled.assigned.graph
    read = {*graph.kept(), *settled.places, *settled.places.values()}
    for op in graph.ops:
        if op is not reader and op.output not in settled.views:
            read.update(op.inputs)
    blocks = {block for each in read for block in lies_in(settled, each)}
    return tuple(sorted(number for origin, number in blocks if origin == name))


def unstored(settled: Settled) -> frozenset[str]:
    """Values of which some block is stored nowhere: it is read on chip only."""
    graph, layouts = settled.assigned.graph, settled.assigned.layouts
    makers = graph.producers()
    missing: set[tuple[str, int]] = set()
    for output, name in settled.followers.items():
        first, second = makers[name], makers[output]
        if isinstance(first, Pairwise) and isinstance(second, Convolution):
            layout = layouts[name]
            kept = _read_by_others(settled, name, second)
            missing |= {(name, n) for n in range(layout.blocks) if n not in kept}
    return frozenset(
        name for name in graph.values if not missing.isdisjoint(lies_in(settled, name))
    )


def pointwise(op: Convolution) -> bool:
    """Whether it reads each position once, for all of its results there."""
    pads = (*op.pad_begin, *op.pad_end)
    return op.groups == 1 and {*op.kernel, *op.stride} == {1} and not any(pads) and op.pool is None


def laid(settled: Settled, names: Sequence[str], config: AcceleratorConfig) -> Mapping[str, Tensor]:
    """Tensors by name, at addresses of a trial; those that are blocks of others lie in these."""
    graph, layouts, lanes = settled.assigned.graph, settled.assigned.layouts, config.lane_block
    found: dict[str, Tensor] = {}

    def tensor(name: str) -> Tensor:
        return tensor_of(graph.type(name), lanes, layouts[name].lane_map)

    blocks = {name: where(settled, name) for name in names}
    for origin in dict.fromkeys(origin for some in blocks.values() for origin, _ in some):
        found[origin] = at(tensor(origin), SOURCE + len(found) * BESIDE)
    for name, some in blocks.items():
        places = tuple(found[origin].row_address(row) for origin, row in some)
        lies = at(tensor(name), places[0])
        if not contiguous(some, lies.layout.positions):
            lies = dataclasses.replace(lies, places=places)
        found[name] = lies
    return found


def _worth(pair: Pair, settled: Settled, config: AcceleratorConfig, policy: Policy) -> bool:
    """Whether it fits and is no worse than both apart."""
    first, second = pair.first, pair.second
    names = (*first.inputs, first.output, *second.inputs, second.output)
    tensors = laid(settled, names, config)
    planned = plan(pair, tensors, config)
    if planned is None:
        return False
    cycles, layer, follower, places = planned
    if not holds(lambda: FollowedEmission(Probe(config), layer, follower, places).probe()):
        return False
    apart = apart_cost((first, second), tensors, config, policy)
    joined = apart.moved(cycles, moved_beats(layer, follower, config), config)
    return better_joined(joined, apart, policy)


def plan(
    pair: Pair, tensors: Mapping[str, Tensor], config: AcceleratorConfig
) -> tuple[int, Stream, Follower, Places] | None:
    """Cycles of the best way of computing both, and that way; None where they do not fit.

    Parameters
    ----------
    pair, config: what, for what.
    tensors: of both operators, by name.
    """
    sources = [tensors[name] for name in pair.first.inputs]
    target, read = tensors[pair.first.output], tensors[pair.second.inputs[0]]
    made = tensors[pair.second.output]
    if spread_operand(pair.first, [source.layout.lane_map for source in sources]) is not None:
        return None
    job = jobs(pair.second, read, made, config)[0]
    follower = Follower(job, pair.blocks, pair.kept, Strided.of(made))
    found = []
    for positions in _tiles(pair, sources, target, config):
        layer = whole_layer(pair.first, sources, target, config, positions)
        places = places_of(layer, follower, config)
        if places is not None:
            cycles = trial_cycles(layer, follower, places, config)
            found.append((cycles, layer, follower, places))
    return min(found, key=lambda each: each[0], default=None)


def emit_pair(
    settled: Settled, first: Pairwise, second: Convolution, emitter: Emitter
) -> dict[str, Any]:
    """Emit both; returns the chosen tiling for the report.

    Raises
    ------
    RefusedError
        If they do not fit, which `follow` has asked.
    """
    pair = pair_of(settled, first, second)
    planned = None if pair is None else plan(pair, emitter.tensors, emitter.config)
    if pair is None or planned is None:
        raise RefusedError("they do not fit together")
    cycles, layer, follower, places = planned
    FollowedEmission(emitter, layer, follower, places).emit()
    return {
        "rows": layer.tiles[0].target.rows,
        "group": places.group,
        "stored": len(pair.kept),
        "estimate": cycles,
        "parts": [first.name, second.name],
    }


def _tiles(
    pair: Pair, sources: Sequence[Tensor], target: Tensor, config: AcceleratorConfig
) -> Iterator[int]:
    """Most positions of a tile: parts of what a bank or two hold of an operand or the result."""
    bank = config.memory.activation_bank_rows
    blocks = max(target.layout.blocks, *(source.layout.blocks for source in sources))
    for banks in (2, 1):
        most = min(banks * bank // (2 * blocks), config.memory.accumulator_rows)
        for part in SIZES:
            if most // part:
                yield most // part


def apart_cost(
    ops: Sequence[AnyOperation],
    tensors: Mapping[str, Tensor],
    config: AcceleratorConfig,
    policy: Policy,
) -> Cost:
    """What operators take one after the other."""
    layers = []
    for op in ops:
        each, sources = lowering(op), [tensors[name] for name in op.inputs]
        assert isinstance(each, Timed), f"{op.name} is joined with nothing"
        layers.append((each, op, sources, tensors[op.output]))
    return one_after_another(layers, config, policy)
