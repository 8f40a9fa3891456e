"""Join operators whose inner maps need not leave the chip."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.ir import AnyOperation, Chain, Concat, Convolution, Graph, TemporalResidual
from compiler.ops.chain import PATTERNS, Member, kinds
from compiler.passes.base import Accept, Outcome, Pass

LONGEST = max(map(len, PATTERNS))


def _fuse_chains(graph: Graph, accept: Accept) -> Outcome:
    """The longest run of operators that ends with each one, is a pattern and is accepted."""
    applied: list[str] = []
    refused: list[tuple[str, str]] = []
    for op in graph.ops:
        for stages in _runs(graph, op):
            chain = _joined(graph, op, stages)
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


def _runs(graph: Graph, last: AnyOperation) -> Iterator[tuple[Member, ...]]:
    """Operators that end with one, each the only reader of the one before, longest first."""
    if not isinstance(last, Convolution | TemporalResidual):
        return
    found: list[tuple[Member, ...]] = []
    stages: tuple[Member, ...] = (last,)
    while len(stages) < LONGEST:
        producer = _only_reader(graph, stages[0])
        if not isinstance(producer, Convolution | TemporalResidual) or _pooled(producer):
            break
        if graph.path(producer.output) != graph.path(last.output):
            break
        stages = (producer, *stages)
        if kinds(stages) in PATTERNS:
            found.insert(0, stages)
    for run in found:
        if _by_block(run) or _whole_segments(graph, run[0].inputs[0]):
            yield run


def _joined(graph: Graph, op: AnyOperation, stages: tuple[Member, ...]) -> Chain:
    return Chain(
        name=op.name,
        inputs=stages[0].inputs,
        output=op.output,
        stages=stages,
        between=tuple(graph.type(stage.output) for stage in stages[:-1]),
    )


def _only_reader(graph: Graph, op: AnyOperation) -> AnyOperation | None:
    """The producer of an operand that nothing else reads."""
    name = op.inputs[0]
    return graph.producers().get(name) if graph.uses()[name] == 1 else None


def _pooled(op: Member) -> bool:
    return isinstance(op, Convolution) and op.pool is not None


def _by_block(stages: tuple[Member, ...]) -> bool:
    """Whether lanes are kept, whatever they are."""
    return all(isinstance(stage, Convolution) and stage.depthwise for stage in stages)


def _whole_segments(graph: Graph, name: str) -> bool:
    """Whether a tensor's channels lie in one segment: no concat of channels is behind it."""
    op = graph.producers().get(name)
    while op is not None:
        if isinstance(op, Concat) and op.axis == 0:
            return False
        if isinstance(op, Convolution) and not op.depthwise:
            return True
        if isinstance(op, Chain) and not op.by_block:
            return True
        op = graph.producers().get(op.inputs[0])
    return True


FUSE_CHAINS = Pass(
    "fuse-chains",
    _fuse_chains,
    frozenset({"pools fused", "residuals fused"}),
    frozenset({"chains fused"}),
)
