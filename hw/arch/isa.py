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
import enum
from collections.abc import Sequence
from typing import ClassVar, TypeAlias, assert_never

from hw.arch.encoding import Encodable, EncodingError, bits

INSTRUCTION_BYTES = 64
OPCODE_BITS = 6
ADDRESS_BITS = 16
"""Activation scratchpad rows."""
DELTA_BITS = 17
LOCAL_BITS = 18
"""Local address of a transfer: rows or beats, whichever the space counts."""
REGISTERS = 16
LOOP_LEVELS = 4
WAIT_BITS = 6
MAX_WAIT = (1 << WAIT_BITS) - 1
FIXED_POINT = 44
"""Fraction bits of the vector unit's affine arithmetic (numerics.AFFINE_FRACTION)."""


class Unit(enum.IntEnum):
    """The units that have an instruction queue, in the order of the `waits` field."""

    LOAD = 0
    ARRAY = 1
    DRAIN = 2
    VECTOR = 3
    SFU = 4
    STORE = 5


class Space(enum.IntEnum):
    """On-chip memories that a load can fill."""

    ACTIVATION = 0
    WEIGHT = 1
    PARAMETER = 2
    TABLE = 3


class Opcode(enum.IntEnum):
    """Operation codes; 0 is never valid, so that cleared memory stops the core."""

    BEGIN = 1
    SET = 2
    ADD = 3
    LOOP = 4
    NEXT = 5
    BRANCH = 6
    SCALAR = 7
    FENCE = 8
    HALT = 9
    LOAD = 16
    STORE = 17
    ARRAY = 18
    DRAIN = 19
    ELEMENTWISE = 20
    REDUCE = 21
    SFU = 22


class ErrorCode(enum.IntEnum):
    """Why the core stopped. 0 means no error; 1..15 can be a program's own `Halt.code`."""

    NONE = 0
    OPCODE = 16
    UNSUPPORTED = 17
    FINGERPRINT = 18
    BAD_WAIT = 19
    ADDRESS = 20
    BANK_CONFLICT = 21
    STORE_WINDOW = 22
    AXI_RESPONSE = 23
    WATCHDOG = 24
    ABORTED = 25
    LOOP = 26
    FETCH_RANGE = 27
    FIELD = 28


class ArrayMode(enum.IntEnum):
    """How the array is fed."""

    GEMM = 0
    DEPTHWISE = 1
    HFA = 2
    HFA_DEPTHWISE = 3


class ElementwiseOp(enum.IntEnum):
    """Operations on rows of one or two sources; definitions in hw/arch/numerics.py."""

    COPY = 0
    AFFINE = 1
    PRODUCT = 2
    MAX = 3
    MIN = 4


class ReduceOp(enum.IntEnum):
    """Operations over windows."""

    MAX = 0
    SUM = 1
    PACK = 2


class Condition(enum.IntEnum):
    """Branch conditions on two signed 32-bit registers."""

    ALWAYS = 0
    EQUAL = 1
    NOT_EQUAL = 2
    LESS = 3
    GREATER_EQUAL = 4


