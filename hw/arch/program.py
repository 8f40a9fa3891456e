"""The program file: the only place where compiler and simulators meet.

One file holds the instructions, the initial DRAM image (weights, parameters, tables), and a JSON
header that says where tensors lie and which instruction belongs to which layer. The body's
SHA-256 stands in the header, so that a truncated or damaged file is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.arch.axes import Axes
from hw.arch.isa import INSTRUCTION_BYTES, Instruction, decode, encode
from hw.arch.layout import TensorLayout

MAGIC = b"VIDACCEL"
VERSION = 2
HOST_MODEL = "host.onnx"
"""Beside a program: the part of the user's graph that the host evaluates, if there is one."""
FILE, COMPILER = "file", "compiler"
"""Origins of tensors."""


class ProgramError(ValueError):
    """A file that is not a program, is damaged, or is of another version."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
    """An activation tensor in DRAM.

    Attributes
    ----------
    name: of the tensor in the ONNX file whose codes these are; of the compiler's own if it is not
        one of the file's.
    address: DRAM byte address.
    layout: geometry.
    signed: s8 instead of u8.
    scale, zero_point: quantization.
    shape: shape in the ONNX graph.
    axes: which elements of that shape lie along C, T, H and W.
    origin: FILE, or COMPILER: a step in between that the file has no name for.
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
    name, shape, dtype: as the file has them; float32 is dequantized.
    tensor: name of the program's tensor that holds its codes.
    axes: which elements of `shape` lie along C, T, H and W of the tensor.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    tensor: str
    axes: Axes


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
    """

    name: str
    op: str
    first: int
    last: int
    macs: int
    roofline_cycles: int
    tensors: tuple[str, ...] = ()
    tiling: Mapping[str, Any] = dataclasses.field(default_factory=dict)


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

    def tensor(self, name: str) -> Tensor:
        """A tensor by its name."""
        return next(t for t in self.tensors if t.name == name)

    def code(self) -> bytes:
        """Encoded instructions."""
        return b"".join(encode(i) for i in self.instructions)

    def memory(self) -> npt.NDArray[np.uint8]:
        """DRAM before the start, inputs not yet written: u8 [memory_bytes]."""
        memory = np.zeros(self.memory_bytes, np.uint8)
        for address, data in ((self.code_address, self.code()), *self.image):
            memory[address : address + len(data)] = np.frombuffer(data, np.uint8)
        return memory

    def save(self, path: Path) -> None:
        """Write the file (to a temporary name first, so that no partial file is left)."""
        blobs = [self.code(), *(data for _, data in self.image)]
        body = b"".join(blobs)
        header = {
            "network": self.network,
            "config": self.config,
            "fingerprint": self.fingerprint,
            "code": [self.code_address, len(blobs[0])],
            "image": [[address, len(data)] for address, data in self.image],
            "memory_bytes": self.memory_bytes,
            "store_window": list(self.store_window),
            "tensors": [dataclasses.asdict(t) for t in self.tensors],
            "inputs": [dataclasses.asdict(port) for port in self.inputs],
            "feeds": [dataclasses.asdict(feed) for feed in self.feeds],
            "outputs": [dataclasses.asdict(port) for port in self.outputs],
            "layers": [dataclasses.asdict(layer) for layer in self.layers],
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        text = json.dumps(header, sort_keys=True).encode()
        temporary = path.with_name(path.name + ".partial")
        temporary.write_bytes(
            MAGIC + VERSION.to_bytes(4, "little") + len(text).to_bytes(4, "little") + text + body
        )
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> Program:
        """Read the file.

        Raises
        ------
        ProgramError
            If it is missing, not a program, of another version, truncated or damaged.
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
        size = int.from_bytes(data[12:16], "little")
        try:
            header = json.loads(data[16 : 16 + size])
        except ValueError as error:
            raise ProgramError(f"{path} is damaged: its header does not read") from error
        body = data[16 + size :]
        if hashlib.sha256(body).hexdigest() != header["sha256"]:
            raise ProgramError(f"{path} is truncated or damaged: its checksum does not match")
        return cls._from_header(header, body)

    @classmethod
    def _from_header(cls, header: dict[str, Any], body: bytes) -> Program:
        code_address, code_size = header["code"]
        instructions = tuple(
            decode(body[i : i + INSTRUCTION_BYTES]) for i in range(0, code_size, INSTRUCTION_BYTES)
        )
        image = []
        offset = code_size
        for address, size in header["image"]:
            image.append((address, body[offset : offset + size]))
            offset += size
        return cls(
            network=header["network"],
            config=header["config"],
            fingerprint=header["fingerprint"],
            instructions=instructions,
            code_address=code_address,
            image=tuple(image),
            memory_bytes=header["memory_bytes"],
            store_window=tuple(header["store_window"]),
            inputs=tuple(Input(**{**p, "shape": tuple(p["shape"])}) for p in header["inputs"]),
            feeds=tuple(Feed(**feed) for feed in header["feeds"]),
            outputs=tuple(
                Output(**{**p, "shape": tuple(p["shape"]), "axes": _axes(p["axes"])})
                for p in header["outputs"]
            ),
            tensors=tuple(_tensor(t) for t in header["tensors"]),
            layers=tuple(
                Layer(**{**layer, "tensors": tuple(layer["tensors"])}) for layer in header["layers"]
            ),
        )


def _tensor(content: dict[str, Any]) -> Tensor:
    return Tensor(
        **{
            **content,
            "layout": TensorLayout.from_mapping(content["layout"]),
            "shape": tuple(content["shape"]),
            "axes": _axes(content["axes"]),
        }
    )


def _axes(content: Any) -> Axes:
    """Lists of lists as JSON has them."""
    c, t, h, w = (tuple((int(n), int(s)) for n, s in digits) for digits in content)
    return c, t, h, w
