"""Requantization parameters of DRAIN: which row is read when, and the lanes' registers."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import LOCAL_BITS
from hw.arch.timing import DIVISION_LATENCY, PARAMETER_READ_LATENCY
from hw.common.ports import parameter_read
from hw.compute.drain.walk import sections
from hw.compute.parts.latch import register_of

__all__ = ["DrainParameters"]

REGISTERS_LEAD = 3
"""Cycles from setting the read's `enable` until the lanes' registers hold the row."""
TILES_UNDER_WAY = 8
"""Tiles between the accumulators and the division at most: the shortest ones have four points."""


class DrainParameters(wiring.Component):
    """Parameter rows: read in cycle a + 1, in the lanes' registers in a + REGISTERS_LEAD.

    With one step per accumulator row the parameters change only with co, and are read then. With
    a transform they change with the lane group, and are read so that the first result of a group
    meets them behind the division.

    Parameters
    ----------
    config: the accelerator.

    Members
    -------
    begin: the fields are new. parameter: field, in beats.
    tiles: the instruction transforms (stable from `begin` on).
    enable, step, block_moves: of the walk, in cycle a.
    tile_ends, block_ends: of the walk.
    divided: a result enters the division. results: log2 of the results of a tile.
    read: parameter rows.
    bias, multiplier, shift: per lane.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        lanes = config.lanes.requantize
        super().__init__(
            {
                "begin": In(1),
                "parameter": In(LOCAL_BITS),
                "tiles": In(1),
                "enable": In(1),
                "step": In(range(max(2, config.requantize_steps))),
                "block_moves": In(1),
                "tile_ends": In(1),
                "block_ends": In(1),
                "divided": In(1),
                "results": In(3),
                "read": Out(parameter_read(config)),
                "bias": Out(signed(32)).array(lanes),
                "multiplier": Out(24).array(lanes),
                "shift": Out(8).array(lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        assert PARAMETER_READ_LATENCY == 1
        m = Module()
        config, steps = self._config, self._config.requantize_steps
        base = Signal(len(self.read.address), reset_less=True)
        fresh = Signal()
        with m.If(self.begin):
            m.d.sync += base.eq(self.parameter >> exact_log2(config.parameter_row_beats))
            m.d.sync += fresh.eq(1)
        with m.Elif(self.block_moves & ~self.tiles):
            m.d.sync += [base.eq(base + steps), fresh.eq(1)]
        with m.Elif(self.enable):
            m.d.sync += fresh.eq(0)
        wanted = self.enable & (fresh if steps == 1 else 1)
        if "hfa" in config.features:
            first, step, next_block = self._groups(m)
            with m.If(next_block):
                m.d.sync += base.eq(base + steps)
            m.d.sync += [
                self.read.enable.eq(Mux(self.tiles, first, wanted)),
                self.read.address.eq(base + Mux(self.tiles, step, self.step)),
            ]
        else:
            m.d.sync += [
                self.read.enable.eq(wanted),
                self.read.address.eq(base + self.step),
            ]
        arrived = Signal()
        m.d.sync += arrived.eq(self.read.enable)
        ports = zip(self.bias, self.multiplier, self.shift, strict=True)
        registers = [Cat(register_of(m, port) for port in lane) for lane in ports]
        with m.If(arrived):
            for lane, register in enumerate(registers):
                m.d.sync += register.eq(self.read.data.word_select(lane, 64))
        return m

    def _groups(self, m: Module) -> tuple[Signal, Signal, Signal]:
        """First result of a lane group, its step, and whether the next group is of the next co.

        The first comes REGISTERS_LEAD cycles before the result leaves the division.
        """
        parts = sections(self._config)
        groups = self._config.requantize_steps * parts
        # Whether a tile is the last one of its co: known at the accumulators, needed here.
        pending = Signal(TILES_UNDER_WAY, reset_less=True)
        pushed, popped = Signal(range(TILES_UNDER_WAY)), Signal(range(TILES_UNDER_WAY))
        with m.If(self.tile_ends):
            m.d.sync += pending.bit_select(pushed, 1).eq(self.block_ends)
            m.d.sync += pushed.eq(pushed + 1)

        number = Signal(5)
        final = Signal(5)
        m.d.comb += final.eq((1 << self.results) - 1)
        line = Signal(DIVISION_LATENCY - REGISTERS_LEAD)
        m.d.sync += line.eq(Cat(self.divided & (number == 0), line)[: len(line)])
        with m.If(self.divided):
            m.d.sync += number.eq((number + 1) & final)
        first, step, next_block = Signal(), Signal.like(self.step), Signal()
        group = Signal(range(max(2, groups)))
        last = group == groups - 1
        m.d.comb += [
            first.eq(line[-1]),
            step.eq(group >> exact_log2(parts)),
            next_block.eq(first & last & pending.bit_select(popped, 1)),
        ]
        with m.If(first):
            m.d.sync += group.eq(Mux(last, 0, group + 1))
            with m.If(last):
                m.d.sync += popped.eq(popped + 1)
        with m.If(self.begin):
            m.d.sync += [group.eq(0), number.eq(0), pushed.eq(0), popped.eq(0), line.eq(0)]
        return first, step, next_block
