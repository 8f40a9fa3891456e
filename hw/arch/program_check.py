"""What a program file may say: addresses, ranges, sizes and names that fit one another."""

from __future__ import annotations

import itertools
import math
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hw.arch.axes import Axes, canonical_of, covers
from hw.arch.isa import INSTRUCTION_BYTES, Loop, Next
from hw.arch.parts import is_name
from hw.arch.registers import DRAM_ALIGNMENT

if TYPE_CHECKING:
    from hw.arch.layout import TensorLayout
    from hw.arch.program import Program, State, Tensor

ADDRESS_SPACE = 1 << 32
FINGERPRINTS = 1 << 64
ORIGINS = ("file", "compiler")


class ProgramError(ValueError):
    """A file that is not a program, is damaged, or is of another version."""


class _Run(Protocol):
    """Layer or Block."""

    @property
    def name(self) -> str: ...
    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...


def check(program: Program) -> None:
    """Refuse what no program can mean.

    Raises
    ------
    ProgramError
        Names the value and its limit.
    """
    _memory(program)
    for tensor in program.tensors:
        _tensor(tensor, program.memory_bytes)
    _unique("tensors", [tensor.name for tensor in program.tensors])
    _unique("inputs", [port.name for port in program.inputs])
    _unique("outputs", [port.name for port in program.outputs])
    _ports(program)
    _runs("layer", program.layers, len(program.instructions))
    _runs("block", program.blocks, len(program.instructions))
    _blocks(program)
    _loops(program)
    _states(program)


def _demand(holds: bool, message: str) -> None:
    if not holds:
        raise ProgramError(message)


def _unique(what: str, names: Sequence[str]) -> None:
    for name, count in Counter(names).items():
        _demand(count == 1, f"{what}: {name!r} stands there {count} times")


def _inside(what: str, address: int, size: int, end: int) -> None:
    _demand(
        address >= 0 and address + size <= end,
        f"{what} lies at {address:#x} up to {address + size:#x}; there are {end:#x} bytes",
    )


def _memory(program: Program) -> None:
    """Sizes and places in DRAM."""
    end = program.memory_bytes
    _demand(is_name(program.config), f"the configuration {program.config!r} is no name")
    _demand(0 <= program.fingerprint < FINGERPRINTS, f"fingerprint {program.fingerprint}")
    _demand(0 <= end <= ADDRESS_SPACE, f"{end} bytes of DRAM; {ADDRESS_SPACE} at most")
    base = program.dram_base
    _demand(
        base >= 0 and base % DRAM_ALIGNMENT == 0,
        f"dram_base is {base:#x}; it must be a multiple of {DRAM_ALIGNMENT:#x}",
    )
    _demand(base + end <= ADDRESS_SPACE, f"{end} bytes from {base:#x} on leave the address space")
    first, last = program.store_window
    _demand(0 <= first <= last <= end, f"the store window {first:#x}..{last:#x} leaves {end:#x}")
    _demand(bool(program.instructions), "there is no instruction")
    size = INSTRUCTION_BYTES * len(program.instructions)
    _demand(
        program.code_address % INSTRUCTION_BYTES == 0,
        f"code at {program.code_address:#x}, not a multiple of {INSTRUCTION_BYTES}",
    )
    places = [("code", program.code_address, size)]
    places += [(f"image[{i}]", a, len(data)) for i, (a, data) in enumerate(program.image)]
    for what, address, length in places:
        _inside(what, address, length, end)
    places.sort(key=lambda place: place[1])
    for (what, address, length), (other, next_one, _) in itertools.pairwise(places):
        _demand(address + length <= next_one, f"{what} and {other} overlap at {next_one:#x}")


def _tensor(tensor: Tensor, end: int) -> None:
    what = f"tensor {tensor.name!r}"
    layout = tensor.layout
    _layout(what, layout)
    _demand(
        not tensor.places
        or (len(tensor.places) == layout.blocks and tensor.places[0] == tensor.address),
        f"{what} of {layout.blocks} blocks from {tensor.address:#x} on has {len(tensor.places)} "
        f"places, the first at {min(tensor.places[:1], default=0):#x}",
    )
    for address, size in tensor.spans():
        _inside(what, address, size, end)
        _demand(
            address % layout.lanes == 0,
            f"{what} lies at {address:#x}, not a multiple of a row of {layout.lanes} bytes",
        )
    low, high = (-128, 127) if tensor.signed else (0, 255)
    _demand(
        low <= tensor.zero_point <= high,
        f"{what} has the zero point {tensor.zero_point}; {low} to {high}",
    )
    _demand(tensor.scale > 0, f"{what} has the scale {tensor.scale}")
    _demand(tensor.origin in ORIGINS, f"{what} has the origin {tensor.origin!r}")
    _axes(what, tensor.shape, tensor.axes, layout)


def _layout(what: str, layout: TensorLayout) -> None:
    sizes = (layout.frames, layout.height, layout.width)
    _demand(min(sizes) >= 1, f"{what} has an axis without elements")


def _axes(what: str, shape: Sequence[int], axes: Axes, layout: TensorLayout) -> None:
    """Whether axes cover a shape of the file once, and are those of a layout."""
    _demand(all(n >= 1 for n in shape), f"{what} has the shape {list(shape)}")
    digits = [digit for group in axes for digit in group]
    sound = all(size >= 1 and stride >= 1 for size, stride in digits)
    _demand(
        sound and covers(axes, math.prod(shape)),
        f"{what}: axes {axes} do not cover the shape {list(shape)}",
    )
    stored = (layout.channels, layout.frames, layout.height, layout.width)
    _demand(
        canonical_of(axes) == stored,
        f"{what} is stored as {list(stored)}, its axes make {list(canonical_of(axes))}",
    )


