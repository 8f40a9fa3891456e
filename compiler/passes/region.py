"""Join operators to regions: what joins a result with another tensor, and attention pooling."""

from __future__ import annotations

from compiler.ir import AnyOperation, Chain, Convolution, Graph, Pairwise, Region
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
    """A convolution or chain and what joins its result with another tensor to one region."""
    applied: list[str] = []
    refused: list[tuple[str, str]] = []
    for op in graph.ops:
        if not isinstance(op, Pairwise):
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
            applied.append(f"{first.name}, {op.name}: joined, the map between stays on chip")
            break
    return Outcome(graph, tuple(applied), tuple(refused))


def _makers(graph: Graph, op: Pairwise) -> list[Convolution | Chain]:
    """Convolutions and chains in the operator's arm whose result only it reads, in order."""
    if op.inputs[0] == op.inputs[1]:
        return []
    uses = graph.uses()
    return [
        maker
        for maker in graph.ops
        if isinstance(maker, Convolution | Chain)
        and maker.output in op.inputs
        and uses[maker.output] == 1
        and graph.path(maker.output) == graph.path(op.output)
    ]


def _joined(graph: Graph, first: Convolution | Chain, op: Pairwise) -> Region:
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
