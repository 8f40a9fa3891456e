"""Exact integer Winograd: scaled 1-D transforms F(m, 3), composed along time and space.

The rows of the weight transform G are scaled to integers, and the scales are made up for in the
columns of the output transform A, so that for one tile

    L·y = Aᵀ[(G g) ⊙ (Bᵀ d)]

holds in integers, L being the least common multiple of the scales. A composition along several
axes applies the same 1-D primitive axis by axis; its L is the product of the axes' scales. Sums
over input channels and untransformed taps are taken in front of Aᵀ, in accumulators that may wrap:
everything up to L·y is linear, so it is right modulo 2^W, and y follows exactly from
W >= bits(y) + v2(L) bits (v2: exponent of the largest power of two in L): multiply by the inverse
of L's odd part modulo 2^W, then shift by v2(L), sign-extending.

Operands. A transformed activation is a sum over pixels of one tensor. `Pixels.CENTRED` pixels are
code − zero point, padding is 0. `Pixels.RAW` pixels are s8: u8 codes xor 0x80 (that is, minus
128), s8 codes as they are; the zero point is then a constant z = `raw_zero_point`, which padding
takes (in the raw domain zero is not the tensor's zero) and which the bias takes back:
Σ w·(x − z) + b = Σ w·x + `folded_bias`. RAW is one bit narrower in u and in y.

Bounds are exact: the reachable range of a linear form over a box is attained in a corner.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import itertools
import math

import numpy as np
import numpy.typing as npt

from hw.arch.config import ArrayConfig, MemoryConfig
from hw.arch.winograd_matrices import TRANSFORMS, Transform

Int = npt.NDArray[np.int64]
WEIGHT_LOW, WEIGHT_HIGH = -128, 127
AXES = 3
"""Time, rows, columns: the last three axes of every tile."""


class Pixels(enum.Enum):
    """How activations enter the input transform; the values are (low, high) of a pixel.

    A tensor has one zero point, so the centred pixels of one tile span 255 and not 510: the
    extremes over all zero points are those of 0 and 255.
    """

    RAW = ((-128, 127),)
    CENTRED = ((0, 255), (-255, 0))


def wrap(value: Int, bits: int) -> Int:
    """`value` modulo 2^bits, as a signed number of that many bits."""
    half = np.int64(1) << np.int64(bits - 1)
    return np.asarray(((value + half) & (2 * half - 1)) - half, np.int64)


def signed_bits(low: int, high: int) -> int:
    """Bits of the narrowest signed number that holds low..high."""
    return 1 + max(
        (~low if low < 0 else low).bit_length(), (~high if high < 0 else high).bit_length()
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Division:
    """Exact division of a wrapped multiple of L by L.

    Attributes
    ----------
    shift: v2(L).
    inverse: of L's odd part, modulo 2^(bits + shift).
    bits: of the quotient; it is exact if it fits them.
    """

    shift: int
    inverse: int
    bits: int

    @classmethod
    def by(cls, divisor: int, accumulator_bits: int) -> Division:
        """Division of an accumulator by `divisor`.

        Raises
        ------
        ValueError
            If the accumulator has no bit left for the quotient.
        """
        shift = (divisor & -divisor).bit_length() - 1
        bits = accumulator_bits - shift
        if not 0 < bits < 63:
            raise ValueError(
                f"a {accumulator_bits}-bit accumulator leaves {bits} bits after division by "
                f"{divisor}; 1 to 62 are supported"
            )
        return cls(shift, pow(divisor >> shift, -1, 1 << accumulator_bits), bits)

    def __call__(self, accumulator: Int) -> Int:
        """Quotient of wrapped values (int64 array of at least one axis).

        What is not a multiple of the divisor gives what the circuit gives, too.
        """
        # NumPy takes int64 products modulo 2^64, which leaves the lower bits right.
        product = accumulator * np.int64(self.inverse)
        return np.asarray(wrap(product, self.bits + self.shift) >> self.shift, np.int64)


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an algorithm is exact on a configuration; `reason` names the width and the limit."""

    exact: bool
    reason: str

    def __bool__(self) -> bool:
        return self.exact


