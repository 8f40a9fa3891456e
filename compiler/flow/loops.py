"""Loops in DRAM: every trip leaves what it carries where the next one finds it, and puts its rows.

The operator behind a carried tensor's next value writes it over the old one if nothing in the body
reads that any more; else the body's last layers copy, as those of a state do (states.py).
"""

from __future__ import annotations

import dataclasses

from compiler.flow.places import Placing, Settled
from compiler.ir import Leave, Path, Put, Stack


def settle_loops(settled: Settled) -> Settled:
    """Let every trip write what it carries and hands out to its place."""
    if not any(isinstance(op, Leave | Stack) for op in settled.assigned.graph.ops):
        return settled
    work = _Looping(settled, "trip")
    work.run()
    return work.settled(work.graph)


class _Looping(Placing):
    def run(self) -> None:
        """Inner Loops first: what they hand out is made before what an outer one does with it."""
        ends = [op for op in self.ops if isinstance(op, Leave | Stack)]
        for loop in dict.fromkeys(end.loop for end in ends):
            mine = [end for end in ends if end.loop == loop]
            for stack in [end for end in mine if isinstance(end, Stack)]:
                self._put(stack)
            self._carry([end for end in mine if isinstance(end, Leave)])

    def _put(self, stack: Stack) -> None:
        """A copy of each trip's row to its place."""
        row = stack.inputs[0]
        name = self.new_name(row)
        put = Put(
            name=name,
            inputs=(row,),
            output=name,
            stack=stack.output,
            loop=stack.loop,
            axis=stack.axis,
        )
        path = self.graph.path_of(stack, 0)
        self.add(put, self.graph.type(row), self.layouts[row], path)
        self.places[name] = stack.output
        self.ops[self.ops.index(stack)] = dataclasses.replace(stack, inputs=(name,))

    def _carry(self, leaves: list[Leave]) -> None:
        carried = {leave.inputs[1] for leave in leaves}
        sources = {self.origin(leave.inputs[0]) for leave in leaves}
        late = sources & carried
        paths = {leave.output: self.graph.path_of(leave, 0) for leave in leaves}
        # What one takes from another is saved before any is written.
        made = {}
        for leave in leaves:
            source, target = leave.inputs[:2]
            if self.origin(source) in late and self.origin(source) != target:
                source = self.copied(source, self.layouts[target], paths[leave.output])
            made[leave.output] = source
        for leave in leaves:
            source, target = made[leave.output], leave.inputs[1]
            if self.origin(source) != target and not self._is_written_there(
                source, target, late, paths[leave.output]
            ):
                source = self.copied(source, self.layouts[target], paths[leave.output])
            if self.origin(source) != target:
                self.places[source] = target
            inputs = (source, *leave.inputs[1:])
            self.ops[self.ops.index(leave)] = dataclasses.replace(leave, inputs=inputs)

    def _is_written_there(self, source: str, target: str, late: set[str], path: Path) -> bool:
        """Whether the operator behind a source may write over a target."""
        maker = self.maker(source)
        if maker is None or source in self.taken() or target in late:
            return False
        if self.layouts[source] != self.layouts[target] or self.path(source) != path:
            return False
        # Its first rows are stored while later ones of its operands are still to be loaded.
        later = (name for op in self.ops[self.ops.index(maker) :] for name in self.read_by(op))
        return all(self.origin(name) != target for name in later)
