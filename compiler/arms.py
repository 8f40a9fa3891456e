"""The structure of a graph with arms and Loops: operators of one arm, or of one body, together.

A graph is a list of operators, and `Graph.paths` says in which arm each result is made.
`structured` makes a tree of it, which is what is emitted; `regrouped` restores the order that this
needs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from compiler.ir import AnyOperation, Join, Leave, LoopEnd, Path, Stack


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


@dataclasses.dataclass(frozen=True, slots=True)
class Trips:
    """A Loop.

    Attributes
    ----------
    loop: its name.
    body: what every trip computes.
    ends: what it hands out, behind it.
    """

    loop: str
    body: tuple[Item, ...]
    ends: tuple[LoopEnd, ...]

    @property
    def count(self) -> int:
        """Trips, at most."""
        return self.ends[0].trips

    @property
    def exit(self) -> Leave | None:
        """What says whether another trip follows; None where all follow."""
        ends = (op for op in self.ends if isinstance(op, Leave) and op.predicate is not None)
        return next(ends, None)


Item: TypeAlias = AnyOperation | Fork | Trips
PathOf: TypeAlias = Callable[[str], Path]
"""The arm in which a value is made."""


def structured(ops: Sequence[AnyOperation], path_of: PathOf, level: int = 0) -> Iterator[Item]:
    """Operators, forks and Loops in the order in which they run.

    A fork stands before the first join of its arms, a Loop before what it hands out; what they
    read is made before them.
    """
    makers = {op.output: op for op in ops if len(path_of(op.output)) == level}
    done: set[str] = set()
    begun: set[str] = set()

    def made(op: AnyOperation) -> Iterator[Item]:
        """An operator of this level that was not made yet, after what it needs."""
        if op.output in done:
            return
        done.add(op.output)
        inner: Fork | Trips | None = None
        if isinstance(op, Join) and op.branch not in begun:
            begun.add(op.branch)
            inner = Fork(op.branch, *(inside(op.branch, arm) for arm in (True, False)))
        elif isinstance(op, Leave | Stack) and op.loop not in begun:
            begun.add(op.loop)
            ends = [o for o in makers.values() if isinstance(o, Leave | Stack)]
            mine = tuple(o for o in ends if o.loop == op.loop)
            inner = Trips(op.loop, inside(op.loop, True), mine)
            for end in mine:
                yield from before(end)
        if inner is not None:
            for each in flattened([inner]):
                yield from before(each)
        yield from before(op)
        if inner is not None:
            yield inner
        yield op

    def inside(name: str, taken: bool) -> tuple[Item, ...]:
        within = [op for op in ops if path_of(op.output)[level : level + 1] == ((name, taken),)]
        return tuple(structured(within, path_of, level + 1))

    def before(op: AnyOperation) -> Iterator[Item]:
        for name in op.inputs:
            if name in makers:
                yield from made(makers[name])

    for op in makers.values():
        yield from made(op)


def flattened(items: Iterable[Item]) -> Iterator[AnyOperation]:
    """Operators of a tree, each arm's and each body's together."""
    for item in items:
        if isinstance(item, Fork):
            yield from flattened(item.then)
            yield from flattened(item.otherwise)
        elif isinstance(item, Trips):
            yield from flattened(item.body)
        else:
            yield item


def regrouped(ops: Sequence[AnyOperation], path_of: PathOf) -> list[AnyOperation]:
    """Operators so that those of one arm stand together; otherwise in their order."""
    return list(flattened(structured(ops, path_of)))