@dataclasses.dataclass(frozen=True, slots=True)
class Algorithm:
    """A composition: one transform along time, one along rows and columns.

    Tiles, kernels and products carry time, row and column as their last three axes, of length 1
    where the axis is not transformed; axes in front are carried along.

    Attributes
    ----------
    temporal, spatial: indices into `TRANSFORMS`, as in the instruction fields.
    """

    temporal: int
    spatial: int

    def __post_init__(self) -> None:
        for name in ("temporal", "spatial"):
            if not 0 <= getattr(self, name) < len(TRANSFORMS):
                raise ValueError(
                    f"{name} transform {getattr(self, name)}; known: 0..{len(TRANSFORMS) - 1}"
                )

    @property
    def axes(self) -> tuple[Transform, Transform, Transform]:
        """Transforms along time, rows, columns."""
        spatial = TRANSFORMS[self.spatial]
        return TRANSFORMS[self.temporal], spatial, spatial

    @property
    def name(self) -> str:
        """E.g. ``F(2,3)⊗F(4×4,3×3)``."""
        m = TRANSFORMS[self.spatial].outputs
        parts = [TRANSFORMS[self.temporal].name] if self.temporal else []
        parts += [f"F({m}×{m},3×3)"] if self.spatial else []
        return "⊗".join(parts) or "direct"

    @property
    def points(self) -> tuple[int, int, int]:
        """Products per tile along each axis; also the pixels that a tile reads."""
        t, y, x = (axis.points for axis in self.axes)
        return t, y, x

    @property
    def outputs(self) -> tuple[int, int, int]:
        """Results per tile along each axis."""
        t, y, x = (axis.outputs for axis in self.axes)
        return t, y, x

    @property
    def kernel(self) -> tuple[int, int, int]:
        """Transformed taps along each axis."""
        t, y, x = (axis.taps for axis in self.axes)
        return t, y, x

    @property
    def scale(self) -> int:
        """L."""
        return math.prod(axis.scale for axis in self.axes)

    @property
    def gain(self) -> float:
        """Multiplications saved with whole tiles: direct / transformed."""
        return math.prod((*self.outputs, *self.kernel)) / math.prod(self.points)

    def transform_weights(self, taps: Int) -> Int:
        """v = G g: [..., kt, ky, kx] to [..., points]."""
        return _along_axes([axis.weight_rows for axis in self.axes], taps, self.kernel)

    def transform_input(self, pixels: Int) -> Int:
        """u = Bᵀ d: [..., points] to [..., points]."""
        return _along_axes([axis.input_rows for axis in self.axes], pixels, self.points)

    def transform_output(self, products: Int, accumulator_bits: int) -> Int:
        """y = Aᵀ m / L: [..., points] to [..., outputs], arithmetic modulo 2^accumulator_bits.

        Exact if accumulator_bits >= `accumulator_bits(...)` for what was summed up in `products`.
        """
        return Division.by(self.scale, accumulator_bits)(self.scaled(products, accumulator_bits))

    def scaled(self, products: Int, accumulator_bits: int) -> Int:
        """L·y modulo 2^accumulator_bits: the output transform in front of the division."""
        value = wrap(np.asarray(products, np.int64), accumulator_bits)
        for axis in reversed(range(AXES)):
            rows = self.axes[axis].output_rows
            value = wrap(_apply(rows, value, axis - AXES), accumulator_bits)
        return value

    # Bounds.

    def input_range(self, operand: Pixels) -> tuple[int, int]:
        """Exact reachable range of transformed activations."""
        ranges = [reach(self._coefficients("input_rows"), *box) for box in operand.value]
        return min(low for low, _ in ranges), max(high for _, high in ranges)

    def weight_range(self) -> tuple[int, int]:
        """Exact reachable range of transformed int8 weights."""
        return reach(self._coefficients("weight_rows"), WEIGHT_LOW, WEIGHT_HIGH)

    def input_bits(self, operand: Pixels) -> int:
        """Signed width of u."""
        return signed_bits(*self.input_range(operand))

    def weight_bits(self) -> int:
        """Signed width of v."""
        return signed_bits(*self.weight_range())

    def accumulator_bits(self, operand: Pixels, channels: int, taps: int = 0) -> int:
        """Least accumulator width: bits(y) + v2(L).

        Parameters
        ----------
        operand: how activations enter.
        channels: input channels summed up.
        taps: of the whole kernel, untransformed axes included; 0 means the transformed ones only.
        """
        terms = channels * (taps or math.prod(self.kernel))
        return signed_bits(*sum_range(operand, terms)) + Division.by(self.scale, 62).shift

    def fits(
        self,
        array: ArrayConfig,
        memory: MemoryConfig,
        channels: int,
        operand: Pixels = Pixels.RAW,
        taps: int = 0,
    ) -> Verdict:
        """Whether the array computes this exactly for any int8 weights and any activations."""
        kind = operand.name.lower()
        widths = (
            ("transformed activations", self.input_bits(operand), "array.activation_bits",
             array.activation_bits),
            ("transformed weights", self.weight_bits(), "array.weight_bits", array.weight_bits),
            (f"accumulators of {channels} channels", self.accumulator_bits(operand, channels, taps),
             "memory.accumulator_bits", memory.accumulator_bits),
        )  # fmt: skip
        for what, needed, name, limit in widths:
            if needed > limit:
                return Verdict(
                    False,
                    f"{self.name} on {kind} activations: {what} need {needed} bits, {name} is "
                    f"{limit}",
                )
        texts = ", ".join(f"{what} {needed} of {limit} bits" for what, needed, _, limit in widths)
        return Verdict(True, f"{self.name} on {kind} activations is exact: {texts}")

    def _coefficients(self, matrix: str) -> tuple[tuple[int, int], ...]:
        return _coefficient_sums(tuple(getattr(axis, matrix) for axis in self.axes))


