"""What a program is made of: its tensors, inputs and outputs, layers, blocks, loops and states."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.arch.axes import Axes
from hw.arch.layout import TensorLayout

FILE, COMPILER = "file", "compiler"
"""Origins of tensors."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
    """An activation tensor in DRAM.

    Attributes
    ----------
    name: of the tensor in the ONNX file whose codes these are; of the compiler's own if it is not
        one of the file's.
    address: DRAM byte address of its first block.
    layout: geometry.
    signed: s8 instead of u8.
    scale, zero_point: quantization.
    shape: shape in the ONNX graph.
    axes: which elements of that shape lie along C, T, H and W.
    origin: FILE, or COMPILER: a step in between that the file has no name for.
    places: DRAM byte address of every block where they do not lie one after another: a concat or a
        slice of channels is blocks of other tensors. () where they do.
    """

    name: str
    address: int
    layout: TensorLayout
    signed: bool
    scale: float
    zero_point: int
    shape: tuple[int, ...]
    axes: Axes
    origin: str = FILE
    places: tuple[int, ...] = ()

    def row_address(self, row: int) -> int:
        """DRAM byte address of a row, counted through the blocks."""
        block, position = divmod(row, self.layout.positions)
        first = self.places[block] if self.places else self.address + block * self.block_bytes
        return first + position * self.layout.lanes

    @property
    def block_bytes(self) -> int:
        """Bytes of a block."""
        return self.layout.positions * self.layout.lanes

    def spans(self) -> list[tuple[int, int]]:
        """(address, bytes) of its pieces of DRAM, in the order of its blocks."""
        if not self.places:
            return [(self.address, self.layout.nbytes)]
        return [(address, self.block_bytes) for address in self.places]

    def stored(self, memory: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Its bytes in a DRAM image, [nbytes], blocks in order."""
        pieces = [memory[address : address + size] for address, size in self.spans()]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


@dataclasses.dataclass(frozen=True, slots=True)
class Input:
    """An input of the user's graph, whether or not anything reads it.

    Attributes
    ----------
    name, shape, dtype: as the file has them; `dtype` by its NumPy name.
    used: something reads it, so a run needs it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    used: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class Feed:
    """What the host writes before a run.

    Attributes
    ----------
    tensor: name of the program's tensor.
    source: the graph's input whose values are quantized (or, if they are integers, taken as they
        are); else the output of the host's part of the graph (HOST_MODEL in the build folder).
    """

    tensor: str
    source: str


@dataclasses.dataclass(frozen=True, slots=True)
class Output:
    """An output of the user's graph.

    Attributes
    ----------
    name, shape, dtype: as the file has them; float32 is dequantized, int64 an index.
    tensor: name of the program's tensor that holds its codes.
    axes: which elements of `stored` lie along C, T, H and W of the tensor.
    digits: bytes of an element, the lowest first; several only of an index beyond 255.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    tensor: str
    axes: Axes
    digits: int = 1

    @property
    def stored(self) -> tuple[int, ...]:
        """Shape of the codes: behind that of the file an axis of digits, if there are several."""
        return (*self.shape, self.digits) if self.digits > 1 else self.shape


def in_trip(name: str, trips: Sequence[int]) -> str:
    """What the file calls a tensor of Loops' bodies in some trip; () of none.

    A name ends with ``@LOOP.*``, an asterisk for each Loop around it, the outermost first; one of
    the compiler's own may lack them.
    """
    parts = name.rsplit("*", len(trips)) if trips else [name]
    if len(parts) <= len(trips):
        return f"{name}@{'.'.join(map(str, trips))}"
    return parts[0] + "".join(f"{n}{part}" for n, part in zip(trips, parts[1:], strict=True))


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """A run of instructions that computes one (fused) operator.

    Attributes
    ----------
    name, op: of the operator, e.g. ``conv1/dw``, ``conv_depthwise``.
    first, last: instruction indices, `last` exclusive; runs of layers do not overlap.
    macs: multiply-accumulates of the original operator, zero padding counted.
    roofline_cycles: max(array cycles with whole tiles, bytes / port width).
    tensors: names of the tensors it stores.
    tiling: chosen tile sizes and alternatives, for the report.
    block: index of the block that it stands in; 0 in a program without blocks.
    """

    name: str
    op: str
    first: int
    last: int
    macs: int
    roofline_cycles: int
    tensors: tuple[str, ...] = ()
    tiling: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    block: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """A basic block: instructions that are entered at the first one only.

    Attributes
    ----------
    first, last: instruction indices, `last` exclusive; blocks do not overlap.
    name: for reports.
    following: first instruction of every block that may run next; () before the end.
    condition: of a decision, the file's name for what decides; `following` is then where the
        program goes on if it holds, and if not.
    """

    first: int
    last: int
    name: str
    following: tuple[int, ...] = ()
    condition: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Trips:
    """A hardware loop: its body runs once for every trip, and stores over what the trip before did.

    Attributes
    ----------
    name: of the Loop; where it stands in the name of a tensor with ``.*`` behind it, the asterisk
        stands for the trip.
    first, last: instructions of the body, `last` exclusive: from the first one of a trip to NEXT.
    trips: how many; at most, where the body decides whether another one follows.
    """

    name: str
    first: int
    last: int
    trips: int


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """A tensor that a run leaves for the next one, at its input's address.

    The host writes the tensors of the input before the first run, or leaves them to the image,
    which holds `initial` there. A run that ends without an error has written the output's codes
    there. After an error or an abort they are neither: the host writes them again (decision 0016).

    Attributes
    ----------
    input, output: of the user's graph, by name.
    initial: code of zero, which every element holds before the first run.
    """

    input: str
    output: str
    initial: int
