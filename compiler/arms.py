"""The structure of a graph with arms: operators of one arm stand together.

A graph is a list of operators, and `Graph.paths` says in which arm each result is made.
`structured` makes a tree of it, which is what is emitted; `regrouped` restores the order that this
needs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from compiler.ir import AnyOperation, Join, Path


@dataclasses.dataclass(frozen=True, slots=True)
class Fork:
    """A decision with both of its arms, of which one runs.

    Attributes
    ----------
    branch: name of the decision.
    then, otherwise: where it holds, and where not.
    """

    branch: str
    then: tuple[Item, ...]
    otherwise: tuple[Item, ...]


Item: TypeAlias = AnyOperation | Fork
PathOf: TypeAlias = Callable[[str], Path]
"""The arm in which a value is made."""


def structured(ops: Sequence[AnyOperation], path_of: PathOf, level: int = 0) -> Iterator[Item]:
    """Operators and forks in the order in which they run.

    A fork stands before the first join of its arms; what its arms read is made before it.
    """
    makers = {op.output: op for op in ops if len(path_of(op.output)) == level}
    done: set[str] = set()
    forked: set[str] = set()

    def made(op: AnyOperation) -> Iterator[Item]:
        """An operator of this level that was not made yet, after what it needs."""
        if op.output in done:
            return
        done.add(op.output)
        fork = None
        if isinstance(op, Join) and op.branch not in forked:
            forked.add(op.branch)
            fork = _fork(op.branch, ops, path_of, level)
            for inner in flattened([fork]):
                yield from before(inner)
        yield from before(op)
        if fork is not None:
            yield fork
        yield op

    def before(op: AnyOperation) -> Iterator[Item]:
        for name in op.inputs:
            if name in makers:
                yield from made(makers[name])

    for op in makers.values():
        yield from made(op)


def _fork(branch: str, ops: Sequence[AnyOperation], path_of: PathOf, level: int) -> Fork:
    arms = [
        [op for op in ops if path_of(op.output)[level : level + 1] == ((branch, taken),)]
        for taken in (True, False)
    ]
    return Fork(branch, *(tuple(structured(arm, path_of, level + 1)) for arm in arms))


def flattened(items: Iterable[Item]) -> Iterator[AnyOperation]:
    """Operators of a tree, each arm's together."""
    for item in items:
        if isinstance(item, Fork):
            yield from flattened(item.then)
            yield from flattened(item.otherwise)
        else:
            yield item


def regrouped(ops: Sequence[AnyOperation], path_of: PathOf) -> list[AnyOperation]:
    """Operators so that those of one arm stand together; otherwise in their order."""
    return list(flattened(structured(ops, path_of)))
