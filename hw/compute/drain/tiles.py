"""Destination side of DRAIN in a circuit with hFA: tiles are pooled, put together and clipped."""

import itertools
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In
from amaranth.utils import exact_log2

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ADDRESS_BITS
from hw.common.agu import COUNT_BITS
from hw.compute.drain.rows import CODE, assembly_members
from hw.compute.drain.tile_nest import StrideWalker, TileNest
from hw.compute.drain.walk import pool_scales, sections
from hw.compute.parts.latch import register_of
from hw.compute.parts.select import chosen

__all__ = ["TileAssembly"]


def _mask(scale: Value) -> Value:
    """2^scale − 1 for a scale of 0, 1 or 2."""
    return Cat(scale.any(), scale[1])


class TileAssembly(wiring.Component):
    """Maximum of each pool window, in files of partial rows; whole rows are written.

    `arrived`, `opens` and `row` come LEAD cycles before the codes.

    A scratchpad row is put together from its steps and, inside a step, from the sections that the
    output transform fills one after another. Transformed, all results of a tile come for the first
    section, then all for the next one; so each step has a file with an entry per pool window of a
    tile. Without transform the entry is the number of the row's lane block.

    Results of a tile come in the order t, y, x. Rows of a ragged tile beyond the counts are passed
    over, not written.

    Parameters
    ----------
    config: the accelerator.

    Members
    -------
    As in `assembly_members`, and
    window, transform_t, transform_s: fields, stable from `begin` on.
    """

    LEAD = 2

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._parts = sections(config)
        # Windows of a tile: without nesting at most 4·4, else 4 along each axis.
        self._depth = 64 if "hfa_nested" in config.features else 16
        super().__init__(
            assembly_members(config)
            | {"window": In(3).array(3), "transform_t": In(2), "transform_s": In(2)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._tiles = tiles = Signal()
        m.d.sync += tiles.eq((self.transform_t | self.transform_s).any())
        lanes, parts = self._config.lanes.requantize, self._parts
        per_row = self._config.lane_block // lanes
        # Two cycles before the codes: where they belong.
        entry, opens, closes, tile_ends = self._position(m)
        place = self._place(m, tile_ends)
        slot_bits = exact_log2(parts * per_row)
        section, block = place[:slot_bits], place[slot_bits:]
        closes = closes & (section == parts * per_row - 1) if slot_bits else closes
        now = data.StructLayout(
            {
                "valid": 1,
                "entry": exact_log2(self._depth),
                "part": exact_log2(parts),
                "slot": exact_log2(per_row),
                "first": 1,
                "row": 1,
            }
        )
        one, zero = Signal(now), Signal(now)
        m.d.sync += [
            one.valid.eq(self.arrived & ~self.stop),
            one.entry.eq(Mux(tiles, entry, block)),
            one.part.eq(section),
            one.slot.eq(section >> exact_log2(parts)),
            one.first.eq(Mux(tiles, opens, self.opens)),
            one.row.eq(self.arrived & Mux(tiles, closes, self.row)),
            zero.eq(one),
            zero.valid.eq(one.valid & ~self.stop),
        ]
        best, held, older = self._files(m, one, zero, Mux(tiles, entry, block))
        row = Signal()
        m.d.comb += row.eq(zero.valid & zero.row)
        self._write(m, row, best, held, older)
        return m

    def _parts_of(self, position: Any) -> Value:
        """The sections of a step that codes go to: one, or without transform all."""
        every = (1 << self._parts) - 1
        return Mux(self._tiles, (1 << position.part) & every, every)[: self._parts]

    def _written(self, position: Any) -> Value:
        """The files that codes go to, step by step."""
        per_row = self._config.lane_block // self._config.lanes.requantize
        step = (1 << position.slot) & ((1 << per_row) - 1)
        parts = self._parts_of(position)
        return Cat(parts & step[s].replicate(self._parts) for s in range(per_row))

    def _place(self, m: Module, tile_ends: Value) -> Signal:
        """Number of a section: the part of a step, the step of a scratchpad row, the block.

        All are powers of two, so that they count in one number.
        """
        sections_of_row = self._config.array.cols // self._config.lanes.output_transform
        place = Signal(exact_log2(sections_of_row))
        with m.If(self.begin):
            m.d.sync += place.eq(0)
        with m.Elif(self.arrived):
            m.d.sync += place.eq(place + Mux(self._tiles, tile_ends, self._parts))
        return place

    def _position(self, m: Module) -> tuple[Value, Value, Value, Value]:
        """Where a result lies in its tile.

        Returns
        -------
        The entry of its pool window; first and last of it; the last result of the tile.
        """
        wx, wy, wt = ((window - 1)[:2] for window in self.window)
        # Innermost first, as results come.
        axes = [
            (_mask(self.transform_t), wt, Signal(2, name="result_t")),
            (_mask(self.transform_s), wy, Signal(2, name="result_y")),
            (_mask(self.transform_s), wx, Signal(2, name="result_x")),
        ]
        carry: Value = self.arrived
        opens: Value = Const(1, 1)
        closes: Value = Const(1, 1)
        last: Value = Const(1, 1)
        kept = []
        for largest, within, result in axes:
            with m.If(self.begin):
                m.d.sync += result.eq(0)
            with m.Elif(carry):
                m.d.sync += result.eq((result + 1) & largest)
            carry = carry & (result == largest)
            last = last & (result == largest)
            opens = opens & ((result & within) == 0)
            closes = closes & ((result & within) == within)
            kept.append(result & ~within)
        t, y, x = (value[:2] for value in kept)
        # Without nesting a tile has either a time or rows and columns.
        nested = "hfa_nested" in self._config.features
        return Cat(y, x, t) if nested else Cat(y | t, x), opens, closes, last

    def _files(
        self, m: Module, one: Any, zero: Any, following: Value
    ) -> tuple[list[Value], list[Value], list[Value]]:
        """Files with an entry per pool window: read one cycle before the codes, written with them.

        Returns
        -------
        Codes after pooling, per lane; what their file held; what the files of the steps in front
        of the row's last one hold.
        """
        lanes, parts = self._config.lanes.requantize, self._parts
        per_row = self._config.lane_block // lanes
        best = [Signal(CODE, name=f"best{lane}") for lane in range(lanes)]
        written = self._written(zero)
        stored = [
            self._file(m, number, one, zero, zero.valid & written[number], best)
            for number in range(per_row * parts)
        ]
        found = [list(itertools.chain(*stored[s * parts :][:parts])) for s in range(per_row)]
        # The codes in front were not in their file yet when it was read.
        repeated = Signal()
        here, others = Signal(parts), Signal(per_row)
        m.d.sync += [
            repeated.eq(one.valid & (one.entry == following)),
            here.eq(Mux(repeated & (one.slot == zero.slot), self._parts_of(zero), 0)),
            others.eq(Mux(repeated, 1 << zero.slot, 0)),
        ]
        before = [Signal(CODE, name=f"before{lane}", reset_less=True) for lane in range(lanes)]
        m.d.sync += [kept.eq(now) for kept, now in zip(before, best, strict=True)]
        held: list[Value] = []
        for lane, (code, result) in enumerate(zip(self.codes, best, strict=True)):
            read = Signal(CODE, name=f"read{lane}", reset_less=True)
            so_far = Signal(CODE, name=f"held{lane}")
            m.d.sync += read.eq(chosen([step[lane] for step in found], one.slot))
            m.d.comb += [
                so_far.eq(Mux(here[lane * parts // lanes], before[lane], read)),
                result.eq(Mux(zero.first | (code > so_far), code, so_far)),
            ]
            held.append(so_far)
        older: list[Value] = []
        for s, step in enumerate(found[:-1]):
            for lane, value in enumerate(step):
                read = Signal(8, name=f"older{s}_{lane}", reset_less=True)
                m.d.sync += read.eq(value)
                older.append(Mux(others[s], before[lane][:8], read))
        return best, held, older

    def _file(
        self, m: Module, number: int, one: Any, zero: Any, enable: Value, best: list[Signal]
    ) -> list[Value]:
        """File of a section of a step; what it holds for the entry of `one`, per lane."""
        width = len(best) // self._parts
        m.submodules[f"file{number}"] = file = memory.Memory(
            shape=data.ArrayLayout(CODE, width), depth=self._depth, init=[]
        )
        reader, writer = file.read_port(domain="comb"), file.write_port()
        m.d.comb += [
            reader.addr.eq(one.entry),
            writer.addr.eq(zero.entry),
            writer.en.eq(enable),
        ]
        first = number % self._parts * width
        m.d.comb += [writer.data[k].eq(best[first + k]) for k in range(width)]
        return [reader.data[k] for k in range(width)]

    def _write(
        self, m: Module, row: Value, best: list[Value], held: list[Value], older: list[Value]
    ) -> None:
        """The row that is complete: its last section from the lanes, the others from the files."""
        count = len(best) - self._config.lanes.output_transform
        codes = older + [
            Mux(self._tiles, file, now)
            for file, now in zip(held[:count], best[:count], strict=True)
        ]
        codes += best[count:]
        data_written = register_of(m, self.write.data)
        with m.If(row):
            m.d.sync += data_written.eq(Cat(Value.cast(code)[:8] for code in codes))
        inside, last = self._targets(m, row)
        m.d.sync += [
            self.write.enable.eq(row & inside & ~self.stop),
            self.finished.eq(row & last & ~self.stop),
        ]

    def _targets(self, m: Module, row: Value) -> tuple[Value, Value]:
        """Walk the destination; whether the row that is complete counts, and is the last one."""
        scale_x, scale_y, scale_t = (Signal(2, name=f"scale_{axis}") for axis in "xyt")
        wanted = pool_scales(list(self.window), self.transform_t, self.transform_s)
        m.d.comb += [
            # `_tiles` itself is a cycle late for the counters.
            scale.eq(Mux((self.transform_t | self.transform_s).any(), value, 0))
            for scale, value in zip((scale_x, scale_y, scale_t), wanted, strict=True)
        ]
        of_block, x, y, t, co = (delta[:ADDRESS_BITS] for delta in self.destination_deltas)
        if "hfa_nested" in self._config.features:
            inner = [(scale_t, t), (scale_y, y), (scale_x, x)]
        else:
            # A tile has either a time or rows and columns: one level serves t and y.
            spatial = self.transform_s.any()
            inner = [(scale_t | scale_y, Mux(spatial, y, t)), (scale_x, x)]
        blocks = self._config.array.blocks_per_row
        tiles = [(scale_x, x), (scale_y, y), (scale_t, t)]
        counts: list[Value] = [Const(blocks)] * (blocks > 1) + list(self.counts)
        # Registered: the first row is many cycles away.
        of_tiles = []
        for scale, stride in tiles:
            shift = Signal(2, name=f"shift_{scale.name}", reset_less=True)
            m.d.sync += shift.eq(scale)
            of_tiles.append(stride << shift)
        strides = [of_block] * (blocks > 1) + of_tiles + [co]
        counts = [1 + _mask(scale) for scale, _ in inner] + counts
        strides = [stride for _, stride in inner] + strides
        widths = [3] * len(inner) + [1 + exact_log2(blocks)] * (blocks > 1) + [COUNT_BITS] * 4
        first = len(widths) - 4
        m.submodules.targets = nest = TileNest(widths, scaled=(first, first + 1, first + 2))
        m.submodules.target = walker = StrideWalker(len(widths), ADDRESS_BITS)
        m.d.comb += [port.eq(value) for port, value in zip(nest.counts, counts, strict=True)]
        m.d.comb += [port.eq(of) for port, (of, _) in zip(nest.scales, tiles, strict=True)]
        m.d.comb += [port.eq(value) for port, value in zip(walker.strides, strides, strict=True)]
        m.d.comb += [
            nest.load.eq(self.begin),
            nest.step.eq(row),
            walker.load.eq(self.begin),
            walker.step.eq(row),
            walker.advance.eq(nest.advance),
            walker.linear.eq(~self._tiles),
            walker.base.eq(self.destination),
            self.write.address.eq(walker.address),
        ]
        # The nest counts down; results per tile are a power of two.
        numbers = [_mask(scale) & (-nest.rest[level])[:2] for level, (scale, _) in enumerate(inner)]
        rest_x, rest_y, rest_t = (nest.rest[first + axis] for axis in range(3))
        if len(inner) == 3:
            pairs = [(rest_t, numbers[0]), (rest_y, numbers[1]), (rest_x, numbers[2])]
        else:
            pairs = [(Mux(spatial, rest_y, rest_t), numbers[0]), (rest_x, numbers[1])]
        inside: Value = Const(1, 1)
        for rest, number in pairs:
            inside = inside & (rest[2:].any() | (rest[:2] > number))
        return inside, nest.last
