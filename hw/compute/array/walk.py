"""The array's nest: counters, address, blocks of positions and the strobes at their ends."""

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ADDRESS_BITS, DELTA_BITS
from hw.arch.timing import ACCUMULATE_HAZARD, TILE_PAUSE
from hw.common.agu import COUNT_BITS, Nest, Walker
from hw.compute.array.tile_control import STRIP, TILE_BLOCK_END, TILE_FRAME
from hw.compute.parts.latch import strobe_line
from hw.compute.transform.engine import TILE_T

__all__ = ["ArrayWalk"]

LEVELS = 8
T, CO = 2, 3
SET_END = TILE_T
"""Outermost level of the HFA nest inside a set of tiles."""


class ArrayWalk(wiring.Component):
    """Walks the nest of an ARRAY instruction, one position per cycle.

    A block is what one weight block multiplies: the frames of one tap (mode HFA: a set of tiles;
    HFA_DEPTHWISE: an output block). It lasts at least as long as a weight block takes to load and
    as the accumulators take to be read again; in mode HFA the next one waits for `go`.

    Latency: `load` in cycle t, `run` in t + 1 or later; the first position's address is out two
    cycles behind `run`.

    Members
    -------
    load: the fields beside are those of a new instruction from this cycle on.
    run: its nest runs from the next cycle on.
    clear: stop.
    hfa, tiled: its mode is HFA, HFA_DEPTHWISE.
    counts, deltas, base: fields, the counts in the order of the nest.
    go: the rows of the next set may be read.
    address: of the position. present, first: there is one; it is the first of its block.
    moves, restarts: bit k: level k counts; levels 0..k restart; in the address cycle.
    next_block: first position of a block in modes DIRECT and DEPTHWISE, unless it is the last
        block; in the address cycle.
    ending: the cycle behind the last position, and in mode HFA_DEPTHWISE behind its results; not
        in mode HFA.
    fed, fed_last: mode HFA: the rows of a set are read; it is the last set.
    final_x, final_y, last_block: see `TileControl`.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._has_hfa = "hfa" in config.features
        self._has_tiles = "hfa_depthwise" in config.features
        members = {}
        if self._has_hfa:
            members = {"go": In(1), "fed": Out(1), "fed_last": Out(1)}
        if self._has_tiles:
            members |= {"final_x": Out(1), "final_y": Out(1), "last_block": Out(1)}
        super().__init__(
            {
                "load": In(1),
                "run": In(1),
                "clear": In(1),
                "hfa": In(1),
                "tiled": In(1),
                "counts": In(COUNT_BITS).array(LEVELS),
                "deltas": In(signed(DELTA_BITS)).array(LEVELS),
                "base": In(ADDRESS_BITS),
                "address": Out(ADDRESS_BITS),
                "present": Out(1),
                "first": Out(1),
                "moves": Out(LEVELS),
                "restarts": Out(LEVELS),
                "next_block": Out(1),
                "ending": Out(1),
                **members,
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.nest = self._nest = nest = Nest((COUNT_BITS,) * LEVELS)
        self._block_end, self._step = block_end, step = Signal(), Signal()
        running, fresh, block_first = Signal(), Signal(), Signal()
        m.d.comb += [
            nest.load.eq(self.load),
            nest.step.eq(step),
            block_end.eq(
                Mux(
                    self.hfa,
                    nest.wrap[SET_END],
                    Mux(self.tiled, nest.wrap[TILE_BLOCK_END], nest.wrap[T]),
                )
            ),
            step.eq(running & (~block_end | self._block_allowed(m, running))),
        ]
        m.d.comb += [port.eq(value) for port, value in zip(nest.counts, self.counts, strict=True)]
        with m.If(self.run):
            m.d.sync += [running.eq(1), fresh.eq(1), block_first.eq(1)]
        with m.Elif(running):
            m.d.sync += fresh.eq(step)
            with m.If(step):
                m.d.sync += block_first.eq(block_end)
        with m.If((step & nest.last) | self.clear):
            m.d.sync += running.eq(0)
        self._follow(m, running & fresh, block_first)
        self._end(m)
        if self._has_hfa:
            m.d.sync += [
                self.fed.eq(running & fresh & block_end & self.hfa),
                self.fed_last.eq(nest.last),
            ]
        return m

    def _block_allowed(self, m: Module, running: Signal) -> Value:
        """Whether the block has lasted long enough, or may be left in mode HFA."""
        floor = max(self._config.weight_block_groups, ACCUMULATE_HAZARD) - 1
        age = Signal(range(floor + 1))
        begins = self.run | (self._step & self._block_end)
        with m.If(begins):
            m.d.sync += age.eq(floor)
        with m.Elif(running & (age != 0)):
            m.d.sync += age.eq(age - 1)
        if not self._has_hfa:
            return age == 0
        gate = Signal()
        with m.If(self.go):
            m.d.sync += gate.eq(1)
        with m.Elif(begins):
            m.d.sync += gate.eq(0)
        return Mux(self.hfa, self._nest.last | gate, age == 0)

    def _follow(self, m: Module, new: Value, block_first: Value) -> None:
        """What is in step with the address."""
        nest, step = self._nest, self._step
        m.submodules.walker = walker = Walker(LEVELS)
        m.d.comb += [
            walker.load.eq(self.load),
            walker.step.eq(step),
            walker.advance.eq(nest.advance),
            walker.base.eq(self.base),
            self.address.eq(walker.address),
        ]
        m.d.comb += [port.eq(value) for port, value in zip(walker.deltas, self.deltas, strict=True)]
        # In the other modes weights are called for by TransformStream and TileControl.
        calls = new & block_first & ~self.hfa & ~self.tiled
        m.d.sync += [
            self.present.eq(new),
            self.first.eq(new & block_first),
            self.moves.eq(Mux(step, nest.advance, 0)),
            self.restarts.eq(Mux(step, nest.wrap, 0)),
            self.next_block.eq(calls & ~nest.final[CO:].all()),
        ]

    def _end(self, m: Module) -> None:
        nest = self._nest
        final = self._step & nest.last & ~self.hfa
        if self._has_tiles:
            behind, _ = strobe_line(m, final & self.tiled, self.clear, TILE_PAUSE, "tile_pause")
            final = (final & ~self.tiled) | behind
            m.d.sync += [
                self.final_x.eq(nest.final[1]),
                self.final_y.eq(nest.final[STRIP]),
                self.last_block.eq(nest.final[TILE_FRAME + 1 :].all()),
            ]
        m.d.sync += self.ending.eq(final)
