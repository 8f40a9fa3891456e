"""Join separable blocks whose inner maps need not leave the chip."""

from __future__ import annotations

from compiler.ir import (
    AnyOperation,
    Chain,
    Concat,
    Convolution,
    DepthwisePair,
    Graph,
    TemporalResidual,
)
from compiler.ops.chain import Stage
from compiler.passes.base import Accept, Outcome, Pass


def _fuse_chains(graph: Graph, accept: Accept) -> Outcome:
    """Chains, then pairs of what is left."""
    chains = _fuse_pointwise(graph, accept)
    pairs = _fuse_pairs(chains.graph, accept)
    return Outcome(
        pairs.graph, (*chains.applied, *pairs.applied), (*chains.refused, *pairs.refused)
    )


def _fuse_pairs(graph: Graph, accept: Accept) -> Outcome:
    """A depthwise convolution of frames and the one over time behind it to one operator."""
    applied: list[str] = []
    refused: list[tuple[str, str]] = []
    for op in graph.ops:
        if not isinstance(op, Convolution) or not _over_time(op):
            continue
        first = _only_reader(graph, op)
        if first is None or not _window(first):
            continue
        assert isinstance(first, Convolution)
        if graph.path(first.output) != graph.path(op.output):
            continue
        pair = DepthwisePair(
            name=op.name,
            inputs=first.inputs,
            output=op.output,
            stages=(first, op),
            between=(graph.type(first.output),),
        )
        why = accept(pair, graph.input_types(pair), graph.type(pair.output))
        if why is not None:
            refused.append((f"{first.name}, {op.name}", why))
            continue
        ops: list[AnyOperation] = [pair if o is op else o for o in graph.ops]
        graph = graph.replaced(o for o in ops if o is not first)
        applied.append(f"{first.name}, {op.name}: joined, the map between stays on chip")
    return Outcome(graph, tuple(applied), tuple(refused))


def _over_time(op: Convolution) -> bool:
    """Depthwise, with taps along time alone."""
    return (
        op.depthwise
        and op.pool is None
        and op.kernel[0] > 1
        and op.kernel[1:] == op.stride[1:] == (1, 1)
        and op.dilation == (1, 1, 1)
        and not any((*op.pad_begin[1:], *op.pad_end[1:]))
    )


def _fuse_pointwise(graph: Graph, accept: Accept) -> Outcome:
    """[Temporal residual,] temporal, depthwise and pointwise convolution to one operator."""
    applied: list[str] = []
    refused: list[tuple[str, str]] = []
    for op in graph.ops:
        if not isinstance(op, Convolution) or not _pointwise(op):
            continue
        for stages in _chains(graph, op):
            chain = _joined(graph, stages)
            names = ", ".join(stage.name for stage in stages)
            why = accept(chain, graph.input_types(chain), graph.type(chain.output))
            if why is not None:
                refused.append((names, why))
                continue
            gone = {stage.output for stage in stages[:-1]}
            ops = [chain if o is op else o for o in graph.ops if o.output not in gone]
            graph = graph.replaced(ops)
            applied.append(f"{names}: joined, their inner maps stay on chip")
            break
    return Outcome(graph, tuple(applied), tuple(refused))


def _joined(graph: Graph, stages: list[Stage]) -> Chain:
    return Chain(
        name=stages[-1].name,
        inputs=stages[0].inputs,
        output=stages[-1].output,
        stages=tuple(stages),
        between=tuple(graph.type(stage.output) for stage in stages[:-1]),
    )


def _chains(graph: Graph, last: Convolution) -> list[list[Stage]]:
    """Every chain that ends with a pointwise convolution, longest first."""
    found: list[list[Stage]] = []
    stages: list[Stage] = [last]
    for matches in (_window, _temporal, _residual):
        producer = _only_reader(graph, stages[0])
        if producer is None or not matches(producer):
            break
        assert isinstance(producer, Convolution | TemporalResidual)
        stages = [producer, *stages]
        if _whole_segments(graph, producer.inputs[0]):
            found.insert(0, stages)
    return found


def _only_reader(graph: Graph, op: AnyOperation) -> AnyOperation | None:
    """The producer of an operand that nothing else reads."""
    name = op.inputs[0]
    return graph.producers().get(name) if graph.uses()[name] == 1 else None


def _pointwise(op: Convolution) -> bool:
    return (
        op.kernel == op.stride == (1, 1, 1)
        and op.groups == 1
        and not any((*op.pad_begin, *op.pad_end))
    )


def _window(op: AnyOperation) -> bool:
    return (
        isinstance(op, Convolution)
        and op.depthwise
        and op.pool is None
        and op.kernel[0] == 1
        and op.kernel[1:] != (1, 1)
        and op.stride[0] == 1
        and op.dilation == (1, 1, 1)
        and (op.pad_begin[0], op.pad_end[0]) == (0, 0)
    )


def _temporal(op: AnyOperation) -> bool:
    return (
        isinstance(op, Convolution)
        and op.groups == 1
        and op.pool is None
        and op.kernel[1:] == op.stride[1:] == (1, 1)
        and not any((*op.pad_begin[1:], *op.pad_end[1:]))
    )


def _residual(op: AnyOperation) -> bool:
    return isinstance(op, TemporalResidual)


def _whole_segments(graph: Graph, name: str) -> bool:
    """Whether a tensor's channels lie in one segment: no concat of channels is behind it."""
    op = graph.producers().get(name)
    while op is not None:
        if isinstance(op, Concat) and op.axis == 0:
            return False
        if isinstance(op, Chain) or (isinstance(op, Convolution) and not op.depthwise):
            return True
        op = graph.producers().get(op.inputs[0])
    return True


FUSE_CHAINS = Pass(
    "fuse-chains",
    _fuse_chains,
    frozenset({"pools fused", "residuals fused"}),
    frozenset({"chains fused"}),
)
