"""Find weighted means over positions: scores of x, their softmax, its product with x."""

from __future__ import annotations

from compiler.ir import (
    AnyOperation,
    AttentionPool,
    BatchedMatMul,
    Convolution,
    Graph,
    GraphError,
    Softmax,
    View,
)
from compiler.passes.base import Accept, Outcome


def fuse_attention_pools(graph: Graph, accept: Accept) -> Outcome:
    """Each product with a softmax of its other operand's scores to one region."""
    applied: list[str] = []
    refused: list[tuple[str, str]] = []
    for op in graph.ops:
        if not isinstance(op, BatchedMatMul):
            continue
        for name in op.inputs:
            pool = _pool(graph, op, name)
            if pool is None:
                continue
            names = ", ".join(part.name for part in pool.parts)
            why = accept(pool, graph.input_types(pool), graph.type(pool.output))
            if why is not None:
                refused.append((names, why))
                continue
            inner = {part.output for part in pool.parts[:-1]}
            ops = [pool if o is op else o for o in graph.ops if o.output not in inner]
            graph = graph.replaced(ops)
            applied.append(f"{names}: joined, scores and shares stay on chip")
            break
    return Outcome(graph, tuple(applied), tuple(refused))


def _pool(graph: Graph, op: BatchedMatMul, weights: str) -> AttentionPool | None:
    """The region that ends in a product and makes one of its operands; None where there is none."""
    makers, uses = graph.producers(), graph.uses()
    line: list[Convolution | Softmax | View] = []
    name = weights
    while True:
        maker: AnyOperation | None = makers.get(name)
        alone = uses[name] == 1 and graph.path(name) == graph.path(op.output)
        if not alone or not isinstance(maker, Convolution | Softmax | View):
            return None
        line.append(maker)
        name = maker.inputs[0]
        if isinstance(maker, Convolution):
            break
    line.reverse()
    pool = AttentionPool(
        name=op.name,
        inputs=(name,),
        output=op.output,
        parts=(*line, op),
        between=tuple(graph.type(part.output) for part in line),
    )
    try:
        pool.check(graph.input_types(pool), graph.type(op.output))
    except GraphError:
        return None
    return pool
