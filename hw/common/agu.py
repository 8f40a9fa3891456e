"""Address generation in delta form: counters, addresses, clip coordinates.

A unit has one `Nest` of counters; any number of `Walker` addresses and `Coordinate`s follow it.
The nest says in each cycle which counter advances; everything that follows does so one cycle
later (the delta is chosen in a cycle of its own, so that no path holds both a wide multiplexer
and an adder). So if the nest stands at point i in cycle t, the addresses of point i are out in
cycle t + 1.
"""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arch.isa import ADDRESS_BITS, COUNT_BITS, DELTA_BITS, STEP_BITS

__all__ = ["COUNT_BITS", "Coordinate", "Nest", "Walker"]

COORDINATE_BITS = 17
"""A coordinate: start (12 bits, signed) + 4095 positions · 15 + 4095 taps · 15, modulo 2^17: less
than that many values, so that none outside looks like one inside. (Tiles have steps of up to 60,
but at most memory.transformed_rows / 4 positions.)"""


class Nest(wiring.Component):
    """Nested counters, innermost first.

    `load` puts all counters at their first value; `step` moves to the next point. All outputs are
    flip-flops that are worked out one step ahead: which counters of the next point stand at their
    end follows from the present `advance` and `wrap` and, for the one counter that counts, from
    whether it will be at its end (`nearly`). So the way round is the same few gates at every
    level, and what follows the nest does not load it.

    Parameters
    ----------
    widths: bits of each level's count.

    Members
    -------
    load, step: strobes; not both in one cycle.
    counts: at least 1 each; stable while the nest is in use.
    advance: the level that the next `step` advances, one bit of it high, or none at the last point.
    wrap: bit k is high where levels 0..k all stand at their last value.
    final: bit k is high where level k stands at its last value.
    last: all levels stand at their last value.
    """

    def __init__(self, widths: Sequence[int]):
        self.widths = tuple(widths)
        levels = len(self.widths)
        super().__init__(
            {
                "load": In(1),
                "step": In(1),
                "counts": In(max(self.widths)).array(levels),
                "advance": Out(levels),
                "wrap": Out(levels),
                "final": Out(levels),
                "last": Out(1),
                **self._more_members(),
            }
        )

    def _more_members(self) -> dict[str, Any]:
        """Members that a derived nest has besides."""
        return {}

    def elaborate(self, platform: object) -> Module:
        m = Module()
        levels = len(self.widths)
        advance = [Signal(name=f"advance{k}", reset_less=True) for k in range(levels)]
        wrap = [Signal(name=f"wrap{k}", reset_less=True) for k in range(levels)]
        final = [Signal(name=f"final{k}", reset_less=True) for k in range(levels)]
        at_end = [self._level(m, k, advance[k], wrap[k], final[k]) for k in range(levels)]
        with m.If(self.load | self.step):
            for k in range(levels):
                within = Cat(at_end[:k]).all()
                m.d.sync += [
                    final[k].eq(at_end[k]),
                    wrap[k].eq(within & at_end[k]),
                    advance[k].eq(within & ~at_end[k]),
                ]
        m.d.comb += [
            self.advance.eq(Cat(advance)),
            self.wrap.eq(Cat(wrap)),
            self.final.eq(Cat(final)),
            self.last.eq(wrap[-1]),
        ]
        return m

    def _level(self, m: Module, k: int, advance: Signal, wrap: Signal, final: Signal) -> Signal:
        """One counter, and whether it stands at its end after a load or step in this cycle."""
        width = self.widths[k]
        count = self.counts[k][:width]
        left = Signal(width, name=f"left{k}", reset_less=True)  # values, the present one included
        nearly = Signal(name=f"nearly{k}", reset_less=True)  # the next value is the last one
        at_end = Signal(name=f"at_end{k}")
        restart = self.load | wrap
        with m.If(self.load | (self.step & wrap)):
            m.d.sync += [left.eq(count), nearly.eq(count == 2)]
        with m.Elif(self.step & advance):
            m.d.sync += [left.eq(left - 1), nearly.eq(left == 3)]
        m.d.comb += at_end.eq(Mux(restart, count == 1, Mux(advance, nearly, final)))
        return at_end


class Walker(wiring.Component):
    """An address that follows a nest, modulo 2^width.

    Latency: `load` and `step` in cycle t show in `address` in cycles t + 1 and t + 2.

    Parameters
    ----------
    levels: of the nest.
    width: address bits.
    delta_width: bits of a signed delta.

    Members
    -------
    load: take `base`; not within two cycles after `step`.
    step, advance: of the nest.
    base, deltas: stable while the nest is in use.
    address: current address.
    """

    def __init__(self, levels: int, width: int = ADDRESS_BITS, delta_width: int = DELTA_BITS):
        self.levels = levels
        self.delta_width = delta_width
        super().__init__(
            {
                "load": In(1),
                "step": In(1),
                "advance": In(levels),
                "base": In(width),
                "deltas": In(signed(delta_width)).array(levels),
                "address": Out(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        delta = Signal(signed(self.delta_width), reset_less=True)
        moved = Signal()
        m.d.sync += moved.eq(self.step)
        with m.If(self.step):
            # One level advances at most: or instead of a chain of choices.
            chosen = C(0, signed(self.delta_width))
            for level in range(self.levels):
                chosen = chosen | Mux(self.advance[level], self.deltas[level], 0)
            m.d.sync += delta.eq(chosen)
        with m.If(self.load):
            m.d.sync += self.address.eq(self.base)
        with m.Elif(moved):
            m.d.sync += self.address.eq(self.address + delta)
        return m


class Coordinate(wiring.Component):
    """One clip coordinate: start + inner·inner_step + outer·outer_step, compared with 0..bound−1.

    It follows two counters of a nest, an inner one and an outer one, through registered strobes
    (`advance` of the nest, one cycle late), so that it is in step with the `Walker`s.

    Parameters
    ----------
    outer_bits: of `outer_step`.

    Members
    -------
    load: take `start`.
    inner_advance, inner_restart: the inner counter counts; restarts as an outer one counts.
    outer_advance, outer_restart: the same of the outer counter.
    start, inner_step, outer_step, bound: stable while the nest is in use.
    inside: 0 <= coordinate < bound.
    """

    def __init__(self, outer_bits: int = STEP_BITS) -> None:
        super().__init__(
            {
                "load": In(1),
                "inner_advance": In(1),
                "inner_restart": In(1),
                "outer_advance": In(1),
                "outer_restart": In(1),
                "start": In(signed(12)),
                "inner_step": In(STEP_BITS),
                "outer_step": In(outer_bits),
                "bound": In(12),
                "inside": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        base = Signal(signed(COORDINATE_BITS), reset_less=True)
        value = Signal(signed(COORDINATE_BITS), reset_less=True)
        following = Mux(
            self.outer_restart,
            self.start,
            Mux(self.outer_advance, base + self.outer_step, base),
        )
        with m.If(self.load):
            m.d.sync += [base.eq(self.start), value.eq(self.start)]
        with m.Elif(self.inner_restart):
            m.d.sync += [base.eq(following), value.eq(following)]
        with m.Elif(self.inner_advance):
            m.d.sync += value.eq(value + self.inner_step)
        # Negative coordinates are large unsigned ones.
        m.d.comb += self.inside.eq(value.as_unsigned() < self.bound)
        return m
