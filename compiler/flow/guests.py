"""Classifiers behind the mean of what a long layer makes: they can be woven into that layer.

Such a product takes as long as its weights take to come, and the layer before the mean leaves the
port idle (compiler/backend/guests.py). Neither the graph nor what is compared changes.
"""

from __future__ import annotations

import dataclasses

from compiler.flow.followers import pointwise, where
from compiler.flow.places import Guests, Settled
from compiler.ir import AxisMean, Chain, Convolution, Enter, Join, LoopEnd, Region
from compiler.tile.depthwise import suits
from hw.arch.config import AcceleratorConfig


def invite(settled: Settled, config: AcceleratorConfig) -> Settled:
    """Find what can be woven; whether it is better is seen when it is emitted."""
    graph = settled.assigned.graph
    if any(isinstance(op, Enter | LoopEnd | Join) for op in graph.ops):
        return settled
    makers, found = graph.producers(), []
    taken = {*settled.followers, *settled.followers.values()}
    for op in graph.ops:
        if not isinstance(op, Convolution) or not pointwise(op) or suits(op, config):
            continue
        if op.weight.size // config.port.bytes <= config.weight_beats:
            continue  # All of them come while the host works: compiler/emit/ahead.py.
        mean = makers.get(where(settled, op.inputs[0])[0][0])
        if not isinstance(mean, AxisMean):
            continue
        host = makers.get(where(settled, mean.inputs[0])[0][0])
        names = {mean.output, op.output} | ({host.output} if host is not None else set())
        if isinstance(host, Convolution | Chain | Region) and taken.isdisjoint(names):
            found.append(Guests(host.output, mean.output, op.output))
            taken |= names
    return dataclasses.replace(settled, guests=tuple(found)) if found else settled
