"""Joins in DRAM: both arms of a branch write their results to one place.

The operator behind an arm's result writes there itself; what an arm takes from outside, makes by a
view or needs for two results is copied as the arm's last layers.
"""

from __future__ import annotations

import dataclasses

from compiler.flow.places import Placing, Settled
from compiler.ir import Join


def settle_joins(settled: Settled) -> Settled:
    """Give both arms of every join a result of their own, at one address."""
    if not any(isinstance(op, Join) for op in settled.assigned.graph.ops):
        return settled
    work = _Joining(settled, "arm")
    work.run()
    return work.settled(work.graph)


class _Joining(Placing):
    def run(self) -> None:
        """Settle innermost joins first: they are made before what joins them."""
        for join in [op for op in self.ops if isinstance(op, Join)]:
            then, otherwise = (self._arm(join, place) for place in (0, 1))
            self.places[otherwise] = then
            changed = dataclasses.replace(join, inputs=(then, otherwise, join.inputs[2]))
            self.ops[self.ops.index(join)] = changed

    def _arm(self, join: Join, place: int) -> str:
        """A value that only this arm of this join stores."""
        name, path = join.inputs[place], self.graph.path_of(join, place)
        if self.maker(name) is not None and self.path(name) == path and name not in self.taken():
            return name
        return self.copied(name, self.layouts[name], path, join)
