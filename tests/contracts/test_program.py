"""The program file: round trip, and refusal of everything that is not one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re

import pytest

from hw.arch.isa import INSTRUCTION_BYTES, Begin, Halt, Load, encode
from hw.arch.layout import LaneMap, TensorLayout
from hw.arch.program import (
    COMPILER,
    MAGIC,
    VERSION,
    Block,
    Feed,
    Input,
    Layer,
    Output,
    Program,
    ProgramError,
    State,
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


def test_equal_programs_give_equal_bytes(program, tmp_path):
    first, second = tmp_path / "a.bin", tmp_path / "b.bin"
    program.save(first)
    Program.load(first).save(second)
    assert first.read_bytes() == second.read_bytes()
    dataclasses.replace(program, network="other").save(second)
    assert first.read_bytes() != second.read_bytes()


@pytest.fixture
def saved(program, tmp_path):
    path = tmp_path / "program.bin"
    program.save(path)
    return path


def test_every_truncation_is_refused(saved):
    data = saved.read_bytes()
    for size in [*range(80), *range(80, len(data), 7), len(data) - 1]:
        saved.write_bytes(data[:size])
        with pytest.raises(ProgramError):
            Program.load(saved)
    saved.write_bytes(data + b" ")
    with pytest.raises(ProgramError, match="checksum does not match"):
        Program.load(saved)


def test_every_flipped_byte_is_refused(saved):
    data = saved.read_bytes()
    for at in range(len(data)):
        saved.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        with pytest.raises(ProgramError, match=r"checksum does not match|version|not a program"):
            Program.load(saved)


def signed(data):
    """A file whose checksum is right, whatever it holds."""
    start, rest = data[:16], data[48:]
    return start + hashlib.sha256(start + rest).digest() + rest


def parts(data):
    """(header, body)."""
    end = 48 + int.from_bytes(data[12:16], "little")
    return json.loads(data[48:end]), data[end:]


def joined(header, body):
    text = header if isinstance(header, bytes) else json.dumps(header, sort_keys=True).encode()
    sizes = VERSION.to_bytes(4, "little") + len(text).to_bytes(4, "little")
    return signed(MAGIC + sizes + bytes(32) + text + body)


def loads_or_is_refused(path, data):
    """Nothing but ProgramError escapes, and what loads can be used."""
    path.write_bytes(data)
    try:
        program = Program.load(path)
    except ProgramError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
        return False
    assert program.memory().size == program.memory_bytes
    program.save(path)
    assert Program.load(path) == program
    return True


def test_damage_behind_a_right_checksum_is_refused_or_another_program(saved):
    data = saved.read_bytes()
    assert loads_or_is_refused(saved, signed(data))
    places = [(at, at * 5 % 8) for at in range(12, len(data)) if not 16 <= at < 48]
    found = [
        loads_or_is_refused(
            saved, signed(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
        )
        for at, bit in places
    ]
    assert 50 < found.count(True) < len(found) / 2


STRANGE = (None, True, -1, 1 << 70, 10**400, 0.5, "", "x", [], [1], {}, {"x": 1}, [[1, 1]])


def replaced(value):
    """Every copy of a JSON value with one place changed, lost or added."""
    yield from STRANGE
    if isinstance(value, dict):
        yield {**value, "colour": "red"}
        for key, inner in value.items():
            yield {k: v for k, v in value.items() if k != key}
            yield from ({**value, key: other} for other in replaced(inner))
    elif isinstance(value, list):
        yield [*value, *value[-1:], 1]
        for i, inner in enumerate(value):
            yield [*value[:i], *value[i + 1 :]]
            yield from ([*value[:i], other, *value[i + 1 :]] for other in replaced(inner))


def test_every_strange_value_is_refused_or_another_program(saved):
    header, body = parts(saved.read_bytes())
    found = [loads_or_is_refused(saved, joined(other, body)) for other in replaced(header)]
    assert len(found) > 1500 and 0 < found.count(True) < len(found) / 5


def changed(content, path, value):
    """A copy of the header with one value replaced; `path` as messages name it."""
    content = json.loads(json.dumps(content))
    *inner, last = path
    place = content
    for step in inner:
        place = place[step]
    place[last] = value
    return content


UNSOUND = [
    (("fingerprint",), 1 << 64, "fingerprint 18446744073709551616"),
    (("config",), "../tiny", "configuration '../tiny' is no name"),
    (("network",), 3, "network is 3, not text"),
    (("memory_bytes",), 0x400, "window 0x400..0x500 leaves 0x400"),
    (("memory_bytes",), (1 << 32) + 1, "4294967297 bytes of DRAM; 4294967296 at most"),
    (("dram_base",), 64, "dram_base is 0x40; it must be a multiple of 0x1000"),
    (("dram_base",), -4096, "dram_base is -0x1000; it must be a multiple"),
    (("dram_base",), 0xFFFFF000 + 0x1000, "leave the address space"),
    (("store_window",), [0x500, 0x400], "store window 0x500..0x400"),
    (("store_window",), [0, 0x501], "leaves 0x500"),
    (("store_window",), [0], "store_window has 1 values, not 2"),
    (("code", 0), 0x180, "overlap at 0x200"),
    (("code", 0), 0x120, "not a multiple of 64"),
    (("code", 1), 191, r"the body has 205 bytes, the header tells of \[191, 8, 5\]"),
    (("image", 0, 0), 0x4FC, r"image\[0\] lies at 0x4fc up to 0x504"),
    (("image", 0, 1), -8, "the header tells of"),
    (("image", 1, 0), 0x2FE, r"image\[1\] and image\[0\] overlap at 0x300"),
    (("tensors", 0, "address"), 0x402, "not a multiple of a row of 4 bytes"),
    (("tensors", 0, "address"), 0x4F0, "tensor 'x' lies at 0x4f0"),
    (("tensors", 0, "zero_point"), 128, "zero point 128; -128 to 127"),
    (("tensors", 0, "scale"), 0, "the scale 0"),
    (("tensors", 0, "origin"), "moon", "origin 'moon'"),
    (("tensors", 0, "shape"), [1, 2, 3, 4], "do not cover the shape"),
    (("tensors", 0, "axes", 0), [[8, 1 << 40]], "do not cover the shape"),
    (("tensors", 0, "layout", "width"), 4, r"its axes make \[8, 1, 2, 3\]"),
    (("tensors", 0, "layout", "height"), -2, "without elements"),
    (("tensors", 1, "name"), "x", "'x' stands there 2 times"),
    (("inputs", 0, "dtype"), "float31", "'clip' has the type 'float31'"),
    (("inputs", 1, "name"), "clip", "'clip' stands there 2 times"),
    (("feeds", 0, "tensor"), "z", "no tensor 'z' to feed"),
    (("outputs", 0, "tensor"), "z", "a tensor 'z' that is not there"),
    (("outputs", 0, "shape"), [6, 9], "do not cover the shape"),
    (("layers", 0, "last"), 4, "1..4 of 3 instructions"),
    (("layers", 0, "tensors"), ["z"], "stores 'z', which is not there"),
    (("layers", 0, "macs"), -1, "counts"),
    (("layers", 0, "macs"), True, r"layers\[0\].macs is True, not an integer"),
    (("blocks",), [{"first": 0, "last": 2, "name": "a"}, {"first": 1, "last": 3, "name": "b"}],
     "blocks 'a' and 'b' overlap"),
    (("blocks",), [{"first": 0, "name": "a"}], r"blocks\[0\] lacks 'last'"),
    (("states",), [{"input": "z", "output": "logits", "initial": 0}], "from no input 'z'"),
    (("states",), [{"input": "clip", "output": "z", "initial": 0}], "to no output 'z'"),
    (("states",), [{"input": "clip", "output": "logits", "initial": 256}], "begins as 256"),
    (("colour",), 1, "the file has no 'colour'"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), UNSOUND)
def test_refusals_name_place_value_and_limit(saved, path, value, message):
    header, body = parts(saved.read_bytes())
    saved.write_bytes(joined(changed(header, path, value), body))
    with pytest.raises(ProgramError, match=message):
        Program.load(saved)


@pytest.mark.parametrize(
    ("tensor", "change", "message"),
    [
        ("y", {"scale": 0.25}, "state 'clip' is read as"),
        ("y", {"zero_point": 1}, "state 'clip' is read as"),
        ("x", {"address": 0x3C0}, "outside the store window 0x400..0x500"),
    ],
)
def test_a_state_has_one_type_and_can_be_stored(program, tmp_path, tensor, change, message):
    tensors = tuple(
        dataclasses.replace(t, **change) if t.name == tensor else t for t in program.tensors
    )
    states = (State("clip", "logits", -3),)
    dataclasses.replace(program, states=states).save(tmp_path / "sound.bin")
    with pytest.raises(ProgramError, match=re.escape(message)):
        dataclasses.replace(program, states=states, tensors=tensors).save(tmp_path / "bad.bin")


def test_blocks_and_states_are_kept(program, tmp_path):
    path = tmp_path / "program.bin"
    kept = dataclasses.replace(
        program,
        blocks=(Block(0, 2, "entry"), Block(2, 3, "exit")),
        states=(State("clip", "logits", -128),),
    )
    kept.save(path)
    assert Program.load(path) == kept != program


def test_a_program_that_is_not_sound_is_not_written(program, tmp_path):
    with pytest.raises(ProgramError, match="store window"):
        dataclasses.replace(program, store_window=(0, 0x501)).save(tmp_path / "program.bin")
    assert not list(tmp_path.iterdir())


def test_strangers_are_refused(saved, tmp_path):
    data = saved.read_bytes()
    _, body = parts(data)
    instruction = bytes(64) + body[64:]
    for content, message in (
        (b"", "not a program file"),
        (b"PK" + data, "not a program file"),
        (
            MAGIC + (1).to_bytes(4, "little") + data[12:],
            f"format version 1, this toolkit reads {VERSION}",
        ),
        (joined(b"!", body), "header does not read"),
        (joined(b"\xff", body), "header does not read"),
        (joined(b"[" * 100_000, body), "header does not read"),
        (joined(b'{"code": 1, "code": 2}', body), "names a value twice"),
        (joined(b'{"scale": NaN}', body), "the file has no 'scale'"),
        (joined(b"[]", body), r"the file is \[\], not a mapping"),
        (joined(parts(data)[0], instruction), "unknown opcode 0"),
    ):
        saved.write_bytes(content)
        with pytest.raises(ProgramError, match=message):
            Program.load(saved)
    with pytest.raises(ProgramError, match="cannot read the program"):
        Program.load(tmp_path / "nothing.bin")
    with pytest.raises(ProgramError, match="cannot read the program"):
        Program.load(tmp_path)


def test_header_is_json(program, saved):
    header, _ = parts(saved.read_bytes())
    assert header["fingerprint"] == program.fingerprint
    assert [t["name"] for t in header["tensors"]] == ["x", "y"]
