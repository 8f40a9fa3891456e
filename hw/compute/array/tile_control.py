"""Controller of ARRAY in mode HFA_DEPTHWISE: which pixels complete tiles, where results go."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import AcceleratorConfig
from hw.arch.timing import TILE_EMIT
from hw.common.agu import COUNT_BITS
from hw.common.ports import ACCUMULATOR_ADDRESS_BITS
from hw.compute.array.depthwise_tiles import POINTS, stage_delays
from hw.compute.parts.latch import delayed

__all__ = ["LINE", "STRIP", "TILE_BLOCK_END", "TILE_FRAME", "TileControl"]

LINE, COLUMN, STRIP, TILE_FRAME, BLOCK = range(5)
"""Levels of the nest: line in the strip, column, strip, frame, output block."""
TILE_BLOCK_END = TILE_FRAME


class TileControl(wiring.Component):
    """Follows the nest of an HFA_DEPTHWISE instruction.

    A strip is two lines. A tile is complete with the second pixel of every odd column but the
    first, in every strip but the first. Its four results follow TILE_EMIT cycles later, in the
    order (0, 0), (0, 1), (1, 0), (1, 1) of (y, x); those beyond a ragged edge are left out.
    Accumulator rows are those of DEPTHWISE: x, y, t, co.

    Members
    -------
    active: the mode of the instruction.
    begin, advance, restart: of the nest, in step with the address (advance, restart come one cycle
        before).
    final_x, final_y: the position stands in the last column, the last strip.
    present, first, last_block: there is a position; the first one of an output block; the block is
        the last one. All in the address cycle.
    line: pixels of a line. emit_x, emit_y: 2 if the last column or line of results is not wanted.
    accumulator: first row.
    clear: forget what is to be emitted.
    lower, odd, tile: of the position.
    emit, address: a result's position; its accumulator row.
    products: once per rows × cols products; every wanted tile has 16 per column.
    stage, block, next: take over a tap block; which; load the following one.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "active": In(1),
                "begin": In(1),
                "advance": In(8),
                "restart": In(8),
                "final_x": In(1),
                "final_y": In(1),
                "present": In(1),
                "first": In(1),
                "last_block": In(1),
                "line": In(COUNT_BITS),
                "emit_x": In(2),
                "emit_y": In(2),
                "accumulator": In(ACCUMULATOR_ADDRESS_BITS),
                "clear": In(1),
                "lower": Out(1),
                "odd": Out(1),
                "tile": Out(1),
                "emit": Out(1),
                "address": Out(ACCUMULATOR_ADDRESS_BITS),
                "products": Out(1),
                "stage": Out(1),
                "block": Out(2),
                "next": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        begin, advance, restart = self.begin, self.advance, self.restart
        # A tile has pixels of two columns and of a strip before.
        behind, below = Signal(), Signal()
        with m.If(begin | restart[LINE]):
            m.d.sync += self.lower.eq(0)
        with m.Elif(advance[LINE]):
            m.d.sync += self.lower.eq(1)
        with m.If(begin | restart[COLUMN]):
            m.d.sync += [self.odd.eq(0), behind.eq(0)]
        with m.Elif(advance[COLUMN]):
            m.d.sync += [self.odd.eq(~self.odd), behind.eq(behind | self.odd)]
        with m.If(begin | restart[STRIP]):
            m.d.sync += below.eq(0)
        with m.Elif(advance[STRIP]):
            m.d.sync += below.eq(1)
        complete = self.active & self.present & self.lower & self.odd & behind & below
        m.d.comb += self.tile.eq(complete)
        self._emit(m)
        self._stage(m)
        return m

    def _emit(self, m: Module) -> None:
        """Rows of a tile's results."""
        width = Signal(COUNT_BITS + 1, reset_less=True)
        m.d.sync += width.eq(self.line - 1 - self.emit_x)
        left = Signal(ACCUMULATOR_ADDRESS_BITS, reset_less=True)
        ragged_x = self.final_x & (self.emit_x == 2)
        ragged_y = self.final_y & (self.emit_y == 2)
        # cycle of the tile
        upper, drop_x, drop_y = Signal.like(left), Signal(), Signal()
        running, number = Signal(), Signal(2)
        with m.If(self.begin):
            m.d.sync += left.eq(self.accumulator)
        with m.Elif(self.tile):
            across = Mux(ragged_x, 1, 2)
            m.d.sync += left.eq(left + across + Mux(self.final_x & ~ragged_y, width, 0))
        with m.If(self.tile):
            m.d.sync += [upper.eq(left), drop_x.eq(ragged_x), drop_y.eq(ragged_y)]
            m.d.sync += [running.eq(1), number.eq(0)]
        with m.Elif(running):
            m.d.sync += [number.eq(number + 1), running.eq(number != 3)]
        with m.If(self.clear):
            m.d.sync += running.eq(0)
        # Four products per column and cycle.
        every = self._config.array.rows // POINTS - 1
        m.d.comb += self.products.eq(running & ((number & every) == every))
        # one cycle behind it and on
        emit, row = Signal(), Signal.like(left)
        m.d.comb += [
            emit.eq(running & ~(number[0] & drop_x) & ~(number[1] & drop_y) & ~self.clear),
            row.eq(upper + number[0] + Mux(number[1], width, 0)),
        ]
        m.d.comb += [
            self.emit.eq(delayed(m, emit, TILE_EMIT - 1, "emit")),
            self.address.eq(delayed(m, row, TILE_EMIT - 1, "row")),
        ]

    def _stage(self, m: Module) -> None:
        """Tap blocks are taken over when the tiles of the block before have used theirs."""
        delays = stage_delays(self._config)
        line = Signal(delays[-1])
        last = Signal()
        m.d.sync += line.eq(Cat(self.first & self.active, line)[: len(line)])
        with m.If(self.clear):
            m.d.sync += line.eq(0)
        with m.If(self.first):
            m.d.sync += last.eq(self.last_block)
        due = [line[delay - 1] for delay in delays]
        number: Value = C(0, 2)
        for block, strobe in enumerate(due):
            number = Mux(strobe, block, number)
        m.d.comb += [
            self.stage.eq(Cat(due).any()),
            self.block.eq(number),
            self.next.eq(self.stage & ~(due[-1] & last)),
        ]
