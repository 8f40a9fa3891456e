"""The order in which operators are emitted: what the array waits for comes between its long layers.

Units work in their own queues: VECTOR computes a softmax while the weights of the next projection
pass the array, if that projection comes behind it. So an operator that multiplies by no constant
comes as soon as its operands are there; convolutions and products keep the file's order.
"""

from __future__ import annotations

import heapq

from compiler.ir import AnyOperation, Graph
from compiler.ops import Chain, Convolution, Region


def in_order(graph: Graph) -> Graph:
    """The graph with its operators in the order of emission."""
    makers = {op.output: number for number, op in enumerate(graph.ops)}
    missing = [{makers[n] for n in op.inputs if n in makers} for op in graph.ops]
    readers: dict[int, list[int]] = {number: [] for number in makers.values()}
    for number, needed in enumerate(missing):
        for maker in needed:
            readers[maker].append(number)
    ready = [(_long(op), n) for n, op in enumerate(graph.ops) if not missing[n]]
    heapq.heapify(ready)
    ops: list[AnyOperation] = []
    while ready:
        _, number = heapq.heappop(ready)
        ops.append(graph.ops[number])
        for reader in readers[number]:
            missing[reader].discard(number)
            if not missing[reader]:
                heapq.heappush(ready, (_long(graph.ops[reader]), reader))
    return graph.replaced(ops)


def _long(op: AnyOperation) -> bool:
    """Whether constant weights pass the array."""
    return isinstance(op, Convolution | Chain | Region)
