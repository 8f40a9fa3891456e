"""Instructions that units execute (see hw/arch/isa.py, which exports them)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from hw.arch.codes import (
    ADDRESS_BITS,
    DELTA_BITS,
    LOCAL_BITS,
    WAIT_BITS,
    Opcode,
    Unit,
)
from hw.arch.encoding import Encodable, bits


def wait_field() -> tuple[int, ...]:
    """Declare the `waits` of an instruction."""
    value: tuple[int, ...] = bits(
        WAIT_BITS, "per unit, LOAD first: 0, or wait for the d-th latest dispatched", length=6
    )
    return value


def _count(width: int, doc: str) -> int:
    value: int = bits(width, doc, default=1)
    return value


@dataclasses.dataclass(frozen=True, slots=True)
class Load(Encodable):
    """DRAM to an on-chip memory: a nest of contiguous runs.

    Run r starts at a DRAM address and a local address that both walk the outer three counts; a
    run is `beats` beats, consecutive on both sides.
    """

    OPCODE: ClassVar[Opcode] = Opcode.LOAD
    UNIT: ClassVar[Unit] = Unit.LOAD
    waits: tuple[int, ...] = wait_field()
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
    waits: tuple[int, ...] = wait_field()
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
    pixels; the line buffer holds the two pixels above every position of a line.
    Without `keep`, one line's entries, from 0 up, serve all frames. With `keep` every frame has
    entries of its own, in the order of the stream: the f-th frame (t, co, passes and taps counted)
    those from line + X·f up, X = count x; beyond memory.line_pixels is an error (ADDRESS). With
    `resume` as well, what an earlier instruction left in these entries are the window_y − 1 lines
    above this one's first, so that every line produces outputs; a frame then may have fewer lines
    than the window. `resume` without `keep` is an error (FIELD).

    HFA: exact integer Winograd (hw/arch/winograd.py); transform_t, transform_s name F(m, 3) along
    time and along y and x, not both 0. On a transformed axis the count of its position is a
    number of *tiles*, of its k the number of *points* (4 or 6); pixel j of tile i has the
    coordinate start + (i·m + j)·dilation, `steps` is 1. Other axes are as in GEMM, but kx, ky are
    1. Activations are raw s8 (u8 codes minus 128), outside the tensor z = the zero point as such
    a code. The nest is kx, ky, kt if time is transformed, x, y, t, kt if not, ci, innermost
    first; `deltas` has these eight levels (counts keep their order; co is not walked; the kt that
    is not there counts 1). It is walked once: each step of its two outer levels is a *set* of N =
    x·y·t tiles with P = kx·ky points (times kt if transformed), transformed once into U, row p·N
    + n for point p and tile n (P·N <= memory.transformed_rows), and then streamed for every co
    and point: n innermost, p, co, set. Accumulator row = accumulator + (co·P + p)·N + n; the
    first set overwrites unless `accumulate`. Weights are taps: pair set·co_count + co has rows/LW
    groups of the transformed axes' taps (kx fastest, then ky, kt), LW × cols bytes each
    (layout.pack_transformed_weights), that is as many blocks as taps. F(4,3) along time with
    F(4×4,3×3) does not fit the circuit (UNSUPPORTED); both axes at once need the feature
    hfa_nested.

    HFA_DEPTHWISE: a depthwise window of 3×3, stride 1, by F(2×2,3×3) inside the columns; equal to
    DEPTHWISE with a third to four ninths of its multiplications, and one result per cycle on every
    array. Pixels come in strips of two lines: nest, innermost first: line (2), x, y (strips), t,
    co, and `deltas` has these levels (five of eight). Counts: x columns, borders included, even,
    4 to memory.line_pixels; y strips, at least 2; ky = ceil(9 / rows) tap blocks; kx = kt = ci =
    1. A pixel lies at starts + (x, 2·y + line). Results are x − 2 by 2·y − 2; emit_x = 2, emit_y =
    2 leave out the last column, the last line (of a map of odd size; the pixels only it needs
    are clipped). Accumulator rows as DEPTHWISE: x, y, t, co. Weights: row r of the b-th block of an
    output block is tap r + rows·b, numbered as above; the blocks of an output block follow one
    another. window_x = window_y = 3, transform_s = 1, transform_t = 0, steps and dilations 1, no
    `keep` (else FIELD).
    """

    OPCODE: ClassVar[Opcode] = Opcode.ARRAY
    UNIT: ClassVar[Unit] = Unit.ARRAY
    waits: tuple[int, ...] = wait_field()
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
    deltas: tuple[int, ...] = bits(
        DELTA_BITS, "rows, in the order of the nest", signed=True, length=8
    )
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
    keep: int = bits(1, "depthwise: every frame and block has its own lines in the line buffer")
    resume: int = bits(1, "depthwise, with `keep`: the lines above the first one are there already")
    line: int = bits(12, "depthwise, with `keep`: first entry of the line buffer")


@dataclasses.dataclass(frozen=True, slots=True)
class Drain(Encodable):
    """Requantize accumulators into activations: bias, scale, zero point, clamp, maximum pool.

    Nest, innermost first: wx, wy, wt (pool window), x, y, t (outputs), co (output blocks). One
    accumulator row has `cols` channels and becomes cols / rows scratchpad rows;
    `destination_deltas` are for the scratchpad row inside an accumulator row, then x, y, t, co.
    Parameter rows follow one another from `parameter`, cols / lanes of them for every co.

    With transform_t or transform_s the accumulators hold points of tiles, as ARRAY HFA leaves
    them. `counts` are still results to write, after pooling; a transformed axis has
    ceil(count·window / m) tiles, and of a ragged last tile the results beyond `count` are
    dropped. `window` pools inside a tile: a divisor of m, 1 on an axis that is not transformed
    (else FIELD). Nest, innermost first: points x, y, t, tiles x, y, t, co; `accumulator_deltas`
    has these seven levels. `destination_deltas` are *strides* (not deltas): result (x, y, t) of
    output block co goes to destination + block·d0 + x·d1 + y·d2 + t·d3 + co·d4, the residual
    likewise. Results are exact: accumulators are taken modulo 2^accumulator_bits, Aᵀ is applied
    along x, then y, then t, and L is divided out (winograd.Division) before bias and scale.
    """

    OPCODE: ClassVar[Opcode] = Opcode.DRAIN
    UNIT: ClassVar[Unit] = Unit.DRAIN
    waits: tuple[int, ...] = wait_field()
    accumulator: int = bits(12, "first accumulator row; bank 1 follows bank 0")
    counts: tuple[int, ...] = bits(12, "x, y, t, co", length=4, default=(1,) * 4)
    window: tuple[int, ...] = bits(3, "pool window wx, wy, wt, 1..7", length=3, default=(1, 1, 1))
    accumulator_deltas: tuple[int, ...] = bits(
        13, "rows for wx, wy, wt, x, y, t, co", signed=True, length=7
    )
    destination: int = bits(ADDRESS_BITS, "first scratchpad row")
    destination_register: int = bits(4, "register added to `destination`")
    destination_deltas: tuple[int, ...] = bits(
        DELTA_BITS, "rows for block, x, y, t, co; strides with a transform", signed=True, length=5
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
    waits: tuple[int, ...] = wait_field()
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
    waits: tuple[int, ...] = wait_field()
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
    waits: tuple[int, ...] = wait_field()
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
