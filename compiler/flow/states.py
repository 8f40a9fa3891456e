"""State in DRAM: every state gets a value that is written where its input lies.

The next run reads its input where the last one left it, so a program needs no second buffer and a
host no copy. An operator writes there itself where nothing reads the input any more when it starts;
else the last layers copy.
"""

from __future__ import annotations

import dataclasses

from compiler.flow.places import Placing, Settled
from compiler.ir import Carried, Port


def settle_states(settled: Settled) -> Settled:
    """Let every state be written at its input's address."""
    graph = settled.assigned.graph
    if not graph.states:
        return settled
    work = _Settling(settled, "state")
    outputs, staged = work.outputs(), work.staged()
    states = tuple(work.state(state) for state in staged)
    return work.settled(dataclasses.replace(graph, outputs=outputs, states=states))


class _Settling(Placing):
    """The pass at work."""

    def __init__(self, settled: Settled, mark: str):
        super().__init__(settled, mark)
        self._copies: dict[str, str] = {}
        # Inputs whose codes are some state's source: they are read when all operators are done.
        sources = {self.origin(state.source) for state in self.graph.states}
        self._late = sources & {state.target for state in self.graph.states}

    def outputs(self) -> tuple[Port, ...]:
        """Outputs of the graph; one that is an input's bytes is copied before those change."""
        moved = {s.target for s in self.graph.states if s.source != s.target}
        return tuple(
            dataclasses.replace(port, value=self._saved(port.value))
            if self.origin(port.value) in moved
            else port
            for port in self.graph.outputs
        )

    def staged(self) -> list[Carried]:
        """The states; what one takes from another's input is copied before any input is written."""
        states = []
        for state in self.graph.states:
            if self.origin(state.source) in self._late and state.source != state.target:
                states.append(dataclasses.replace(state, source=self._saved(state.source)))
            else:
                states.append(state)
        return states

    def state(self, state: Carried) -> Carried:
        """The state with a source that lies at its target's address."""
        source, target = state.source, state.target
        if source == target:
            return state
        if self._is_written_there(source, target):
            self.places[source] = target
            return state
        copy = self.copied(source, self.layouts[target])
        self.places[copy] = target
        return dataclasses.replace(state, source=copy)

    def _is_written_there(self, source: str, target: str) -> bool:
        """Whether the operator behind a source may write over a target."""
        maker = self.maker(source)
        if maker is None or source in self.places or target in self._late:
            return False
        if self.layouts[source] != self.layouts[target]:
            return False
        # Its first rows are stored while later ones of its operands are still to be loaded.
        later = (name for op in self.ops[self.ops.index(maker) :] for name in op.inputs)
        return all(self.origin(name) != target for name in later)

    def _saved(self, name: str) -> str:
        """A copy of what lies where a state will be written."""
        if name not in self._copies:
            self._copies[name] = self.copied(name, self.layouts[name])
        return self._copies[name]
