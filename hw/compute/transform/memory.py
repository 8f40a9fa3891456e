"""U, the memory of transformed activations: two halves, one written while the other streams."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import AcceleratorConfig
from hw.common.ports import NO_COLLISION
from hw.compute.parts.latch import register_of
from hw.compute.transform.geometry import geometry_layout
from hw.compute.transform.input import transformed_bits

__all__ = ["TransformedMemory", "row_bits"]


def row_bits(config: AcceleratorConfig) -> int:
    """Address bits of a half of U."""
    return (config.memory.transformed_rows - 1).bit_length()


class TransformedMemory(wiring.Component):
    """Puts transformed rows to p·N + n and gives them back by address.

    Rows of a set come tile by tile, points in the order of the input transform (t fastest, then
    y, then x), and go to one half; the next set goes to the other half.

    Handshake: a row is taken in every cycle with `i_valid`. No row of a half may come while it is
    still read.
    Latency: a row written in cycle t can be read from t + 1 on; `o` follows `enable` by LATENCY
    cycles.

    Parameters
    ----------
    config: the accelerator, with feature hfa.

    Members
    -------
    geometry: of the instruction whose rows come; may change while `release` was the last event.
    release: the last set of an instruction is complete: the next row begins another one.
    clear: forget all rows.
    i_valid, i: a row.
    full: the row that comes in this cycle completes a set.
    enable, half, row: read.
    o: the row read.
    """

    LATENCY = 2

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        lane = signed(transformed_bits(config))
        super().__init__(
            {
                "geometry": In(geometry_layout(config)),
                "release": In(1),
                "clear": In(1),
                "i_valid": In(1),
                "i": In(lane).array(config.array.rows),
                "full": Out(1),
                "enable": In(1),
                "half": In(1),
                "row": In(row_bits(config)),
                "o": Out(lane).array(config.array.rows),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, bits = self._config.array.rows, transformed_bits(self._config)
        place_bits = row_bits(self._config)
        m.submodules.rows = rows = memory.Memory(
            shape=data.ArrayLayout(signed(bits), lanes),
            depth=2 << place_bits,
            init=[],
            attrs=NO_COLLISION,
        )
        write, read = rows.write_port(), rows.read_port()
        half = Signal()
        place = self._places(m)
        m.d.comb += [write.en.eq(self.i_valid), write.addr.eq(Cat(place, half))]
        m.d.comb += [to.eq(value) for to, value in zip(write.data, self.i, strict=True)]
        with m.If(self.full):
            m.d.sync += half.eq(~half)
        with m.If(self.clear):
            m.d.sync += half.eq(0)
        m.d.comb += [read.en.eq(self.enable), read.addr.eq(Cat(self.row, self.half))]
        arrived = Signal()
        m.d.sync += arrived.eq(self.enable)
        lanes_out = [register_of(m, lane) for lane in self.o]
        with m.If(arrived):
            m.d.sync += [o.eq(value) for o, value in zip(lanes_out, read.data, strict=True)]
        return m

    def _places(self, m: Module) -> Signal:
        """p·N + n of the row that comes: three levels of points inside the tiles."""
        held = Signal(self.geometry.shape(), reset_less=True)
        between = Signal(init=1)
        with m.If(self.release | self.clear):
            m.d.sync += between.eq(1)
        with m.Elif(self.i_valid):
            m.d.sync += between.eq(0)
        with m.If(between):
            m.d.sync += held.eq(self.geometry)
        place, row, column, tile = (Signal(row_bits(self._config), name=n) for n in _LEVELS)
        counters = [Signal(3, name=f"{axis}_count") for axis in "xyt"]
        # Whether the axis stands at its last point, worked out one row ahead.
        last = [Signal(name=f"{axis}_last") for axis in "xyt"]
        tiles, last_tile = Signal.like(held.tiles), Signal()
        steps = [last[2] & last[1], last[2], C(1, 1)]
        final = steps[0] & last[0]
        m.d.comb += self.full.eq(self.i_valid & final & last_tile)
        base = Mux(~last[2], place, Mux(~last[1], row, Mux(~last[0], column, tile)))
        strides = held.strides
        step = Mux(~last[2], strides[2], Mux(~last[1], strides[1], Mux(~last[0], strides[0], 1)))
        following = Signal.like(place)
        m.d.comb += following.eq(base + step)
        for k, (count, at_end) in enumerate(zip(counters, last, strict=True)):
            end = held.ends[k]
            with m.If(self.i_valid & steps[k]):
                m.d.sync += [
                    count.eq(Mux(at_end, 0, count + 1)),
                    at_end.eq(Mux(at_end, end == 0, count + 1 == end)),
                ]
        with m.If(self.i_valid):
            m.d.sync += place.eq(following)
            with m.If(last[2]):
                m.d.sync += row.eq(following)
            with m.If(steps[0]):
                m.d.sync += column.eq(following)
            with m.If(final):
                m.d.sync += [tile.eq(following), tiles.eq(tiles + 1)]
                m.d.sync += last_tile.eq(tiles + 2 == held.tiles)
        with m.If(self.full):
            m.d.sync += last_tile.eq(held.tiles == 1)
        with m.If(self.full | self.clear):
            m.d.sync += [register.eq(0) for register in (place, row, column, tile, tiles)]
        with m.If(between & ~self.i_valid):
            # Nothing has come yet: `held` is taken over until the cycle before the first row.
            geometry = self.geometry
            m.d.sync += last_tile.eq(geometry.tiles == 1)
            m.d.sync += [at.eq(geometry.ends[k] == 0) for k, at in enumerate(last)]
            m.d.sync += [count.eq(0) for count in counters]
        return place


_LEVELS = ("place", "row_place", "column_place", "tile_place")
