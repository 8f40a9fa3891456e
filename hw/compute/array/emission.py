"""Which positions of the array's nest produce a sum, and where it is accumulated."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import AcceleratorConfig
from hw.common.ports import ACCUMULATOR_ADDRESS_BITS
from hw.compute.array.chain import line_bits
from hw.compute.parts.latch import register_of

__all__ = ["ArrayEmission"]

LEVELS = 8
X, Y, CO, KX, KY = 0, 1, 3, 4, 5
WINDOW_BITS = 2


class ArrayEmission(wiring.Component):
    """Windows of mode DEPTHWISE, entries of the line buffer, accumulator rows.

    Latency: outputs are right in the address cycle of a position, one cycle behind `moves` and
    `restarts`.

    Members
    -------
    begin: an instruction begins; its fields are right from this cycle on.
    depthwise, tiled: its mode is DEPTHWISE, HFA_DEPTHWISE.
    window_x, window_y, emit_x, emit_y, entry (field `line`), keep, resume, row (field
        `accumulator`): its fields.
    moves, restarts: of the nest (`ArrayWalk`).
    emit: the position produces a sum.
    line: entry of the line buffer; the highest bit says that the last one was passed.
    tap_pass: pass over the window's taps.
    address: row of the accumulators.
    first_pass: nothing of this instruction has been added to the row yet.
    """

    def __init__(self, config: AcceleratorConfig):
        self._has_tiles = "hfa_depthwise" in config.features
        entry_bits = line_bits(config) + 1
        super().__init__(
            {
                "begin": In(1),
                "depthwise": In(1),
                "tiled": In(1),
                "window_x": In(WINDOW_BITS),
                "window_y": In(WINDOW_BITS),
                "emit_x": In(WINDOW_BITS),
                "emit_y": In(WINDOW_BITS),
                "entry": In(entry_bits),
                "keep": In(1),
                "resume": In(1),
                "row": In(ACCUMULATOR_ADDRESS_BITS),
                "moves": In(LEVELS),
                "restarts": In(LEVELS),
                "emit": Out(1),
                "line": Out(entry_bits),
                "tap_pass": Out(2),
                "address": Out(ACCUMULATOR_ADDRESS_BITS),
                "first_pass": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        begin, moves, restarts = self.begin, self.moves, self.restarts
        if self._has_tiles:
            # The line buffer goes by columns, whose level is one further out.
            moves = Mux(self.tiled, moves >> 1, moves)
            restarts = Mux(self.tiled, restarts >> 1, restarts)
        self._windows(m, moves, restarts)
        self._lines(m, moves, restarts)
        tap_pass, address, first_pass = (
            register_of(m, port) for port in (self.tap_pass, self.address, self.first_pass)
        )
        with m.If(begin | restarts[KY]):
            m.d.sync += tap_pass.eq(0)
        with m.Elif(moves[KY]):
            m.d.sync += tap_pass.eq(tap_pass + 1)
        with m.If(begin | restarts[CO]):
            m.d.sync += [address.eq(self.row), first_pass.eq(begin)]
        with m.Elif(moves[:KX].any()):
            m.d.sync += address.eq(address + self.emit)
        return m

    def _windows(self, m: Module, moves: Value, restarts: Value) -> None:
        """Pixels and lines until the next window that is wanted."""
        wait_x, wait_y = Signal(WINDOW_BITS, reset_less=True), Signal(WINDOW_BITS, reset_less=True)
        with m.If(self.begin | restarts[X]):
            m.d.sync += wait_x.eq(self.window_x - 1)
        with m.Elif(moves[X]):
            m.d.sync += wait_x.eq(Mux(wait_x == 0, self.emit_x - 1, wait_x - 1))
        with m.If(self.begin | restarts[Y]):
            m.d.sync += wait_y.eq(Mux(self.resume, 0, self.window_y - 1))
        with m.Elif(moves[Y]):
            m.d.sync += wait_y.eq(Mux(wait_y == 0, self.emit_y - 1, wait_y - 1))
        m.d.comb += self.emit.eq(~self.depthwise | ((wait_x == 0) & (wait_y == 0)))

    def _lines(self, m: Module, moves: Value, restarts: Value) -> None:
        """A frame goes over its entries again with every line; with `keep` the next has others."""
        line = register_of(m, self.line)
        line_base = Signal.like(line)
        next_entry = line + 1
        frame_entry = Mux(self.begin, self.entry, next_entry)
        with m.If(self.begin | restarts[Y]):
            m.d.sync += [r.eq(Mux(self.keep, frame_entry, 0)) for r in (line, line_base)]
        with m.Elif(restarts[X]):
            m.d.sync += line.eq(line_base)
        with m.Elif(moves[X]):
            m.d.sync += line.eq(next_entry)
