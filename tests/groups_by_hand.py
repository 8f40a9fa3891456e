"""Softmax, norms and scaled sums of one group in Python's integers and fractions, from the words of
docs/numerics.md: slow and plain on purpose.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np


def round24_exact(value: Fraction) -> Fraction:
    """24 significant bits, half to even."""
    if value == 0:
        return value
    exponent = math.floor(math.log2(abs(value)))
    exponent += (abs(value) >= Fraction(2) ** (exponent + 1)) - (
        abs(value) < Fraction(2) ** exponent
    )
    unit = Fraction(2) ** (exponent - 23)
    return round(value / unit) * unit


def softmax_by_hand(codes, sx, sy, zero, low, high):
    """One group, from the words of docs/numerics.md, in Python's integers and fractions."""
    t = [round(2**20 * math.exp(-(max(codes) - x) * float(np.float32(sx)))) for x in codes]
    total = sum(t)
    bits = total.bit_length()
    k = math.floor(2**15 / float(np.float32(sy)))
    reciprocal = min((k << (bits - 2)) // total, 2**22 - 1)
    shares = (Fraction(e * reciprocal << (31 - bits), 2**44) for e in t)
    return [min(max(round(round24_exact(y)) + zero, low), high) for y in shares]


def norm_by_hand(codes, constants, zero, low, high):
    """One group, from the words of docs/numerics.md."""
    m = constants.repeats
    n, total = len(codes) * m, sum(codes) * m
    assert n == constants.elements
    d = max(n * m * sum(x * x for x in codes) - total**2 + constants.epsilon, 1)
    h = (48 - d.bit_length()) // 2
    r = math.isqrt(d * 4**h) + math.floor(constants.root_epsilon * Fraction(2) ** (h - 8))
    g = max(r.bit_length() - 24, 0)
    reciprocal = min(2**47 // (r // 2**g), 2**24 - 1)
    assert h - 3 - g >= 0
    result = []
    for x, gain, offset in zip(codes, constants.gains, constants.offsets, strict=True):
        c = n * x - total
        u = round(2**16 * round24_exact(Fraction(c * reciprocal * 2 ** (h - 3 - g), 2**44)))
        scaled = Fraction(u * gain, 2 ** (16 + constants.coefficient_shift))
        y = round(round24_exact(scaled + Fraction(offset, 2**14))) + zero
        result.append(min(max(y, low), high))
    return result


def scaled_by_hand(total, multiplier, shift, zero, low, high):
    """clamp(rint(round24(acc·s)) + zero), s = multiplier·2^shift in units of 2^-44."""
    value = round24_exact(Fraction(total * multiplier << shift, 2**44))
    return min(max(round(value) + zero, low), high)
