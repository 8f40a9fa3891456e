"""Counters of what is under way, with flags that are flip-flops."""

from typing import NamedTuple

from amaranth.hdl import Module, Signal, ValueLike

__all__ = ["Level", "count_level"]


class Level(NamedTuple):
    """State of a counter.

    Attributes
    ----------
    some: it is not zero.
    full: it is at its limit.
    """

    some: Signal
    full: Signal


def count_level(m: Module, name: str, limit: int, up: ValueLike, down: ValueLike) -> Level:
    """Count 0..limit by strobes.

    Both flags are worked out for the next cycle beside the count, so that they cost nothing where
    they are used, and `up` and `down` may come late in their cycle.

    Parameters
    ----------
    m: the strobes' module, in domain sync.
    name: of the signals.
    limit: highest count; never `up` alone there, nor `down` alone at zero.
    up, down: strobes; together they change nothing.
    """
    count = Signal(range(limit + 1), name=f"{name}_count")
    level = Level(Signal(name=f"{name}_some"), Signal(name=f"{name}_full"))
    with m.If(up & ~down):
        m.d.sync += [count.eq(count + 1), level.some.eq(1), level.full.eq(count == limit - 1)]
    with m.Elif(down & ~up):
        m.d.sync += [count.eq(count - 1), level.some.eq(count != 1), level.full.eq(0)]
    return level
