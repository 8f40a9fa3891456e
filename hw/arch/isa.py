"""The instruction set. docs/isa.md, the assembler and the RTL layouts are generated from here.

An instruction is one 64-byte word: six bits of opcode, then the fields of its class in the order
in which they are declared, then zeros. A *unit* instruction is dispatched by the sequencer to the
queue of its unit; the sequencer executes the others itself.

Dependencies. Every unit completes its instructions in order and emits one token per completed
instruction. `waits[u] = d` (d > 0) holds an instruction back until the d-th most recent
instruction that was dispatched to unit u *before it* has completed; d = 1 is the latest. Since
only earlier instructions can be named, no program can deadlock, no token can be lost, and a loop
body needs no patching. A distance that reaches before the program's first instruction is an
error (`ErrorCode.BAD_WAIT`).

Addresses. A nest of counters walks memory in *delta form*: when counter k advances (and all inner
counters restart), `delta[k]` is added to the address. `deltas` computes them from strides.
Counts and deltas are listed innermost first. Activation addresses count scratchpad rows; weight,
parameter and table addresses count beats of the memory port; DRAM addresses count bytes.

Registers. `*_register` names a scalar register whose value is added to the address when the
instruction is dispatched; register 0 is always zero.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, TypeAlias, assert_never

from hw.arch.codes import (
    ADDRESS_BITS,
    DELTA_BITS,
    FIXED_POINT,
    INSTRUCTION_BYTES,
    LOCAL_BITS,
    LOOP_LEVELS,
    MAX_WAIT,
    OPCODE_BITS,
    REGISTERS,
    WAIT_BITS,
    ArrayMode,
    Condition,
    ElementwiseOp,
    ErrorCode,
    Opcode,
    ReduceOp,
    Space,
    Unit,
    deltas,
    strides,
)
from hw.arch.encoding import Encodable, EncodingError, bits
from hw.arch.unit_instructions import (
    Array,
    Drain,
    Elementwise,
    Load,
    Reduce,
    Sfu,
    Store,
    wait_field,
)

__all__ = [
    "ADDRESS_BITS",
    "CLASSES",
    "DELTA_BITS",
    "FIXED_POINT",
    "INSTRUCTION_BYTES",
    "LOCAL_BITS",
    "LOOP_LEVELS",
    "MAX_WAIT",
    "OPCODE_BITS",
    "REGISTERS",
    "WAIT_BITS",
    "Add",
    "Array",
    "ArrayMode",
    "Begin",
    "Branch",
    "Condition",
    "ControlInstruction",
    "Drain",
    "Elementwise",
    "ElementwiseOp",
    "ErrorCode",
    "Fence",
    "Halt",
    "Instruction",
    "Load",
    "Loop",
    "Next",
    "Opcode",
    "Reduce",
    "ReduceOp",
    "Scalar",
    "Set",
    "Sfu",
    "Space",
    "Store",
    "Unit",
    "UnitInstruction",
    "decode",
    "deltas",
    "encode",
    "strides",
    "unit_of",
]


@dataclasses.dataclass(frozen=True, slots=True)
class Begin(Encodable):
    """First instruction of every program: stops the core unless it was built for it."""

    OPCODE: ClassVar[Opcode] = Opcode.BEGIN
    fingerprint: int = bits(64, "fingerprint of the configuration")
    features: int = bits(16, "feature mask that the program needs")


@dataclasses.dataclass(frozen=True, slots=True)
class Set(Encodable):
    """rd = immediate."""

    OPCODE: ClassVar[Opcode] = Opcode.SET
    rd: int = bits(4, "destination register; 0 is discarded")
    immediate: int = bits(32, "value", signed=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Add(Encodable):
    """rd = rs + rt + immediate (modulo 2^32)."""

    OPCODE: ClassVar[Opcode] = Opcode.ADD
    rd: int = bits(4, "destination register")
    rs: int = bits(4, "first source register")
    rt: int = bits(4, "second source register")
    immediate: int = bits(32, "added constant", signed=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Loop(Encodable):
    """Open a hardware loop: the body runs `count` + R[count_register] times (at least 1)."""

    OPCODE: ClassVar[Opcode] = Opcode.LOOP
    level: int = bits(2, "loop level")
    count: int = bits(20, "trips")
    count_register: int = bits(4, "register added to the count")


@dataclasses.dataclass(frozen=True, slots=True)
class Next(Encodable):
    """Close a hardware loop: back to the instruction after its `Loop` while trips remain."""

    OPCODE: ClassVar[Opcode] = Opcode.NEXT
    level: int = bits(2, "loop level")


@dataclasses.dataclass(frozen=True, slots=True)
class Branch(Encodable):
    """Jump to `target` if the condition holds for R[rs], R[rt]."""

    OPCODE: ClassVar[Opcode] = Opcode.BRANCH
    condition: int = bits(3, "Condition")
    rs: int = bits(4, "first register")
    rt: int = bits(4, "second register")
    target: int = bits(24, "instruction index in the program")


@dataclasses.dataclass(frozen=True, slots=True)
class Scalar(Encodable):
    """rd = one activation byte from the scratchpad, after the waits are over."""

    OPCODE: ClassVar[Opcode] = Opcode.SCALAR
    waits: tuple[int, ...] = wait_field()
    rd: int = bits(4, "destination register")
    row: int = bits(ADDRESS_BITS, "scratchpad row")
    row_register: int = bits(4, "register added to the row")
    lane: int = bits(5, "lane in the row")
    signed: int = bits(1, "sign-extend the byte")


@dataclasses.dataclass(frozen=True, slots=True)
class Fence(Encodable):
    """Wait until every dispatched instruction has completed."""

    OPCODE: ClassVar[Opcode] = Opcode.FENCE


@dataclasses.dataclass(frozen=True, slots=True)
class Halt(Encodable):
    """Fence, then stop with an interrupt. Code 0 is success; 1..15 are the program's own."""

    OPCODE: ClassVar[Opcode] = Opcode.HALT
    code: int = bits(4, "exit code")


