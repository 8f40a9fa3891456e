"""The program file: the only place where compiler and simulators meet.

One file holds the instructions, the initial DRAM image (weights, parameters, tables), and a JSON
header that says where tensors lie and which instruction belongs to which layer:

    8 bytes    MAGIC
    4          VERSION, little-endian as all numbers here
    4          size of the header
    32         SHA-256 of everything else, header and sizes included
    ...        header: JSON in UTF-8
    ...        body: instructions, then the runs of the image, in the header's order

Equal programs give equal bytes. What is read is checked: the checksum, the type of every value of
the header (hw/arch/typed.py), and that addresses, ranges and sizes fit (hw/arch/program_check.py).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.arch.encoding import EncodingError
from hw.arch.isa import INSTRUCTION_BYTES, Instruction, decode, encode
from hw.arch.program_check import ProgramError, check
from hw.arch.program_parts import (
    COMPILER,
    FILE,
    Block,
    Feed,
    Input,
    Layer,
    Output,
    State,
    Tensor,
    Trips,
    in_trip,
)
from hw.arch.typed import TypedError, build

__all__ = [
    "COMPILER",
    "FILE",
    "HOST_MODEL",
    "MAGIC",
    "VERSION",
    "Block",
    "Feed",
    "Input",
    "Layer",
    "Output",
    "Program",
    "ProgramError",
    "State",
    "Tensor",
    "Trips",
    "in_trip",
]

MAGIC = b"VIDACCEL"
VERSION = 5
DIGEST = slice(16, 48)
"""Place of the checksum."""
HOST_MODEL = "host.onnx"
"""Beside a program: the part of the user's graph that the host evaluates, if there is one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """A linked program.

    Attributes
    ----------
    network: name, e.g. ``fsb_c3d``.
    config: name of the configuration (for messages; the fingerprint decides).
    fingerprint: of the configuration.
    instructions: in program order, at DRAM address `code_address`.
    code_address: DRAM address of the first instruction.
    image: bytes that must be in DRAM before the start, as (address, data).
    memory_bytes: DRAM that the program uses, from address 0.
    store_window: (first, past-the-end) byte addresses that stores may touch.
    inputs, outputs: of the user's graph, in its order.
    feeds: tensors that the host writes, and from what.
    tensors: every tensor that the program stores or reads in DRAM.
    layers: for reports.
    blocks: basic blocks of a program with control flow; none stands for one block.
    loops: hardware loops, inner ones before the one around them.
    states: what one run leaves for the next.
    dram_base: where its DRAM begins in the memory map, a multiple of 4 KiB; all other addresses are
        relative to it.
    """

    network: str
    config: str
    fingerprint: int
    instructions: tuple[Instruction, ...]
    code_address: int
    image: tuple[tuple[int, bytes], ...]
    memory_bytes: int
    store_window: tuple[int, int]
    inputs: tuple[Input, ...]
    feeds: tuple[Feed, ...]
    outputs: tuple[Output, ...]
    tensors: tuple[Tensor, ...]
    layers: tuple[Layer, ...]
    blocks: tuple[Block, ...] = ()
    loops: tuple[Trips, ...] = ()
    states: tuple[State, ...] = ()
    dram_base: int = 0
    _code: list[bytes] = dataclasses.field(
        default_factory=list, init=False, repr=False, compare=False
    )

    def tensor(self, name: str) -> Tensor:
        """A tensor by its name."""
        return next(t for t in self.tensors if t.name == name)

    def state_tensors(self) -> dict[str, State]:
        """What one run leaves for the next: the state by each tensor that it is read from."""
        states = {state.input: state for state in self.states}
        return {f.tensor: states[f.source] for f in self.feeds if f.source in states}

    def around(self, part: Layer | Block) -> tuple[Trips, ...]:
        """Loops in whose bodies a layer or a block stands, outermost first."""
        found = [t for t in self.loops if t.first <= part.first < t.last]
        return tuple(sorted(found, key=lambda t: t.first))

    def inside(self) -> dict[str, tuple[Trips, ...]]:
        """Loops, outermost first, around the layer of each tensor that has some."""
        found = {name: self.around(layer) for layer in self.layers for name in layer.tensors}
        return {name: loops for name, loops in found.items() if loops}

    def code(self) -> bytes:
        """Encoded instructions; made once."""
        if not self._code:
            self._code.append(b"".join(encode(i) for i in self.instructions))
        return self._code[0]

    def memory(self) -> npt.NDArray[np.uint8]:
        """DRAM before the start, inputs not yet written: u8 [memory_bytes]."""
        memory = np.zeros(self.memory_bytes, np.uint8)
        for address, data in ((self.code_address, self.code()), *self.image):
            memory[address : address + len(data)] = np.frombuffer(data, np.uint8)
        return memory

    def save(self, path: Path) -> None:
        """Write the file (to a temporary name first, so that no partial file is left).

        Raises
        ------
        ProgramError
            If an address, a range or a size does not fit; nothing is written.
        """
        check(self)
        blobs = [self.code(), *(data for _, data in self.image)]
        header = Header(
            code=(self.code_address, len(blobs[0])),
            image=tuple((address, len(data)) for address, data in self.image),
            **{name: getattr(self, name) for name in _SHARED},
        )
        text = json.dumps(dataclasses.asdict(header), sort_keys=True, allow_nan=False).encode()
        start = MAGIC + VERSION.to_bytes(4, "little") + len(text).to_bytes(4, "little")
        rest = text + b"".join(blobs)
        temporary = path.with_name(path.name + ".partial")
        temporary.write_bytes(start + hashlib.sha256(start + rest).digest() + rest)
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> Program:
        """Read the file.

        Raises
        ------
        ProgramError
            If it is missing, not a program, of another version, truncated, damaged, or says what
            no program can mean.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ProgramError(f"cannot read the program {path}: {error.strerror}") from error
        if data[:8] != MAGIC:
            raise ProgramError(f"{path} is not a program file")
        version = int.from_bytes(data[8:12], "little")
        if version != VERSION:
            raise ProgramError(f"{path} has format version {version}, this toolkit reads {VERSION}")
        start, rest = data[: DIGEST.start], data[DIGEST.stop :]
        if hashlib.sha256(start + rest).digest() != data[DIGEST]:
            raise ProgramError(f"{path} is truncated or damaged: its checksum does not match")
        size = int.from_bytes(data[12:16], "little")
        try:
            program = cls._of(_header(rest[:size]), rest[size:])
            check(program)
        except (ProgramError, TypedError, EncodingError) as error:
            raise ProgramError(f"{path} is no sound program: {error}") from error
        return program

    @classmethod
    def _of(cls, header: Header, body: bytes) -> Program:
        code_address, code_size = header.code
        sizes = [code_size, *(size for _, size in header.image)]
        if min(sizes) < 0 or sum(sizes) != len(body):
            raise ProgramError(f"the body has {len(body)} bytes, the header tells of {sizes}")
        if code_size % INSTRUCTION_BYTES:
            raise ProgramError(f"{code_size} bytes of code are no whole instructions")
        image = []
        offset = code_size
        for address, size in header.image:
            image.append((address, body[offset : offset + size]))
            offset += size
        program = cls(
            instructions=tuple(
                decode(body[i : i + INSTRUCTION_BYTES])
                for i in range(0, code_size, INSTRUCTION_BYTES)
            ),
            code_address=code_address,
            image=tuple(image),
            **{name: getattr(header, name) for name in _SHARED},
        )
        program._code.append(body[:code_size])
        return program


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """What the JSON header holds.

    Attributes
    ----------
    code: address of the instructions, and how many bytes they are.
    image: address and size of each run of bytes behind them; the rest is as in `Program`.
    """

    network: str
    config: str
    fingerprint: int
    code: tuple[int, int]
    image: tuple[tuple[int, int], ...]
    memory_bytes: int
    store_window: tuple[int, int]
    dram_base: int
    inputs: tuple[Input, ...]
    feeds: tuple[Feed, ...]
    outputs: tuple[Output, ...]
    tensors: tuple[Tensor, ...]
    layers: tuple[Layer, ...]
    blocks: tuple[Block, ...]
    loops: tuple[Trips, ...]
    states: tuple[State, ...]


_SHARED = [f.name for f in dataclasses.fields(Header) if f.name not in ("code", "image")]


def _header(text: bytes) -> Header:
    """Read the JSON.

    Raises
    ------
    ProgramError
        If it is none.
    TypedError
        If a value is missing or of another type than declared.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            raise ProgramError("its header names a value twice")
        return content

    try:
        content = json.loads(text.decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        if isinstance(error, ProgramError):
            raise
        raise ProgramError(f"its header does not read ({error})") from error
    return build(Header, content, "")
