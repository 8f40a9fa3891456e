"""Choice between values, in the forms that map to few tables.

A `Switch` becomes one decoded select per value; these say what is meant.
"""

import itertools
from collections.abc import Sequence

from amaranth.hdl import C, Mux, Value

__all__ = ["chosen", "one_of"]


def chosen(values: Sequence[Value], index: Value) -> Value:
    """values[index], as a tree of two-way choices; the last value beyond the end."""
    level = list(values)
    for bit in range((len(level) - 1).bit_length()):
        pairs = itertools.zip_longest(level[::2], level[1::2])
        level = [low if high is None else Mux(index[bit], high, low) for low, high in pairs]
    return level[0]


def one_of(bits: Value, values: Sequence[Value]) -> Value:
    """The value whose bit is set, of values of one width; 0 if none is."""
    result: Value = C(0, len(values[0]))
    for index, value in enumerate(values):
        result = result | (value.as_unsigned() & bits[index].replicate(len(value)))
    return result
