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

    A fork stands before the first join of its arms: whatever its arms read is made before.
    """
    done = set()
    for op in ops:
        if isinstance(op, Join) and len(path_of(op.output)) == level and op.branch not in done:
            done.add(op.branch)
            yield _fork(op.branch, ops, path_of, level)
        if len(path_of(op.output)) == level:
            yield op


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
