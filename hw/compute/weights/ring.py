"""TWB: transformed weight blocks between the weight transform and the columns."""

from amaranth.hdl import C, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import AcceleratorConfig
from hw.arch.timing import BLOCK_CLAIM, FEED_LATENCY, WEIGHT_LAG
from hw.arch.winograd_matrices import F2, F4
from hw.common.ports import NO_COLLISION
from hw.compute.parts.latch import strobe_line
from hw.compute.weights.taps import MAX_POINTS

__all__ = ["BlockRing", "ring_rows"]

SLABS = 3
"""Largest slabs that the ring holds: one leaves, one waits, one comes in."""


def ring_rows(config: AcceleratorConfig) -> int:
    """Rows of TWB: a power of two that holds `SLABS` of the largest slabs."""
    return 1 << (SLABS * MAX_POINTS * config.weight_block_groups - 1).bit_length()


class BlockRing(wiring.Component):
    """A ring of slabs. A slab is written group by group, and leaves block by block.

    A slab has `points` blocks of rows / LW rows. For each of its groups come the group's rows of
    all blocks, one per cycle, y fastest, then x (`two`), or in the order of the blocks; block
    px + n·py has row (px + n·py)·(rows / LW) + group of the slab. Reads go through the slabs from
    row to row, and a block is free for the next slab as soon as its load has begun: the writer is
    always behind the reader there.

    Handshake: nothing stalls. `enter` reserves `points` blocks; it needs `room`, which is right
    from the second cycle after an `enter` on. The values come in the order of the reservations.
    `next` (the block that was loaded last has been taken over) has the following block loaded
    WEIGHT_LAG cycles later, or as soon as its slab is complete; at reset, and after `vacate`, no
    block is loaded and the first one waits for nothing else. `loaded` is high from the first cycle
    that may be the address cycle of the block's first position until `next`.

    Members
    -------
    points, enter, room: see above.
    two, wide: the values that come: of two dimensions; n is 6, not 4.
    i_valid, i: a row of a block.
    vacate, next, loaded: see above.
    valid, o: rows of the block that is being loaded.
    clear: forget everything.
    """

    def __init__(self, config: AcceleratorConfig, bits: int):
        self._groups = config.weight_block_groups
        self._rows = ring_rows(config)
        self._bits = bits
        self._lanes = config.array.weight_rows_per_cycle * config.array.cols
        super().__init__(
            {
                "points": In(range(MAX_POINTS + 1)),
                "enter": In(1),
                "room": Out(1),
                "two": In(1),
                "wide": In(1),
                "i_valid": In(1),
                "i": In(signed(bits)).array(self._lanes),
                "group_end": Out(1),
                "vacate": In(1),
                "next": In(1),
                "loaded": Out(1),
                "valid": Out(1),
                "o": Out(signed(bits)).array(self._lanes),
                "clear": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.blocks = blocks = memory.Memory(
            shape=data.ArrayLayout(signed(self._bits), self._lanes),
            depth=self._rows,
            init=[],
            attrs=NO_COLLISION | {"ram_style": "block"},
        )
        slab_end = self._write(m, blocks.write_port())
        available = Signal()
        claim, begin = self._load(m, blocks.read_port(), available)
        capacity = self._rows // self._groups
        # Blocks that are free; that are complete and not yet claimed.
        free, filled = Signal(range(capacity + 1), init=capacity), Signal(range(capacity + 1))
        m.d.sync += [
            free.eq(free - Mux(self.enter, self.points, 0) + begin),
            filled.eq(filled + Mux(slab_end, self.points, 0) - claim),
            self.room.eq(free >= self.points),
            available.eq(filled != 0),
        ]
        with m.If(self.clear):
            m.d.sync += [free.eq(capacity), filled.eq(0), available.eq(0)]
        return m

    def _write(self, m: Module, port: memory.WritePort) -> Value:
        """Place the rows of a slab; return whether its last one is written."""
        groups = self._groups
        inner, outer = Signal(range(F4.points)), Signal(range(F4.points))
        group = Signal(range(groups))
        place = Signal(len(port.addr))
        edge = Mux(self.wide, F4.points - 1, F2.points - 1)
        inner_end = ~self.two | (inner == edge)
        slab_end = Signal()
        m.d.comb += [
            self.group_end.eq(self.i_valid & inner_end & (outer == edge)),
            slab_end.eq(self.group_end & (group == groups - 1)),
            port.en.eq(self.i_valid),
            port.addr.eq(place),
        ]
        m.d.comb += [to.eq(value) for to, value in zip(port.data, self.i, strict=True)]

        def step(two: int, wide: int) -> Value:
            """Rows to the next value's place: down a column, to the next column, next group."""
            n = (F2, F4)[wide].points
            height, points = (n, n * n) if two else (1, n)
            across = C(groups - (height - 1) * n * groups, signed(len(place)))
            restart = C(1 - (points - 1) * groups, signed(len(place)))
            return Mux(self.group_end, restart, Mux(inner_end, across, n * groups))

        steps = Mux(
            self.two,
            Mux(self.wide, step(1, 1), step(1, 0)),
            Mux(self.wide, step(0, 1), step(0, 0)),
        )
        with m.If(self.i_valid):
            m.d.sync += [place.eq(place + Mux(slab_end, 1, steps)), inner.eq(inner + 1)]
            with m.If(inner_end):
                m.d.sync += [inner.eq(0), outer.eq(outer + 1)]
        with m.If(self.group_end):
            m.d.sync += [outer.eq(0), group.eq(group + 1)]
        with m.If(slab_end):
            m.d.sync += group.eq(0)
        with m.If(self.clear):
            m.d.sync += [place.eq(0), inner.eq(0), outer.eq(0), group.eq(0)]
        return slab_end

    def _load(self, m: Module, port: memory.ReadPort, available: Value) -> tuple[Signal, Value]:
        """Read a block when it is wanted and there; return when it is claimed, and read."""
        groups = self._groups
        left = Signal(range(groups + 1))
        waiting = Signal(init=1)
        place = Signal(len(port.addr))
        forget = self.vacate | self.clear
        due, _ = strobe_line(m, self.next, forget, BLOCK_CLAIM - 1, "due")
        claim = Signal()
        # The vectors of the block take FEED_LATENCY cycles to the column; so may its weights.
        begin, _ = strobe_line(m, claim, forget, WEIGHT_LAG - BLOCK_CLAIM, "claimed")
        m.d.comb += [
            claim.eq((due | waiting) & available & ~self.clear),
            port.en.eq(left != 0),
            port.addr.eq(place),
        ]
        m.d.comb += [o.eq(value) for o, value in zip(self.o, port.data, strict=True)]
        m.d.sync += [
            waiting.eq((due | waiting) & ~claim),
            self.valid.eq(port.en & ~self.clear),
        ]
        with m.If(port.en):
            m.d.sync += [left.eq(left - 1), place.eq(place + 1)]
        with m.If(begin):
            m.d.sync += left.eq(groups)
        # The shadow weights are complete when the first vector stands behind column 0's register.
        ready = claim if groups <= BLOCK_CLAIM else port.en & (left == FEED_LATENCY + 1)
        with m.If(self.next):
            m.d.sync += self.loaded.eq(0)
        with m.Elif(ready):
            m.d.sync += self.loaded.eq(1)
        with m.If(forget):
            m.d.sync += [waiting.eq(1), self.loaded.eq(0)]
        with m.If(self.clear):
            m.d.sync += [left.eq(0), place.eq(0)]
        return claim, begin
