"""Controller of ARRAY in mode HFA: paces the transform, walks what has been transformed.

Three engines work one behind the other. The *feed* (array_control.py) reads one set of tiles after
the other; the input transform and U follow it at a constant distance (timing.transform_lead). The
*stream* takes the sets from U. The *pace* is the stream as it will be, that distance ahead: it lets
the feed begin a set only if the half of U that the set will go to is free when its rows get there.
So nothing in between ever waits, and all times are closed forms.
"""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import AcceleratorConfig
from hw.arch.timing import ACCUMULATE_HAZARD
from hw.arch.winograd import TRANSFORMS
from hw.common.agu import COUNT_BITS
from hw.common.ports import ACCUMULATOR_ADDRESS_BITS
from hw.compute.transform_geometry import PAIR_BITS, geometry_layout
from hw.compute.transformed import row_bits

__all__ = ["TransformPace", "TransformStream"]


class TransformPace(wiring.Component):
    """Tells the feed when it may begin the next set of tiles.

    Handshake: the feed reports the last row of a set with `fed`; `go` in the same cycle or later
    says that the stream of this set will begin timing.transform_lead cycles from then, and
    that the feed may read the next set from the next cycle on.

    Members
    -------
    begin: an instruction begins; `weights` is right in this cycle.
    pair, blocks: cycles of a pair and output blocks (co) of the instruction that is fed.
    weights: cycles by which the first `go` must lie behind `begin`.
    fed, fed_last: the last row of a set is read; it was the last set.
    clear: forget everything.
    go, go_last: see above; `go_last` for the last set of an instruction.
    """

    def __init__(self, weights_width: int):
        super().__init__(
            {
                "begin": In(1),
                "pair": In(PAIR_BITS),
                "blocks": In(COUNT_BITS),
                "weights": In(weights_width),
                "fed": In(1),
                "fed_last": In(1),
                "clear": In(1),
                "go": Out(1),
                "go_last": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        waiting, waiting_last = Signal(), Signal()
        running = Signal()
        timer, period = Signal(PAIR_BITS), Signal(PAIR_BITS)
        left = Signal(COUNT_BITS)
        weights = Signal.like(self.weights)
        expired = timer == 0
        with m.If(self.begin):
            m.d.sync += weights.eq(self.weights)
        with m.Elif(weights != 0):
            m.d.sync += weights.eq(weights - 1)
        free = ~running | (expired & (left == 0))
        m.d.comb += [
            self.go.eq((self.fed | waiting) & free & (weights == 0)),
            self.go_last.eq(self.go & Mux(self.fed, self.fed_last, waiting_last)),
        ]
        with m.If(self.go):
            m.d.sync += [
                waiting.eq(0),
                running.eq(1),
                timer.eq(self.pair - 1),
                period.eq(self.pair - 1),
                left.eq(self.blocks - 1),
            ]
        with m.Else():
            with m.If(self.fed):
                m.d.sync += [waiting.eq(1), waiting_last.eq(self.fed_last)]
            with m.If(running & expired):
                m.d.sync += [timer.eq(period), left.eq(left - 1), running.eq(left != 0)]
            with m.Elif(running):
                m.d.sync += timer.eq(timer - 1)
        with m.If(self.clear):
            m.d.sync += [waiting.eq(0), running.eq(0), weights.eq(0)]
        return m


class TransformStream(wiring.Component):
    """Walks the sets in U: tiles, points, output blocks, one row per cycle.

    Handshake: a set begins when `full` has come for it, the set before has streamed and its first
    weights are `loaded`. The first set of an instruction takes over what the instruction says;
    the inputs beside the strobes are stable from the first row of U of an instruction on until
    its first `present`.
    Latency: `full` in cycle t, `present` in t + 1 at the earliest.

    Members
    -------
    geometry, accumulator, accumulate, blocks, taps, inputs: of the next instruction: see
        transform_geometry.py; first row, the flag; counts co, kt (if untransformed, else 1), ci.
    full: a half of U is complete.
    loaded: the next block's weights are in the shadow registers.
    clear: forget everything.
    present: a position's address cycle.
    block: it is the first of its block.
    begins: it is the first of its instruction. last_set: it is the first of the last set.
    half, row: of U.
    address, overwrite: of the accumulators.
    ending: the last cycle of an instruction.
    active: an instruction streams.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "geometry": In(geometry_layout(config)),
                "accumulator": In(ACCUMULATOR_ADDRESS_BITS),
                "accumulate": In(1),
                "blocks": In(COUNT_BITS),
                "taps": In(COUNT_BITS),
                "inputs": In(COUNT_BITS),
                "full": In(1),
                "loaded": In(1),
                "clear": In(1),
                "present": Out(1),
                "block": Out(1),
                "begins": Out(1),
                "last_set": Out(1),
                "half": Out(1),
                "row": Out(row_bits(config)),
                "address": Out(ACCUMULATOR_ADDRESS_BITS),
                "overwrite": Out(1),
                "ending": Out(1),
                "active": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        prime, pair_end, set_end = Signal(), Signal(), Signal()
        # Still to do in the plane (the blocks of one temporal point).
        more, block_start, set_start = Signal(init=1), Signal(init=1), Signal(init=1)
        waiting = Signal()
        floor = max(self._config.weight_block_groups, ACCUMULATE_HAZARD)
        age = Signal(range(floor))
        ready = self.loaded & (age == 0) & (~set_start | waiting)
        m.d.comb += [
            self.present.eq(more & (~block_start | ready)),
            self.block.eq(block_start),
            self.begins.eq(self.present & ~self.active),
            prime.eq((~self.active & ~self.present) | self.ending),
        ]
        block_end, plane_end = self._positions(m, prime, more)
        with m.If(self.present & block_start):
            m.d.sync += age.eq(floor - 1)
        with m.Elif(age != 0):
            m.d.sync += age.eq(age - 1)
        with m.If(self.present):
            m.d.sync += [block_start.eq(block_end), set_start.eq(0), self.active.eq(1)]
            m.d.sync += self.row.eq(self.row + 1)
            m.d.sync += self.address.eq(self.address + 1)
            with m.If(set_start):
                m.d.sync += waiting.eq(0)
        with m.If(self.full):
            m.d.sync += waiting.eq(1)
        self._sets(m, prime, plane_end, pair_end, set_end)
        m.d.comb += self.last_set.eq(self.present & set_start & self._final_set)
        with m.If(pair_end):
            m.d.sync += self.row.eq(0)
        base = Signal.like(self.address, reset_less=True)
        with m.If(set_end):
            m.d.sync += [self.address.eq(base), self.overwrite.eq(0), set_start.eq(1)]
            m.d.sync += self.half.eq(~self.half)
        with m.If(prime):
            m.d.sync += [
                base.eq(self.accumulator),
                self.address.eq(self.accumulator),
                self.overwrite.eq(~self.accumulate),
            ]
        with m.If(self.ending):
            m.d.sync += self.active.eq(0)
        with m.If(self.clear):
            m.d.sync += [self.active.eq(0), waiting.eq(0), self.half.eq(0), self.row.eq(0)]
            m.d.sync += [more.eq(1), block_start.eq(1), set_start.eq(1)]
        return m

    def _positions(self, m: Module, prime: Signal, more: Signal) -> tuple[Signal, Signal]:
        """Tiles of a block, blocks of a plane, and the plane's least length in time.

        Returns
        -------
        The position is the last of its block; the cycle is the last of its plane.
        """
        geometry = self.geometry
        tiles, tiles_again = (Signal(len(geometry.tiles), name=n) for n in ("tiles", "tiles_again"))
        most = TRANSFORMS[-1].points ** 2
        points, points_again = (Signal(range(most), name=n) for n in ("points", "points_again"))
        timer, timer_again = (Signal(PAIR_BITS, name=n) for n in ("timer", "timer_again"))
        begun = Signal()
        block_end, plane_end, through = Signal(), Signal(), Signal()
        m.d.comb += [
            block_end.eq(tiles == 0),
            through.eq(self.present & block_end & (points == 0)),
            plane_end.eq(begun & (timer == 0) & (~more | through)),
        ]
        with m.If(self.present):
            m.d.sync += [tiles.eq(Mux(block_end, tiles_again, tiles - 1)), begun.eq(1)]
            with m.If(block_end):
                m.d.sync += points.eq(Mux(points == 0, points_again, points - 1))
        with m.If(begun & (timer != 0)):
            m.d.sync += timer.eq(timer - 1)
        with m.Elif(~begun):
            # The cycle of the first position and the last one count too.
            m.d.sync += timer.eq(timer_again)
        with m.If(through):
            m.d.sync += more.eq(0)
        with m.If(plane_end):
            m.d.sync += [more.eq(1), begun.eq(0), timer.eq(timer_again)]
        with m.If(prime):
            lines = geometry.ends[1]
            points_now = Signal.like(points)
            m.d.comb += points_now.eq((geometry.ends[0] + 1) * (lines + 1) - 1)
            m.d.sync += [register.eq(geometry.tiles - 1) for register in (tiles, tiles_again)]
            m.d.sync += [register.eq(points_now) for register in (points, points_again)]
            m.d.sync += [register.eq(geometry.plane - 2) for register in (timer, timer_again)]
        with m.If(self.clear):
            m.d.sync += [begun.eq(0)]
        return block_end, plane_end

    def _sets(
        self, m: Module, prime: Signal, plane_end: Signal, pair_end: Signal, set_end: Signal
    ) -> None:
        """Temporal points of a pair, pairs of a set, sets of an instruction."""
        self._final_set = Signal()
        sizes = (
            ("times", self.geometry.ends[2], 3),
            ("blocks", self.blocks - 1, COUNT_BITS),
            ("taps", self.taps - 1, COUNT_BITS),
            ("inputs", self.inputs - 1, COUNT_BITS),
        )
        enables = [plane_end, pair_end, set_end, Signal()]
        ends = []
        for (name, first, width), enable in zip(sizes, enables, strict=True):
            left = Signal(width, name=f"{name}_left", reset_less=True)
            again = Signal(width, name=f"{name}_again", reset_less=True)
            with m.If(enable):
                m.d.sync += left.eq(Mux(left == 0, again, left - 1))
            with m.If(prime):
                m.d.sync += [left.eq(first), again.eq(first)]
            ends.append(left == 0)
        m.d.comb += [
            pair_end.eq(plane_end & ends[0]),
            set_end.eq(pair_end & ends[1]),
            enables[3].eq(set_end & ends[2]),
            self._final_set.eq(ends[2] & ends[3]),
            self.ending.eq(set_end & self._final_set),
        ]
