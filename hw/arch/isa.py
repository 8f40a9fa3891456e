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

from collections.abc import Sequence
from typing import TypeAlias, assert_never

from hw.arch.codes import (
    ADDRESS_BITS,
    COUNT_BITS,
    DELTA_BITS,
    FIXED_POINT,
    INSTRUCTION_BYTES,
    LOCAL_BITS,
    LOOP_LEVELS,
    MAX_WAIT,
    OPCODE_BITS,
    REGISTERS,
    STEP_BITS,
    TABLE_BITS,
    WAIT_BITS,
    ArrayMode,
    Condition,
    ElementwiseOp,
    ErrorCode,
    FoldOp,
    Opcode,
    PermuteOp,
    ReduceOp,
    Space,
    Unit,
    deltas,
    strides,
)
from hw.arch.encoding import Encodable, EncodingError
from hw.arch.instructions import (
    array,
    control,
    drain,
    elementwise,
    fold,
    load,
    permute,
    reduce,
    store,
)
from hw.arch.instructions.array import Array
from hw.arch.instructions.control import (
    ALL_UNITS,
    Add,
    Begin,
    Branch,
    Fence,
    Halt,
    Loop,
    Next,
    Scalar,
    Set,
)
from hw.arch.instructions.drain import Drain
from hw.arch.instructions.elementwise import Elementwise
from hw.arch.instructions.fold import Fold
from hw.arch.instructions.load import Load
from hw.arch.instructions.permute import Permute
from hw.arch.instructions.reduce import Reduce
from hw.arch.instructions.store import Store
from hw.arch.rules import Lacks, Rule

__all__ = [
    "ADDRESS_BITS",
    "ALL_UNITS",
    "CLASSES",
    "COUNT_BITS",
    "DELTA_BITS",
    "FIXED_POINT",
    "INSTRUCTION_BYTES",
    "LOCAL_BITS",
    "LOOP_LEVELS",
    "MAX_WAIT",
    "OPCODE_BITS",
    "REGISTERS",
    "RULES",
    "STEP_BITS",
    "TABLE_BITS",
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
    "Fold",
    "FoldOp",
    "Halt",
    "Instruction",
    "Load",
    "Loop",
    "Next",
    "Opcode",
    "Permute",
    "PermuteOp",
    "Reduce",
    "ReduceOp",
    "Scalar",
    "Set",
    "Space",
    "Store",
    "Unit",
    "UnitInstruction",
    "decode",
    "deltas",
    "encode",
    "is_built",
    "limit",
    "strides",
    "unit_of",
]

UnitInstruction: TypeAlias = Load | Store | Array | Drain | Elementwise | Reduce | Fold | Permute
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
        Fold,
        Permute,
    )
}

RULES: dict[type[Encodable], tuple[Rule, ...]] = {
    **{kind: () for kind in CLASSES.values()},
    **control.RULES,
    Load: load.RULES,
    Store: store.RULES,
    Array: array.RULES,
    Drain: drain.RULES,
    Elementwise: elementwise.RULES,
    Reduce: reduce.RULES,
    Fold: fold.RULES,
    Permute: permute.RULES,
}
"""What makes an instruction of a class illegal, whatever the data and the registers."""


def is_built(kind: type[Encodable], features: Sequence[str]) -> bool:
    """Whether a circuit with `features` executes instructions of a class."""
    needed = {r.condition.feature for r in RULES[kind] if isinstance(r.condition, Lacks)}
    return needed <= set(features)


def limit(kind: type[Encodable], name: str) -> int:
    """Largest value of (an element of) a field: what counts, addresses and sizes may reach.

    Raises
    ------
    AttributeError
        If the class has no such field.
    """
    return kind.field(name).high


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
        case Load() | Store() | Array() | Drain():
            return instruction.UNIT
        case Elementwise() | Reduce() | Fold() | Permute():
            return instruction.UNIT
        case Begin() | Set() | Add() | Loop() | Next() | Branch() | Scalar() | Fence() | Halt():
            return None
        case _:
            assert_never(instruction)


for _kind in CLASSES.values():
    assert OPCODE_BITS + _kind.width() <= 8 * INSTRUCTION_BYTES, (_kind, _kind.width())
