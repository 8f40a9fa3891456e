"""DRAM after a run, and what the run itself has written over.

Tensors share memory (compiler/backend/placement.py), so the end of a run does not show them all. A
tensor is complete when the last STORE of the layer that makes it is; what later lies in its place
does so only after its last reader. `Keeper` follows a run in program order and says, before a STORE
writes over complete tensors, which these are: the functional simulator copies their bytes then, and
the harness of the RTL when as many STOREs have completed as there were until each was complete.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from hw.arch.isa import Store
from hw.arch.nest import ends
from hw.arch.program import Layer, Program, Tensor, in_trip
from hw.arch.timing import transfer_beats
from hw.timeline.step import Step
from sim import host
from sim.trips import Counter

Bytes = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, slots=True)
class Complete:
    """A tensor that was made.

    Attributes
    ----------
    tensor: its name.
    execution: how often the run had made it before.
    stores, beats: STOREs of the run until then, and what they write; 0: it lay there before the
        start. Beats are written in order; a STORE is done when later ones may have begun to write.
    steps: instructions that the run had executed by then.
    spans: address and size of its pieces of DRAM, in the order of its bytes.
    """

    tensor: str
    execution: int
    stores: int
    beats: int
    steps: int
    spans: tuple[tuple[int, int], ...]

    def data(self, memory: Bytes) -> Bytes:
        """A copy of its bytes."""
        return np.concatenate([memory[first : first + size] for first, size in self.spans])


@dataclasses.dataclass(frozen=True, slots=True)
class Copy:
    """What a tensor was before something was written over it.

    Attributes
    ----------
    data: its bytes, u8.
    steps: instructions that the run had executed when it was complete.
    """

    data: Bytes
    steps: int


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """DRAM after a run, with copies of what the run wrote over.

    Attributes
    ----------
    memory: u8, address 0 first.
    copies: by tensor and by how often it had been made before.
    made: how often each tensor was made that was written over at least once.
    trips: of tensors of Loops' bodies: the trips in which they were made, in order.
    """

    memory: Bytes
    copies: Mapping[tuple[str, int], Copy] = dataclasses.field(default_factory=dict)
    made: Mapping[str, int] = dataclasses.field(default_factory=dict)
    trips: Mapping[str, Sequence[tuple[int, ...]]] = dataclasses.field(default_factory=dict)

    def versions(self, tensor: Tensor) -> dict[str, int]:
        """Executions that made a tensor of Loops' bodies, by what the file calls it in the trip."""
        made = self.trips.get(tensor.name, ())
        return {in_trip(tensor.name, trips): number for number, trips in enumerate(made)}

    def copy(self, tensor: Tensor, execution: int | None = None) -> Copy | None:
        """The copy of a tensor (of its last execution by default); None: the memory holds it."""
        if execution is None:
            execution = self.made.get(tensor.name, 1) - 1
        return self.copies.get((tensor.name, execution))

    def read(self, tensor: Tensor, execution: int | None = None) -> npt.NDArray[np.generic]:
        """Codes of a tensor as it was when it was complete, in the file's shape."""
        copy = self.copy(tensor, execution)
        if copy is None:
            return host.read(self.memory, tensor)
        return host.read(copy.data, dataclasses.replace(tensor, address=0, places=()))


def image(memory: Bytes, copies: Iterable[tuple[Complete, Bytes]], keeper: Keeper) -> Image:
    """An image of these copies."""
    taken = {(c.tensor, c.execution): Copy(data, c.steps) for c, data in copies}
    names = {name for name, _ in taken}
    made = {name: count for name, count in keeper.made.items() if name in names}
    return Image(memory, taken, made, keeper.trips)


class Keeper:
    """Follows a run in program order, HALT included.

    Members
    -------
    made: how often each tensor was made so far.
    trips: of tensors of Loops' bodies: the trips in which they were made.
    """

    def __init__(self, program: Program, beat: int):
        self._beat = beat
        self._tensors = {tensor.name: tensor for tensor in program.tensors}
        self._spans = {t.name: tuple(t.spans()) for t in program.tensors}
        self._block_of, self._layers = _blocks(program)
        self._firsts = {block.first for block in program.blocks}
        self._block = -1
        self._pending: list[Layer] = []
        self._stores = self._beats = self._steps = 0
        self.made: dict[str, int] = defaultdict(int)
        self.trips: dict[str, list[tuple[int, ...]]] = defaultdict(list)
        self._inside, self._counter = program.inside(), Counter(program)
        # Complete tensors, of which no byte was written since; inputs and constants are.
        self._complete: dict[str, Complete] = {}
        stored = {name for layer in program.layers for name in layer.tensors}
        for name in self._tensors:
            if name not in stored:
                self._finish(name)

    def before(self, step: Step) -> list[Complete]:
        """Tensors that an instruction, which is executed next, writes over."""
        self._follow(step.pc)
        self._counter.follow(step.pc)
        self._steps += 1
        instruction = step.instruction
        if not isinstance(instruction, Store):
            return []
        self._stores += 1
        self._beats += transfer_beats(instruction)
        low, high = ends(instruction.dram, instruction.counts, instruction.dram_deltas)
        high += instruction.beats * self._beat
        lost = [
            complete
            for complete in self._complete.values()
            if any(first < high and low < first + size for first, size in complete.spans)
        ]
        for complete in lost:
            del self._complete[complete.tensor]
        return lost

    def _follow(self, pc: int) -> None:
        """Finish the layers that end before an instruction."""
        block = self._block_of(pc)
        if block != self._block or pc in self._firsts:
            self._finish_layers(None)
            self._block, self._pending = block, list(self._layers.get(block, ()))
        self._finish_layers(pc)

    def _finish_layers(self, pc: int | None) -> None:
        while self._pending and (pc is None or self._pending[0].last <= pc):
            for name in self._pending.pop(0).tensors:
                self._finish(name)

    def _finish(self, name: str) -> None:
        if name in self._spans:
            number, spans = self.made[name], self._spans[name]
            self._complete[name] = Complete(
                name, number, self._stores, self._beats, self._steps, spans
            )
            self.made[name] += 1
            if name in self._inside:
                self.trips[name].append(self._counter.at(self._inside[name]))


def _blocks(program: Program) -> tuple[Callable[[int], int], Mapping[int, Sequence[Layer]]]:
    """The block of an instruction, and the layers of each."""
    layers: dict[int, list[Layer]] = defaultdict(list)
    for layer in program.layers:
        layers[layer.block].append(layer)
    if not program.blocks:
        return (lambda pc: 0), layers
    owner = np.full(len(program.instructions), -1, np.int64)
    for index, block in enumerate(program.blocks):
        owner[block.first : block.last] = index
    return (lambda pc: int(owner[pc])), layers


def overwritten(
    program: Program, trace: Iterable[Step], beat: int
) -> tuple[list[Complete], Keeper]:
    """What a run writes over, by its trace alone; and who followed it to its end."""
    keeper = Keeper(program, beat)
    lost = [complete for step in trace for complete in keeper.before(step)]
    return lost, keeper