def _ports(program: Program) -> None:
    """Inputs, outputs, and the tensors that they stand for."""
    tensors = {tensor.name: tensor for tensor in program.tensors}
    ports = [(port.name, port.shape, port.dtype) for port in program.inputs]
    ports += [(port.name, port.shape, port.dtype) for port in program.outputs]
    for name, shape, dtype in ports:
        _dtype(f"{name!r}", dtype)
        _demand(min(shape, default=0) >= 0, f"{name!r} has the shape {list(shape)}")
    for feed in program.feeds:
        _demand(feed.tensor in tensors, f"there is no tensor {feed.tensor!r} to feed")
    _unique("feeds", [feed.tensor for feed in program.feeds])
    for output in program.outputs:
        what = f"output {output.name!r}"
        _demand(output.tensor in tensors, f"{what} is a tensor {output.tensor!r} that is not there")
        _demand(
            output.digits == 1 or (output.digits == 2 and output.dtype == "int64"),
            f"{what} has {output.digits} bytes an element and the type {output.dtype!r}",
        )
        _axes(what, output.stored, output.axes, tensors[output.tensor].layout)
    for layer in program.layers:
        for name in layer.tensors:
            _demand(name in tensors, f"layer {layer.name!r} stores {name!r}, which is not there")
        counts = (layer.macs, layer.roofline_cycles)
        _demand(min(counts) >= 0, f"layer {layer.name!r} counts {counts}")


def _dtype(what: str, name: str) -> None:
    """Whether NumPy knows a type, by this name and no other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names that NumPy is about to forget
        try:
            found: np.dtype[Any] | None = np.dtype(name)
        except (TypeError, ValueError, SyntaxError):
            found = None
    _demand(found is not None and found.name == name, f"{what} has the type {name!r}")


def _runs(what: str, runs: Iterable[_Run], instructions: int) -> None:
    """Whether runs of instructions lie in the program, apart from one another."""
    ordered = sorted(runs, key=lambda run: (run.first, run.last))
    for run in ordered:
        _demand(
            0 <= run.first <= run.last <= instructions,
            f"{what} {run.name!r} is {run.first}..{run.last} of {instructions} instructions",
        )
    for before, after in itertools.pairwise(ordered):
        _demand(before.last <= after.first, f"{what}s {before.name!r} and {after.name!r} overlap")


def _blocks(program: Program) -> None:
    """Whether blocks follow one another, and layers stand in them."""
    firsts = {block.first for block in program.blocks}
    for block in program.blocks:
        _demand(block.first < block.last, f"block {block.name!r} is empty")
        _demand(
            set(block.following) <= firsts,
            f"block {block.name!r} goes on at {block.following}, where no block begins",
        )
        _demand(
            not block.condition or len(block.following) == 2,
            f"block {block.name!r} decides between {len(block.following)}",
        )
    for layer in program.layers:
        _demand(
            0 <= layer.block < max(len(program.blocks), 1),
            f"layer {layer.name!r} stands in block {layer.block} of {len(program.blocks)}",
        )


def _loops(program: Program) -> None:
    """Whether loops are those of the instructions, one inside another or apart."""
    _unique("loops", [loop.name for loop in program.loops])
    instructions = program.instructions
    for loop in program.loops:
        what = f"loop {loop.name!r}"
        _demand(
            0 < loop.first < loop.last <= len(instructions),
            f"{what} is {loop.first}..{loop.last} of {len(instructions)} instructions",
        )
        opens, closes = instructions[loop.first - 1], instructions[loop.last - 1]
        _demand(
            isinstance(opens, Loop) and isinstance(closes, Next) and opens.level == closes.level,
            f"{what} does not stand between LOOP and NEXT",
        )
        _demand(
            isinstance(opens, Loop) and opens.count == loop.trips and not opens.count_register,
            f"{what} has {loop.trips} trips, its LOOP counts otherwise",
        )
    ordered = sorted(program.loops, key=lambda loop: (loop.first, -loop.last))
    for before, after in itertools.combinations(ordered, 2):
        _demand(
            after.last <= before.last or before.last < after.first,
            f"loops {before.name!r} and {after.name!r} overlap",
        )


def _states(program: Program) -> None:
    inputs = {port.name for port in program.inputs}
    outputs = {port.name for port in program.outputs}
    for state in program.states:
        _demand(state.input in inputs, f"a state comes from no input {state.input!r}")
        _demand(state.output in outputs, f"a state goes to no output {state.output!r}")
    _unique("states", [state.input for state in program.states])
    found = program.state_tensors()
    fed = {state.input for state in found.values()}
    for state in program.states:
        _demand(state.input in fed, f"nothing is fed from state {state.input!r}")
    for name, state in found.items():
        _state(program, program.tensor(name), state)


def _state(program: Program, tensor: Tensor, state: State) -> None:
    """Whether the codes of a state's output can take the place of those that its input left."""
    what = f"state {state.input!r}"
    output = next(port for port in program.outputs if port.name == state.output)
    made = program.tensor(output.tensor)
    before, after = ((t.signed, t.scale, t.zero_point, math.prod(t.shape)) for t in (tensor, made))
    _demand(before == after, f"{what} is read as {before}, its output is {after}")
    low, high = (-128, 127) if tensor.signed else (0, 255)
    _demand(low <= state.initial <= high, f"{what} begins as {state.initial}; {low} to {high}")
    first, last = program.store_window
    _demand(not tensor.places, f"{what} does not lie in one piece")
    _demand(
        first <= tensor.address and tensor.address + tensor.layout.nbytes <= last,
        f"{what} lies at {tensor.address:#x}, outside the store window {first:#x}..{last:#x}",
    )
