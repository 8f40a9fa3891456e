"""Comparison with a reference: which tensor differs first, where, by how much, who stored it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.arch.isa import Store, strides
from hw.arch.program import Output, Program, Tensor
from hw.arch.walk import offsets
from sim import host
from sim.functional.sequencer import Step
from sim.path import executed, unmade

Tensors = Mapping[str, npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """The first element that differs.

    Attributes
    ----------
    tensor: ONNX value name.
    index: of the element, in the graph's shape.
    expected, got: values there.
    differences, elements: of this tensor.
    layer: that stored the tensor; "" if unknown (an input).
    instruction: index of the STORE that wrote the element; −1 if none did.
    against: what was compared with, if not the reference.
    note: what is wrong, where no element is.
    """

    tensor: str
    index: tuple[int, ...]
    expected: float
    got: float
    differences: int
    elements: int
    layer: str = ""
    instruction: int = -1
    against: str = ""
    note: str = ""

    def __str__(self) -> str:
        source = f"{self.against}: " if self.against else ""
        where = f" of layer {self.layer}" if self.layer else ""
        if self.note:
            return f"{source}tensor {self.tensor!r}{where}: {self.note}"
        stored = f", stored by instruction {self.instruction}" if self.instruction >= 0 else ""
        return (
            f"{source}tensor {self.tensor!r}{where} differs at {list(self.index)}: expected "
            f"{self.expected:g}, got {self.got:g} ({self.differences} of {self.elements} elements "
            f"differ{stored})"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """Outcome for a whole run.

    Attributes
    ----------
    compared: tensors compared.
    overwritten: names of tensors whose memory a later layer used again; not comparable.
    differing: names of tensors that differ, in program order.
    first: the first difference, or None.
    """

    compared: int
    overwritten: tuple[str, ...]
    differing: tuple[str, ...]
    first: Difference | None

    @property
    def equal(self) -> bool:
        """Whether nothing differs (and something was compared)."""
        return self.compared > 0 and self.first is None

    def joined(self, other: Comparison) -> Comparison:
        """Both comparisons as one."""
        return Comparison(
            self.compared + other.compared,
            tuple(dict.fromkeys((*self.overwritten, *other.overwritten))),
            tuple(dict.fromkeys((*self.differing, *other.differing))),
            self.first or other.first,
        )


def difference(name: str, expected: npt.NDArray[Any], got: npt.NDArray[Any]) -> Difference | None:
    """First difference of two arrays in C order, or None.

    Raises
    ------
    ValueError
        If the shapes differ: then the reference is of another graph.
    """
    if expected.shape != got.shape:
        raise ValueError(
            f"tensor {name!r} has shape {list(got.shape)}, its reference {list(expected.shape)}"
        )
    wrong = expected != got
    count = int(np.count_nonzero(wrong))
    if not count:
        return None
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
    return Difference(
        name, index, float(expected[index]), float(got[index]), count, int(wrong.size)
    )


def overwritten(program: Program, trace: Sequence[Step] | None = None) -> tuple[str, ...]:
    """Tensors whose DRAM a later tensor uses again, so that a final image does not hold them.

    Parameters
    ----------
    trace: of the run; layers that it passes by write nothing. None: all layers run.
    """
    ran = executed(program, trace)
    order = {name: i for i, layer in enumerate(ran) for name in layer.tensors}
    lost = []
    for tensor in program.tensors:
        end = tensor.address + tensor.layout.nbytes
        written = order.get(tensor.name, -1)
        for other in program.tensors:
            overlaps = other.address < end and tensor.address < other.address + other.layout.nbytes
            if other.name != tensor.name and overlaps and order.get(other.name, -1) > written:
                lost.append(tensor.name)
                break
    return tuple(lost)


def storing_instruction(trace: Sequence[Step], address: int, beat: int) -> int:
    """Index of the last STORE of a trace that wrote a byte; −1 if none did."""
    for step in reversed(trace):
        instruction = step.instruction
        if not isinstance(instruction, Store):
            continue
        starts = instruction.dram + offsets(
            instruction.counts, strides(instruction.counts, instruction.dram_deltas)
        )
        if bool(np.any((starts <= address) & (address < starts + instruction.beats * beat))):
            return step.pc
    return -1


def compare(
    program: Program,
    memory: npt.NDArray[np.uint8],
    reference: Tensors,
    trace: Sequence[Step] = (),
    names: Collection[str] | None = None,
) -> Comparison:
    """Compare every tensor of a final DRAM image with a reference.

    Those that were overwritten, and those of arms that did not run, are left out. That a reference
    takes other arms is a difference.

    Parameters
    ----------
    reference: codes by ONNX value name; must hold every tensor that is compared.
    trace: executed instructions: which arms ran, and the STORE at fault.
    names: of the tensors to compare; None for all.

    Raises
    ------
    KeyError
        If the reference lacks a tensor.
    """
    chosen = [t for t in program.tensors if names is None or t.name in names]
    ran = trace or None
    gone, skipped = set(overwritten(program, ran)), unmade(program, ran)
    stored = {name for layer in program.layers for name in layer.tensors}
    lost = tuple(tensor.name for tensor in chosen if tensor.name in gone)
    differing = []
    first: Difference | None = None
    compared = 0
    for tensor in chosen:
        if tensor.name in gone and tensor.name not in skipped:
            continue
        made, known = tensor.name not in skipped, tensor.name in reference
        if not known and (not made or (program.blocks and tensor.name not in stored)):
            continue  # of an arm that did not run
        compared += 1
        found: Difference | None
        if made and (known or not program.blocks):
            found = difference(tensor.name, reference[tensor.name], host.read(memory, tensor))
        else:
            found = another_arm(tensor)
        if found is None:
            continue
        differing.append(tensor.name)
        if first is None:
            first = blame(found, tensor, program, trace)
    return Comparison(compared, lost, tuple(differing), first)


def another_arm(tensor: Tensor) -> Difference:
    """That run and reference do not make the same tensors."""
    count = int(np.prod(tensor.shape))
    zero = (0,) * len(tensor.shape)
    note = "run and reference take different arms of a branch"
    return Difference(tensor.name, zero, 0.0, 0.0, count, count, note=note)


def blame(
    found: Difference, where: Tensor | Output, program: Program, trace: Sequence[Step]
) -> Difference:
    """Add the layer and the STORE that wrote the element of a tensor, or of an output's."""
    tensor = where if isinstance(where, Tensor) else program.tensor(where.tensor)
    seen = dataclasses.replace(tensor, shape=where.shape, axes=where.axes)
    layers = [layer.name for layer in program.layers if tensor.name in layer.tensors]
    address = host.byte_of(seen, found.index)
    return dataclasses.replace(
        found,
        layer=layers[0] if layers else "",
        instruction=storing_instruction(trace, address, tensor.layout.lanes),
    )
