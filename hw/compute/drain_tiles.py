"""Destination side of DRAIN in a circuit with hFA: tiles are pooled, put together and clipped."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In
from amaranth.utils import exact_log2

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import ADDRESS_BITS
from hw.common.agu import COUNT_BITS
from hw.compute.drain_rows import CODE, assembly_members
from hw.compute.drain_walk import pool_scales, sections
from hw.compute.tile_nest import StrideWalker, TileNest

__all__ = ["TileAssembly"]

TILE_LEVELS = 3
"""Levels of the target nest: results t, y, x of a tile, then block, x, y, t, co."""


def _mask(scale: Value) -> Value:
    """2^scale − 1 for a scale of 0, 1 or 2."""
    return Cat(scale.any(), scale[1])


class TileAssembly(wiring.Component):
    """Maximum of each pool window, in files of partial rows; whole rows are written.

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

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._parts = sections(config)
        super().__init__(
            assembly_members(config)
            | {"window": In(3).array(3), "transform_t": In(2), "transform_s": In(2)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._tiles = tiles = Signal()
        m.d.comb += tiles.eq((self.transform_t | self.transform_s).any())
        lanes, parts = self._config.lanes.requantize, self._parts
        blocks = self._config.array.blocks_per_row
        per_row = self._config.lane_block // lanes
        entry, opens, closes, tile_ends = self._position(m)
        # Sections of an accumulator row: the part of a step, the step of a scratchpad row, the
        # block. All are powers of two, so that they count in one number.
        place_bits = exact_log2(parts * per_row * blocks)
        place = Signal(max(1, place_bits))
        with m.If(self.begin):
            m.d.sync += place.eq(0)
        with m.Elif(self.arrived):
            m.d.sync += place.eq(place + Mux(tiles, tile_ends, parts))
        part = place[: exact_log2(parts)]
        slot = place[exact_log2(parts) : exact_log2(parts * per_row)]
        block = place[exact_log2(parts * per_row) : place_bits]
        last_section = (place[: exact_log2(parts * per_row)] == parts * per_row - 1) | (
            parts * per_row == 1
        )
        first = Mux(tiles, opens, self.opens)
        row = Signal()
        m.d.comb += row.eq(self.arrived & Mux(tiles, closes & last_section, self.row))
        best, held = self._files(m, Mux(tiles, entry, block), part, slot, first)
        self._write(m, row, best, held)
        return m

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
        self, m: Module, entry: Value, part: Value, slot: Value, first: Value
    ) -> tuple[list[Value], list[list[Value]]]:
        """Codes after pooling of the lanes now, and what the files hold, per step of a row."""
        lanes, parts = self._config.lanes.requantize, self._parts
        width = lanes // parts
        per_row = self._config.lane_block // lanes
        held: list[list[Value]] = []
        writers = []
        for s in range(per_row):
            held.append([])
            for p in range(parts):
                m.submodules[f"file{s}_{p}"] = file = memory.Memory(
                    shape=data.ArrayLayout(CODE, width),
                    depth=64 if "hfa_nested" in self._config.features else 16,
                    init=[],
                )
                reader, writer = file.read_port(domain="comb"), file.write_port()
                here = self.arrived & ((slot == s) | (per_row == 1))
                if parts > 1:
                    here = here & (~self._tiles | (part == p))
                m.d.comb += [
                    reader.addr.eq(entry),
                    writer.addr.eq(entry),
                    writer.en.eq(here),
                ]
                held[-1] += [reader.data[k] for k in range(width)]
                writers.append(writer)
        best = []
        for lane, code in enumerate(self.codes):
            so_far = Signal(CODE, name=f"held{lane}")
            result = Signal(CODE, name=f"best{lane}")
            m.d.comb += so_far.eq(held[0][lane])
            for s in range(1, per_row):
                with m.If(slot == s):
                    m.d.comb += so_far.eq(held[s][lane])
            m.d.comb += result.eq(Mux(first | (code > so_far), code, so_far))
            best.append(result)
        for index, writer in enumerate(writers):
            mine = best[(index % parts) * width :][:width]
            m.d.comb += [writer.data[k].eq(value) for k, value in enumerate(mine)]
        return best, held

    def _write(self, m: Module, row: Value, best: list[Value], held: list[list[Value]]) -> None:
        """The row that is complete: its last section from the lanes, the others from the files."""
        width = self._config.lanes.requantize // self._parts
        older = len(best) - width
        codes = [code for step in held[:-1] for code in step]
        codes += [
            Mux(self._tiles, file, now)
            for file, now in zip(held[-1][:older], best[:older], strict=True)
        ]
        codes += best[older:]
        with m.If(row):
            m.d.sync += self.write.data.eq(Cat(Value.cast(code)[:8] for code in codes))
        inside, last = self._targets(m, row)
        m.d.sync += [
            self.write.enable.eq(row & inside & ~self.stop),
            self.finished.eq(row & last & ~self.stop),
        ]

    def _targets(self, m: Module, row: Value) -> tuple[Value, Value]:
        """Walk the destination; whether the row that is complete counts, and is the last one."""
        blocks = self._config.array.blocks_per_row
        levels = TILE_LEVELS + 5
        block = TILE_LEVELS
        axes = (block + 3, block + 2, block + 1)
        widths = (3, 3, 3, 1 + exact_log2(blocks), *(COUNT_BITS,) * 4)
        m.submodules.targets = nest = TileNest(widths, scaled=(block + 1, block + 2, block + 3))
        m.submodules.target = walker = StrideWalker(levels, ADDRESS_BITS)
        scales = [Signal(2, name=f"scale{k}") for k in range(TILE_LEVELS)]
        wanted = pool_scales(list(self.window), self.transform_t, self.transform_s)
        m.d.comb += [
            scale.eq(Mux(self._tiles, value, 0))
            for scale, value in zip(scales, wanted, strict=True)
        ]
        in_tile = [1 + _mask(scale) for scale in reversed(scales)]
        counts = [*in_tile, blocks, *self.counts]
        m.d.comb += [port.eq(value) for port, value in zip(nest.counts, counts, strict=True)]
        m.d.comb += [port.eq(scale) for port, scale in zip(nest.scales, scales, strict=True)]
        d_block, x, y, t, co = (delta[:ADDRESS_BITS] for delta in self.destination_deltas)
        of_tiles = [stride << scale for stride, scale in zip((x, y, t), scales, strict=True)]
        strides = [t, y, x, d_block, *of_tiles, co]
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
        inside: Value = Const(1, 1)
        for level, axis, scale in zip(range(TILE_LEVELS), axes, reversed(scales), strict=True):
            # The nest counts down; results per tile are a power of two.
            number = _mask(scale) ^ nest.rest[level][:2]
            inside = inside & (nest.rest[axis] >= number)
        return inside, nest.last
