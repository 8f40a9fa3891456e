"""Weights of HFA instructions: int8 taps in, transformed blocks out, a few pairs ahead."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import AcceleratorConfig
from hw.arch.winograd import WEIGHT_LOW, signed_bits
from hw.arch.winograd_matrices import F2, F4, TRANSFORMS, Transform
from hw.common.agu import COUNT_BITS
from hw.common.ports import NO_COLLISION, weight_read
from hw.compute.transform.stage import F23, F43
from hw.compute.weights.loader import WeightLoader
from hw.compute.weights.ring import BlockRing
from hw.compute.weights.stage import WeightStage
from hw.compute.weights.taps import TAPS, TapReader

__all__ = ["WeightTransform", "WeightTurn", "stage_bits"]


class WeightTransform(wiring.Component):
    """Takes the place of `WeightLoader` where the circuit has hFA.

    Plain instructions (`transform` low at `start`): as `WeightLoader`, to the cycle; weights are
    sign-extended, `loaded` means nothing.

    HFA instructions. A *pair* is one (set, output block); its blocks are the points of one tile,
    x fastest, then y, then t. The taps of a pair are transformed into TWB, a ring of whole
    temporal points in block RAM, as far ahead as it has room, across instructions. From there one
    block after the other goes to the shadow weights of the columns, in rows / LW rows of TWB.

    Handshake: `start` begins an instruction; with `transform` high the fields beside it are held
    until the instruction after it is started. The start of an HFA instruction may come as soon as
    the HFA instruction before it has got its first block; any other start waits until the
    instruction before has streamed. In HFA instructions `next` is pulsed for *every* block, also
    for the last: the block's weights have been taken over, the shadow weights are free for the
    block after it (of this or the following instruction). The load of that block begins
    WEIGHT_LAG cycles after `next`, or as soon as TWB holds it. `loaded` is high from the first
    cycle that may be the address cycle of the loaded block's first position until its `next`,
    which is pulsed in that address cycle or the one before.

    Latency: plain, see `WeightLoader`. HFA: transform_timing.WEIGHT_TRANSFORM_LATENCY and
    transform_timing.weight_slab_cycles.

    Parameters
    ----------
    config: the accelerator; feature ``hfa``.

    Members
    -------
    start: begin an instruction at `base`; the first block of a plain one is loaded at once.
    transform: the instruction is an HFA one.
    temporal, spatial: `transform_t`, `transform_s`; not both zero, nested only with the feature.
    counts: output blocks (co), untransformed temporal taps (kt_out), input blocks (ci).
    base: first weight group.
    next: see above.
    abort: drop everything.
    weight: read port of the weight scratchpad.
    valid: `data` is a group of rows.
    data: per row of a group, `cols` words of `weight_bits`, column 0 lowest.
    loaded: see above.
    busy: an HFA instruction has taps left to read.
    unsigned, zero_point: with the feature attention, of plain instructions, see `WeightLoader`.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        array = config.array
        port = weight_read(config)
        self._centred = "attention" in config.features
        super().__init__(
            {
                **({"unsigned": In(1), "zero_point": In(signed(9))} if self._centred else {}),
                "start": In(1),
                "transform": In(1),
                "temporal": In(2),
                "spatial": In(2),
                "counts": In(COUNT_BITS).array(3),
                "base": In(len(port.create().address)),
                "next": In(1),
                "abort": In(1),
                "weight": Out(port),
                "valid": Out(1),
                "data": Out(array.weight_bits * array.cols).array(array.weight_rows_per_cycle),
                "loaded": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.plain = plain = WeightLoader(self._config)
        m.submodules.reader = reader = TapReader(self._config)
        bits = stage_bits("hfa_nested" in self._config.features)
        m.submodules.ring = ring = BlockRing(self._config, bits[2])
        hfa = Signal()
        with m.If(self.start):
            m.d.sync += hfa.eq(self.transform)
        m.d.comb += [
            plain.start.eq(self.start & ~self.transform),
            plain.next.eq(self.next & ~hfa),
            plain.base.eq(self.base),
            reader.start.eq(self.start & self.transform),
            reader.temporal.eq(self.temporal),
            reader.spatial.eq(self.spatial),
            reader.base.eq(self.base),
            reader.abort.eq(self.abort),
            reader.room.eq(ring.room),
            self.weight.enable.eq(plain.weight.enable | reader.weight.enable),
            self.weight.address.eq(Mux(hfa, reader.weight.address, plain.weight.address)),
            ring.points.eq(reader.points),
            ring.enter.eq(reader.enter),
            ring.next.eq(self.next & hfa),
            ring.vacate.eq(plain.start),
            ring.clear.eq(self.abort),
            self.loaded.eq(ring.loaded),
            self.busy.eq(reader.busy),
            self.valid.eq(plain.valid | ring.valid),
        ]
        m.d.comb += [to.eq(count) for to, count in zip(reader.counts, self.counts, strict=True)]
        if self._centred:
            m.d.comb += [
                plain.unsigned.eq(self.unsigned),
                plain.zero_point.eq(self.zero_point),
            ]
        m.d.comb += plain.weight.data.eq(self.weight.data)
        self._transform(m, reader, ring, bits)
        self._deliver(m, plain, ring)
        # Groups between the reader and TWB.
        flying = Signal(4)
        m.d.sync += flying.eq(flying + reader.group - ring.group_end)
        m.d.comb += reader.clear.eq(flying == 0)
        with m.If(self.abort):
            m.d.sync += flying.eq(0)
        return m

    def _transform(
        self, m: Module, reader: TapReader, ring: BlockRing, bits: tuple[int, int, int]
    ) -> None:
        """t while taps arrive (nested), x, turn, y."""
        spatial, temporal = reader.select_s, reader.select_t
        lanes = self._config.array.weight_rows_per_cycle * self._config.array.cols
        taps = [self.weight.data.word_select(lane, 8).as_signed() for lane in range(lanes)]
        valid: Value = reader.valid
        if "hfa_nested" in self._config.features:
            valid, taps = self._combine_t(m, reader, taps, bits[0])
        m.submodules.x = x = WeightStage(lanes, bits[0], bits[1])
        m.submodules.turn = turn = WeightTurn(lanes, bits[1])
        m.submodules.y = y = WeightStage(lanes, bits[1], bits[2])
        two, wide = spatial != 0, Mux(spatial != 0, spatial, temporal) == F43
        m.d.comb += [
            x.select.eq(Mux(spatial != 0, spatial, temporal)),
            y.select.eq(spatial),
            turn.two.eq(two),
            turn.wide.eq(wide),
            ring.two.eq(two),
            ring.wide.eq(wide),
            x.i_valid.eq(valid),
            turn.i_valid.eq(x.o_valid),
            y.i_valid.eq(turn.o_valid),
            ring.i_valid.eq(y.o_valid),
        ]
        for lane in range(lanes):
            m.d.comb += [
                x.i[lane].eq(taps[lane]),
                turn.i[lane].eq(x.o[lane]),
                y.i[lane].eq(turn.o[lane]),
                ring.i[lane].eq(y.o[lane]),
            ]
        for part in (x, turn, y):
            m.d.comb += part.clear.eq(self.abort)

    def _combine_t(
        self, m: Module, reader: TapReader, taps: list[Value], bits: int
    ) -> tuple[Value, list[Value]]:
        """One value of the reader's temporal point per three taps; a tap passes unless nested."""
        nested = (reader.select_t != 0) & (reader.select_s != 0)
        magnitude, negative = Signal(3), Signal()
        with m.If(~nested):
            m.d.comb += magnitude.eq(1)
        for select in (F23, F43):
            for point, row in enumerate(TRANSFORMS[select].weight_rows):
                for tap, coefficient in enumerate(row):
                    here = nested & (reader.select_t == select) & (reader.temporal_point == point)
                    with m.If(here & (reader.tap == tap)):
                        m.d.comb += [
                            magnitude.eq(abs(coefficient)),
                            negative.eq(coefficient < 0),
                        ]
        # one cycle behind the data: the term; two: the sum
        subtract, first, last = Signal(), Signal(), Signal()
        valid, summed = Signal(), Signal()
        m.d.sync += [
            subtract.eq(negative),
            first.eq(reader.tap == 0),
            last.eq(~nested | (reader.tap == TAPS - 1)),
            valid.eq(reader.valid & ~self.abort),
            summed.eq(valid & last & ~self.abort),
        ]
        sums = []
        for lane, tap in enumerate(taps):
            term = Signal(signed(bits), name=f"term{lane}", reset_less=True)
            value = Signal(signed(bits), name=f"sum{lane}", reset_less=True)
            shifted = Mux(magnitude[2], tap << 2, Mux(magnitude[1], tap << 1, tap))
            before = Mux(first, 0, value)
            with m.If(reader.valid):
                m.d.sync += term.eq(Mux(magnitude == 0, 0, shifted))
            with m.If(valid):
                m.d.sync += value.eq(Mux(subtract, before - term, before + term))
            sums.append(value)
        return summed, sums

    def _deliver(self, m: Module, plain: WeightLoader, ring: BlockRing) -> None:
        """Words for the columns: rows of TWB as they come, else weights of a plain block.

        The last rows of an instruction may come when the next one, a plain one, has begun.
        """
        array = self._config.array
        for row in range(array.weight_rows_per_cycle):
            words = []
            for column in range(array.cols):
                lane = row * array.cols + column
                word = Signal(signed(array.weight_bits), name=f"word{lane}")
                m.d.comb += word.eq(Mux(ring.valid, ring.o[lane], plain.data[lane]))
                words.append(word)
            m.d.comb += self.data[row].eq(Cat(words))


class WeightTurn(wiring.Component):
    """Turns the x-transformed taps of a group, and paces them for the stage along y.

    Three rows of n values come, x fastest. They leave y fastest, a column of three every n cycles.
    One row of n values (`two` low) leaves as it came. Two halves.

    Handshake: nothing stalls; the last values of two groups lie at least n·n (n) cycles apart.
    Latency: the last value of a group in cycle t gives its values from t + LATENCY on.

    Members
    -------
    two, wide: three rows; n is 6, not 4. Stable while values are inside.
    clear: forget what came in; `o_valid` is low from the next cycle on.
    i_valid, i, o_valid, o: the values.
    """

    LATENCY = 2

    def __init__(self, lanes: int, bits: int):
        self.lanes, self.bits = lanes, bits
        super().__init__(
            {
                "two": In(1),
                "wide": In(1),
                "clear": In(1),
                "i_valid": In(1),
                "i": In(signed(bits)).array(lanes),
                "o_valid": Out(1),
                "o": Out(signed(bits)).array(lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.values = values = memory.Memory(
            shape=data.ArrayLayout(signed(self.bits), self.lanes),
            depth=1 << len(Cat(C(0, 1), Signal(range(TAPS)), Signal(range(F4.points)))),
            init=[],
            attrs=NO_COLLISION | {"ram_style": "block"},
        )
        write, read = values.write_port(), values.read_port()
        edge = Mux(self.wide, F4.points - 1, F2.points - 1)
        side = Signal()
        row, place = Signal(range(TAPS)), Signal(range(F4.points))
        row_end = place == edge
        complete = Signal()
        # cycle t
        m.d.comb += [
            complete.eq(self.i_valid & row_end & (~self.two | (row == TAPS - 1))),
            write.en.eq(self.i_valid),
            write.addr.eq(Cat(place, row, side)),
        ]
        m.d.comb += [to.eq(value) for to, value in zip(write.data, self.i, strict=True)]
        with m.If(self.i_valid):
            m.d.sync += place.eq(place + 1)
            with m.If(row_end):
                m.d.sync += [place.eq(0), row.eq(row + 1)]
        with m.If(complete):
            m.d.sync += [row.eq(0), side.eq(~side)]
        # cycle t + 1: address; a column takes n cycles, in the first three of which it is read
        running, from_side = Signal(), Signal()
        column, beat = Signal(range(F4.points)), Signal(range(F4.points))
        column_end = ~self.two | (beat == edge)
        m.d.comb += [
            read.en.eq(running & (beat < TAPS)),
            read.addr.eq(Cat(column, beat[: len(row)], from_side)),
        ]
        with m.If(running):
            m.d.sync += beat.eq(beat + 1)
            with m.If(column_end):
                m.d.sync += [beat.eq(0), column.eq(column + 1)]
                with m.If(column == edge):
                    m.d.sync += running.eq(0)
        with m.If(complete):
            m.d.sync += [running.eq(1), from_side.eq(side), column.eq(0), beat.eq(0)]
        with m.If(self.clear):
            m.d.sync += [running.eq(0), place.eq(0), row.eq(0)]
        # cycle t + 2
        m.d.sync += self.o_valid.eq(read.en & ~self.clear)
        m.d.comb += [o.eq(value) for o, value in zip(self.o, read.data, strict=True)]
        return m


def stage_bits(nested: bool) -> tuple[int, int, int]:
    """Signed widths of a tap behind the transforms along t, x and y."""

    def gain(transform: Transform) -> int:
        return max(sum(map(abs, row)) for row in transform.weight_rows)

    one, wide = gain(F2), gain(F4)
    gains = (1, wide, wide * wide)
    if nested:
        # F(4,3) along t goes with F(2×2,3×3) only.
        gains = (wide, one * wide, max(one * wide * wide, wide * one * one))
    t, x, y = (signed_bits(WEIGHT_LOW * g, -WEIGHT_LOW * g - 1) for g in gains)
    return t, x, y
