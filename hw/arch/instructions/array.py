"""ARRAY."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from hw.arch.codes import (
    ACCUMULATOR_BITS,
    ADDRESS_BITS,
    DELTA_BITS,
    LINE_BITS,
    LINE_HAZARD,
    LOCAL_BITS,
    STEP_BITS,
    ArrayMode,
    ErrorCode,
    Opcode,
    Unit,
)
from hw.arch.encoding import Encodable, bits
from hw.arch.instructions.fields import counts_field, wait_field
from hw.arch.rules import Condition, Element, Fields, Rule, any_of, lacks, nonzero, parameter, zero
from hw.arch.winograd_matrices import TRANSFORMS

LEAST_COLUMNS, LEAST_STRIPS = 4, 2
"""Of a frame in mode HFA_DEPTHWISE: two tiles side by side, one above the other."""


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

    GEMM: the row's lanes go to the array's rows, all columns see all of them. With the feature
    attention a weight is the byte, u8 if `weight_unsigned`, minus `weight_zero_point`, so that
    activations can be weights.
    DEPTHWISE: (x, y) count the *input* pixels of a frame, borders included; a window of
    window_x × window_y taps slides over them, column c taking lane c (modulo lanes). An output is
    produced where the window is complete and its phase matches emit_x, emit_y. Row r of the
    weight block is tap r + rows·ky, ky counting passes where the taps outnumber the rows; the tap
    at (wx, wy) of the window has number wy·window_x + wx, and rows without a tap hold zeros. Every
    column has weights of its own: where cols > rows, columns c and c + rows see the same lane. The
    count of kx is 1. With window_y > 1 a line has 3 (codes.LINE_HAZARD) to memory.line_pixels
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
    hfa_nested. With `late` the wait for DRAIN, if there is one, does not hold the instruction but
    its first set's stream: activations and weights are read and transformed before, accumulators
    touched behind that wait. The next ARRAY is issued behind it, too. Where rows, not accumulators
    alone, are what DRAIN's end is awaited for, `late` gives wrong results. `late` outside mode HFA
    is an error (FIELD).

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
    weight_unsigned: int = bits(1, "weights are u8, not s8")
    weight_zero_point: int = bits(9, "subtracted from every weight", signed=True)
    activation: int = bits(ADDRESS_BITS, "row of the first position, in bounds or not")
    activation_register: int = bits(4, "register added to `activation`")
    weight: int = bits(LOCAL_BITS, "first beat of the weight blocks")
    weight_register: int = bits(4, "register added to `weight`")
    accumulator: int = bits(ACCUMULATOR_BITS, "first accumulator row; bank 1 follows bank 0")
    counts: tuple[int, ...] = counts_field("x, y, t, co, kx, ky, kt, ci", 8)
    deltas: tuple[int, ...] = bits(
        DELTA_BITS, "rows, in the order of the nest", signed=True, length=8
    )
    starts: tuple[int, ...] = bits(12, "coordinate of the first x, y, t", signed=True, length=3)
    steps: tuple[int, ...] = bits(
        STEP_BITS, "coordinate step of x, y, t", length=3, default=(1, 1, 1)
    )
    dilations: tuple[int, ...] = bits(
        STEP_BITS, "coordinate step of kx, ky, kt", length=3, default=(1, 1, 1)
    )
    bounds: tuple[int, ...] = bits(12, "tensor size along x, y, t", length=3, default=(1, 1, 1))
    window_x: int = bits(2, "depthwise: window width, 1..3", default=1)
    window_y: int = bits(2, "depthwise: window height, 1..3", default=1)
    emit_x: int = bits(2, "depthwise: output stride along x, 1..3", default=1)
    emit_y: int = bits(2, "depthwise: output stride along y, 1..3", default=1)
    transform_t: int = bits(2, "hFA along time: 0 none, 1 F(2,3), 2 F(4,3)")
    transform_s: int = bits(2, "hFA along y and x: 0 none, 1 F(2×2,3×3), 2 F(4×4,3×3)")
    keep: int = bits(1, "depthwise: every frame and block has its own lines in the line buffer")
    resume: int = bits(1, "depthwise, with `keep`: the lines above the first one are there already")
    line: int = bits(LINE_BITS, "depthwise, with `keep`: first entry of the line buffer")
    late: int = bits(1, "mode HFA: the wait for DRAIN holds the first set's stream, not the issue")


_f = Fields(Array)
_x, _y, _t, _co, _kx, _ky, _kt, _ci = _f.counts
_depthwise = _f.mode == ArrayMode.DEPTHWISE
_hfa = _f.mode == ArrayMode.HFA
_tiles = _f.mode == ArrayMode.HFA_DEPTHWISE
_transformed = nonzero(_f.transform_t, _f.transform_s)
_weights = nonzero(_f.weight_unsigned, _f.weight_zero_point)


def _not_points(transform: Element, count: Element, direct: bool) -> Condition:
    """Whether a count is not the number of points of its axis.

    Parameters
    ----------
    transform, count: of the axis.
    direct: also look at an axis that is not transformed.
    """
    kinds = list(enumerate(TRANSFORMS))
    return any_of(
        (transform == i) & (count != kind.points) for i, kind in kinds[0 if direct else 1 :]
    )


RULES = (
    Rule(
        ErrorCode.UNSUPPORTED,
        (_depthwise | _tiles) & lacks("depthwise"),
        "modes DEPTHWISE and HFA_DEPTHWISE need the feature `depthwise`",
    ),
    Rule(
        ErrorCode.UNSUPPORTED,
        ((_f.mode >= ArrayMode.HFA) | _transformed) & lacks("hfa"),
        "modes HFA and HFA_DEPTHWISE and their transforms need the feature `hfa`",
    ),
    Rule(
        ErrorCode.UNSUPPORTED,
        (_f.transform_t != 0) & (_f.transform_s != 0) & lacks("hfa_nested"),
        "transforms along time and space at once need the feature `hfa_nested`",
    ),
    Rule(
        ErrorCode.UNSUPPORTED,
        _hfa & (_f.transform_t == 2) & (_f.transform_s == 2),
        "F(4,3) along time with F(4×4,3×3) does not fit the circuit",
    ),
    Rule(
        ErrorCode.UNSUPPORTED,
        _tiles & lacks("hfa_depthwise"),
        "mode HFA_DEPTHWISE needs the feature `hfa_depthwise`",
    ),
    Rule(
        ErrorCode.UNSUPPORTED,
        _weights & lacks("attention"),
        "unsigned weights and a zero point of weights need the feature `attention`",
    ),
    Rule(ErrorCode.FIELD, zero(_f.counts), "counts are at least 1"),
    Rule(
        ErrorCode.FIELD,
        ~lacks("attention") & _weights & (_f.mode != ArrayMode.GEMM),
        "`weight_unsigned` and `weight_zero_point` are 0 outside mode GEMM",
    ),
    Rule(
        ErrorCode.FIELD,
        ~lacks("attention")
        & (
            ((_f.weight_unsigned != 0) & (_f.weight_zero_point < 0))
            | (
                (_f.weight_unsigned == 0)
                & ((_f.weight_zero_point < -128) | (_f.weight_zero_point > 127))
            )
        ),
        "`weight_zero_point` is a code of the weights, so that differences have nine bits",
    ),
    # DEPTHWISE
    Rule(
        ErrorCode.FIELD,
        (_depthwise | _tiles) & zero(_f.window_x, _f.window_y, _f.emit_x, _f.emit_y),
        "a depthwise window and its output strides are at least 1",
    ),
    Rule(
        ErrorCode.FIELD,
        _depthwise & ((_x < _f.window_x) | ((_f.resume == 0) & (_y < _f.window_y))),
        "a frame has at least the window's pixels; with `resume` its lines may be fewer",
    ),
    Rule(
        ErrorCode.FIELD,
        _depthwise
        & (_f.window_y > 1)
        & ((_x < LINE_HAZARD) | (_x > parameter("memory.line_pixels"))),
        f"with `window_y` > 1 a line has {LINE_HAZARD} to memory.line_pixels pixels",
    ),
    Rule(
        ErrorCode.FIELD,
        _depthwise & ((_kx != 1) | (_ky * parameter("array.rows") < _f.window_x * _f.window_y)),
        "the window's taps fit in the rows of the array, `counts[5]` times; `counts[4]` is 1",
    ),
    Rule(
        ErrorCode.FIELD,
        _depthwise & (_f.resume != 0) & (_f.keep == 0),
        "`resume` needs `keep`",
    ),
    Rule(
        ErrorCode.ADDRESS,
        _depthwise & (_f.keep != 0) & (_f.line >= parameter("memory.line_pixels")),
        "`line` is an entry of the line buffer",
    ),
    # HFA
    Rule(ErrorCode.FIELD, _hfa & ~_transformed, "mode HFA transforms along time or space"),
    Rule(
        ErrorCode.FIELD,
        (_hfa | _tiles)
        & ((_f.transform_t >= len(TRANSFORMS)) | (_f.transform_s >= len(TRANSFORMS))),
        f"there are transforms 1 to {len(TRANSFORMS) - 1}",
    ),
    Rule(
        ErrorCode.FIELD,
        _hfa
        & (
            _not_points(_f.transform_s, _kx, direct=True)
            | _not_points(_f.transform_s, _ky, direct=True)
            | _not_points(_f.transform_t, _kt, direct=False)
        ),
        "on a transformed axis the count of k is that of the points; else those of kx, ky are 1",
    ),
    Rule(
        ErrorCode.FIELD,
        _hfa
        & (
            ((_f.transform_s != 0) & ((_f.steps[0] != 1) | (_f.steps[1] != 1)))
            | ((_f.transform_t != 0) & (_f.steps[2] != 1))
        ),
        "on a transformed axis the step is 1",
    ),
    Rule(
        ErrorCode.FIELD,
        (_f.late != 0) & (_f.mode != ArrayMode.HFA),
        "`late` is 0 outside mode HFA",
    ),
    # HFA_DEPTHWISE
    Rule(
        ErrorCode.FIELD,
        _tiles
        & (
            (_x < LEAST_COLUMNS)
            | ((_x & 1) != 0)
            | (_x > parameter("memory.line_pixels"))
            | (_y < LEAST_STRIPS)
        ),
        f"HFA_DEPTHWISE: an even number of {LEAST_COLUMNS} to memory.line_pixels columns, at least "
        f"{LEAST_STRIPS} strips",
    ),
    Rule(
        ErrorCode.FIELD,
        _tiles & ((_kx != 1) | (_ky != parameter("tap_blocks")) | (_kt != 1) | (_ci != 1)),
        "HFA_DEPTHWISE: counts of kx, ky, kt, ci are 1, ceil(9 / rows), 1, 1",
    ),
    Rule(
        ErrorCode.FIELD,
        _tiles
        & (
            (_f.window_x != 3)
            | (_f.window_y != 3)
            | (_f.emit_x > 2)
            | (_f.emit_y > 2)
            | (_f.transform_t != 0)
            | (_f.transform_s != 1)
        ),
        "HFA_DEPTHWISE: a window of 3×3, by F(2×2,3×3); `emit_x`, `emit_y` are 1 or 2",
    ),
    Rule(
        ErrorCode.FIELD,
        _tiles
        & (
            any_of(step != 1 for step in (*_f.steps, *_f.dilations[:2]))
            | (_f.keep != 0)
            | (_f.resume != 0)
        ),
        "HFA_DEPTHWISE: steps and dilations along x, y are 1, `keep` and `resume` 0",
    ),
)
