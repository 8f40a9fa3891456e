"""Counters and addresses of DRAIN where results come in tiles."""

from collections.abc import Sequence

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.compute.select import one_of

__all__ = ["PointWalker", "StrideWalker", "TileNest"]


def _at_most(value: Value, scale: Value, above: int = 0) -> Value:
    """0 < value <= 2^(scale + above) for a scale of 0, 1 or 2; value is not 0."""

    def power(k: int) -> Value:
        return ~value[k + 1 :].any() & (~value[k] | ~value[:k].any())

    return Mux(scale[1], power(2 + above), Mux(scale[0], power(1 + above), power(above)))


class TileNest(wiring.Component):
    """Nested counters, innermost first, some of which count results in steps of whole tiles.

    As `agu.Nest`. A scaled level advances by 2^scale; its last position is that from which on at
    most 2^scale are left.

    Parameters
    ----------
    widths: bits of each level's count.
    scaled: the levels with a scale.

    Members
    -------
    load, step, counts, advance, wrap, final, last: of `agu.Nest`.
    scales: 0, 1 or 2, one per scaled level, stable while the nest is in use.
    rest: per level, the count that is left, this position (or tile) included.
    """

    def __init__(self, widths: Sequence[int], scaled: Sequence[int]):
        self.widths, self.scaled = tuple(widths), tuple(scaled)
        levels = len(self.widths)
        super().__init__(
            {
                "load": In(1),
                "step": In(1),
                "counts": In(max(self.widths)).array(levels),
                "scales": In(2).array(len(self.scaled)),
                "advance": Out(levels),
                "wrap": Out(levels),
                "final": Out(levels),
                "last": Out(1),
                "rest": Out(max(self.widths)).array(levels),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        inner: Value | None = None
        for level, width in enumerate(self.widths):
            count = self.counts[level][:width]
            rest = Signal(width, name=f"rest{level}", reset_less=True)
            final = Signal(name=f"final{level}", reset_less=True)
            advance = ~final if inner is None else inner & ~final
            wrap = Signal(name=f"wrap{level}")
            m.d.comb += [
                wrap.eq(final if inner is None else inner & final),
                self.advance[level].eq(advance),
                self.wrap[level].eq(wrap),
                self.final[level].eq(final),
                self.rest[level].eq(rest),
            ]
            if level in self.scaled:
                scale = self.scales[self.scaled.index(level)]
                step: Value = 1 << scale
                # After the advance rest − 2^scale is left: the end if rest <= 2·2^scale.
                ends = _at_most(rest, scale, above=1)
                starts_final = _at_most(count, scale)
            else:
                step, ends, starts_final = C(1), rest == 2, count == 1
            with m.If(self.load | (self.step & wrap)):
                m.d.sync += [rest.eq(count), final.eq(starts_final)]
            with m.Elif(self.step & advance):
                m.d.sync += [rest.eq(rest - step), final.eq(ends)]
            inner = wrap
        m.d.comb += self.last.eq(inner)
        return m


class PointWalker(wiring.Component):
    """An address that follows a nest in delta form, and can go back to where a tile began.

    Latency: as `agu.Walker`.

    Parameters
    ----------
    levels, width, delta_width: as `agu.Walker`.
    again: the level that reads the points of a tile once more; the levels above it change tiles.

    Members
    -------
    load, step, advance, base, address: of `agu.Walker`.
    deltas: of all levels; that of `again` is not used.
    """

    def __init__(self, levels: int, width: int, delta_width: int, again: int):
        self.levels, self.delta_width, self.again = levels, delta_width, again
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
        moved, back, leaves = Signal(), Signal(reset_less=True), Signal(reset_less=True)
        tile = Signal.like(self.address, reset_less=True)
        m.d.sync += moved.eq(self.step)
        with m.If(self.step):
            used = [level for level in range(self.levels) if level != self.again]
            chosen = one_of(
                Cat(self.advance[level] for level in used), [self.deltas[level] for level in used]
            )
            m.d.sync += [
                delta.eq(chosen),
                back.eq(self.advance[self.again]),
                leaves.eq(self.advance[self.again + 1 :].any()),
            ]
        following = Signal.like(self.address)
        m.d.comb += following.eq(Mux(back, tile, self.address + delta))
        with m.If(self.load):
            m.d.sync += [self.address.eq(self.base), tile.eq(self.base)]
        with m.Elif(moved):
            m.d.sync += self.address.eq(following)
            with m.If(leaves):
                m.d.sync += tile.eq(following)
        return m


class StrideWalker(wiring.Component):
    """An address that follows a nest by strides: every level keeps where it stands.

    A level that advances adds its stride to its own position, and the levels inside it start
    there: no rewind depends on a count. With `linear` strides are deltas, added to the address.
    Latency: as `agu.Walker`.

    Parameters
    ----------
    levels: of the nest.
    width: address bits.

    Members
    -------
    load, step, advance, base, address: of `agu.Walker`.
    linear: delta form; stable while the nest is in use.
    strides: per level, modulo 2^width, stable while the nest is in use.
    """

    def __init__(self, levels: int, width: int):
        self.levels, self.width = levels, width
        super().__init__(
            {
                "load": In(1),
                "step": In(1),
                "linear": In(1),
                "advance": In(levels),
                "base": In(width),
                "strides": In(width).array(levels),
                "address": Out(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        level = Signal(self.levels, reset_less=True)
        stride = Signal(self.width, reset_less=True)
        moved = Signal()
        m.d.sync += moved.eq(self.step)
        with m.If(self.step):
            m.d.sync += [
                level.eq(Mux(self.linear, 1, self.advance)),
                stride.eq(one_of(self.advance, list(self.strides))),
            ]
        positions = [
            self.address,
            *(
                Signal(self.width, name=f"position{k}", reset_less=True)
                for k in range(1, self.levels)
            ),
        ]
        following = Signal(self.width)
        m.d.comb += following.eq(one_of(level, positions) + stride)
        for k, position in enumerate(positions):
            with m.If(self.load):
                m.d.sync += position.eq(self.base)
            with m.Elif(moved & level[k:].any()):
                m.d.sync += position.eq(following)
        return m
