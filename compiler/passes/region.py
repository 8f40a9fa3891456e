"""Join operators to regions: what takes a convolution's result on, and attention pooling."""

from __future__ import annotations

from compiler.ir import AnyOperation, Chain, Convolution, Graph, Pairwise, Pool, Region
from compiler.passes.attention_pool import fuse_attention_pools
from compiler.passes.base import Accept, Outcome, Pass


def _fuse_regions(graph: Graph, accept: Accept) -> Outcome:
    """All kinds of regions."""
    pools = fuse_attention_pools(graph, accept)
    joined = _join(pools.graph, accept)
    return Outcome(
        joined.graph, (*pools.applied, *joined.applied), (*pools.refused, *joined.refused)
    )


def _join(graph: Graph, accept: Accept) -> Outcome:
    """A convolution or chain and what takes its result on to one region.

    That joins it with another tensor, or is a pool behind a convolution.
    """
    applied: list[str] = []
    refused: list[tuple[str, str]] = []
    for op in graph.ops:
        if not isinstance(op, Pairwise | Pool):
            continue
        # The later one: what the other one makes is stored by then.
        for first in reversed(_makers(graph, op)):
            region = _joined(graph, first, op)
            why = accept(region, graph.input_types(region), graph.type(region.output))
            if why is not None:
                refused.append((f"{first.name}, {op.name}", why))
                continue
            ops: list[AnyOperation] = [region if o is op else o for o in graph.ops]
            graph = graph.replaced(o for o in ops if o is not first)
            where = "stays on chip" if isinstance(op, Pairwise) else "is read while it is made"
            applied.append(f"{first.name}, {op.name}: joined, the map between {where}")
            break
    return Outcome(graph, tuple(applied), tuple(refused))


def _makers(graph: Graph, op: Pairwise | Pool) -> list[Convolution | Chain]:
    """Convolutions and chains in the operator's arm whose result only it reads, in order."""
    if len(set(op.inputs)) < len(op.inputs):
        return []
    uses = graph.uses()
    kinds = (Convolution, Chain) if isinstance(op, Pairwise) else (Convolution,)
    return [
        maker
        for maker in graph.ops
        if isinstance(maker, kinds)
        and maker.output in op.inputs
        and uses[maker.output] == 1
        and graph.path(maker.output) == graph.path(op.output)
    ]


def _joined(graph: Graph, first: Convolution | Chain, op: Pairwise | Pool) -> Region:
    others = [name for name in op.inputs if name != first.output]
    return Region(
        name=op.name,
        inputs=tuple(dict.fromkeys((*first.inputs, *others))),
        output=op.output,
        parts=(first, op),
        between=(graph.type(first.output),),
    )


FUSE_REGIONS = Pass(
    "fuse-regions",
    _fuse_regions,
    frozenset({"pools fused"}),
    frozenset({"regions fused"}),
)