UnitInstruction: TypeAlias = Load | Store | Array | Drain | Elementwise | Reduce | Sfu
ControlInstruction: TypeAlias = Begin | Set | Add | Loop | Next | Branch | Scalar | Fence | Halt
Instruction: TypeAlias = UnitInstruction | ControlInstruction

CLASSES: dict[Opcode, type[Instruction]] = {
    kind.OPCODE: kind
    for kind in (
        Begin,
        Set,
        Add,
        Loop,
        Next,
        Branch,
        Scalar,
        Fence,
        Halt,
        Load,
        Store,
        Array,
        Drain,
        Elementwise,
        Reduce,
        Sfu,
    )
}


def encode(instruction: Instruction) -> bytes:
    """Return the 64 bytes of an instruction, little-endian."""
    word = int(instruction.OPCODE) | (instruction.encode() << OPCODE_BITS)
    return word.to_bytes(INSTRUCTION_BYTES, "little")


def decode(data: bytes) -> Instruction:
    """Return the instruction in 64 bytes.

    Raises
    ------
    EncodingError
        If the opcode is unknown or a bit beyond the last field is set.
    """
    if len(data) != INSTRUCTION_BYTES:
        raise EncodingError(f"an instruction has {INSTRUCTION_BYTES} bytes, not {len(data)}")
    word = int.from_bytes(data, "little")
    number = word & ((1 << OPCODE_BITS) - 1)
    try:
        kind = CLASSES[Opcode(number)]
    except ValueError:
        raise EncodingError(f"unknown opcode {number}") from None
    if word >> (OPCODE_BITS + kind.width()):
        raise EncodingError(f"{kind.__name__}: bits beyond the last field are set")
    return kind.decode(word >> OPCODE_BITS)


def unit_of(instruction: Instruction) -> Unit | None:
    """Return the unit that executes an instruction, or None for the sequencer."""
    match instruction:
        case Load() | Store() | Array() | Drain() | Elementwise() | Reduce() | Sfu():
            return instruction.UNIT
        case Begin() | Set() | Add() | Loop() | Next() | Branch() | Scalar() | Fence() | Halt():
            return None
        case _:
            assert_never(instruction)


for _kind in CLASSES.values():
    assert OPCODE_BITS + _kind.width() <= 8 * INSTRUCTION_BYTES, (_kind, _kind.width())
