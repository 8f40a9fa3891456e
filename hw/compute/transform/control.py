"""Controller of ARRAY in mode HFA: paces the transform, walks what has been transformed.

Three engines work one behind the other. The *feed* (array/control.py) reads one set of tiles after
the other; the input transform and U follow it at a constant distance
(transform_timing.transform_lead). The *stream* takes the sets from U. The *pace* is the stream as
it will be, that distance ahead: it lets the feed begin a set only if the half of U that the set
will go to is free when its rows get there. So nothing in between ever waits, and all times are
closed forms.
"""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arch.config import AcceleratorConfig
from hw.arch.timing import ACCUMULATE_HAZARD
from hw.common.agu import COUNT_BITS
from hw.common.ports import ACCUMULATOR_ADDRESS_BITS
from hw.compute.transform.geometry import PAIR_BITS, geometry_layout
from hw.compute.transform.memory import row_bits

__all__ = ["TransformPace", "TransformStream"]


class _Countdown:
    """A counter that runs downwards and whose end is a flip-flop.

    Parameters
    ----------
    width: bits.
    first: what a restart loads, less one: the values that are left then.
    prime: load `first`, and keep it for the restarts that follow.
    step: go to the next value; the last one is followed by the first one.

    Attributes
    ----------
    last: it stands at its last value.
    """

    def __init__(
        self, m: Module, name: str, width: int, first: Value, prime: Value, step: Value
    ) -> None:
        left, again = (
            Signal(width, name=f"{name}_{n}", reset_less=True) for n in ("left", "again")
        )
        self.last = last = Signal(name=f"{name}_last")
        only = Signal(name=f"{name}_only")
        with m.If(step):
            m.d.sync += [
                left.eq(Mux(last, again, left - 1)),
                last.eq(Mux(last, only, left == 1)),
            ]
        with m.If(prime):
            m.d.sync += [left.eq(first), again.eq(first), last.eq(first == 0), only.eq(first == 0)]


