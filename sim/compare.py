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
from hw.timeline.step import Step
from sim import host
from sim.image import Image
from sim.path import unmade
from sim.trips import instances

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
    differing: names of tensors that differ, in program order.
    first: the first difference, or None.
    """

    compared: int
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
    image: Image,
    reference: Tensors,
    trace: Sequence[Step] = (),
    names: Collection[str] | None = None,
) -> Comparison:
    """Compare every tensor of a run with a reference, each as it was when it was complete.

    Those of arms that did not run are left out; those of Loops' bodies are compared as every trip
    made them. That a reference takes other arms, or makes other trips, is a difference.

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
    inside = program.inside()
    wanted = [t for t in program.tensors if names is None or t.name in names]
    chosen = [tensor for tensor in wanted if tensor.name not in inside]
    ran = trace or None
    skipped = unmade(program, ran)
    stored = {name for layer in program.layers for name in layer.tensors}
    differing = []
    first: Difference | None = None
    compared = 0
    for tensor in chosen:
        made, known = tensor.name not in skipped, tensor.name in reference
        if not known and (not made or (program.blocks and tensor.name not in stored)):
            continue  # of an arm that did not run
        compared += 1
        found: Difference | None
        if made and (known or not program.blocks):
            found = difference(tensor.name, reference[tensor.name], image.read(tensor))
        else:
            found = another_arm(tensor)
        if found is None:
            continue
        differing.append(tensor.name)
        if first is None:
            copy = image.copy(tensor)
            first = blame(found, tensor, program, trace if copy is None else trace[: copy.steps])
    found_here = Comparison(compared, tuple(differing), first)
    trips = [tensor for tensor in wanted if tensor.name in inside]
    return found_here.joined(_compare_trips(program, trips, image, reference, trace))


def _compare_trips(
    program: Program,
    tensors: Sequence[Tensor],
    image: Image,
    reference: Tensors,
    trace: Sequence[Step],
) -> Comparison:
    """Compare tensors of Loops' bodies as every trip made them."""
    inside = program.inside()
    compared, differing, first = 0, list[str](), None
    for tensor in tensors:
        versions = image.versions(tensor)
        for name in instances(tensor.name, inside[tensor.name]):
            execution, known = versions.get(name), reference.get(name)
            if execution is None and known is None:
                continue
            compared += 1
            named = dataclasses.replace(tensor, name=name)
            if execution is None or known is None:
                found: Difference | None = another_arm(named)
            else:
                found = difference(name, known, image.read(tensor, execution))
            if found is None:
                continue
            differing.append(name)
            if first is None and not found.note:
                copy = image.copy(tensor, execution)
                before = trace if copy is None else trace[: copy.steps]
                found = dataclasses.replace(blame(found, tensor, program, before), tensor=name)
            first = first or found
    return Comparison(compared, tuple(differing), first)


def another_arm(tensor: Tensor) -> Difference:
    """That run and reference do not make the same tensors."""
    count = int(np.prod(tensor.shape))
    zero = (0,) * len(tensor.shape)
    note = "run and reference take different arms of a branch, or other trips"
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
