"""The program file: round trip, and refusal of everything that is not one."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from hw.arch.isa import INSTRUCTION_BYTES, Begin, Halt, Load, encode
from hw.arch.layout import LaneMap, TensorLayout
from hw.arch.program import (
    COMPILER,
    MAGIC,
    Feed,
    Input,
    Layer,
    Output,
    Program,
    ProgramError,
    Tensor,
)


@pytest.fixture
def program():
    parts = [LaneMap.dense(5, 4), LaneMap.dense(3, 4)]
    layout = TensorLayout(LaneMap.joined(parts), 1, 2, 3)
    shape = (1, 2, 3, 8)  # channels last
    axes = (((8, 1),), (), ((2, 24),), ((3, 8),))
    tensor = Tensor("x", 0x400, layout, True, 0.5, -3, shape, axes)
    made = dataclasses.replace(tensor, name="y", origin=COMPILER)
    return Program(
        network="net",
        config="tiny",
        fingerprint=0xFEDCBA9876543210,
        instructions=(Begin(1, 2), Load(dram=64, waits=(0, 1, 2, 3, 63)), Halt()),
        code_address=0x100,
        image=((0x300, b"weights!"), (0x200, b"table")),
        memory_bytes=0x500,
        store_window=(0x400, 0x500),
        inputs=(Input("clip", shape, "float32"), Input("spare", (), "uint8", False)),
        feeds=(Feed("x", "clip"),),
        outputs=(Output("logits", (6, 8), "int8", "y", axes),),
        tensors=(tensor, made),
        layers=(Layer("conv", "conv_dense", 1, 2, 10, 20, ("y",), {"rows": 3}),),
    )


def test_round_trip(program, tmp_path):
    path = tmp_path / "program.bin"
    program.save(path)
    assert Program.load(path) == program
    assert [p.name for p in tmp_path.iterdir()] == ["program.bin"]


def test_memory_holds_code_and_image(program):
    memory = program.memory()
    assert memory.size == 0x500
    code = b"".join(encode(i) for i in program.instructions)
    assert memory[0x100 : 0x100 + 3 * INSTRUCTION_BYTES].tobytes() == code
    assert memory[0x300:0x308].tobytes() == b"weights!"
    assert memory[0x200:0x205].tobytes() == b"table"
    assert not memory[:0x100].any()


def test_every_truncation_is_refused(program, tmp_path):
    path = tmp_path / "program.bin"
    program.save(path)
    data = path.read_bytes()
    for size in [*range(40), *range(40, len(data), 7)]:
        path.write_bytes(data[:size])
        with pytest.raises(ProgramError):
            Program.load(path)


def test_every_damaged_body_byte_is_refused(program, tmp_path):
    path = tmp_path / "program.bin"
    program.save(path)
    data = path.read_bytes()
    start = 16 + int.from_bytes(data[12:16], "little")
    for at in range(start, len(data), 5):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        with pytest.raises(ProgramError, match="checksum does not match"):
            Program.load(path)


def test_strangers_are_refused(program, tmp_path):
    path = tmp_path / "program.bin"
    program.save(path)
    data = path.read_bytes()
    for content, message in (
        (b"", "not a program file"),
        (b"PK" + data, "not a program file"),
        (MAGIC + (1).to_bytes(4, "little") + data[12:], "format version 1, this toolkit reads 2"),
        (data[:16] + b"!" + data[17:], "header does not read"),
    ):
        path.write_bytes(content)
        with pytest.raises(ProgramError, match=message):
            Program.load(path)
    with pytest.raises(ProgramError, match="cannot read the program"):
        Program.load(tmp_path / "nothing.bin")
    with pytest.raises(ProgramError, match="cannot read the program"):
        Program.load(tmp_path)


def test_header_is_json(program, tmp_path):
    path = tmp_path / "program.bin"
    program.save(path)
    data = path.read_bytes()
    header = json.loads(data[16 : 16 + int.from_bytes(data[12:16], "little")])
    assert header["fingerprint"] == program.fingerprint
    assert np.array_equal([t["name"] for t in header["tensors"]], ["x", "y"])
