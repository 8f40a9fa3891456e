"""DRAIN."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from hw.arch.codes import (
    ACCUMULATOR_BITS,
    ADDRESS_BITS,
    DELTA_BITS,
    LOCAL_BITS,
    ErrorCode,
    Opcode,
    Unit,
)
from hw.arch.encoding import Encodable, bits
from hw.arch.instructions.fields import counts_field, wait_field
from hw.arch.rules import Condition, Element, Fields, Rule, any_of, lacks, nonzero, zero
from hw.arch.winograd_matrices import TRANSFORMS


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
    output block co goes to destination + block·d0 + x·d1 + y·d2 + t·d3 + co·d4. Results are exact:
    accumulators are taken modulo 2^accumulator_bits, Aᵀ is applied along x, then y, then t, and L
    is divided out (winograd.Division) before bias and scale.
    """

    OPCODE: ClassVar[Opcode] = Opcode.DRAIN
    UNIT: ClassVar[Unit] = Unit.DRAIN
    waits: tuple[int, ...] = wait_field()
    accumulator: int = bits(ACCUMULATOR_BITS, "first accumulator row; bank 1 follows bank 0")
    counts: tuple[int, ...] = counts_field("x, y, t, co", 4)
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
    transform_t: int = bits(2, "hFA along time, as in ARRAY")
    transform_s: int = bits(2, "hFA along y and x, as in ARRAY")


_f = Fields(Drain)
_transformed = nonzero(_f.transform_t, _f.transform_s)


_x, _y, _t = _f.window


def _larger(transform: Element, *windows: Element) -> Condition:
    """Whether a pool window is larger than a tile's results along its axis."""
    return any_of(
        (transform == i) & any_of(window > kind.outputs for window in windows)
        for i, kind in enumerate(TRANSFORMS)
    )


RULES = (
    Rule(
        ErrorCode.UNSUPPORTED,
        _transformed & lacks("hfa"),
        "transforms need the feature `hfa`",
    ),
    Rule(
        ErrorCode.UNSUPPORTED,
        (_f.transform_t != 0) & (_f.transform_s != 0) & lacks("hfa_nested"),
        "transforms along time and space at once need the feature `hfa_nested`",
    ),
    Rule(
        ErrorCode.UNSUPPORTED,
        (_f.transform_t == 2) & (_f.transform_s == 2),
        "F(4,3) along time with F(4×4,3×3) does not fit the circuit",
    ),
    Rule(ErrorCode.FIELD, zero(_f.counts), "counts are at least 1"),
    Rule(ErrorCode.FIELD, zero(_f.window), "a pool window is at least 1"),
    Rule(
        ErrorCode.FIELD,
        (_f.transform_t >= len(TRANSFORMS)) | (_f.transform_s >= len(TRANSFORMS)),
        f"there are transforms 1 to {len(TRANSFORMS) - 1}",
    ),
    Rule(
        ErrorCode.FIELD,
        _transformed
        & (
            any_of(window == 3 for window in _f.window)
            | _larger(_f.transform_s, _x, _y)
            | _larger(_f.transform_t, _t)
        ),
        "with a transform a pool window divides the results of a tile; 1 on an axis without",
    ),
)