ALGORITHMS = tuple(
    Algorithm(t, s) for t, s in itertools.product(range(len(TRANSFORMS)), repeat=2) if t or s
)
"""Every composition that the instruction fields can name."""


def reach(sums: tuple[tuple[int, int], ...], low: int, high: int) -> tuple[int, int]:
    """Range of linear forms over a box low..high.

    Parameters
    ----------
    sums: per form, the sum of its positive and (negated) of its negative coefficients.
    """
    return (
        min(positive * low - negative * high for positive, negative in sums),
        max(positive * high - negative * low for positive, negative in sums),
    )


def sum_range(operand: Pixels, terms: int) -> tuple[int, int]:
    """Exact reachable range of a sum of `terms` products of a pixel and an int8 weight."""
    corners = [
        pixel * weight
        for box in operand.value
        for pixel in box
        for weight in (WEIGHT_LOW, WEIGHT_HIGH)
    ]
    return terms * min(corners), terms * max(corners)


def raw_zero_point(zero_point: int, signed: bool) -> int:
    """z: the zero point of RAW activations, which padding takes.

    Parameters
    ----------
    zero_point: of the tensor, 0..255 or −128..127.
    signed: the tensor is s8.
    """
    return zero_point if signed else zero_point - 128


def folded_bias(bias: Int, weights: Int, raw_zero: int) -> Int:
    """Bias that takes back the zero point of RAW activations: b − z·Σw.

    Parameters
    ----------
    bias: [C_out].
    weights: int8 taps, [C_out, ...].
    raw_zero: z.

    Raises
    ------
    ValueError
        If it leaves the 32 bits of a requantization parameter.
    """
    sums = weights.reshape(len(weights), -1).sum(axis=1, dtype=np.int64)
    result = np.asarray(bias, np.int64) - raw_zero * sums
    worst = int(np.abs(result).max(initial=0))
    if worst >= 1 << 31:
        raise ValueError(f"a folded bias of magnitude {worst} does not fit 32 bits")
    return np.asarray(result, np.int64)


def _apply(matrix: tuple[tuple[int, ...], ...], value: Int, axis: int) -> Int:
    """The 1-D primitive: `matrix` times `value` along one axis."""
    product = np.tensordot(np.array(matrix, np.int64), value, (1, value.ndim + axis))
    return np.asarray(np.moveaxis(product, 0, axis), np.int64)


def _along_axes(
    matrices: list[tuple[tuple[int, ...], ...]], value: Int, expected: tuple[int, int, int]
) -> Int:
    if value.shape[-AXES:] != expected:
        raise ValueError(f"a tile of shape {value.shape[-AXES:]} instead of {expected}")
    result = np.asarray(value, np.int64)
    for axis, matrix in enumerate(matrices):
        result = _apply(matrix, result, axis - AXES)
    return result


@functools.cache
def _coefficient_sums(
    matrices: tuple[tuple[tuple[int, ...], ...], ...],
) -> tuple[tuple[int, int], ...]:
    """Per row of the Kronecker product: sums of positive and of negated negative coefficients."""
    sums = [(1, 0)]
    for matrix in matrices:
        rows = [(sum(c for c in row if c > 0), -sum(c for c in row if c < 0)) for row in matrix]
        sums = [(p * q + n * o, p * o + n * q) for p, n in sums for q, o in rows]
    return tuple(sums)