def deltas(counts: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    """Turn strides into delta form.

    Parameters
    ----------
    counts, strides: per nest level, innermost first; equal lengths.

    Returns
    -------
    delta[k] = stride[k] − Σ over inner j of (count[j] − 1)·stride[j].
    """
    result = []
    rewind = 0
    for count, stride in zip(counts, strides, strict=True):
        result.append(stride - rewind)
        rewind += (count - 1) * stride
    return tuple(result)


def strides(counts: Sequence[int], delta: Sequence[int]) -> tuple[int, ...]:
    """Undo `deltas`."""
    result = []
    rewind = 0
    for count, step in zip(counts, delta, strict=True):
        stride = step + rewind
        result.append(stride)
        rewind += (count - 1) * stride
    return tuple(result)


def _waits() -> tuple[int, ...]:
    value: tuple[int, ...] = bits(
        WAIT_BITS, "per unit, LOAD first: 0, or wait for the d-th latest dispatched", length=6
    )
    return value


def _count(width: int, doc: str) -> int:
    value: int = bits(width, doc, default=1)
    return value


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
    waits: tuple[int, ...] = _waits()
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


@dataclasses.dataclass(frozen=True, slots=True)
class Load(Encodable):
    """DRAM to an on-chip memory: a nest of contiguous runs.

    Run r starts at a DRAM address and a local address that both walk the outer three counts; a
    run is `beats` beats, consecutive on both sides.
    """

    OPCODE: ClassVar[Opcode] = Opcode.LOAD
    UNIT: ClassVar[Unit] = Unit.LOAD
    waits: tuple[int, ...] = _waits()
    dram: int = bits(32, "byte address, a multiple of the port width")
    dram_register: int = bits(4, "register added to the DRAM address")
    space: int = bits(2, "Space")
    local: int = bits(LOCAL_BITS, "first local row or beat")
    local_register: int = bits(4, "register added to the local address")
    beats: int = _count(16, "beats in a run")
    counts: tuple[int, ...] = bits(12, "runs, innermost first", length=3, default=(1, 1, 1))
    dram_deltas: tuple[int, ...] = bits(32, "bytes between runs", signed=True, length=3)
    local_deltas: tuple[int, ...] = bits(LOCAL_BITS + 1, "rows or beats", signed=True, length=3)


@dataclasses.dataclass(frozen=True, slots=True)
class Store(Encodable):
    """Activation scratchpad to DRAM: a nest of contiguous runs, as `Load`."""

    OPCODE: ClassVar[Opcode] = Opcode.STORE
    UNIT: ClassVar[Unit] = Unit.STORE
    waits: tuple[int, ...] = _waits()
    dram: int = bits(32, "byte address, a multiple of the port width")
    dram_register: int = bits(4, "register added to the DRAM address")
    local: int = bits(LOCAL_BITS, "first scratchpad row")
    local_register: int = bits(4, "register added to the local address")
    beats: int = _count(16, "beats in a run")
    counts: tuple[int, ...] = bits(12, "runs, innermost first", length=3, default=(1, 1, 1))
    dram_deltas: tuple[int, ...] = bits(32, "bytes between runs", signed=True, length=3)
    local_deltas: tuple[int, ...] = bits(LOCAL_BITS + 1, "rows", signed=True, length=3)


@dataclasses.dataclass(frozen=True, slots=True)
class Array(Encodable):
    """Stream activations past weight blocks and accumulate.

    Nest, innermost first: x, y, t (positions), co (output blocks), kx, ky, kt (taps), ci (input
    blocks). Each step outside the three position counters takes the next weight block (rows ×
    cols bytes, linear from `weight`). Accumulator rows count up from `accumulator` through
    positions and output blocks and restart with every tap and input block; the first pass
    overwrites unless `accumulate` is set.

    A position is inside the tensor when, for each of x, y and t,
    0 <= start + position·stride + tap·dilation < bound; outside, the operand is zero (that is, the
    activation equals its zero point), and the scratchpad is not read.

    GEMM: the row's lanes go to the array's rows, all columns see all of them.
    DEPTHWISE: (x, y) count the *input* pixels of a frame, borders included; a window of
    window_x × window_y taps slides over them, column c taking lane c (modulo lanes). An output is
    produced where the window is complete and its phase matches emit_x, emit_y. Row r of the
    weight block is tap r + rows·ky, ky counting passes where the taps outnumber the rows; the tap
    at (wx, wy) of the window has number wy·window_x + wx, and rows without a tap hold zeros. Every
    column has weights of its own: where cols > rows, columns c and c + rows see the same lane. The
    count of kx is 1. With window_y > 1 a line has 3 (timing.LINE_HAZARD) to memory.line_pixels
    pixels.
    HFA modes: transform_t / transform_s choose the temporal and spatial F(m, 3).
    """

    OPCODE: ClassVar[Opcode] = Opcode.ARRAY
    UNIT: ClassVar[Unit] = Unit.ARRAY
    waits: tuple[int, ...] = _waits()
    mode: int = bits(2, "ArrayMode")
    accumulate: int = bits(1, "add to what the accumulators hold")
    signed: int = bits(1, "activations are s8, not u8")
    zero_point: int = bits(8, "zero point, as the byte stored")
    activation: int = bits(ADDRESS_BITS, "row of the first position, in bounds or not")
    activation_register: int = bits(4, "register added to `activation`")
    weight: int = bits(LOCAL_BITS, "first beat of the weight blocks")
    weight_register: int = bits(4, "register added to `weight`")
    accumulator: int = bits(12, "first accumulator row; bank 1 follows bank 0")
    counts: tuple[int, ...] = bits(12, "x, y, t, co, kx, ky, kt, ci", length=8, default=(1,) * 8)
    deltas: tuple[int, ...] = bits(DELTA_BITS, "rows, same order", signed=True, length=8)
    starts: tuple[int, ...] = bits(12, "coordinate of the first x, y, t", signed=True, length=3)
    steps: tuple[int, ...] = bits(3, "coordinate step of x, y, t", length=3, default=(1, 1, 1))
    dilations: tuple[int, ...] = bits(
        4, "coordinate step of kx, ky, kt", length=3, default=(1, 1, 1)
    )
    bounds: tuple[int, ...] = bits(12, "tensor size along x, y, t", length=3, default=(1, 1, 1))
    window_x: int = bits(2, "depthwise: window width, 1..3", default=1)
    window_y: int = bits(2, "depthwise: window height, 1..3", default=1)
    emit_x: int = bits(2, "depthwise: output stride along x, 1..3", default=1)
    emit_y: int = bits(2, "depthwise: output stride along y, 1..3", default=1)
    transform_t: int = bits(2, "hFA along time: 0 none, 1 F(2,3), 2 F(4,3)")
    transform_s: int = bits(2, "hFA along y and x: 0 none, 1 F(2×2,3×3), 2 F(4×4,3×3)")
    weights_from_activation: int = bits(1, "attention: weight blocks come from the scratchpad")
    transpose_weights: int = bits(1, "attention: a scratchpad row fills a column")


@dataclasses.dataclass(frozen=True, slots=True)
class Drain(Encodable):
    """Requantize accumulators into activations: bias, scale, zero point, clamp, maximum pool.

    Nest, innermost first: wx, wy, wt (pool window), x, y, t (outputs), co (output blocks). One
    accumulator row has `cols` channels and becomes cols / rows scratchpad rows;
    `destination_deltas` are for the scratchpad row inside an accumulator row, then x, y, t, co.
    Parameter rows follow one another from `parameter`, cols / lanes of them for every co.
    """

    OPCODE: ClassVar[Opcode] = Opcode.DRAIN
    UNIT: ClassVar[Unit] = Unit.DRAIN
    waits: tuple[int, ...] = _waits()
    accumulator: int = bits(12, "first accumulator row; bank 1 follows bank 0")
    counts: tuple[int, ...] = bits(12, "x, y, t, co", length=4, default=(1,) * 4)
    window: tuple[int, ...] = bits(3, "pool window wx, wy, wt, 1..7", length=3, default=(1, 1, 1))
    accumulator_deltas: tuple[int, ...] = bits(
        13, "rows for wx, wy, wt, x, y, t, co", signed=True, length=7
    )
    destination: int = bits(ADDRESS_BITS, "first scratchpad row")
    destination_register: int = bits(4, "register added to `destination`")
    destination_deltas: tuple[int, ...] = bits(
        DELTA_BITS, "rows for block, x, y, t, co", signed=True, length=5
    )
    parameter: int = bits(LOCAL_BITS, "beat of the first parameter row")
    parameter_register: int = bits(4, "register added to `parameter`")
    zero_point: int = bits(9, "output zero point", signed=True)
    low: int = bits(9, "lower clamp, zero point included", signed=True, default=0)
    high: int = bits(9, "upper clamp, zero point included", signed=True, default=255)
    residual: int = bits(1, "add a second activation stream")
    residual_source: int = bits(ADDRESS_BITS, "first scratchpad row of the residual")
    residual_register: int = bits(4, "register added to `residual_source`")
    table: int = bits(3, "0, or 1 + index of a lookup table applied last")
    transform_t: int = bits(2, "hFA along time, as in ARRAY")
    transform_s: int = bits(2, "hFA along y and x, as in ARRAY")


@dataclasses.dataclass(frozen=True, slots=True)
class Elementwise(Encodable):
    """Rows of one or two sources to rows of a destination (numerics.affine, product, ...).

    Nest of four counts, innermost first. With `previous`, source 1 is source 0's row of the step
    before; the first step of every innermost run produces nothing (temporal residual gradient).
    COPY gives source 0, AFFINE and PRODUCT as in numerics.py, MAX and MIN the larger and the
    smaller code plus `zero_point`. Every value is then clamped to low..high and looked up in
    `table`. A step reads both sources at once, so they lie in different banks.

    MAX and MIN pass through the scales of AFFINE, which must be one and k zero:
    multiplier_a·2^shift_a = multiplier_b·2^shift_b = 2^44 (multiplier 2^23 = 8388608 and shift 21,
    for example), negative_b = 0, constant = 0. The circuit does not check that; the functional
    simulator stops other values with FIELD.
    """

    OPCODE: ClassVar[Opcode] = Opcode.ELEMENTWISE
    UNIT: ClassVar[Unit] = Unit.VECTOR
    waits: tuple[int, ...] = _waits()
    op: int = bits(3, "ElementwiseOp")
    previous: int = bits(1, "source 1 is source 0's previous row")
    signed: tuple[int, ...] = bits(1, "source 0, source 1 are s8", length=2)
    counts: tuple[int, ...] = bits(12, "innermost first", length=4, default=(1,) * 4)
    source0: int = bits(ADDRESS_BITS, "first row")
    source0_register: int = bits(4, "register added")
    source0_deltas: tuple[int, ...] = bits(DELTA_BITS, "rows", signed=True, length=4)
    source1: int = bits(ADDRESS_BITS, "first row")
    source1_register: int = bits(4, "register added")
    source1_deltas: tuple[int, ...] = bits(DELTA_BITS, "rows", signed=True, length=4)
    destination: int = bits(ADDRESS_BITS, "first row")
    destination_register: int = bits(4, "register added")
    destination_deltas: tuple[int, ...] = bits(
        DELTA_BITS, "rows, per produced row", signed=True, length=4
    )
    multiplier_a: int = bits(
        24, "AFFINE: significand on source 0, MAX, MIN: of 1; PRODUCT: za in bits 0..8"
    )
    shift_a: int = bits(5, "left shift of multiplier_a in units of 2^-44")
    multiplier_b: int = bits(
        24, "AFFINE: significand on source 1, MAX, MIN: of 1; PRODUCT: of the product"
    )
    shift_b: int = bits(5, "left shift of multiplier_b in units of 2^-44")
    negative_b: int = bits(1, "multiplier_b counts negative")
    constant: int = bits(
        25, "AFFINE: signed significand of k, MAX, MIN: 0; PRODUCT: zb in bits 0..8", signed=True
    )
    shift_k: int = bits(6, "left shift of `constant` in units of 2^-44")
    zero_point: int = bits(
        9, "AFFINE, MAX, MIN: added after rounding; PRODUCT: before", signed=True
    )
    low: int = bits(9, "lower clamp", signed=True, default=0)
    high: int = bits(9, "upper clamp", signed=True, default=255)
    table: int = bits(3, "0, or 1 + index of a lookup table applied last")


@dataclasses.dataclass(frozen=True, slots=True)
class Reduce(Encodable):
    """Reduce windows of rows to one row each.

    Outer nest n0..n3 (x, y, t, block), inner nest r0..r2 (window along x, y, t; r0 innermost).
    Clipping as in ARRAY with dilation 1: outside, MAX and SUM skip the row, PACK inserts `pad`.
    SUM: Σ(row − pad) requantized with one multiplier. PACK: lanes 0..pack_lanes of the i-th row of
    the window become lanes i·pack_lanes... of the result, whose other lanes are `pad`.
    Every value is then clamped to low..high and looked up in `table`. The window of a MAX has at
    least one row inside.
    """

    OPCODE: ClassVar[Opcode] = Opcode.REDUCE
    UNIT: ClassVar[Unit] = Unit.VECTOR
    waits: tuple[int, ...] = _waits()
    op: int = bits(2, "ReduceOp")
    signed: int = bits(1, "source is s8")
    counts: tuple[int, ...] = bits(12, "n0, n1, n2, n3", length=4, default=(1,) * 4)
    window: tuple[int, ...] = bits(8, "r0, r1, r2", length=3, default=(1, 1, 1))
    source: int = bits(ADDRESS_BITS, "first row, in bounds or not")
    source_register: int = bits(4, "register added")
    source_deltas: tuple[int, ...] = bits(
        DELTA_BITS, "rows for r0, r1, r2, n0, n1, n2, n3", signed=True, length=7
    )
    destination: int = bits(ADDRESS_BITS, "first row")
    destination_register: int = bits(4, "register added")
    destination_deltas: tuple[int, ...] = bits(DELTA_BITS, "rows", signed=True, length=4)
    starts: tuple[int, ...] = bits(11, "coordinate of the first x, y, t", signed=True, length=3)
    steps: tuple[int, ...] = bits(3, "coordinate step of n0, n1, n2", length=3, default=(1, 1, 1))
    bounds: tuple[int, ...] = bits(11, "tensor size along x, y, t", length=3, default=(1, 1, 1))
    pad: int = bits(8, "input zero point, as the byte stored")
    pack_lanes: int = bits(5, "PACK: lanes taken from each row")
    multiplier: int = bits(24, "SUM: significand of the scale")
    shift: int = bits(5, "SUM: left shift of the multiplier in units of 2^-44")
    zero_point: int = bits(9, "SUM: output zero point", signed=True)
    low: int = bits(9, "lower clamp", signed=True, default=0)
    high: int = bits(9, "upper clamp", signed=True, default=255)
    table: int = bits(3, "0, or 1 + index of a lookup table applied last")


@dataclasses.dataclass(frozen=True, slots=True)
class Sfu(Encodable):
    """Special functions on rows: softmax and layer norm (numerics.md section 4)."""

    OPCODE: ClassVar[Opcode] = Opcode.SFU
    UNIT: ClassVar[Unit] = Unit.SFU
    waits: tuple[int, ...] = _waits()
    op: int = bits(3, "0 softmax, 1 layer norm")
    signed: int = bits(1, "source is s8")
    counts: tuple[int, ...] = bits(12, "elements, positions, groups", length=3, default=(1, 1, 1))
    source: int = bits(ADDRESS_BITS, "first row")
    source_register: int = bits(4, "register added")
    source_deltas: tuple[int, ...] = bits(DELTA_BITS, "rows", signed=True, length=3)
    destination: int = bits(ADDRESS_BITS, "first row")
    destination_register: int = bits(4, "register added")
    destination_deltas: tuple[int, ...] = bits(DELTA_BITS, "rows", signed=True, length=3)
    parameter: int = bits(LOCAL_BITS, "beat of the first parameter row")
    parameter_register: int = bits(4, "register added")
    zero_point: int = bits(9, "output zero point", signed=True)
    valid_lanes: int = bits(6, "lanes of the last block that count")
    epsilon: int = bits(40, "layer norm: rint(ε·n²/sx²)")
    table: int = bits(3, "softmax: 1 + index of the exponential table")


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
