"""Counters and addresses of DRAIN where results come in tiles."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.common.agu import Nest
from hw.compute.parts.select import one_of

__all__ = ["PointWalker", "StrideWalker", "TileNest"]


def _at_most(value: Value, multiple: int, scale: Value) -> Value:
    """Whether a value is at most multiple·2^scale (multiple 1 to 3, scale 0 to 2).

    The value is not 0.
    """

    def limit(k: int) -> Value:
        if multiple == 3:
            return ~value[k + 2 :].any() & ~(value[k : k + 2].all() & value[:k].any())
        power = k + multiple - 1
        return ~value[power + 1 :].any() & ~(value[power] & value[:power].any())

    return Mux(scale[1], limit(2), Mux(scale[0], limit(1), limit(0)))


class TileNest(Nest):
    """A nest of which some levels count results in steps of whole tiles.

    A scaled level advances by 2^scale; its last position is that from which on at most 2^scale are
    left.

    Parameters
    ----------
    widths: bits of each level's count.
    scaled: the levels with a scale.

    Members
    -------
    Those of `Nest`, and
    scales: 0, 1 or 2, one per scaled level, stable while the nest is in use.
    rest: per level, the count that is left, this position (or tile) included.
    """

    def __init__(self, widths: Sequence[int], scaled: Sequence[int]):
        self.scaled = tuple(scaled)
        super().__init__(widths)

    def _more_members(self) -> dict[str, Any]:
        return {
            "scales": In(2).array(len(self.scaled)),
            "rest": Out(max(self.widths)).array(len(self.widths)),
        }

    def _level(self, m: Module, k: int, advance: Signal, wrap: Signal, final: Signal) -> Signal:
        width = self.widths[k]
        count = self.counts[k][:width]
        left = Signal(width, name=f"left{k}", reset_less=True)
        nearly = Signal(name=f"nearly{k}", reset_less=True)  # the next value is the last one
        at_end = Signal(name=f"at_end{k}")
        m.d.comb += self.rest[k].eq(left)
        if k in self.scaled:
            scale = self.scales[self.scaled.index(k)]
            step: Value = 1 << scale
            single, double = _at_most(count, 1, scale), _at_most(count, 2, scale)
            soon = _at_most(left, 3, scale)
        else:
            step, single, double, soon = C(1), count == 1, count == 2, left == 3
        restart = self.load | wrap
        with m.If(self.load | (self.step & wrap)):
            m.d.sync += [left.eq(count), nearly.eq(double)]
        with m.Elif(self.step & advance):
            m.d.sync += [left.eq(left - step), nearly.eq(soon)]
        m.d.comb += at_end.eq(Mux(restart, single, Mux(advance, nearly, final)))
        return at_end


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