class TransformPace(wiring.Component):
    """Tells the feed when it may begin the next set of tiles.

    Handshake: the feed reports the last row of a set with `fed`; `go` in the same cycle or later
    says that the stream of this set will begin transform_timing.transform_lead cycles from then,
    and that the feed may read the next set from the next cycle on.

    Members
    -------
    begin: an instruction begins; `weights` is right in this cycle.
    pair, blocks: cycles of a pair and output blocks (co) of the instruction that is fed.
    weights: cycles by which the first `go` must lie behind `begin`.
    drained: from the cycle behind `begin` on: the accumulators are free. The first `go` comes in
        the cycle behind it at the earliest; the stream, which waits for nothing else then, does
        not wait for the rest of that distance.
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
                "drained": In(1),
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
        running, final = Signal(), Signal()
        # In a pair's first cycle, if it is not the first one; in its last one; behind the last one
        # of an instruction.
        again, expired, late = Signal(), Signal(), Signal()
        timer, period = Signal(PAIR_BITS, reset_less=True), Signal(PAIR_BITS, reset_less=True)
        left, last_pair = Signal(COUNT_BITS, reset_less=True), Signal()
        # A first set's weights are there; and so are its accumulators.
        weights, counted, ready = Signal.like(self.weights), Signal(init=1), Signal(init=1)
        with m.If(self.begin):
            m.d.sync += [weights.eq(self.weights), counted.eq(self.weights == 0), ready.eq(0)]
        with m.Else():
            m.d.sync += ready.eq((counted | (weights == 1)) & self.drained)
        with m.If(~self.begin & ~counted):
            m.d.sync += [weights.eq(weights - 1), counted.eq(weights == 1)]
        m.d.comb += [
            self.go.eq((self.fed | waiting) & ~running & ready),
            self.go_last.eq(self.go & Mux(self.fed, self.fed_last, waiting_last)),
        ]
        m.d.sync += [
            again.eq(expired & ~last_pair),
            late.eq(expired & last_pair & final),
            expired.eq(running & ~again & (timer == 3)),
            timer.eq(Mux(again, period, timer - 1)),
        ]
        with m.If(expired):
            m.d.sync += [left.eq(left - 1), last_pair.eq(left == 2)]
        with m.If((expired & last_pair & ~final) | late):
            m.d.sync += running.eq(0)
        with m.If(self.go):
            m.d.sync += [
                running.eq(1),
                final.eq(self.go_last),
                timer.eq(self.pair),
                period.eq(self.pair),
                left.eq(self.blocks),
                last_pair.eq(self.blocks == 1),
                waiting.eq(0),
            ]
        with m.Elif(self.fed):
            m.d.sync += [waiting.eq(1), waiting_last.eq(self.fed_last)]
        with m.If(self.clear):
            m.d.sync += [waiting.eq(0), running.eq(0), expired.eq(0), counted.eq(1)]
            m.d.sync += [again.eq(0), late.eq(0)]
        return m


class TransformStream(wiring.Component):
    """Walks the sets in U: tiles, points, output blocks, one row per cycle.

    Handshake: a set begins when `full` has come for it, the set before has streamed and its first
    weights are `loaded`; an instruction's first one in the cycle behind `drained` at the earliest.
    The first set of an instruction takes over what the instruction says;
    the inputs beside the strobes are stable from the first row of U of an instruction on until
    its first `present`.
    Latency: `full` in cycle t, `present` in t + 1 at the earliest.

    Members
    -------
    geometry, accumulator, accumulate, blocks, taps, inputs: of the next instruction: see
        geometry.py; first row, the flag; counts co, kt (if untransformed, else 1), ci.
    full: a half of U is complete.
    loaded: the next block's weights are in the shadow registers.
    drained: the accumulators are free for the instruction accepted last.
    clear: forget everything.
    present: a position's address cycle.
    block: it is the first of its block.
    begins: it is the first of its instruction. last_set: it is the first of the last set.
    half, row: of U.
    address, overwrite: of the accumulators.
    ending: the cycle behind an instruction's last one.
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
                "drained": In(1),
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
        prime, plane_end, set_end = Signal(), Signal(), Signal()
        # `more`: positions are left in the plane (the blocks of one temporal point).
        more, block_start, set_start = Signal(init=1), Signal(init=1), Signal(init=1)
        waiting = Signal()
        floor = max(self._config.weight_block_groups, ACCUMULATE_HAZARD)
        age, aged = Signal(range(floor)), Signal(init=1)
        blocked = Signal()  # no position of an instruction whose accumulators are awaited
        ready = self.loaded & aged & (~set_start | waiting) & ~blocked
        m.d.comb += [
            self.present.eq(more & (~block_start | ready)),
            self.block.eq(block_start),
            self.begins.eq(self.present & ~self.active),
            # Between instructions, for one cycle at least, everything follows the next one.
            prime.eq(~self.active & ~self.present),
        ]
        block_end = self._positions(m, prime, more, plane_end)
        pair_end, final_set = self._sets(m, prime, plane_end, set_end)
        final = set_end & final_set
        m.d.sync += [self.ending.eq(final), blocked.eq(~self.drained & (final | ~self.active))]
        m.d.comb += self.last_set.eq(self.present & set_start & final_set)
        with m.If(self.present & block_start):
            m.d.sync += [age.eq(floor - 1), aged.eq(0)]
        with m.Elif(~aged):
            m.d.sync += [age.eq(age - 1), aged.eq(age == 1)]
        base = Signal.like(self.address, reset_less=True)
        with m.If(self.present):
            m.d.sync += [
                block_start.eq(block_end),
                self.active.eq(1),
                self.row.eq(self.row + 1),
                self.address.eq(self.address + 1),
            ]
            with m.If(set_start):
                m.d.sync += [set_start.eq(0), waiting.eq(0)]
        with m.If(self.full):
            m.d.sync += waiting.eq(1)
        with m.If(pair_end):
            m.d.sync += self.row.eq(0)
        with m.If(set_end):
            m.d.sync += [self.address.eq(base), self.overwrite.eq(0), set_start.eq(1)]
            m.d.sync += self.half.eq(~self.half)
        with m.If(prime):
            m.d.sync += [base.eq(self.accumulator), self.address.eq(self.accumulator)]
            m.d.sync += self.overwrite.eq(~self.accumulate)
        with m.If(final):
            m.d.sync += [self.active.eq(0), more.eq(0)]
        with m.If(self.ending):
            m.d.sync += more.eq(1)
        with m.If(self.clear):
            m.d.sync += [self.active.eq(0), waiting.eq(0), self.half.eq(0), self.row.eq(0)]
            m.d.sync += [more.eq(1), block_start.eq(1), set_start.eq(1)]
        return m

    def _positions(self, m: Module, prime: Signal, more: Signal, plane_end: Signal) -> Value:
        """Tiles of a block, blocks of a plane, and the plane's least length in time.

        Drives `plane_end`, the last cycle of a plane; returns whether a position is the last of its
        block.
        """
        geometry = self.geometry
        tile = _Countdown(m, "tile", len(geometry.tiles), geometry.tiles - 1, prime, self.present)
        point = _Countdown(
            m, "point", len(geometry.points), geometry.points, prime, self.present & tile.last
        )
        period, timer = (Signal(PAIR_BITS, name=n, reset_less=True) for n in ("period", "timer"))
        begun, waited = Signal(), Signal()
        through = Signal()
        m.d.comb += [
            through.eq(self.present & tile.last & point.last),
            plane_end.eq(waited & (~more | through)),
        ]
        # The first position's cycle and the last one count too.
        m.d.sync += [
            timer.eq(Mux(begun, timer - 1, period)),
            waited.eq((waited | (begun & (timer == 3))) & ~plane_end),
            begun.eq((begun | self.present) & ~plane_end),
        ]
        with m.If(through):
            m.d.sync += more.eq(0)
        with m.If(plane_end):
            m.d.sync += more.eq(1)
        with m.If(prime):
            m.d.sync += period.eq(geometry.plane)
        with m.If(self.clear):
            m.d.sync += [begun.eq(0), waited.eq(0)]
        return tile.last

    def _sets(
        self, m: Module, prime: Signal, plane_end: Signal, set_end: Signal
    ) -> tuple[Value, Value]:
        """Temporal points of a pair, pairs of a set, sets of an instruction.

        Drives `set_end`; returns the last cycle of a pair, and whether the set is the last one.
        """
        times = _Countdown(m, "times", 3, self.geometry.ends[2], prime, plane_end)
        pair_end = plane_end & times.last
        blocks = _Countdown(m, "blocks", COUNT_BITS, self.blocks - 1, prime, pair_end)
        m.d.comb += set_end.eq(pair_end & blocks.last)
        taps = _Countdown(m, "taps", COUNT_BITS, self.taps - 1, prime, set_end)
        step = set_end & taps.last
        inputs = _Countdown(m, "inputs", COUNT_BITS, self.inputs - 1, prime, step)
        return pair_end, taps.last & inputs.last
